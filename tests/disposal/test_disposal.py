"""Disposal: what goes, what stays, what is recorded, what keeps it, and what a second run does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from archive.cases import put_case
from archive.decision_records import CaseQuery, CaseRecord, Decision
from archive.decisions import new_id, put_decision
from archive.stores.store import Store
from config.settings import load_settings
from lab.clock import Clock, SkewedServer
from lab.processes import callvault_here, run_callvault
from service.ops.life import read_life
from tests.disposal.conftest import FIRST_DAYS
from tests.seals.small import SmallArchive, ago
from tests.seals.test_same_verdict import by_script
from text.times import format_instant, utc_now
from workers.disposal.report import Report
from workers.disposal.run import Disposer
from workers.keys import DISPOSED_TODAY, UNSEALED
from workers.recordings.writing import sole_writer
from workers.runtime import Runtime

YEARS = 3 * 365 * 86_400


class Watched:
    """A store that calls a function before each request that may change it, or before every request."""

    def __init__(self, store: Store, before: Callable[[str, tuple[Any, ...]], None]) -> None:
        self._store = store
        self._before = before

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in ("put", "stat", "read", "list", "erase", "locked_until"):
            return found

        def asked(*arguments: Any, **named: Any) -> Any:
            self._before(name, arguments)
            return found(*arguments, **named)

        return asked


def names_of(small: SmallArchive, folder: str) -> set[str]:
    root = small.root / folder
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def why_left(report: Report) -> dict[str, str]:
    return {one.recording_id: one.kind for one in report.left}


def verified(environment: dict[str, str]) -> dict[str, Any]:
    code, out = callvault_here(["verify", "--seals", "--json"], environment)
    found: dict[str, Any] = json.loads(out)
    assert (code, found["problems"]) == (0, []), found["problems"]
    return found


def hold(runtime: Runtime, recording_id: str) -> None:
    made = Decision(
        id=new_id(), decision="hold", scope="recording", subject=recording_id, why="case 17", by="Ann", at="2026-01-01"
    )
    put_decision(runtime.archive, made)


def open_case(runtime: Runtime, recording_id: str) -> None:
    row = CaseRecord(
        id=f"case-{recording_id}",
        number=1,
        state="open",
        name="Doe v. Example",
        query=CaseQuery(id=recording_id),
        why="suit",
        by="Ann",
        at="2026-01-01T00:00:00Z",
    )
    put_case(runtime.archive, row)


async def test_what_is_past_its_term_goes_and_stays_on_record(
    runtime: Runtime, small: SmallArchive, environment: dict[str, str]
) -> None:
    shown: list[int] = []
    report = await Disposer(runtime, show=lambda so_far: shown.append(len(so_far.gone))).run()
    assert (report.stopped, report.stop, report.left, len(report.gone)) == (None, None, [], 8)
    assert shown == [0, 0, 0, 0, *range(1, 9)], "after each day with recordings, and after each recording"
    folder = small.folder(5, "5-one")
    assert names_of(small, folder) == {"recording.json", "deleted.json", "disposed/00000001.json"}
    record = small.read(folder + "disposed/00000001.json")
    assert (record["rule"], record["rules_number"], record["goes"]) == ("default", 1, ["audio", "transcripts"])
    (line,) = verified(environment)["disposed"]
    assert (line["rule"], line["rules_number"], line["recordings"], line["objects"]) == ("default", 1, 8, 16)
    assert by_script(small.root) == (0, set())
    again = await Disposer(runtime).run()
    assert (again.gone, again.left, again.stopped) == ([], [], None)
    code, out = callvault_here(["find", "--state", "disposed", "--json"], environment)
    assert (code, {json.loads(line)["state"] for line in out.splitlines()}, len(out.splitlines())) == (
        0,
        {"disposed"},
        8,
    )
    told = run_callvault(["get", "5-one"], environment)
    assert told.stderr.rstrip().endswith(" UTC") and "." not in told.stderr, "to the second"
    assert (told.returncode, "was disposed of under retention rule default of applied rules 1" in told.stderr) == (
        1,
        True,
    )


async def test_parts_go_at_their_own_ends_and_the_last_one_leaves_only_hashes(
    runtime: Runtime, small: SmallArchive, environment: dict[str, str], async_redis: Any
) -> None:
    audio = {"name": "audio", "channels": 1, "keep": "1 day", "goes": "audio", "stays": "hashes"}
    words = {"name": "default", "keep": "100 years", "stays": "hashes"}
    small.rules(1, rules=[audio, words])
    assert len((await Disposer(runtime).run()).gone) == 8
    folder = small.folder(5, "5-one")
    kept = {"recording.json", "deleted.json", "disposed/00000001.json"}
    assert names_of(small, folder) == {*kept, "transcriptions/first.json"}
    small.rules(2, rules=[audio, words | {"keep": "2 days"}])
    await async_redis.delete(DISPOSED_TODAY + utc_now().date().isoformat())  # on another day
    assert len((await Disposer(runtime).run()).gone) == 8
    assert names_of(small, folder) == {"deleted.json", "disposed/00000001.json", "erased.json"}
    assert small.read(folder + "erased.json")["rules_number"] == 2
    rules = {(line["rule"], line["rules_number"]) for line in verified(environment)["disposed"]}
    assert rules == {("audio", 1), ("default", 2)}
    said = [one.what for one in read_life(runtime.archive, folder).steps]
    assert {"audio disposed of", "disposed of, but for hashes"} <= {*said} and "erased" not in said
    for command in (["get", "5-one"], ["retention", "explain", "5-one"]):
        done = run_callvault(command, environment)
        assert "under retention rule default" in done.stdout + done.stderr, "who is asked can say why it is gone"
    code, out = callvault_here(["export", "--all", "--out", str(small.root.parent / "case"), "--json"], environment)
    assert (code, json.loads(out)["problems"]) == (0, [])
    page = (small.root.parent / "case/index.html").read_text()
    assert page.count("<p>Audio disposed of at 2") == page.count("<p>Everything disposed of at 2") == 8
    table = (small.root.parent / "case/index.csv").read_text()
    assert table.count("under retention rule default: ") == 8, "who has the table alone reads why, too"
    lines = map(json.loads, callvault_here(["access-log", "--json"], environment)[1].splitlines())
    assert [one["bytes"] for one in lines if one["what"] == "export"] == [0], "none of the audio is there"
    assert by_script(small.root) == (0, set())


def audio_elsewhere(small: SmallArchive, recording_id: str) -> None:
    """Add a sealed recording whose audio Telnyx put into the user's own bucket."""
    folder = small.recording(5, recording_id)
    record = small.read(layout.commit_key(folder))
    small.write(layout.commit_key(folder), record | {"objects": [record["objects"][0] | {"key": "/theirs/audio.wav"}]})
    small.remove(layout.audio_key(folder, "wav"))
    small.receipt(folder, utc_now())
    small.seal(5)


