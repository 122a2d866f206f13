"""Sealing: late arrivals, missing recordings, interruptions, and what is asked of Telnyx afterwards."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from archive.access import new_line
from archive.archive import Archive
from archive.seals import Link
from lab.processes import callvault, callvault_here, run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.worker import archive as archive_here
from lab.worker import runtime_of
from sandbox.world import Recording
from tests.seals.authority import Authority
from tests.workers.steps import ask, committed, folder_of
from tests.workers.test_deletion import DELETING
from text.times import end_of_day, utc_now
from workers.access.log import AccessLog
from workers.access.move import move_access_log
from workers.keys import RECONCILED, SEALS, UNSEALED
from workers.queue.change_feed import announce
from workers.reconcile import reconcile
from workers.recordings.requests import TranscriptionRequest
from workers.recordings.transcriptions import archive_transcription
from workers.runtime import Runtime
from workers.seals import seal as seals
from workers.seals.seal import seal as make_seal

pytestmark = pytest.mark.timeout(300)  # the first test process makes the archive, and the others wait for it


def recordings_of(sandbox: RunningSandbox, days: int, count: int) -> list[Recording]:
    noon = end_of_day((utc_now() - timedelta(days=days)).date()) - timedelta(hours=12)
    return [
        sandbox.world.add_recording(seconds=0.1, channels=1, started_at=noon + timedelta(seconds=i))
        for i in range(count)
    ]


def seals_in(archive: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted((archive / "seals").glob("*.json"))]


def seal(environment: dict[str, str], *arguments: str) -> tuple[int, dict[str, Any]]:
    status, out = callvault_here(["seal", *arguments, "--json"], environment)
    return status, json.loads(out)


def verified(environment: dict[str, str]) -> dict[str, Any]:
    return dict(json.loads(callvault_here(["verify", "--seals", "--json"], environment)[1]))


@pytest.fixture
def working(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    with callvault(["worker"], environment, "worker ready"):
        yield environment


async def archive(environment: dict[str, str], redis: Any, folder: Path, recordings: list[Recording]) -> None:
    for recording in recordings:
        await ask(redis, recording)
    wait_for(lambda: all(committed(folder, recording) for recording in recordings), 60)


async def archive_and_seal(environment: dict[str, str], redis: Any, sandbox: RunningSandbox) -> None:
    """Archive what Telnyx has of the day five days ago, and seal the day, as the jobs of a worker do."""
    async with runtime_of(environment, redis) as runtime:
        await archive_here(runtime, *sandbox.world.recordings.values())
        for one in sandbox.world.transcriptions.values():
            await archive_transcription(
                runtime, TranscriptionRequest(transcription_id=one["id"], recording_id=one["recording_id"])
            )
        assert isinstance(await make_seal(runtime, (utc_now() - timedelta(days=5)).date()), Link)


async def test_a_late_recording_gets_its_own_seal(
    sandbox: RunningSandbox, working: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    first = recordings_of(sandbox, 5, 3)
    await archive(working, async_redis, archive_folder, first)
    wait_for(lambda: len(seals_in(archive_folder)) == 1, 60, "the seal")
    day = seals_in(archive_folder)[0]["day"]
    (late,) = recordings_of(sandbox, 5, 1)
    await archive(working, async_redis, archive_folder, [late])
    wait_for(lambda: (redis.zscore(UNSEALED, day) or 0) > time.time() + 80_000, 30)
    assert len(seals_in(archive_folder)) == 1, "at most one further seal a day"
    report = verified(working)
    assert (report["problems"], report["waiting"]) == ([], 2), "the record and its audio"
    assert seal(working, day)[0] == 0
    one, two = seals_in(archive_folder)
    assert (one["recordings"], two["recordings"], two["day"]) == (3, 1, day)
    keys = (archive_folder / "seals" / "0000000002.sha256").read_text().splitlines()
    assert [key[66:] for key in keys] == [
        str((folder_of(archive_folder, late) / name).relative_to(archive_folder))
        for name in ("audio.wav", "recording.json")
    ]
    assert seal(working, day) == (
        0,
        {"days": [{"day": day, "sealed": False, "why": "nothing to seal"}], "time_stamp": None},
    )
    report = verified(working)
    assert (report["problems"], report["waiting"], report["seals"]) == ([], 0, 2)


async def test_receipts_and_decisions_are_sealed_too(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path
) -> None:
    gone, held = recordings_of(sandbox, 5, 2)
    await archive_and_seal(environment, async_redis, sandbox)
    done = run_callvault(["deletions", "hold", held.data["id"], "--why", "case 17"], environment)
    assert done.returncode == 0, done.stderr
    with callvault(["worker"], environment | DELETING, "worker ready"):
        await ask(async_redis, gone)
        wait_for((folder_of(archive_folder, gone) / "deleted.json").exists, 60)
    assert seal(environment, seals_in(archive_folder)[0]["day"])[0] == 0
    listed = (archive_folder / "seals" / "0000000002.sha256").read_text()
    assert f"{gone.data['id']}/deleted.json" in listed
    assert f"{held.data['id']}/decisions/" in listed


async def test_an_incomplete_day_waits_and_blocks_no_other(
    sandbox: RunningSandbox, working: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    await archive(working, async_redis, archive_folder, recordings_of(sandbox, 5, 1))
    wait_for(lambda: len(seals_in(archive_folder)) == 1, 60, "the first seal")
    sandbox.world.faults.change({"download_500": 1.0})
    (stuck,) = recordings_of(sandbox, 4, 1)
    day = (utc_now() - timedelta(days=4)).date().isoformat()
    redis.zadd(UNSEALED, {day: 0})
    why = "1 recording or transcription is not archived yet"
    wait_for(lambda: redis.hget("callvault:unsealed-why", day) == why, 30, "the reason")
    code, report = seal(working, day)
    assert (code, report["days"][0]["why"]) == (1, why)
    assert report["days"][0]["sealed"] is False
    sandbox.world.faults.change({"download_500": 0.0})
    await archive(working, async_redis, archive_folder, recordings_of(sandbox, 3, 1))
    wait_for(lambda: len(seals_in(archive_folder)) == 3, 90, "both days, once nothing is missing")
    wait_for(lambda: redis.hget("callvault:unsealed-why", day) is None)
    assert committed(archive_folder, stuck)


def test_status_and_metrics_show_what_waits(environment: dict[str, str], redis: Any) -> None:
    redis.zadd(UNSEALED, {"2026-11-01": time.time() + 500})
    redis.hset("callvault:unsealed-why", "2026-11-01", "3 recordings or transcriptions are not archived yet")
    report = json.loads(run_callvault(["status", "--json"], environment).stdout)
    (row,) = report["seals"]["overdue"]
    assert (row["day"], row["why"]) == ("2026-11-01", "3 recordings or transcriptions are not archived yet")
    assert row["over_for_seconds"] > 86_400
    told = run_callvault(["status"], environment).stdout
    assert "waits" in told
    assert "2026-11-01" in told


@pytest.mark.parametrize("text", ["31.12.2026", "2026-13-01", "soon"])
def test_an_invalid_day_gives_one_clear_line(text: str, environment: dict[str, str]) -> None:
    done = run_callvault(["seal", text], environment)
    assert (done.returncode, done.stderr) == (
        2,
        f"callvault: '{text}' is not a day such as 2026-11-25, yesterday or 7d\n",
    )


def test_a_day_that_is_not_over_is_not_sealed(sandbox: RunningSandbox, environment: dict[str, str]) -> None:
    code, report = seal(environment, "today")
    assert (code, report["days"][0]["sealed"]) == (1, False)
    assert "CALLVAULT_SEAL_AFTER" in report["days"][0]["why"]


async def test_a_seal_that_a_dead_worker_left_half_is_finished(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    recordings_of(sandbox, 5, 3)
    await archive_and_seal(environment, async_redis, sandbox)
    made = (archive_folder / "seals" / "0000000001.json").read_bytes()
    (archive_folder / "seals" / "0000000001.json").unlink()  # as if it had died between the two
    redis.delete(SEALS)
    other = recordings_of(sandbox, 4, 2)
    with callvault(["worker"], environment, "worker ready"):
        await archive(environment, async_redis, archive_folder, other)
        wait_for(lambda: len(seals_in(archive_folder)) == 2, 60, "its end, and the next seal")
    first, second = seals_in(archive_folder)
    assert first["manifest_sha256"] == json.loads(made)["manifest_sha256"]
    assert (first["recordings"], second["recordings"]) == (3, 2)
    assert verified(environment)["problems"] == []


async def test_a_worker_killed_while_it_seals_leaves_one_whole_chain(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path
) -> None:
    recordings = [one for days in range(3, 9) for one in recordings_of(sandbox, days, 10)]
    worker = callvault(["worker"], environment, "worker ready")
    with worker as process:
        await archive(environment, async_redis, archive_folder, recordings)
        wait_for(lambda: (archive_folder / "seals").exists() and list((archive_folder / "seals").glob("*")), 60)
        process.stop(signal.SIGKILL)
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: len(seals_in(archive_folder)) == 6, 100, "all six days")
    report = verified(environment)
    assert (report["problems"], report["seals"], report["sealed_objects"]) == ([], 6, 120)


async def test_a_lost_redis_loses_no_seal_and_makes_none_twice(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    recordings_of(sandbox, 5, 2)
    await archive_and_seal(environment, async_redis, sandbox)
    async with runtime_of(environment, async_redis) as runtime:
        await archive_here(runtime, *recordings_of(sandbox, 60, 2))
    redis.flushall()
    for span in ("recent", "open"):
        redis.set(RECONCILED + span, "1")
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: len(seals_in(archive_folder)) == 2, 60, "the seal of the day that had none")
        time.sleep(1)
    assert [row["recordings"] for row in seals_in(archive_folder)] == [2, 2]


async def test_sealed_days_are_counted_and_not_reconciled(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    recordings_of(sandbox, 5, 3)
    await archive_and_seal(environment, async_redis, sandbox)
    redis.delete(RECONCILED + "open")
    with callvault(["worker"], environment, "worker ready") as worker:
        worker.wait_for_output('"reconciled"', 60)
        assert '"found": 0' in worker.output, "the sealed day is not compared again"
    late = recordings_of(sandbox, 5, 1)[0]
    redis.delete(RECONCILED + "sealed")
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: committed(archive_folder, late), 60, "the recordings that the archive lacks")


async def test_a_seal_that_cannot_be_read_keeps_no_recording_from_being_archived(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    recordings_of(sandbox, 5, 1)
    await archive_and_seal(environment, async_redis, sandbox)
    (archive_folder / "seals" / "0000000001.json").write_text("{}")
    redis.delete(SEALS, RECONCILED + "open")
    (lost,) = recordings_of(sandbox, 5, 1)
    with callvault(["worker"], environment, "worker ready") as worker:
        wait_for(lambda: committed(archive_folder, lost), 60, "the recording without a webhook, on the damaged day")
        worker.wait_for_output("A seal cannot be read: seals/0000000001.json", 30)
    code, report = seal(environment, "4d")
    assert (code, "seals/0000000001.json: not a seal" in report["days"][0]["why"]) == (1, True)


async def test_a_record_written_during_sealing_puts_its_day_back_on_the_list(
    runtime: Runtime, async_redis: Any, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = (utc_now() - timedelta(days=5)).date()
    redis.zadd(UNSEALED, {day.isoformat(): 0})
    compare = reconcile.missing_of

    async def write_meanwhile(runtime: Runtime, day: date) -> reconcile.Missing:
        await announce(async_redis, "recordings/x", b"{}", day, 17)
        return await compare(runtime, day)

    monkeypatch.setattr(seals, "missing_of", write_meanwhile)
    for by_hand in (False, True):
        assert await make_seal(runtime, day, by_hand=by_hand) is None
        assert redis.zscore(UNSEALED, day.isoformat()) == 17


async def test_the_seal_of_a_day_lists_its_access_log_and_a_line_that_is_gone_is_found(
    runtime: Runtime, environment: dict[str, str], archive_folder: Path
) -> None:
    """Written as a receiver writes it, moved as a worker moves it, sealed as a worker seals it."""

    async def archive() -> Archive:
        return runtime.archive

    log = AccessLog(runtime.redis, archive, lambda: runtime.archive.identity.id)
    for name in ("Ann", "Ben", "Cid"):
        await log.write(new_line("play", name, "token", "192.0.2.7", ["a-recording"]))
    await move_access_log(runtime)
    (written,) = (archive_folder / "access-log").rglob("*.jsonl")
    day = utc_now().date()
    with pytest.MonkeyPatch.context() as tomorrow:
        tomorrow.setattr(seals, "sealable_at", lambda *_: 0.0)  # the day is over
        link = await make_seal(runtime, day, by_hand=True)
    assert isinstance(link, Link) and link.seal.day == day.isoformat()
    manifest = (archive_folder / "seals" / f"{link.seal.sequence:010d}.sha256").read_text()
    assert written.relative_to(archive_folder).as_posix() in manifest
    assert verified(environment)["problems"] == []
    whole = written.read_bytes()
    for damage in (whole.partition(b"\n")[2], whole.replace(b"Ben", b"Eve"), None):
        written.unlink()
        if damage is not None:
            written.write_bytes(damage)
        (problem,) = verified(environment)["problems"]
        assert (problem["kind"], problem["key"]) == (
            "missing" if damage is None else "damaged",
            written.relative_to(archive_folder).as_posix(),
        )
        written.write_bytes(whole)
    assert verified(environment)["problems"] == []


async def test_with_an_unreadable_seal_or_manifest_a_lost_redis_still_finds_the_days(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    recordings_of(sandbox, 5, 1)
    await archive_and_seal(environment, async_redis, sandbox)
    day = seals_in(archive_folder)[0]["day"]
    for name in ("0000000001.sha256", "0000000001.json"):
        (archive_folder / "seals" / name).write_text("no such thing")
        redis.flushall()
        with callvault(["worker"], environment, "worker ready"):
            wait_for(lambda: redis.zscore(UNSEALED, day), 40, f"the day on the list, with {name} unreadable")
        assert redis.hlen("callvault:dead-letters") == 0


async def test_an_authority_that_is_down_delays_the_stamp_and_never_the_seal(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "authority").mkdir()
    authority = Authority(tmp_path / "authority")
    authority.is_down = True
    stamping = environment | {"CALLVAULT_TIMESTAMP_URL": authority.url}
    with callvault(["worker"], stamping, "worker ready") as worker:
        await archive(stamping, async_redis, archive_folder, recordings_of(sandbox, 5, 1))
        wait_for(lambda: len(seals_in(archive_folder)) == 1, 60, "the seal")
        worker.wait_for_output("no time stamp", 60)
    assert not list((archive_folder / "seals").glob("*.tsr"))
    authority.is_down = False
    code, report = seal(stamping, "--due")
    assert (code, report["time_stamp"]) == (0, None)
    assert len(list((archive_folder / "seals").glob("*.tsr"))) == 1
    authority.stop()


async def test_concurrent_sealers_make_one_seal_a_day(
    sandbox: RunningSandbox, environment: dict[str, str], runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    recordings = [*recordings_of(sandbox, 5, 3), *recordings_of(sandbox, 4, 3)]
    days = [(utc_now() - timedelta(days=days)).date() for days in (5, 4, 5, 4, 5, 4)]
    await archive_here(runtime, *recordings)
    await asyncio.gather(*(make_seal(runtime, one, by_hand=True) for one in days))
    assert [row["recordings"] for row in seals_in(archive_folder)] == [3, 3]
    (archive_folder / "seals" / "0000000002.json").unlink()  # its worker died before it could write it
    redis.delete(SEALS)
    await asyncio.gather(*(make_seal(runtime, one, by_hand=True) for one in days))
    assert [row["recordings"] for row in seals_in(archive_folder)] == [3, 3]
    assert verified(environment)["problems"] == []
