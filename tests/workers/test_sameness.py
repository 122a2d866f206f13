"""Telnyx's current description of a recording, compared with the archived one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from archive.records import ArchivedObject, AudioSummary, CommitRecord, Proof
from archive.sameness import difference
from telnyx_api.source_mark import SourceMark

SAID = {
    "id": "r",
    "duration_millis": 3000,
    "channels": "dual",
    "status": "completed",
    "recording_started_at": "2026-11-25T10:00:00Z",
    "recording_ended_at": "2026-11-25T10:00:03.000000Z",
    "updated_at": "2026-11-25T10:00:04Z",
}
SOURCE = SourceMark(96_044, '"a"', "Wed, 25 Nov 2026 10:00:04 GMT")
RECORD = CommitRecord(
    recording=SAID,
    objects=[
        ArchivedObject(
            "recordings/2026/11/25/r/audio.wav", 96_044, "0" * 64, "audio/wav", Proof("read-back", "sha256", "", None)
        )
    ],
    audio=AudioSummary("wav", 2, 8000, 3000, []),
    archived_at="2026-11-25T10:01:00Z",
    event_id=None,
    found_by="webhook",
    sources={"wav": SOURCE},
)


def test_different_spellings_of_the_same_value_are_the_same() -> None:
    now = SAID | {"recording_started_at": "2026-11-25T11:00:00.000+01:00", "to": "+15550100"}
    assert difference(RECORD, now, {"wav": SOURCE}) is None
    assert difference(RECORD, now, {}) is None
    assert difference(RECORD, now, {"wav": SourceMark(96_044, '"a"', "Thu, 26 Nov 2026 10:00:04 GMT")}) is None
    assert difference(RECORD, now, {"wav": SourceMark(None, None, None)}) is None
    earlier = msgspec.structs.replace(RECORD, sources=msgspec.UNSET)
    assert difference(earlier, now, {"wav": SourceMark(96_044, '"b"', "later")}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("duration_millis", 5000),
        ("duration_millis", None),
        ("channels", "single"),
        ("status", "in-progress"),
        ("recording_started_at", "2026-11-25T10:00:01Z"),
        ("recording_ended_at", None),
        ("updated_at", "2026-11-26T10:00:04Z"),
    ],
)
def test_each_field_that_describes_other_content_is_a_difference(name: str, value: Any) -> None:
    found = difference(RECORD, SAID | {name: value}, {"wav": SOURCE})
    assert found is not None
    assert found.startswith(f"{name} is {value}, and was {SAID[name]}")


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"wav": SourceMark(96_046, '"a"', None)}, "its wav has 96046 bytes, and had 96044"),
        ({"wav": SourceMark(96_044, '"b"', None)}, 'ETag "b" is not "a"'),
        ({"wav": SourceMark(96_044, None, "Thu, 26 Nov 2026 10:00:04 GMT")}, "Last-Modified Thu"),
        ({"wav": SOURCE, "mp3": SOURCE}, "Telnyx has it as mp3, and the archive does not"),
    ],
)
def test_each_mark_of_other_bytes_is_a_difference(sources: dict[str, SourceMark], expected: str) -> None:
    found = difference(RECORD, SAID, sources)
    assert found is not None
    assert expected in found
