"""`callvault get`: formats, overwriting, and the report of --json."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from lab.processes import run_callvault
from tests.seals.small import SmallArchive
from text.times import utc_now


@pytest.fixture
def small(tmp_path: Path) -> SmallArchive:
    small = SmallArchive(tmp_path / "archive", {"id": "ab" * 16})
    key = small.transcription(11, "11-one", "first", utc_now())
    fields = small.read(key)
    fields["transcription"]["transcription_text"] = "guten Tag, Herr Müller"
    small.write(key, fields)
    return small


@pytest.fixture
def here(small: SmallArchive, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "work").mkdir()
    return {
        "CALLVAULT_ARCHIVE_URL": small.root.as_uri(),
        "CALLVAULT_DATA": str(tmp_path / "data"),
        "TELNYX_BASE_URL": "http://127.0.0.1:9/v2",
    }


def get(here: dict[str, str], *words: str, status: int = 0) -> str:
    done = run_callvault(["get", "11-one", *words], here)
    assert done.returncode == status, done.stderr
    said = done.stderr.splitlines(keepends=True)
    return done.stdout if status == 0 else "".join(one for one in said if not one.startswith("building the catalogue"))


def test_a_file_that_exists_is_overwritten_only_with_force_and_only_by_what_is_whole(
    small: SmallArchive, here: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "work" / "call.wav"
    path.write_text("mine")
    for words in ([], ["--transcript"]):
        said = get(here, *words, "--out", str(path), status=1)
        assert (
            said == f"callvault: {path} already exists; choose another file with --out, or overwrite it with --force\n"
        )
        assert path.read_text() == "mine"
    audio = small.folder(11, "11-one") + "audio.wav"
    whole = (small.root / audio).read_bytes()
    small.write(audio, whole + b"?")
    assert "its commit record says" in get(here, "--out", str(path), "--force", status=1)
    assert path.read_text() == "mine", "what is damaged replaces nothing"
    small.write(audio, whole)
    get(here, "--out", str(path), "--force")
    assert path.read_bytes() == whole
    get(here, "--transcript", "--out", str(path), "--force")
    assert path.read_text() == "guten Tag, Herr Müller\n"
    assert [one.name for one in path.parent.iterdir()] == ["call.wav"]
    assert get(here, "--out", str(path.parent), "--force", status=2).startswith("callvault: --out: ")
    assert "No such file" in get(here, "--out", str(tmp_path / "nowhere" / "call.wav"), status=1)


def test_a_transcript_is_text_or_json_and_webvtt_is_refused_because_telnyx_gives_no_times(here: dict[str, str]) -> None:
    assert get(here, "--transcript") == get(here, "--transcript", "--format", "txt") == "guten Tag, Herr Müller\n"
    document = json.loads(get(here, "--transcript", "--format", "json"))
    assert document["recording_id"] == "11-one"
    assert [one["transcription_text"] for one in document["transcriptions"]] == ["guten Tag, Herr Müller"]
    said = get(here, "--transcript", "--format", "vtt", status=1)
    assert "Telnyx gives the text of a transcription without times; use --format txt or json" in said


def test_the_report_is_one_document_on_standard_output(
    small: SmallArchive, here: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "work" / "call.wav"
    assert run_callvault(["index"], here).returncode == 0
    done = run_callvault(["get", "11-one", "--out", str(path), "--json"], here)
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")
    data = path.read_bytes()
    assert json.loads(done.stdout) == {
        "recording_id": "11-one",
        "path": str(path),
        "key": small.folder(11, "11-one") + "audio.wav",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "content_type": "audio/wav",
    }
    report = json.loads(get(here, "--transcript", "--json"))
    assert (report["path"], report["format"], report["text"]) == (None, "txt", "guten Tag, Herr Müller\n")
    report = json.loads(get(here, "--transcript", "--json", "--out", str(tmp_path / "work" / "said.txt")))
    assert (report["transcriptions"], report["bytes"]) == (1, 24)


@pytest.mark.parametrize(
    "words, said",
    [
        ("--format ogg", "--format: cannot use 'ogg'; expected wav or mp3"),
        ("--transcript --format ogg", "--format: cannot use 'ogg'; expected txt, vtt or json"),
        ("--format vtt", "--format: vtt is a format of a transcript; add --transcript"),
        ("--transcript --format wav", "--format: wav is a format of audio; leave out --transcript"),
        ("--json --out -", "--json and --out - exclude each other; both print on standard output"),
    ],
)
def test_what_does_not_fit_together_is_refused(words: str, said: str, here: dict[str, str]) -> None:
    assert get(here, *words.split(), status=2) == f"callvault: {said}\n"