async def test_whatever_keeps_a_recording_keeps_it_and_is_reported_once(
    runtime: Runtime, small: SmallArchive, environment: dict[str, str], async_redis: Any
) -> None:
    hold(runtime, "11-one")
    small.remove(small.folder(9, "9-one") + "deleted.json")
    damage: dict[str, Any] = {
        "schema": "callvault.damage/1",
        "key": small.folder(9, "9-two") + "audio.wav",
        "number": 1,
        "state": "damaged",
    }
    small.write(layout.damage_key(damage["key"], 1), damage | {"what": "x", "found_by": "verify", "at": "x"})
    small.write(small.folder(7, "7-one") + "audio.wav", b"other bytes, of another length")
    small.transcription(7, "7-two", "late", utc_now())
    audio_elsewhere(small, "5-custom")
    async with sole_writer(async_redis, "5-two"):
        report = await Disposer(runtime).run()
    expected = {"11-one": "held", "9-one": "original", "9-two": "damaged", "7-one": "damaged", "7-two": "not-sealed"}
    expected["5-custom"] = "custom-storage"
    assert why_left(report) == expected | {"5-two": "busy"}
    assert {one.recording_id for one in report.gone} == {"11-two", "5-one"}
    for days, name in (*((int(name.partition("-")[0]), name) for name in expected), (5, "5-two")):
        assert not any(one.startswith(("disposed", "erased")) for one in names_of(small, small.folder(days, name))), (
            name
        )
    alerts = [json.loads(one) for one in await async_redis.lrange("callvault:alerts", 0, -1)]
    kinds = sorted(one["group"] for one in alerts if one["kind"] == "disposal-kept")
    assert kinds == ["custom-storage", "damaged", "original"]
    await Disposer(runtime).run()
    assert len(await async_redis.lrange("callvault:alerts", 0, -1)) == len(alerts), "said once"
    code, out = callvault_here(["retention", "dispose", "--dry-run", "--json"], environment)
    assert json.loads(out)["stopped"] is None
    assert (code, {one["recording_id"] for one in json.loads(out)["kept"]}) == (0, {*expected})


