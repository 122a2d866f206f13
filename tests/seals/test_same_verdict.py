"""`callvault verify --seals` and docs/verify_archive.py agree on exit status and problems of many archives."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from lab.processes import callvault_here
from tests.seals.small import FIRST, LAST, SmallArchive, ago, noon
from text.errors import UserError
from text.times import end_of_day, format_instant, utc_now

MINUTE = timedelta(minutes=1)
SEEDS = 400 if os.environ.get("CALLVAULT_FUZZ") == "long" else 16
SCRIPT = Path(__file__).parents[2] / "docs" / "verify_archive.py"


def verify(archive: Path, tmp_path: Path, *options: str, **environment: str) -> tuple[int, dict[str, Any]]:
    settings = {"CALLVAULT_ARCHIVE_URL": archive.as_uri(), "CALLVAULT_DATA": str(tmp_path / "data")} | environment
    code, out = callvault_here(["verify", "--seals", "--json", *options], settings)
    return code, json.loads(out)


def by_script(archive: Path, *options: str) -> tuple[int, set[tuple[str, str]]]:
    command = [sys.executable, "-I", str(SCRIPT), str(archive), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    rows = [line.split(": ", 2) for line in done.stdout.splitlines()[:-1]]
    return done.returncode, {(kind, key) for kind, key, _ in rows}


def nothing(one: SmallArchive) -> set[tuple[str, str]]:
    return set()


def originals_deleted_after_the_seal(one: SmallArchive) -> set[tuple[str, str]]:
    for days in range(FIRST, LAST - 1, -1):
        if days % 2:
            one.receipt(one.folder(days, f"{days}-one"), utc_now())
            one.receipt(one.folder(days, f"{days}-two"), utc_now(), "gone.json")
    return set()


def a_late_transcription_waits(one: SmallArchive) -> set[tuple[str, str]]:
    one.transcription(5, "5-one", "late", utc_now())
    return set()


def a_late_recording_waits(one: SmallArchive) -> set[tuple[str, str]]:
    one.recording(5, "5-late", at=utc_now())
    return set()


def a_receipt_that_was_on_its_way_while_its_day_was_sealed_waits(one: SmallArchive) -> set[tuple[str, str]]:
    """A deletion is confirmed, then the day is sealed, then the receipt is written."""
    _receipt_before_the_comparison(one, timedelta(minutes=30))
    return set()


def a_receipt_that_should_have_been_there_when_its_day_was_sealed(one: SmallArchive) -> set[tuple[str, str]]:
    return {("unlisted", _receipt_before_the_comparison(one, timedelta(minutes=90)))}


def _receipt_before_the_comparison(one: SmallArchive, before: timedelta) -> str:
    one.recording(LAST - 1, "sealed-today")
    one.seal(LAST - 1)
    return one.receipt(one.folder(LAST - 1, "sealed-today"), end_of_day(ago(LAST - 1)) + timedelta(days=2) - before)


def what_came_long_ago_and_was_never_sealed(one: SmallArchive) -> set[tuple[str, str]]:
    return {("unlisted", one.receipt(one.folder(5, "5-one"), noon(300)))}


def a_receipt_without_its_commit_record(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.folder(LAST, "gone-before-its-seal")  # so no seal lists it
    one.seal(LAST, only=[one.receipt(folder, noon(LAST))])
    return {("missing", f"{folder}recording.json")}


def a_gone_record_without_its_commit_record(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.folder(1, "gone-before-its-seal")  # of a day that is not sealed yet
    one.receipt(folder, utc_now(), "gone.json")
    return {("missing", f"{folder}recording.json")}


def audio_and_commit_record_removed_and_the_receipt_left(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.folder(5, "5-one")
    one.receipt(folder, utc_now())
    names = ("audio.wav", "recording.json")
    one.remove(*(folder + name for name in names))
    return {("missing", folder + name) for name in names}


def audio_removed(one: SmallArchive) -> set[tuple[str, str]]:
    key = one.folder(5, "5-one") + "audio.wav"
    one.remove(key)
    return {("missing", key)}


def audio_changed(one: SmallArchive) -> set[tuple[str, str]]:
    key = one.folder(5, "5-one") + "audio.wav"
    one.write(key, b"other bytes")
    return {("damaged", key)}


def a_recording_cut_out(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.folder(5, "5-one")
    shutil.rmtree(one.root / folder)
    names = ("audio.wav", "recording.json", "transcriptions/first.json")
    return {("missing", folder + name) for name in names}


def the_end_of_the_chain_cut_off_with_its_days(one: SmallArchive) -> set[tuple[str, str]]:
    for days, sequence in ((5, FIRST - 5 + 1), (LAST, FIRST - LAST + 1)):
        shutil.rmtree(one.root / layout.day_prefix(ago(days)), ignore_errors=True)
        one.remove(layout.seal_key(sequence), layout.seal_key(sequence, "sha256"))
    return {("unsealed", layout.day_prefix(ago(5)))}


def a_seal_gone_from_the_middle(one: SmallArchive) -> set[tuple[str, str]]:
    one.remove(layout.seal_key(2), layout.seal_key(2, "sha256"))
    day = ago(FIRST - 1)
    return {("gap", layout.seal_key(2)), ("unsealed", layout.day_prefix(day))}


def a_last_seal_gone(one: SmallArchive) -> set[tuple[str, str]]:
    key = layout.seal_key(one.seal(LAST - 1))
    one.remove(key)
    return {("gap", key)}


def a_last_seal_gone_of_a_day_that_is_due(one: SmallArchive) -> set[tuple[str, str]]:
    key = layout.seal_key(one.sequence)
    one.remove(key)
    return {("gap", key), ("unsealed", layout.day_prefix(ago(LAST)))}


def a_last_seal_gone_that_was_signed(one: SmallArchive) -> set[tuple[str, str]]:
    key = layout.seal_key(one.seal(LAST - 1))
    one.remove(key)
    one.write(layout.seal_key(one.sequence, "sig"), b"a signature is written after its seal")
    return {("gap", key)}


def a_last_manifest_gone(one: SmallArchive) -> set[tuple[str, str]]:
    key = layout.seal_key(one.seal(LAST - 1), "sha256")
    one.remove(key)
    return {("gap", key)}


def a_forged_erasure(one: SmallArchive) -> set[tuple[str, str]]:
    return {("erasure", one.erase(one.folder(5, "5-one"), sha256="0" * 64))}


def an_erasure_that_does_not_name_the_commit_record(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.folder(5, "5-one")
    key = one.erase(folder)
    said = one.read(key)
    one.write(key, said | {"objects": [row for row in said["objects"] if "audio" in row["key"]]})
    one.receipt(folder, utc_now())
    return {("missing", f"{folder}{name}") for name in ("recording.json", "transcriptions/first.json")}


def an_erasure_of_another_recording(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.folder(5, "5-one")
    key = one.erase(folder)
    one.write(key, one.read(key) | {"recording_id": "5-two"})
    names = ("audio.wav", "recording.json", "transcriptions/first.json")
    return {("damaged", key), *(("missing", folder + name) for name in names)}


def a_lawful_erasure(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.folder(5, "5-one")
    one.receipt(folder, utc_now())
    one.erase(folder)
    return set()


def a_void_seal(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.recording(LAST, "listed-and-then-erased")
    keys = [folder + name for name in ("audio.wav", "recording.json", "transcriptions/first.json")]
    one.seal(LAST, only=keys, void="lists what was erased")
    one.erase(folder)
    one.seal(LAST)
    return set()


def what_only_a_void_seal_lists(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.recording(LAST, "listed-by-a-void-seal")
    keys = [folder + name for name in ("audio.wav", "recording.json", "transcriptions/first.json")]
    one.seal(LAST, only=keys, void="a reason")
    one.seal(LAST, only=[])
    return {("unlisted", key) for key in keys}


def the_manifest_of_a_void_seal_altered(one: SmallArchive) -> set[tuple[str, str]]:
    number = one.seal(LAST, only=[], void="a reason")
    one.write(layout.seal_key(number, "sha256"), b"0" * 64 + b"  x\n")
    return {("seal-altered", layout.seal_key(number, "sha256"))}


def a_seal_made_void_afterwards(one: SmallArchive) -> set[tuple[str, str]]:
    one.write(layout.seal_key(2), one.read(layout.seal_key(2)) | {"void": "by a forger"})
    return {("seal-altered", layout.seal_key(3)), ("unsealed", layout.day_prefix(ago(FIRST - 1)))}


def an_altered_seal(one: SmallArchive) -> set[tuple[str, str]]:
    one.write(layout.seal_key(2), one.read(layout.seal_key(2)) | {"recordings": 7})
    return {("seal-altered", layout.seal_key(3))}


def records_at_the_root(one: SmallArchive) -> set[tuple[str, str]]:
    said: dict[str, Any] = {
        "schema": "callvault.decision/2",
        "id": "d1",
        "decision": "hold",
        "scope": "everything",
        "subject": "",
    }
    said |= {"why": "case 17", "by": "somebody", "at": format_instant(utc_now()), "lifts": [], "findings": []}
    one.write("decisions/everything/d1.json", said)
    one.write("decisions/recordings/5-one/d2.json", said | {"id": "d2", "scope": "recording", "subject": "5-one"})
    one.write(
        one.folder(5, "5-one") + "decisions/d2.json", said | {"id": "d2", "scope": "recording", "subject": "5-one"}
    )
    duties = {"schema": "callvault.duties/1", "unit": "u", "number": 1, "delete_originals": "never"}
    duties |= {
        "delete_after_seconds": 1.0,
        "hold_connections": [],
        "transcriptions": "wait 0s",
        "by": "x",
        "at": "",
        "sealed_first": True,
    }
    one.write("duties/u/1.json", duties)
    one.write("transcribing/7.json", {"schema": "callvault.transcribing/1", "connection_id": "7"})
    case = {"schema": "callvault.case/1", "id": "c1", "number": 1, "state": "open", "name": "Doe v. Example"}
    case |= {"query": {"connection": "7"}, "why": "a letter", "by": "ann", "at": format_instant(utc_now())}
    one.write("cases/c1/00000001.json", case)
    one.write("cases/c1/00000002.json", case | {"number": 2, "state": "closed", "query": {"number": None}})
    return set()


def records_at_the_root_that_cannot_be_read(one: SmallArchive) -> set[tuple[str, str]]:
    records_at_the_root(one)
    keys = ("decisions/everything/d1.json", "duties/u/1.json", "transcribing/7.json", "cases/c1/00000001.json")
    for key in keys:
        one.write(key, b"{")
    one.write("decisions/connections/7/d9.json", one.read("decisions/recordings/5-one/d2.json"))
    one.write("cases/c2/00000002.json", one.read("cases/c1/00000002.json"))
    return {("damaged", key) for key in (*keys, "decisions/connections/7/d9.json", "cases/c2/00000002.json")}


def retention_rules(one: SmallArchive) -> set[tuple[str, str]]:
    rule = {"name": "desk", "connections": ["7"], "keep": "7 years", "stays": "hashes"}
    said: dict[str, Any] = {
        "schema": "callvault.retention/1",
        "rules": [rule, {"name": "default", "keep": "5 years"}],
        "zone": "UTC",
    }
    said |= {"grace_seconds": 604800, "file_sha256": "0" * 64, "by": "Ann", "at": format_instant(utc_now())}
    for number in (1, 2, 3, 4):
        one.write(f"retention/{number:08d}.json", said | {"number": number})
    return set()


def retention_rules_taken_away_cut_short_and_moved(one: SmallArchive) -> set[tuple[str, str]]:
    retention_rules(one)
    keys = [f"retention/{number:08d}.json" for number in (1, 2, 3, 4)]
    one.write(keys[0], b"{")
    one.remove(keys[1])
    one.write(keys[2], one.read(keys[3]))
    return {("damaged", keys[0]), ("missing", keys[1]), ("damaged", keys[2])}


def a_hold_taken_away_and_one_turned_into_a_release(one: SmallArchive) -> set[tuple[str, str]]:
    records_at_the_root(one)
    key = "decisions/recordings/5-one/d2.json"
    said = one.read(key)
    one.write(one.folder(5, "5-one") + "decisions/d3.json", said | {"id": "d3"})
    one.write(key, said | {"decision": "approve"})
    return {("damaged", key), ("missing", "decisions/recordings/5-one/d3.json")}


def versions_beside_a_recording(one: SmallArchive) -> set[tuple[str, str]]:
    one.version(one.folder(5, "5-one"), "other-bytes", utc_now())
    one.version(one.folder(5, "5-two"), "same-bytes", utc_now(), None)
    one.version(one.recording(LAST, "sealed-with-its-version"), "v", noon(LAST))
    one.seal(LAST)
    return set()


def a_version_damaged_and_one_half_written(one: SmallArchive) -> set[tuple[str, str]]:
    damaged = one.version(one.folder(5, "5-one"), "damaged", utc_now()) + "audio.wav"
    one.write(damaged, b"changed")
    half = one.version(one.recording(1, "young"), "half", utc_now())
    one.remove(f"{half}recording.json")
    return {("damaged", damaged), ("uncommitted", f"{half}audio.wav")}


def a_commit_record_that_cannot_be_read(one: SmallArchive) -> set[tuple[str, str]]:
    """Its audio was committed nevertheless, so nothing asks for another fetch."""
    folder = one.recording(1, "young")
    one.write(folder + "recording.json", b"{x")
    return {("damaged", folder + "recording.json")}


def a_version_whose_first_is_gone(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.recording(1, "young")
    one.version(folder, "v", utc_now())
    one.remove(f"{folder}recording.json", f"{folder}audio.wav")
    return {("missing", f"{folder}recording.json")}


def what_is_nobodys(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.folder(1, "stranger")
    one.write(folder + "audio.wav", b"x")
    one.write(folder + "notes.txt", b"x")
    one.write("recordings/2026/99/99/x/recording.json", b"x")
    one.write(one.folder(1, "alone") + "erased.sig", b"x")
    return {
        ("uncommitted", folder + "audio.wav"),
        ("unknown", folder + "notes.txt"),
        ("unknown", "recordings/2026/99/99/x/recording.json"),
        ("unknown", one.folder(1, "alone") + "erased.sig"),
    }


def what_only_looks_like_a_key_of_the_archive(one: SmallArchive) -> set[tuple[str, str]]:
    one.write("archive.json.bak", b"x")  # somebody's copy
    keys = [
        f"recordings/{year}/11/20/a/recording.json" for year in ("0001", "1899", "3000", "\u0662\u0660\u0662\u0666")
    ]
    for key in keys:
        one.write(key, b"x")
    return {("unknown", key) for key in keys}


def a_receipt_of_another_recording(one: SmallArchive) -> set[tuple[str, str]]:
    key = one.receipt(one.recording(1, "young"), utc_now())
    one.write(key, one.read(key) | {"recording_id": "another"})
    return {("damaged", key)}


def recordings_that_are_not_archived_on_record(one: SmallArchive) -> set[tuple[str, str]]:
    one.not_archived(5, "never", noon(5))
    one.not_archived(5, "late", noon(5))
    one.seal(5)
    one.recording(5, "late", utc_now())
    one.not_archived(7, "just-said", utc_now())
    return set()


def records_of_what_is_not_archived_that_are_not_what_they_should_be(one: SmallArchive) -> set[tuple[str, str]]:
    changed, gone, of_another, none = (one.not_archived(5, name, noon(5)) for name in ("a", "b", "c", "d"))
    one.write(of_another, one.read(of_another) | {"recording_id": "x"})
    one.write(none, {"schema": "callvault.not-archived/1"})
    one.seal(5)
    one.write(changed, one.read(changed) | {"why": "another"})
    one.remove(gone)
    return {("damaged", changed), ("missing", gone), ("damaged", of_another), ("damaged", none)}


def an_access_log_of_sealed_days(one: SmallArchive) -> set[tuple[str, str]]:
    one.access(5, "Ann", "Ben\nEve")
    one.seal(5)
    one.access(0, "Ann", at=utc_now())
    return set()


def a_line_of_the_access_log_taken_out_changed_or_added(one: SmallArchive) -> set[tuple[str, str]]:
    cut, changed, gone = one.access(5, "Ann", "Ben"), one.access(5, "Cid"), one.access(5, "Dan", at=noon(5) + MINUTE)
    one.seal(5)
    one.write(cut, (one.root / cut).read_bytes().partition(b"\n")[2])
    one.write(changed, (one.root / changed).read_bytes().replace(b"Cid", b"Eve"))
    one.remove(gone)
    added = one.access(5, "Fay")
    return {("damaged", cut), ("damaged", changed), ("missing", gone), ("unlisted", added)}


def access_log_lines_that_came_around_the_seal_of_their_day_wait(one: SmallArchive) -> set[tuple[str, str]]:
    one.recording(LAST - 1, "sealed-today")
    one.seal(LAST - 1)
    compared = end_of_day(ago(LAST - 1)) + timedelta(days=2)
    key = one.access(LAST - 1, "Ann", at=compared - timedelta(minutes=30))
    early = one.access(LAST - 1, "Ben", at=compared - timedelta(minutes=90))
    for one_key in (key, early):  # as if they lay under the sealed day
        place = layout.day_prefix(ago(LAST - 1), "access-log") + one_key.rpartition("/")[2]
        one.write(place, (one.root / one_key).read_bytes())
        if place != one_key:
            one.remove(one_key)
    return {("unlisted", layout.day_prefix(ago(LAST - 1), "access-log") + early.rpartition("/")[2])}


def what_only_looks_like_an_access_log(one: SmallArchive) -> set[tuple[str, str]]:
    names = ("x.jsonl", "20260102T030405.000006Z-x.jsonl", "20260102T030405.000006Z-0000000000000000.json")
    keys = [layout.day_prefix(ago(5), "access-log") + name for name in names]
    for key in keys:
        one.write(key, b"x")
    one.write("access-log/x.jsonl", b"lies under no day")
    return {("unlisted", key) for key in keys}


def parts_disposed_of_under_a_rule_one_after_the_other(one: SmallArchive) -> set[tuple[str, str]]:
    one.rules()
    folder, other = one.folder(5, "5-one"), one.folder(7, "7-one")
    one.dispose(folder)
    one.seal(5)
    one.dispose(folder, "transcriptions/first.json", number=2)
    one.dispose(other, "transcriptions/first.json")
    one.erase(other)
    return set()


def a_disposal_that_names_another_hash(one: SmallArchive) -> set[tuple[str, str]]:
    one.rules()
    folder = one.folder(5, "5-one")
    rows = [{"key": f"{folder}audio.wav", "size": 1, "sha256": "0" * 64}]
    return {("erasure", one.dispose(folder, objects=rows))}


def disposals_that_no_rule_explains(one: SmallArchive) -> set[tuple[str, str]]:
    one.rules()
    early: dict[str, Any] = {"ended_at": format_instant(utc_now() + timedelta(days=1))}
    return {
        ("erasure", one.dispose(one.folder(5, "5-one"), rule="short")),
        ("erasure", one.dispose(one.folder(5, "5-two"), rules_number=2)),
        ("erasure", one.dispose(one.folder(7, "7-one"), **early)),
        ("erasure", one.erase(one.folder(7, "7-two"), rule="short", rules_number=1, ended_at="2020-01-01T00:00:00Z")),
    }


def disposals_that_are_not_what_they_should_be(one: SmallArchive) -> set[tuple[str, str]]:
    one.rules()
    folder = one.folder(5, "5-one")
    of_another = one.dispose(one.folder(7, "7-one"), recording_id="x")
    elsewhere = one.dispose(one.folder(7, "7-two"), number=3)
    moved = (one.root / elsewhere).rename(one.root / one.folder(7, "7-two") / "disposed" / "00000004.json")
    one.write(f"{folder}disposed/00000001.json", b"{}")
    one.write(f"{folder}disposed/00000002.sig", b"x")
    return {
        ("damaged", of_another),
        ("missing", one.folder(7, "7-one") + "audio.wav"),
        ("damaged", str(moved.relative_to(one.root))),
        ("missing", one.folder(7, "7-two") + "audio.wav"),
        ("damaged", f"{folder}disposed/00000001.json"),
        ("unlisted", f"{folder}disposed/00000001.json"),
        ("unknown", f"{folder}disposed/00000002.sig"),
        ("unlisted", f"{folder}disposed/00000002.sig"),
    }


CASES: list[Callable[[SmallArchive], set[tuple[str, str]]]] = [
    nothing,
    originals_deleted_after_the_seal,
    a_late_transcription_waits,
    a_late_recording_waits,
    a_receipt_that_was_on_its_way_while_its_day_was_sealed_waits,
    a_receipt_that_should_have_been_there_when_its_day_was_sealed,
    what_came_long_ago_and_was_never_sealed,
    a_receipt_without_its_commit_record,
    a_gone_record_without_its_commit_record,
    audio_and_commit_record_removed_and_the_receipt_left,
    audio_removed,
    audio_changed,
    a_recording_cut_out,
    the_end_of_the_chain_cut_off_with_its_days,
    a_seal_gone_from_the_middle,
    a_last_seal_gone,
    a_last_seal_gone_of_a_day_that_is_due,
    a_last_seal_gone_that_was_signed,
    a_last_manifest_gone,
    a_forged_erasure,
    an_erasure_that_does_not_name_the_commit_record,
    an_erasure_of_another_recording,
    a_lawful_erasure,
    parts_disposed_of_under_a_rule_one_after_the_other,
    a_disposal_that_names_another_hash,
    disposals_that_no_rule_explains,
    disposals_that_are_not_what_they_should_be,
    a_void_seal,
    what_only_a_void_seal_lists,
    the_manifest_of_a_void_seal_altered,
    a_seal_made_void_afterwards,
    an_altered_seal,
    records_at_the_root,
    records_at_the_root_that_cannot_be_read,
    a_hold_taken_away_and_one_turned_into_a_release,
    versions_beside_a_recording,
    a_version_damaged_and_one_half_written,
    a_commit_record_that_cannot_be_read,
    a_version_whose_first_is_gone,
    what_is_nobodys,
    what_only_looks_like_a_key_of_the_archive,
    a_receipt_of_another_recording,
    recordings_that_are_not_archived_on_record,
    records_of_what_is_not_archived_that_are_not_what_they_should_be,
    an_access_log_of_sealed_days,
    retention_rules,
    retention_rules_taken_away_cut_short_and_moved,
    a_line_of_the_access_log_taken_out_changed_or_added,
    access_log_lines_that_came_around_the_seal_of_their_day_wait,
    what_only_looks_like_an_access_log,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_verify_and_the_script_agree(case: Callable[[SmallArchive], set[tuple[str, str]]], tmp_path: Path) -> None:
    one = SmallArchive(tmp_path / "archive")
    expected = case(one)
    code, report = verify(one.root, tmp_path)
    assert {(p["kind"], p["key"]) for p in report["problems"]} == expected
    assert len(report["problems"]) == len(expected), "each is reported once"
    assert code == (1 if expected else 0)
    assert by_script(one.root) == (code, expected)
    deep_code, deep = verify(one.root, tmp_path, "--deep")
    assert (deep_code, {(p["kind"], p["key"]) for p in deep["problems"]}) == (code, expected)


def spoil(one: SmallArchive, chance: random.Random) -> None:
    """Change an archive at random: remove, cut, flip, copy, plant, or do something legitimate."""
    keys = sorted(str(path.relative_to(one.root)) for path in one.root.rglob("*") if path.is_file())
    key = chance.choice([key for key in keys if key != "archive.json"])
    data = (one.root / key).read_bytes()
    what = chance.randrange(9)
    folder = one.folder(chance.choice((5, 7, 9, 11)), "x")
    if what == 0:
        one.remove(key)
    elif what == 1:
        one.write(key, data[: chance.randrange(len(data) + 1)])
    elif what == 2 and data:
        at = chance.randrange(len(data))
        one.write(key, data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
    elif what == 3:
        one.write(chance.choice([key for key in keys if key != "archive.json"]), data)
    elif what == 4:
        name = chance.choice(
            ("audio.wav", "recording.json", "deleted.json", "erased.json", "versions/v/audio.wav", "x")
        )
        one.write(key.rpartition("/")[0] + "/" + name if "/" in key else f"decisions/{name}", data)
    elif what == 5:
        shutil.rmtree((one.root / key).parent if (one.root / key).parent != one.root else one.root / "seals")
    elif what == 6 and key.endswith("/recording.json") and "/versions/" not in key:
        one.erase(key.removesuffix("recording.json"), sha256=chance.choice((None, "0" * 64)))
    elif what == 7 and key.startswith("recordings/"):
        one.receipt("/".join(key.split("/")[:5]) + "/", utc_now(), chance.choice(("deleted.json", "gone.json")))
    elif (one.root / folder).exists():
        one.version(folder, "v", utc_now(), chance.choice((b"another", None)))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_both_agree_on_any_damage_to_an_archive(seed: int, tmp_path: Path) -> None:
    one, chance = SmallArchive(tmp_path / "archive"), random.Random(seed)
    for _ in range(chance.randint(1, 3)):
        spoil(one, chance)
    code, report = verify(one.root, tmp_path)
    assert by_script(one.root) == (code, {(p["kind"], p["key"]) for p in report["problems"]})


@pytest.mark.parametrize("what", ["nothing is there", "an empty folder", "a folder of other things"])
def test_a_place_without_an_archive_fails_the_check(what: str, tmp_path: Path) -> None:
    place = tmp_path / "archive"
    if what != "nothing is there":
        place.mkdir()
    if what == "a folder of other things":
        (place / "notes.txt").write_text("of somebody else")
    done = subprocess.run([sys.executable, "-I", str(SCRIPT), str(place)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert str(place) in done.stderr
    settings = {"CALLVAULT_ARCHIVE_URL": place.as_uri(), "CALLVAULT_DATA": str(tmp_path / "data")}
    with pytest.raises(UserError, match="is not a Callvault archive"):
        callvault_here(["verify", "--seals"], settings)


def test_an_object_of_a_key_that_no_store_has_ends_no_verification(tmp_path: Path) -> None:
    one = SmallArchive(tmp_path / "archive")
    key = layout.commit_key(one.recording(1, "odd"))
    record = one.read(key)
    record["objects"][0]["key"] = "/../outside"
    one.write(key, record)
    whole = one.recording(1, "whole")
    one.remove(layout.audio_key(whole, "wav"))
    code, report = verify(one.root, tmp_path)
    found = {(p["kind"], p["key"]) for p in report["problems"]}
    assert (code, found >= {("damaged", "/../outside"), ("missing", layout.audio_key(whole, "wav"))}) == (1, True)
