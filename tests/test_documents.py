"""Generated documents are current, and the files that documents name exist."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from archive import kinds
from docs.commands import all_pages
from docs.make import DOCUMENTS
from workers.alerts.kinds import KINDS
from workers.connections.watch import FAULTS
from workers.recordings.routing import ROUTES

ROOT = Path(__file__).parent.parent
_ROOMS = (
    "archive", "bench", "cli", "config", "deploy", "lab", "process", "sandbox", "service", "telnyx_api", "tests", "text",
    "workers",
)  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_made_document_is_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == DOCUMENTS[name](), "run `make docs`"


def test_the_manual_page_is_sound_and_shows_every_command() -> None:
    path = ROOT / "docs" / "callvault.1"
    text = path.read_text()
    macros = set(re.findall(r"^\.([A-Za-z]+)", text, re.MULTILINE))
    assert macros <= {"nr", "TH", "ad", "SH", "SS", "PP", "TP", "B", "I", "IP", "RS", "RE", "EX", "EE"}
    assert text.isascii() and max(map(len, text.splitlines())) < 2_000
    for checker in (["groff", "-man", "-ww", "-Tascii", "-P-cbou"], ["mandoc", "-T", "lint", "-W", "warning"]):
        if shutil.which(checker[0]) is None:
            continue
        done = subprocess.run([*checker, str(path)], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done
        if checker[0] == "groff":
            shown = " ".join(done.stdout.split())
            for one in all_pages():
                assert not one.section or one.page.usage in shown, one.page.usage


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], ids=lambda p: p.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_readme_leads_to_every_document() -> None:
    text = (ROOT / "README.md").read_text()
    missing = [path.name for path in sorted(ROOT.glob("docs/*.md")) if f"(docs/{path.name})" not in text]
    assert not missing


def test_every_kind_of_alert_that_is_sent_is_in_the_table_and_every_row_is_sent() -> None:
    sources = [
        path.read_text()
        for room in ("archive", "cli", "process", "service", "telnyx_api", "text", "workers")
        for path in (ROOT / room).glob("**/*.py")
    ]
    kinds = {kind for text in sources for kind in re.findall(r'\.send\(\s*"([a-z.-]+)"', text)}
    kinds |= {f"{kind}-fault" for kind, _ in FAULTS}
    kinds |= {f"{kind}-recovered" for kind, _ in FAULTS}
    kinds |= {event for event, route in ROUTES.items() if route is ROUTES["siprec.failed"]}
    assert kinds == set(KINDS)


def test_every_file_that_the_architecture_names_exists() -> None:
    """A bare name is of the folder that the line named last."""
    for line in (ROOT / "docs" / "architecture.md").read_text().splitlines():
        folder = ROOT
        for name in re.findall(r"`(\w[\w./]*(?:\.py|\.lua|/))`", line):
            path = ROOT / name if "/" in name else folder / name
            assert path.exists() or (ROOT / "workers" / name).exists(), (name, line)
            folder = path if path.is_dir() else path.parent


def test_what_must_stay_readable_and_what_is_verified_at_the_root_are_complete_lists() -> None:
    for name, listed in (("stores.md", kinds.KINDS), ("verify.md", kinds.AT_THE_ROOT)):
        text = (ROOT / "docs" / name).read_text()
        tops = {"".join(kind.key.partition("/")[:2]) for kind in listed}
        assert not [top for top in tops if f"`{top}" not in text], name


def test_every_file_that_a_text_names_exists() -> None:
    tops = (*_ROOMS, "docs")
    named = re.compile(rf"(?<![\w/.-])(?:{'|'.join(tops)})/[\w/.-]+\.(?:py|lua|md|json|html|yaml)\b")
    for path in [*ROOT.glob("*"), *(path for top in tops for path in (ROOT / top).rglob("*"))]:
        if path.suffix not in (".py", ".md", ".lua", ".yaml", ".toml") or path.name == "CHANGELOG.md":
            continue
        for name in named.findall(path.read_text()):
            assert (ROOT / name).exists() or (path.parent / name).exists(), f"{path.relative_to(ROOT)}: {name}"


# What a person copies from deploy/ and reads the comments of.
_COMMENTED = ("", ".cfg", ".conf", ".env", ".service", ".sh", ".sysusers", ".tpl", ".txt", ".yaml", ".yml")
# Not plain English: the actor is missing, or the noun needs a second reading.
_NOT_PLAIN = re.compile(
    r"\b(?:is|are|was|were|be|been|being) told\b(?! apart)|\bit is none\b|\bthere is none\b|\bis none\b(?! of)|\bthat of\b"
    r"|\blest\b|\bas it must be\b"
)


def _texts(path: Path) -> list[tuple[int, str]]:
    """The texts that people read in a file, by line: all of a document, the strings of code."""
    if path.suffix != ".py":
        shown = re.sub(r"{[{%].*?[%}]}", "", path.read_text()) if path.suffix == ".html" else path.read_text()
        return list(enumerate(shown.split("\n"), start=1))
    found, source = [], path.read_text()
    # Adjacent strings are one text, and any space may stand between its words. Only a file that may match is parsed.
    joined = re.sub(r"(?:\\n|\s)+", " ", re.sub(r"""["'][\s\\]*[bfru]{0,2}["']""", "", source, flags=re.IGNORECASE))
    if _NOT_PLAIN.search(joined) is None:
        return []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            lines = node.value.split("\n")
            # A sentence may continue on the next line; it counts for the line where it begins.
            found += [
                (node.lineno + n, f"{line} {''.join(lines[n + 1 : n + 2]).strip()}") for n, line in enumerate(lines)
            ]
    return found


def test_all_that_people_read_is_plain_english() -> None:
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/*.py")]
    for room in _ROOMS:
        paths += [path for kind in ("py", "html") for path in (ROOT / room).glob(f"**/*.{kind}")]
    paths += [path for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.suffix in _COMMENTED]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {text.strip()}"
        for path in sorted(paths)
        if path != Path(__file__)  # this file has to name them
        for number, text in _texts(path)
        if _NOT_PLAIN.search(text)
    ]
    assert not found, "\n".join(found)
