"""The documents that are made from tables are current, and what they say of files is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.make import DOCUMENTS
from workers.alerts.kinds import KINDS
from workers.jobs.connections import FAULTS
from workers.jobs.routing import ROUTES

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_made_document_is_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == DOCUMENTS[name](), "run `make docs`"


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], ids=lambda p: p.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_every_kind_of_alert_that_is_sent_is_in_the_table_and_every_row_is_sent() -> None:
    sources = [path.read_text() for room in ("workers", "cli", "service") for path in (ROOT / room).glob("**/*.py")]
    kinds = {kind for text in sources for kind in re.findall(r'\.send\(\s*"([a-z.-]+)"', text)}
    kinds |= {f"{kind}-fault" for kind, _ in FAULTS}
    kinds |= {f"{kind}-recovered" for kind, _ in FAULTS}
    kinds |= {event for event, route in ROUTES.items() if route is ROUTES["siprec.failed"]}
    assert kinds == set(KINDS)


def test_every_file_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name in re.findall(r"`((?:service|workers|config|cli|sandbox)/[\w/.]+)`", text):
        assert (ROOT / name).exists(), name
