"""A recording without audio at Telnyx: its day is sealed without it, on record; no other gap is accepted."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from archive import layout
from archive.erase import erase
from archive.seals import Link
from lab.processes import run_callvault
from lab.servers import RunningSandbox
from lab.worker import runtime_of
from sandbox.world import Recording, text_of
from tests.seals.scripts import VERIFY_ARCHIVE, run_script
from tests.seals.test_making_seals import ago, archive, at_noon, key_of, recordings_of
from tests.workers.steps import committed, folder_of, kinds_of_alerts
from text.errors import UserError
from workers.engine.attempts import DeadLetter
from workers.keys import ALERTS, ARQ_JOB, BULK_QUEUE, REPEATED, WAITED_FOR
from workers.queue.jobs import deserialize, enqueue
from workers.reconcile.not_archived import accept_in_time, accept_not_archived
from workers.reconcile.not_transcribed import accept_transcription
from workers.reconcile.reconcile import count_sealed, missing_of
from workers.recordings.archive_recording import archive_recording
from workers.recordings.places import who_names_a_place
from workers.recordings.requests import CountRequest, RecordingRequest, TranscriptionRequest, recording_job
from workers.recordings.transcriptions import archive_transcription
from workers.runtime import Runtime
from workers.seals.seal import Waits, seal


def give_nothing(sandbox: RunningSandbox, recording: Recording, how: str) -> None:
    """Have Telnyx list a recording and never serve its audio."""
    if how == "in-progress":
        recording.data["status"] = "in-progress"
    elif how == "no-address":
        recording.audio.clear()
    else:
        status = {"empty": 200}.get(how) or int(how)
        sandbox.world.faults.change({"answers": {f"/_downloads/{recording.data['id']}": status}})


def letter_of(recording: Recording) -> DeadLetter:
    job_id, payload = f"archive_recording:{recording.data['id']}", {"v": 1, "recording_id": recording.data["id"]}
    at = "2026-11-25T10:00:00.000000Z"
    return DeadLetter(job_id, "archive_recording", payload, "arq:queue", "download", "an error", at, [])


def verified(environment: dict[str, str], folder: Path) -> tuple[list[Any], int, int]:
    """The problems by `callvault verify --seals` and by the script, and the counts of recordings."""
    done = run_callvault(["verify", "--seals", "--json"], environment)
    report = json.loads(done.stdout)
    script = run_script(VERIFY_ARCHIVE, str(folder))
    assert done.returncode == script.returncode == bool(report["problems"]), script.stdout
    assert (f"Telnyx had no audio: {report['not_archived']} recording" in script.stderr) == bool(report["not_archived"])
    return report["problems"], report["recordings"], report["not_archived"]


@pytest.mark.parametrize("how", ["403", "404", "empty", "no-address", "in-progress"])
async def test_on_request_a_day_is_sealed_without_a_recording_and_later_arrivals_are_sealed_too(
    how: str, sandbox: RunningSandbox, runtime: Runtime, redis: Any, environment: dict[str, str], archive_folder: Path
) -> None:
    never, *others = recordings_of(sandbox, ago(5), 3)
    await archive(runtime, others)
    audio = dict(never.audio)
    give_nothing(sandbox, never, how)
    assert isinstance(await seal(runtime, ago(5)), Waits)
    await runtime.attempts.bury(letter_of(never))
    words = ["dead-letters", "accept", letter_of(never).job_id, "--why", "ticket 7", "--by", "Ann"]
    done = run_callvault(words, environment)
    assert done.returncode == 0, done.stderr
    assert await runtime.attempts.letters() == []
    path = folder_of(archive_folder, never) / "not-archived.json"
    record = json.loads(path.read_bytes())
    assert (record["recording"]["id"], record["why"], record["by"]) == (never.data["id"], "ticket 7", "Ann")
    assert record["answer"] in done.stdout
    link = await seal(runtime, ago(5))
    assert isinstance(link, Link)
    assert (link.seal.recordings, link.seal.not_archived) == (2, 1)
    key = key_of(folder_of(archive_folder, never), archive_folder) + "not-archived.json"
    assert f"  {key}\n" in (archive_folder / layout.seal_key(1, "sha256")).read_text()
    assert verified(environment, archive_folder) == ([], 2, 1)

    redis.delete(BULK_QUEUE, f"arq:job:archive_recording:{never.data['id']}")
    await count_sealed(runtime, CountRequest())
    assert redis.zrange(BULK_QUEUE, 0, -1) == [f"archive_recording:{never.data['id']}"], "the weekly check asks for it"
    request = RecordingRequest(recording_id=never.data["id"], found_by="reconcile")
    await archive_recording(runtime, request)
    assert committed(archive_folder, never) is None
    assert run_callvault(words, environment).stdout.count("(Ann: ticket 7)") == 1, "it is on record already"

    never.audio.update(audio)
    never.data["status"] = "completed"
    sandbox.world.faults.change({"answers": {}})
    await archive_recording(runtime, request)
    late = await seal(runtime, ago(5), by_hand=True)
    assert isinstance(late, Link)
    assert (late.seal.recordings, "not_archived" in (archive_folder / layout.seal_key(2)).read_text()) == (1, False)
    assert verified(environment, archive_folder) == ([], 3, 0)
    assert json.loads(path.read_bytes()) == record, "the first record stays"


async def test_audio_that_is_available_or_fails_differently_is_not_accepted_as_lost(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    good, away, in_the_way, gone = recordings_of(sandbox, ago(5), 4)
    two = sandbox.world.add_recording(seconds=0.1, formats=("wav", "mp3"), started_at=at_noon(ago(5)))
    assert await accept_not_archived(runtime, good.data["id"], "why", "Ann") is None
    assert committed(archive_folder, good), "it was archived instead"
    folder_of(archive_folder, in_the_way).mkdir(parents=True)
    (folder_of(archive_folder, in_the_way) / "audio.wav").write_bytes(b"something else")
    sandbox.world.recordings.pop(gone.data["id"])
    sandbox.world.faults.change({"answers": {f"/_downloads/{two.data['id']}.mp3": 404}})
    refused = {
        in_the_way.data["id"]: "but not because Telnyx gives no audio.*Callvault does not overwrite it",
        gone.data["id"]: "not at Telnyx",
        two.data["id"]: "Telnyx still gives the wav of",
    }
    for recording_id, line in refused.items():
        with pytest.raises(UserError, match=line):
            await accept_not_archived(runtime, recording_id, "why", "Ann")
    elsewhere = recordings_of(sandbox, ago(5), 1)[0]
    elsewhere.audio.clear()
    sandbox.world.storage[elsewhere.data["connection_id"]] = {"backend": "s3"}
    with pytest.raises(UserError, match="your own storage"):
        await accept_not_archived(runtime, elsewhere.data["id"], "why", "Ann")
    sandbox.world.faults.change({"answers": {f"/_downloads/{away.data['id']}": 500}})
    with pytest.raises(UserError, match="but not because Telnyx gives no audio"):
        await accept_not_archived(runtime, away.data["id"], "why", "Ann")
    assert list(archive_folder.rglob("not-archived.json")) == []
    assert isinstance(await seal(runtime, ago(5)), Waits)


@pytest.mark.parametrize("status", [200, 403, 404])  # the first without a byte
async def test_no_day_waits_for_two_formats_that_telnyx_serves_neither_of(
    status: int, sandbox: RunningSandbox, runtime: Runtime
) -> None:
    two = sandbox.world.add_recording(seconds=0.1, formats=("wav", "mp3"), started_at=at_noon(ago(5)))
    sandbox.world.faults.change({"answers": {f"/_downloads/{two.data['id']}": status}})
    record = await accept_not_archived(runtime, two.data["id"], "why", "Ann")
    assert record is not None and (str(status) in record.answer or status == 200)
    assert isinstance(await seal(runtime, ago(5)), Link)


async def test_after_a_while_a_day_is_sealed_without_the_recording_and_an_alert_is_sent(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    never, soon, other = recordings_of(sandbox, ago(5), 3)
    sandbox.world.faults.change(
        {"answers": {f"/_downloads/{never.data['id']}": 404, f"/_downloads/{soon.data['id']}": 500}}
    )
    async with runtime_of(environment, async_redis, CALLVAULT_SEAL_WITHOUT_AFTER="1s") as runtime:

        async def outcome() -> object:
            return await seal(runtime, ago(5))

        assert isinstance(await outcome(), Waits)
        await asyncio.sleep(1.1)  # its wait is over
        await outcome()
        assert list(archive_folder.rglob("not-archived.json")) == [], "nothing was archived recently"
        await archive(runtime, [other])
        await runtime.history.flush()
        sandbox.world.faults.change({"answers": {f"/_downloads/{never.data['id']}": 404}})
        await archive(runtime, [soon])
        deadline = time.monotonic() + 30
        while not isinstance(link := await outcome(), Link):
            assert time.monotonic() < deadline
    assert (link.seal.recordings, link.seal.not_archived) == (2, 1)
    assert [path.parent.name for path in archive_folder.rglob("not-archived.json")] == [never.data["id"]]
    assert redis.hgetall(WAITED_FOR) == {}, "it waits for nothing more"
    told = [json.loads(row) for row in redis.lrange(ALERTS, 0, -1)]
    (text,) = [row["text"] for row in told if row["kind"] == "sealed-without"]
    assert text == (
        f"{ago(5)} is sealed without recording {never.data['id']}, which is not archived: the download address answered 404."
    )


async def test_a_day_that_waits_for_long_downloads_leaves_them_to_their_jobs(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    """Four such days would delay all other seals for hours."""
    never, other = recordings_of(sandbox, ago(5), 2)
    long = sandbox.world.add_recording(seconds=60, started_at=at_noon(ago(5)))
    ids = [long.data["id"], never.data["id"]]
    async with runtime_of(environment, async_redis, CALLVAULT_SEAL_WITHOUT_AFTER="1s") as runtime:
        await archive(runtime, [other])
        await runtime.history.flush()
        give_nothing(sandbox, never, "404")
        await runtime.attempts.bury(letter_of(long))
        sandbox.world.faults.change({"download_bytes_per_second": 1000})
        await accept_in_time(runtime, ago(5), ids)
        await asyncio.sleep(1.1)  # its wait is over
        async with asyncio.timeout(30):
            await accept_in_time(runtime, ago(5), ids)
        assert await runtime.attempts.letters() == []
    assert redis.zrange(BULK_QUEUE, 0, -1) == [letter_of(long).job_id]
    assert [path.parent.name for path in archive_folder.rglob("not-archived.json")] == [never.data["id"]]


PLACES = {"wav": "s3://bucket/a.wav"}


@pytest.mark.parametrize("known_by", ["id", "leg"])
@pytest.mark.parametrize("lies", ["waits", "beside a job that runs", "letter"])
async def test_an_event_with_a_custom_storage_location_counts_wherever_its_job_is(
    lies: str, known_by: str, sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    never, other = recordings_of(sandbox, ago(5), 2)
    await archive(runtime, [other])
    give_nothing(sandbox, never, "no-address")
    said = {"recording_id": never.data["id"]} if known_by == "id" else {"call_leg_id": never.data["call_leg_id"]}
    job = recording_job(RecordingRequest(event_id="e", locations=PLACES, **said))
    if lies == "letter":
        payload = msgspec.to_builtins(job.payload)
        await runtime.attempts.bury(
            DeadLetter(job.id, job.function, payload, job.queue, "download", "x", "2026-11-25T10:00:00.000000Z", [])
        )
    else:
        await enqueue(runtime.redis, job)
        redis.zadd(job.queue, {job.id: (time.time() + 3600) * 1000})
    if lies == "beside a job that runs":
        redis.rename(ARQ_JOB + job.id, REPEATED + job.id)
    own_letter = "s3://bucket/a.wav"  # the code asks for this one, and only this one fails
    line = (
        own_letter if (lies, known_by) == ("letter", "id") else f"named a place in your own storage, and job {job.id} "
    )
    with pytest.raises(UserError, match=line):
        await accept_not_archived(runtime, never.data["id"], "why", "Ann")
    assert list(archive_folder.rglob("not-archived.json")) == []

    redis.delete(job.queue, ARQ_JOB + job.id, REPEATED + job.id)
    await runtime.attempts.discard(job.id)
    other_call = RecordingRequest(event_id="e", locations=PLACES, call_leg_id="another")
    await enqueue(runtime.redis, recording_job(other_call))
    assert await accept_not_archived(runtime, never.data["id"], "why", "Ann") is not None, (
        "facts of other recordings are no reason"
    )


@pytest.mark.parametrize("known_by", ["id", "leg"])
async def test_an_event_with_a_location_counts_while_its_job_is_being_given_up(
    known_by: str, sandbox: RunningSandbox, runtime: Runtime, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (never,) = recordings_of(sandbox, ago(5), 1)
    recording = await runtime.telnyx.recordings.retrieve(never.data["id"])
    said = {"recording_id": never.data["id"]} if known_by == "id" else {"call_leg_id": never.data["call_leg_id"]}
    request = RecordingRequest(event_id="e", locations=PLACES, **said)
    job = recording_job(request)
    await enqueue(runtime.redis, job)
    letters = runtime.attempts.letters

    async def given_up_behind_this() -> list[DeadLetter]:
        found = await letters()
        letter = msgspec.structs.replace(letter_of(never), job_id=job.id, payload=msgspec.to_builtins(request))
        await runtime.attempts.bury(letter)
        redis.delete(job.queue, ARQ_JOB + job.id)
        return found

    monkeypatch.setattr(runtime.attempts, "letters", given_up_behind_this)
    assert await who_names_a_place(runtime, recording) == job.id


async def test_an_answer_without_a_connection_is_left_to_a_person(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    (never,) = recordings_of(sandbox, ago(5), 1)
    give_nothing(sandbox, never, "no-address")
    never.data["connection_id"] = None
    with pytest.raises(UserError, match="does not name the connection of"):
        await accept_not_archived(runtime, never.data["id"], "in time", None)
    assert await accept_not_archived(runtime, never.data["id"], "why", "Ann") is not None
    assert not [r["path"] for r in sandbox.world.requests if "custom_storage" in r["path"]]


async def test_audio_from_custom_storage_is_no_evidence_that_telnyx_serves_audio(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path
) -> None:
    never, other = recordings_of(sandbox, ago(5), 2)
    give_nothing(sandbox, never, "404")
    async with runtime_of(environment, async_redis, CALLVAULT_SEAL_WITHOUT_AFTER="1s") as runtime:
        runtime.history.add("archived")  # counted wherever the audio comes from
        await runtime.history.flush()
        await accept_in_time(runtime, ago(5), [never.data["id"]])
        await asyncio.sleep(1.1)  # its wait is over
        await accept_in_time(runtime, ago(5), [never.data["id"]])
        assert list(archive_folder.rglob("not-archived.json")) == []
        await archive(runtime, [other])
        await runtime.history.flush()
        await accept_in_time(runtime, ago(5), [never.data["id"]])
    assert len(list(archive_folder.rglob("not-archived.json"))) == 1


async def test_work_archived_instead_of_a_dead_letter_keeps_its_found_by(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    (good,) = recordings_of(sandbox, ago(5), 1)
    letter = letter_of(good)
    await runtime.attempts.bury(msgspec.structs.replace(letter, payload=letter.payload | {"event_id": "e-1"}))
    assert await accept_not_archived(runtime, good.data["id"], "why", "Ann") is None
    record = committed(archive_folder, good)
    assert record is not None and (record["found_by"], record["event_id"]) == ("webhook", "e-1")


def transcription_of(sandbox: RunningSandbox, recording: Recording, how: str) -> dict[str, Any]:
    """A transcription that Telnyx lists as completed and never serves."""
    made = sandbox.world.add_transcription(recording)
    sandbox.world.complete_transcription(made)
    made["created_at"] = recording.data["recording_started_at"]
    if how != "without a recording":
        sandbox.world.faults.change({"answers": {f"/recording_transcriptions/{made['id']}": 404}})
    if how == "404":
        made["transcription_text"] = None  # a list need not contain the text
    if how == "without a recording":
        sandbox.world.recordings.pop(recording.data["id"])
    return made


@pytest.mark.parametrize("by", ["Ann", "time"])
@pytest.mark.parametrize("how", ["404", "without a recording"])
async def test_a_day_is_sealed_without_a_transcription_that_is_never_given(
    how: str,
    by: str,
    sandbox: RunningSandbox,
    environment: dict[str, str],
    async_redis: Any,
    redis: Any,
    archive_folder: Path,
) -> None:
    good, other = recordings_of(sandbox, ago(5), 2)
    async with runtime_of(environment, async_redis, CALLVAULT_SEAL_WITHOUT_AFTER="1s") as runtime:
        await archive(runtime, [good, other] if how == "404" else [good])
        made = transcription_of(sandbox, other, how)
        key = layout.transcription_not_archived_key(ago(5), other.data["id"], made["id"])
        assert isinstance(await seal(runtime, ago(5)), Waits)
        if by == "Ann":
            words = ["dead-letters", "accept", f"archive_transcription:{made['id']}", "--why", "ticket 7", "--by", by]
            done = run_callvault(words, environment)
            assert done.returncode == 0 and f"transcription {made['id']} is not archived: " in done.stdout, done.stderr
        else:
            await asyncio.sleep(1.1)  # its wait is over
            assert isinstance(await seal(runtime, ago(5)), Waits)
            assert "sealed-without" in await kinds_of_alerts(runtime)
        link = await seal(runtime, ago(5))
        assert isinstance(link, Link)
        record = json.loads((archive_folder / key).read_bytes())
        assert record["transcription"]["id"] == made["id"] and "transcription_text" not in record["transcription"]
        assert f"  {key}\n" in (archive_folder / layout.seal_key(1, "sha256")).read_text()
        assert verified(environment, archive_folder)[0] == []

        redis.delete(BULK_QUEUE, f"{ARQ_JOB}archive_transcription:{made['id']}")
        await count_sealed(runtime, CountRequest())
        data = await async_redis.get(f"{ARQ_JOB}archive_transcription:{made['id']}")
        request = msgspec.convert(deserialize(data)["a"][0], TranscriptionRequest)
        await archive_transcription(runtime, request)  # still missing, which is not a failure

        (archive_folder / key).write_text("{}")  # a record that somebody else wrote does not count
        assert (await missing_of(runtime, ago(5))).count == 1


@pytest.mark.parametrize("later", [timedelta(0), timedelta(days=2)], ids=("at once", "later"))
@pytest.mark.parametrize("is_at_telnyx", [True, False], ids=("original there", "original gone"))
async def test_no_day_waits_for_a_transcription_of_what_was_erased_or_left_telnyx(
    later: timedelta, is_at_telnyx: bool, sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    """Telnyx may list a transcription after its recording is gone."""
    erased, archived = recordings_of(sandbox, ago(8), 2)
    await archive(runtime, [erased, archived])
    for recording in (erased, archived):
        made = sandbox.world.add_transcription(recording)
        sandbox.world.complete_transcription(made)
        made["created_at"] = text_of(at_noon(ago(8)) + later)
        await archive_transcription(runtime, TranscriptionRequest(transcription_id=made["id"]))
        if not is_at_telnyx:
            sandbox.world.recordings.pop(recording.data["id"])
    folder = key_of(folder_of(archive_folder, erased), archive_folder)
    await runtime.in_thread(erase, runtime.archive, folder, "request", "dpo")
    day = ago(8) + later
    missing = await missing_of(runtime, day)
    assert (missing.count, missing.transcriptions) == (0, [])
    assert not isinstance(await seal(runtime, day), Waits)
    (of_erased,) = (one for one in sandbox.world.transcriptions.values() if one["recording_id"] == erased.data["id"])
    for answers in {}, {f"/recording_transcriptions/{of_erased['id']}": 404}:
        sandbox.world.faults.change({"answers": answers})
        with pytest.raises(UserError, match="erased"):  # and not as available
            await accept_transcription(runtime, of_erased["id"], "why", "Ann")


async def test_a_transcription_that_can_be_had_or_is_not_listed_does_not_pass(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    (recording,) = recordings_of(sandbox, ago(5), 1)
    await archive(runtime, [recording])
    made = transcription_of(sandbox, recording, "listed with its words")
    assert await accept_transcription(runtime, made["id"], "why", "Ann") is None
    key = folder_of(archive_folder, recording) / "transcriptions" / f"{made['id']}.json"
    assert json.loads(key.read_bytes())["transcription"]["transcription_text"] == made["transcription_text"]
    with pytest.raises(UserError, match="does not list transcription none"):
        await accept_transcription(runtime, "none", "why", "Ann")
    other = transcription_of(sandbox, recording, "404")
    sandbox.world.faults.change({"answers": {f"/recording_transcriptions/{other['id']}": 403}})
    with pytest.raises(UserError, match=r"but not because Telnyx does not give it.*Forbidden"):
        await accept_transcription(runtime, other["id"], "why", "Ann")
    assert list(archive_folder.rglob("transcriptions-not-archived")) == []
