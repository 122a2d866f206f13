"""Archives as in `verdicts_on_recordings.py`: records of decisions, rules, erasures, disposals, and the access log."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from archive import layout
from tests.seals.small import LAST, SmallArchive, ago, noon
from text.times import end_of_day, format_instant, utc_now

MINUTE = timedelta(minutes=1)


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
