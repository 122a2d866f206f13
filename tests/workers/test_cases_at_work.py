"""Cases on real parts: Telnyx, Redis, an archive and the commands, whatever is lost in between."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from archive.cases import open_cases, put_case, why_held_by_cases
from archive.decision_records import CaseQuery, CaseRecord
from lab.processes import run_callvault
from lab.servers import RunningSandbox
from lab.worker import archive, delete_what_is_due, own_runtime
from sandbox.world import Recording
from tests.workers.steps import folder_of, has_left
from text.errors import UserError
from workers.deletion import cases, decisions
from workers.deletion.kept import schedule_unless_kept, what_keeps
from workers.keys import CASES_WRONG

WHY = ("--why", "letter of 20 November", "--by", "ann")
NUMBER = "+49 30 1234567"


def run(environment: dict[str, str], *words: str, status: int = 0) -> Any:
    done = run_callvault([*words, "--json"], environment)
    assert done.returncode == status, done.stderr + done.stdout
    return json.loads(done.stdout)


def call(sandbox: RunningSandbox, **fields: Any) -> Recording:
    recording = sandbox.world.add_recording(seconds=0.5)
    recording.data.update(fields)
    return recording


def key_of(recording: Recording) -> str:
    return f"{folder_of(Path(), recording).as_posix()}/"


async def test_a_case_holds_what_matches_and_what_comes_until_it_is_closed(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path, redis: Any
) -> None:
    of_it, other = call(sandbox, to="+49301234567"), call(sandbox)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, of_it, other)
        opened = run(
            deleting, "cases", "open", "Doe v. Example", "--number", NUMBER, "--since", "2026-01-01T00:00Z", *WHY
        )
        assert (opened["recordings"], opened["is_as_meant"], opened["query"]["number"]) == (1, True, NUMBER)
        case_id = opened["id"]
        late = call(sandbox, **{"from": "sip:+49301234567@pbx.example"})
        await archive(runtime, late)
        await delete_what_is_due(runtime)
        assert [has_left(one) for one in (of_it, late, other)] == [False, False, True]

        for options in (("--case", case_id), ("--state", "held")):
            done = run_callvault(["find", *options, "--json"], deleting)
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            assert {row["recording_id"] for row in rows} == {one.data["id"] for one in (of_it, late)}
            assert all(row["cases"] == [case_id] and row["state"] == "held" for row in rows)
        holds = run(deleting, "deletions", "holds")["holds"]
        assert [(row["scope"], row["subject"], row["name"], row["by"]) for row in holds] == [
            ("case", case_id, "Doe v. Example", "ann")
        ]
        shown = run(deleting, "cases", "show", case_id)
        assert (shown["state"], shown["counts"]["recordings"], shown["counts"]["unsure"]) == ("open", 2, 0)
        assert [row["id"] for row in run(deleting, "cases", "list")["cases"]] == [case_id]

        erasing = ["erase", late.data["id"], "--reason", "request", "--yes"]
        refused = run_callvault(erasing, deleting)
        assert refused.returncode == 1 and "Doe v. Example" in refused.stderr and not has_left(late)

        closed = run(deleting, "cases", "close", case_id, "--why", "settled", "--by", "bob")
        assert (closed["state"], closed["closed_by"], closed["opened_by"]) == ("closed", "bob", "ann")
        again = run_callvault(["cases", "close", case_id, "--why", "settled"], deleting)
        assert again.returncode == 1 and "was closed before" in again.stderr and " UTC by bob: settled" in again.stderr
        (line, _) = run_callvault(["cases", "list"], deleting | {"TZ": "America/New_York"}).stdout.splitlines()
        assert "(number +49 30 1234567, since 2025-12-31 19:00:00 UTC-05:00)  opened " in line and "; closed " in line
        assert run_callvault(erasing, deleting).returncode == 0
        assert await schedule_unless_kept(runtime, [key_of(of_it)]) == 1
        await delete_what_is_due(runtime)
        assert has_left(of_it)
    shown = run(deleting, "cases", "show", case_id)
    assert (shown["counts"]["recordings"], shown["counts"]["deleted"]) == (1, 1)
    lines = [json.loads(line) for line in run_callvault(["access-log", "--json"], deleting).stdout.splitlines()]
    changes = [row for row in lines if row["what"] in ("open", "close")]
    assert {(row["what"], row["why"]) for row in changes} >= {("open", WHY[1]), ("close", "settled")}


async def test_a_release_frees_no_recording_from_a_case_and_names_it(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    there, gone = call(sandbox, connection_id="7"), call(sandbox, connection_id="7")
    async with own_runtime(deleting) as runtime:
        await archive(runtime, gone)
        await delete_what_is_due(runtime)
        await archive(runtime, there)
        for one in (there, gone):
            await decisions.hold(runtime, one.data["id"], "a hold", "ann")
        case, _ = await cases.open_case(runtime, "Doe v. Example", CaseQuery(connection="7"), "a letter", "ann")
        for one in (there, gone):
            released = await decisions.release(runtime, one.data["id"], "over", "ann")
            assert f'held by case "Doe v. Example" ({case.id})' in released.follows
            with pytest.raises(UserError, match=r"nothing to release; .*Doe v\. Example"):
                await decisions.release(runtime, one.data["id"], "over", "ann")
        await delete_what_is_due(runtime)
        assert not has_left(there)
        await cases.close_case(runtime, case.id, "settled", "ann")
        assert await what_keeps(runtime, key_of(there)) is None


@pytest.mark.parametrize("lost", ["Redis", "the catalogue", "the record"])
async def test_a_case_holds_whatever_is_lost(
    lost: str, sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path, redis: Any
) -> None:
    recording = call(sandbox, to="+49301234567")
    async with own_runtime(deleting) as person:
        await archive(person, recording)
        case, _ = await cases.open_case(person, "Doe v. Example", CaseQuery(number=NUMBER), "a letter", "ann")
    run(deleting, "cases", "show", case.id)
    if lost == "Redis":
        redis.flushall()
    elif lost == "the catalogue":
        (Path(deleting["CALLVAULT_DATA"]) / "catalogue.sqlite").unlink()
    else:
        (folder_of(archive_folder, recording) / "recording.json").write_bytes(b"{")
    async with own_runtime(deleting) as worker:
        await worker.schedule.add(key_of(recording), 0)
        await delete_what_is_due(worker)
        assert not has_left(recording)
        if lost != "the record":
            assert "Doe v. Example" in (await what_keeps(worker, key_of(recording)) or "")
    refused = run_callvault(["erase", recording.data["id"], "--reason", "request", "--yes"], deleting)
    assert refused.returncode == 1 and "Doe v. Example" in refused.stderr and not has_left(recording)


async def test_two_people_close_a_case_at_once_and_one_of_them_is_told(
    deleting: dict[str, str], sandbox: RunningSandbox
) -> None:
    async with own_runtime(deleting) as one, own_runtime(deleting) as other:
        case, _ = await cases.open_case(one, "Doe v. Example", CaseQuery(connection="7"), "a letter", "ann")
        closing = [
            cases.close_case(runtime, case.id, "settled", who) for runtime, who in ((one, "ann"), (other, "bob"))
        ]
        ends = await asyncio.gather(*closing, return_exceptions=True)
        assert sum(isinstance(end, UserError) and "was closed before" in str(end) for end in ends) == 1
        assert open_cases(one.archive) == []


async def test_a_case_that_cannot_be_read_holds_everything_until_a_person_closes_it(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = call(sandbox)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        row = CaseRecord(id="c1", number=1, state="open", name="x", query=CaseQuery(leg="l"), why="y", by="z", at="")
        put_case(runtime.archive, row)
        record = runtime.archive.commit_record(key_of(recording))
        assert record is not None and why_held_by_cases(open_cases(runtime.archive), record) is None
        await cases.watch_cases(runtime)
        assert await runtime.redis.get(CASES_WRONG) is None
    (archive_folder / layout.case_key("c1", 1)).rename(archive_folder / "aside")
    async with own_runtime(deleting) as runtime:
        await cases.watch_cases(runtime)
        assert b"case c1 is missing" in await runtime.redis.get(CASES_WRONG)
    (archive_folder / layout.case_key("c1", 1)).write_bytes(b"half a rec")
    verified = run_callvault(["verify", "--json"], deleting)
    assert verified.returncode == 1 and "cases/c1/00000001.json" in verified.stdout
    async with own_runtime(deleting) as runtime:
        await cases.watch_cases(runtime)
        assert b"cases/c1/00000001.json" in await runtime.redis.get(CASES_WRONG)
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        assert "cannot be read" in (await what_keeps(runtime, key_of(recording)) or "")
    listed = run_callvault(["cases", "list"], deleting)
    assert listed.returncode == 0 and "cannot be read, so it holds every recording" in listed.stdout
    run(deleting, "cases", "close", "c1", "--why", "the copy of it says that it is over")
    async with own_runtime(deleting) as runtime:
        await cases.watch_cases(runtime)
        assert await runtime.redis.get(CASES_WRONG) is None
        await runtime.schedule.add(key_of(recording), 0)
        await delete_what_is_due(runtime)
        assert has_left(recording)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("open", "A", "--why", "x"), "a case needs at least one of number, since"),
        (("open", "A", "--number", "12", "--why", "x"), "--number: "),
        (("open", " ", "--number", "+49301234567", "--why", "x"), "NAME: "),
        (("open", "A\nB", "--number", "+49301234567", "--why", "x"), "NAME: "),
        (("show", "nope"), "no case 'nope'"),
        (("close", "nope", "--why", "x"), "no case 'nope'"),
    ],
)
def test_what_cannot_be_a_case_is_refused_in_one_line(
    words: tuple[str, ...], says: str, environment: dict[str, str], archive_folder: Path
) -> None:
    done = run_callvault(["cases", *words], environment)
    assert done.returncode in (1, 2) and says in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (archive_folder / "cases").exists()