async def test_nothing_goes_once_the_last_rules_are_gone_from_the_archive(
    runtime: Runtime, small: SmallArchive
) -> None:
    """As after a restore of an older copy: the rules before them would count again, and keep less."""
    key = small.rules(2, rules=[{"name": "default", "keep": "forever"}])
    kept = await Disposer(runtime).run()
    assert (kept.gone, kept.stopped) == ([], None)
    small.remove(key)
    report = await Disposer(runtime).run()
    assert report.gone == []
    assert report.stopped is not None and f"{key}: missing; it was in the archive before" in report.stopped


@pytest.mark.parametrize("what", ["hold", "case", "rules", "pause", "unreadable rules"])
async def test_what_comes_in_the_middle_of_a_run_counts_from_the_next_recording_on(
    what: str, runtime: Runtime, small: SmallArchive, environment: dict[str, str]
) -> None:
    began: list[str] = []

    def change(name: str, arguments: tuple[Any, ...]) -> None:
        if name != "erase" or began:
            return
        began.append(str(arguments[0]))
        if what == "hold":
            for name in ("7-one", "5-one", "5-two"):
                hold(runtime, name)
        elif what == "case":
            for name in ("7-one", "5-one", "5-two"):
                open_case(runtime, name)
        elif what == "rules":
            small.rules(2, rules=[{"name": "default", "keep": "50 years"}])
        elif what == "unreadable rules":
            small.write(layout.retention_key(2), b"{")
        else:
            fields = {"scope": "everything", "subject": "", "why": "move", "by": "Ann", "at": "2026-01-01T00:00:00Z"}
            decision = {"schema": "callvault.decision/2", "id": "p", "decision": "hold", "lifts": [], "findings": []}
            small.write("decisions/everything/p.json", decision | fields)

    runtime.archive.store = Watched(runtime.archive.store, change)
    report = await Disposer(runtime).run()
    gone = {one.recording_id for one in report.gone}
    of_the_first_day = {f"{FIRST_DAYS[0]}-one", f"{FIRST_DAYS[0]}-two"}
    if what in ("hold", "case"):
        assert (gone & {"7-one", "5-one", "5-two"}, report.stopped) == (set(), None)
        assert gone >= {"7-two", *of_the_first_day}
    else:
        assert gone <= of_the_first_day and gone, gone
        assert report.stopped is not None or set(why_left(report).values()) == {"rules"}
    if what == "unreadable rules":
        small.remove(layout.retention_key(2))
    verified(environment)


class Killed(Exception):
    """The process is killed: none of its requests reaches the store any more."""


