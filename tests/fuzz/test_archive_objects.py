"""Any object in the bucket is read, or raises the one error that readers expect."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from archive import kinds, layout
from archive.archive import Archive
from archive.audio import AudioReader, Expected
from archive.readers import COMMIT_RECORD
from archive.records import UnreadableRecord
from archive.seals import SealedFolder, read_link, read_manifest
from archive.stores.store import open_store
from archive.verify import Verified, verify
from archive.verify_seals import verify_seals
from lab.stores import make_archive
from tests.fuzz.values import DEEP, documents, like, texts
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.rows import row_of

FOLDER = "recordings/2026/11/25/an-id/"
RECORD = {
    "schema": "callvault.recording/1",
    "recording": {"id": "an-id"},
    "objects": [
        {
            "key": FOLDER + "audio.wav",
            "size": 1,
            "sha256": "0" * 64,
            "content_type": "audio/wav",
            "proof": {"by": "read-back", "algorithm": "sha256", "value": "0", "version": None},
        }
    ],
    "audio": {"format": "wav", "channels": 1, "sample_rate_hz": 8000, "duration_ms": 1, "findings": []},
    "archived_at": "2026-11-25T10:00:00.000000Z",
    "event_id": None,
    "found_by": "webhook",
}
NAMES = ("recording.json", "deleted.json", "erased.json", "transcriptions/t.json", "decisions/2026.json")
bodies = st.one_of(st.binary(max_size=300), documents.map(lambda d: json.dumps(d).encode("utf-8", "surrogatepass")))
records = st.builds(
    lambda changed: json.dumps(RECORD | changed).encode("utf-8", "surrogatepass"),
    like(*RECORD, "recording", "connection_id"),
)


@given(st.one_of(bodies, records))
@example(DEEP)
@example(b'{"recording": ' + DEEP)
def test_a_commit_record_is_read_or_unreadable(data: bytes) -> None:
    with suppress(UnreadableRecord):
        COMMIT_RECORD.read(data, "key")


def folder_of(records: dict[str, bytes]) -> SealedFolder:
    key = FOLDER + "recording.json"
    return SealedFolder(FOLDER, records=records, commit=COMMIT_RECORD.read(records[key], key))


@given(st.one_of(bodies, records), bodies, st.sampled_from(NAMES))
@example(json.dumps(RECORD).encode(), DEEP, "deleted.json")
def test_a_folder_is_a_row_or_unreadable(record: bytes, other: bytes, name: str) -> None:
    with suppress(UnreadableRecord):
        row_of(folder_of({FOLDER + "recording.json": record, FOLDER + name: other}))


@given(bodies)
@example(DEEP)
def test_a_seal_is_read_or_unreadable(data: bytes) -> None:
    with suppress(UnreadableRecord):
        read_link(data, layout.seal_key(1))


@given(texts)
@example("recordings/9999/99/99/x/recording.json")
@example("recordings/0001/01/01/%zz/recording.json")
@example("recordings/²026/11/25/x/recording.json")
@example("recordings/2026/W48/3/x/recording.json")
def test_any_key_is_placed_or_nowhere(key: str) -> None:
    layout.day_of(key)
    layout.recording_of(key)
    layout.seal_of(key)
    kinds.place_of(key)


@given(texts)
def test_any_name_is_one_segment_and_comes_back(name: str) -> None:
    folder = layout.recording_folder(date(2026, 11, 25), name)
    assert folder.count("/") == 5 and folder.isascii() and ".." not in folder.split("/")
    place = layout.recording_of(folder + "recording.json")
    assert place is not None and (len(name) > 20 or not name or place[1] == name)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    make_archive(tmp_path / "archive")
    return Archive(open_store((tmp_path / "archive").as_uri()))


@given(data=st.one_of(st.binary(max_size=300), st.just(b"0" * 64 + b"  a\n")))
def test_a_manifest_is_read_or_unreadable(data: bytes, tmp_path: Path) -> None:
    make_archive(tmp_path / "archive")
    archive = Archive(open_store((tmp_path / "archive").as_uri()))
    path = tmp_path / "archive" / layout.seal_key(1, "sha256")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    with suppress(UnreadableRecord):
        list(read_manifest(archive, 1))


@given(seal=st.one_of(bodies, st.just(DEEP)), manifest=st.binary(max_size=200), beside=st.binary(max_size=200))
def test_a_chain_of_junk_is_reported_as_broken_and_never_as_whole(
    seal: bytes, manifest: bytes, beside: bytes, tmp_path: Path
) -> None:
    make_archive(tmp_path / "archive")
    archive = Archive(open_store((tmp_path / "archive").as_uri()))
    files = {
        layout.seal_key(1, "json"): seal,
        layout.seal_key(1, "sha256"): manifest,
        layout.seal_key(1, "sig"): beside,
        layout.seal_key(1, "tsr"): beside,
    }
    for key, data in files.items():
        path = tmp_path / "archive" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert verify_seals_of(archive)


def verify_seals_of(archive: Archive) -> Any:
    report = verify_seals(archive, Verified())
    return report.problems


@pytest.mark.parametrize("name", ["seals/99999999.json", "catalogue/2026/11/25/99999999999999.parquet"])
def test_a_name_that_claims_a_number_costs_one_line(name: str, archive: Archive, tmp_path: Path) -> None:
    path = tmp_path / "archive" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{}")
    assert 1 <= len(verify_seals_of(archive)) <= 4


@given(st.lists(st.tuples(st.one_of(texts, st.sampled_from([FOLDER + n for n in NAMES])), bodies), max_size=5))
def test_a_catalogue_takes_whatever_the_stream_brings(entries: list[tuple[str, bytes]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        catalogue = Catalogue(Path(folder) / "catalogue.sqlite")
        for key, data in entries:
            with suppress(UnreadableRecord):
                catalogue.apply(key, data)
        assert catalogue.count() >= 0
        catalogue.close()


_WAVE64 = b"riff" + bytes(20) + b"wave\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8afmt "
_magic: Callable[[bytes], bytes] = lambda tail: b"RIFF\xff\xff\xff\xffWAVE" + tail  # noqa: E731


@given(
    st.sampled_from(("wav", "mp3")),
    st.one_of(
        st.binary(max_size=2_000),
        st.binary(max_size=300).map(_magic),
        st.binary(max_size=60).map(lambda b: _magic(b"fmt " + b)),
        st.binary(max_size=60).map(lambda b: b"RIFX" + _magic(b"fmt " + b)[4:]),
        st.binary(max_size=120).map(lambda b: _WAVE64 + b),
        st.binary(max_size=400).map(lambda b: b"ID3\x04\x00\x00" + b),
        st.binary(max_size=400).map(lambda b: b"\xff\xfb\x90\x00" * 3 + b),
    ),
    st.integers(1, 64),
    st.one_of(st.none(), st.integers(), st.just(10**30)),
)
def test_any_bytes_are_audio_or_a_finding(audio_format: str, data: bytes, chunk: int, expected: int | None) -> None:
    reader = AudioReader(audio_format)
    for at in range(0, len(data), chunk):
        reader.feed(data[at : at + chunk])
    summary = reader.summary(Expected(expected, "dual"))
    assert summary.duration_ms >= 0 and summary.channels >= 0
    if len(data) < 12:
        assert summary.findings


BESIDE = {
    "recording.json": json.dumps(RECORD),
    "deleted.json": '{"recording_id": "an-id", "objects": [], "transcription_ids": [], "confirmed_gone_at": "2026-11-26"}',
    "transcriptions/t.json": '{"transcription": {"id": "t", "transcription_text": "a b c"}}',
    "decisions/2026-11-26T10:00:00.000000Z.json": '{"decision": "hold", "why": "a", "by": "b", "at": "2026-11-26T10:00:00Z"}',
}


@given(name=st.sampled_from(sorted(BESIDE)), at=st.integers(0, 10_000), value=st.integers(0x80, 0xFF))
def test_verify_names_a_record_that_is_no_longer_text(name: str, at: int, value: int, tmp_path: Path) -> None:
    """A flipped bit can make invalid UTF-8, which shows only when the bytes are decoded."""
    make_archive(tmp_path / "archive")
    folder = tmp_path / "archive" / FOLDER
    for path, text in BESIDE.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "audio.wav").write_bytes(b"\0")
    damaged = bytearray((folder / name).read_bytes())
    damaged[at % len(damaged)] = value
    (folder / name).write_bytes(damaged)
    problems = verify(Archive(open_store((tmp_path / "archive").as_uri())), Verified()).problems
    assert all(problem.key.startswith(FOLDER) for problem in problems)
    with suppress(UnreadableRecord):
        row_of(folder_of({FOLDER + n: (folder / n).read_bytes() for n in BESIDE}))
