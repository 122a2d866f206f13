from __future__ import annotations

import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from urllib.parse import unquote

from hypothesis import given, settings
from hypothesis import strategies as st

from archive import kinds, layout

DAY = date(2026, 1, 2)


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=400))
def test_any_name_becomes_one_harmless_segment(name: str) -> None:
    encoded = layout.encode_name(name)
    assert encoded
    assert encoded.isascii()
    assert len(encoded) <= 200
    assert "/" not in encoded
    assert encoded.strip(".")
    if "~" not in encoded and name:
        assert unquote(encoded) == name


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=300), st.text(max_size=300))
def test_two_names_never_become_one_key(a: str, b: str) -> None:
    assert (a == b) == (layout.encode_name(a) == layout.encode_name(b)) or {a, b} == {"", "\0"}


def test_the_keys_are_those_of_the_contract() -> None:
    folder = layout.recording_folder(DAY, "id/1")
    assert folder == "recordings/2026/01/02/id%2F1/"
    assert layout.audio_key(folder, "wav") == folder + "audio.wav"
    assert layout.commit_key(folder) == folder + "recording.json"
    assert layout.receipt_key(folder) == folder + "deleted.json"
    assert layout.transcription_key(folder, "t") == folder + "transcriptions/t.json"
    assert layout.name_of(folder + "transcriptions/t%20x.json") == "t x"


def test_a_key_is_read_back() -> None:
    assert layout.recording_of("recordings/2026/01/02/id%2F1/audio.wav") == (DAY, "id/1", "audio.wav")
    assert layout.recording_of("recordings/2026/01/02/x/transcriptions/t.json") == (DAY, "x", "transcriptions/t.json")
    for other in ("seals/0000000001.json", "recordings/2026/13/02/x/y", "recordings/a/b/c/d/e", "x"):
        assert layout.recording_of(other) is None


def test_the_document_of_the_format_has_every_kind_of_object() -> None:
    document = (Path(__file__).parents[2] / "docs" / "archive-format.md").read_text().replace("\\|", "|")
    rows = [line.partition("` | ")[0] + "`" for line in document.splitlines() if line.startswith("| `")]
    spelled = {
        kinds.SEAL: "seals/{sequence}.sha256`, `.json`, `.sig`, `.tsr",
        kinds.DECISION: "decisions/connections/{connection_id}/{id}.json",
    }
    for kind in kinds.KINDS:
        folder, slash, name = spelled.get(kind, kind.key).rpartition("/")
        assert any(f"`{folder}{slash}" in row and f"{name}`" in row for row in rows), kind.key


@settings(deadline=None)  # the machine may be busy
@given(st.sampled_from(kinds.KINDS))
def test_the_kind_of_an_object_is_read_from_its_key(kind: kinds.Kind) -> None:
    values = {"YYYY": "2026", "MM": "01", "DD": "02", "wav|mp3": "wav", "sequence": "0000000001", "number": "00000001"}
    values |= {"sha256|json|sig|tsr": "tsr", "YYYY-MM-DD": "2026-01-02"}
    values |= {"sha256": "0" * 64, "scope": "connections"}
    values |= {"instant": "20260102T030405.000006Z", "writer": "0" * 16}
    key = re.sub(r"\{([^}]+)\}", lambda found: values.get(found[1], "x"), kind.key)
    assert kinds.kind_of(key) is kind
    assert kinds.kind_of(f"else/{key}") is None


def test_many_threads_may_read_their_first_record_at_once() -> None:
    """msgspec prepares a type at its first use; the process crashed when several threads did so at once."""
    program = """
import sys, threading
sys.setswitchinterval(1e-6)
from archive import readers, records
start = threading.Barrier(16)
def read():
    start.wait()
    try:
        readers.COMMIT_RECORD.read(b'{"recording": {"id": "x"}, "objects": [{"key": "k"}]}', "k")
    except records.UnreadableRecord:
        pass
threads = [threading.Thread(target=read) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    for _ in range(6):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=False, cwd=Path(__file__).parents[2]
        )
        assert done.returncode == 0, done.stderr