@pytest.mark.parametrize("stays", ["metadata", "hashes"])
async def test_a_run_that_is_killed_at_any_request_is_finished_by_the_next(
    stays: str,
    runtime: Runtime,
    small: SmallArchive,
    environment: dict[str, str],
    async_redis: Any,
    redis: Any,
    tmp_path: Path,
) -> None:
    small.rules(1, rules=[{"name": "default", "keep": "1 day", "stays": stays}])
    for days in FIRST_DAYS:
        for name in ("one", "two"):
            if (days, name) != (5, "one"):
                small.remove(small.folder(days, f"{days}-{name}") + "deleted.json")
    before = tmp_path / "before"
    shutil.copytree(small.root, before)
    store, asked = runtime.archive.store, list[str]()
    runtime.archive.store = Watched(store, lambda name, _: asked.append(name))
    await Disposer(runtime).run()
    wanted = names_of(small, small.folder(5, "5-one"))
    first = asked.index("put")
    for step in range(first, len(asked)):
        shutil.rmtree(small.root)
        shutil.copytree(before, small.root, copy_function=os.link)
        redis.flushall()
        left = [step]

        def kill(name: str, _: tuple[Any, ...], left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed

        runtime.archive.store = Watched(store, kill)
        with pytest.raises(Killed):
            await Disposer(runtime).run()
        await async_redis.delete(UNSEALED)
        runtime.archive.store = store
        report = await Disposer(runtime).run()
        assert names_of(small, small.folder(5, "5-one")) == wanted, step
        assert set(why_left(report).values()) <= {"original"}, step
        assert await async_redis.zscore(UNSEALED, ago(5).isoformat()) is not None, "its day gets a seal"
    verified(environment)


async def test_two_at_once_dispose_of_each_recording_once(runtime: Runtime, small: SmallArchive) -> None:
    import asyncio

    both = await asyncio.gather(Disposer(runtime).run(), Disposer(runtime).run(), return_exceptions=True)
    gone = [one.recording_id for report in both if isinstance(report, Report) for one in report.gone]
    assert sorted(gone) == sorted(f"{days}-{name}" for days in FIRST_DAYS for name in ("one", "two"))


async def test_more_than_a_share_waits_for_the_approval_of_exactly_that(
    runtime: Runtime, small: SmallArchive, environment: dict[str, str], async_redis: Any
) -> None:
    for number in range(6):
        folder = small.recording(5, f"more-{number}")
        small.receipt(folder, utc_now())
    small.seal(5)
    disposer = Disposer(runtime)
    report = await disposer.run()
    assert report.stop is not None
    assert (report.gone, report.past_term, report.stop.most) == ([], 14, 10)
    code, out = callvault_here(["status", "--json"], environment)
    assert "disposal-stopped" in {one["kind"] for one in json.loads(out)["conditions"]}, code
    assert (await disposer.run()).stop == report.stop, "the same stop, not another one each minute"
    refused = run_callvault(["retention", "approve", "--why", "x"], environment, stdin="n\n")
    assert (refused.returncode, (await disposer.run()).gone) == (1, [])
    small.rules(2)
    other = await disposer.run()
    assert other.stop is not None and other.stop.id != report.stop.id, "other rules need another approval"
    code, out = callvault_here(["retention", "approve", "--why", "checked with legal", "--yes", "--json"], environment)
    assert (code, json.loads(out)["recordings"]) == (0, 14)
    done = await disposer.run()
    assert (done.stop, len(done.gone)) == (None, 14)
    assert verified(environment)["disposed_recordings"] == 14
    code, out = callvault_here(["status", "--json"], environment)
    assert "disposal-stopped" not in {one["kind"] for one in json.loads(out)["conditions"]}


def test_a_clock_that_is_ahead_by_years_disposes_of_nothing(
    small: SmallArchive, environment: dict[str, str], tmp_path: Path
) -> None:
    small.rules(1, rules=[{"name": "default", "keep": "2 years"}])
    command = ["retention", "dispose", "--yes", "--json"]
    clock = Clock(tmp_path, "machine", YEARS)
    alone = run_callvault(command, environment | clock.environment)
    assert (alone.returncode, json.loads(alone.stdout)["disposed"]) == (1, [])
    assert "the clocks of this machine and of Redis differ" in json.loads(alone.stdout)["stopped"]
    server = SkewedServer(tmp_path / "redis", clock)
    server.start()
    try:
        both = run_callvault(command, environment | clock.environment | {"REDIS_URL": server.url})
    finally:
        server.stop()
    assert (both.returncode, json.loads(both.stdout)["disposed"]) == (1, [])
    assert "the clocks of this machine and of Telnyx differ" in json.loads(both.stdout)["stopped"]
    assert (small.root / small.folder(5, "5-one") / "audio.wav").exists()


async def test_the_hours_and_the_right_to_sign_are_asked_first(
    runtime: Runtime, small: SmallArchive, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = utc_now().hour
    monkeypatch.setenv("CALLVAULT_DISPOSE_HOURS", f"{(hour + 2) % 24}-{(hour + 3) % 24}")
    outside = await Disposer(replace(runtime, settings=load_settings())).run()
    assert outside.stopped is not None and "CALLVAULT_DISPOSE_HOURS" in outside.stopped
    monkeypatch.delenv("CALLVAULT_DISPOSE_HOURS")
    for sequence in (small.sequence, small.sequence - 1):  # the last one may be written just now, and signed next
        small.write(layout.seal_key(sequence, "sig"), b"x")
        unsigned = await Disposer(runtime).run()
        assert unsigned.stopped is not None and "set CALLVAULT_SEAL_KEY for this process too" in unsigned.stopped
        small.remove(layout.seal_key(sequence, "sig"))
    assert (small.root / small.folder(5, "5-one") / "audio.wav").exists()


async def test_a_certificate_agrees_with_the_records_and_is_signed_as_seals_are(
    runtime: Runtime, small: SmallArchive, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30)
    monkeypatch.setenv("CALLVAULT_SEAL_KEY", str(key))
    report = await Disposer(replace(runtime, settings=load_settings())).run()
    assert len(report.gone) == 8
    small.erase(small.folder(5, "5-one"))  # a person's erasure, which is no disposal
    small.receipt(small.folder(5, "5-one"), utc_now())  # it stays
    small.seal(9)
    out = tmp_path / "q4.pdf"
    with_key = environment | {"CALLVAULT_SEAL_KEY": str(key)}
    code, printed = callvault_here(["retention", "certificate", "--out", str(out), "--by", "Ann", "--json"], with_key)
    made, facts = json.loads(printed), json.loads(out.with_suffix(".json").read_bytes())
    assert (code, made["problems"]) == (0, []), made
    assert (made["recordings"], made["objects"], made["bytes"]) == (8, 16, sum(one.size_bytes for one in report.gone))
    assert made["sums"] == [
        {"rule": "default", "rules_number": 1, "recordings": 8, "objects": 16, "bytes": made["bytes"]}
    ]
    rows = {one["recording_id"]: one for one in facts["destroyed"]}
    for name, row in rows.items():
        record = small.read(row["record"])
        assert (row["objects"], row["is_signed"]) == (record["objects"], True)
        assert small.sha256(row["record"]) == row["record_sha256"], name
    assert rows["9-one"]["seal"] == small.sequence and rows["7-one"]["seal"] is None
    assert out.read_bytes().startswith(b"%PDF")
    signers = tmp_path / "signers"
    signers.write_text(f"callvault {(tmp_path / 'key.pub').read_text()}")
    for path in (out, out.with_suffix(".json")):
        check = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", "callvault", "-n", "callvault-seal"]
        check += ["-s", f"{path}.sig"]
        subprocess.run(check, input=path.read_bytes(), check=True, timeout=30, capture_output=True)
    forged = small.folder(7, "7-two") + "disposed/00000001.json"
    small.write(forged, small.read(forged) | {"why": "another"})
    code, printed = callvault_here(["retention", "certificate", "--out", str(out), "--force", "--json"], with_key)
    named = json.loads(printed)
    assert (code, named["recordings"], len(named["problems"])) == (1, 7, 1)
    since = (utc_now().date()).isoformat()
    again = callvault_here(
        ["retention", "certificate", "--since", since, "--out", str(tmp_path / "d"), "--json"], with_key
    )
    assert again[0] == 1 and (tmp_path / "d.pdf").exists()
    assert format_instant(utc_now())[:10] == json.loads(again[1])["since"]
    assert "had not ended" in json.loads((tmp_path / "d.json").read_text())["cannot_prove"][-1], "today is not over"
    past = ["--since", "2020-01", "--until", "2020-02", "--out", str(tmp_path / "e")]
    assert callvault_here(["retention", "certificate", *past], with_key)[0] == 0
    nothing = json.loads((tmp_path / "e.json").read_text())
    assert (nothing["destroyed"], len(nothing["covers"]), "had not ended" in str(nothing)) == ([], 1, False)


async def test_a_hold_or_a_case_that_comes_too_late_for_a_disposal_says_so(
    runtime: Runtime, small: SmallArchive, environment: dict[str, str]
) -> None:
    words = {"name": "words", "channels": 1, "keep": "1 day", "goes": "transcripts"}
    small.rules(1, rules=[words, {"name": "default", "keep": "100 years"}])
    assert len((await Disposer(runtime).run()).gone) == 8
    code, out = callvault_here(["deletions", "hold", "5-one", "--why", "suit"], environment)
    assert code == 1
    assert "too late, the recording was disposed of (transcripts) at 2" in out and "under retention rule words" in out
    code, out = callvault_here(["cases", "open", "Doe", "--id", "5-one", "--why", "suit"], environment)
    assert "holds 1 recording now (1 of them disposed of under a retention rule, in whole or in part)" in out
    case_id = out.partition("(")[2].partition(")")[0]
    code, out = callvault_here(["cases", "show", case_id, "--json"], environment)
    assert (code, json.loads(out)["counts"]["disposed"]) == (0, 1)
