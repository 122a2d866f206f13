"""Junk in Redis can enqueue jobs and garble state, but stops no worker and no page."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lab.processes import callvault, receiver, run_callvault, wait_for
from lab.servers import RunningSandbox
from workers import keys
from workers.keys import ARQ_JOB, BULK_QUEUE, MAIN_QUEUE
from workers.main import job_functions

_encode = msgspec.msgpack.Encoder().encode
JUNK: list[Any] = [None, 0, -1, 2**63 - 1, 1.5, "", "x" * 3_000, "../..", b"\xff\xfe", [], [1], {}, {"v": 1}, {"v": "x"},
                   {"v": -5}, {"v": 1, "day": "soon"}, {"v": 1, "recording_id": 7}, {"v": 1, "recording_id": "\x00/.."},
                   {"v": 1, "event_id": ["a"], "event_type": {}, "reason": None}, {"v": 1, "first": "2026", "last": None},
                   {"v": 1, "transcription_id": "no-such", "trace": "\x00"},
        {"v": 1, "recording_id": "x", "locations": 5}]  # fmt: skip


def _payloads(seed: int) -> list[bytes]:
    chance = random.Random(seed)
    names = [one.name for one in job_functions(MAIN_QUEUE)] + ["nothing", "", "__import__", "cron:start_sweeps"]
    made = []
    for _ in range(120):
        job: dict[str, Any] = {"t": None, "f": chance.choice(names), "a": [chance.choice(JUNK)], "k": {}, "et": 1}
        job |= chance.choice(
            [{}, {}, {}, {"a": chance.choice(JUNK)}, {"f": chance.choice(JUNK)}, {"k": {"x": 1}}, {"et": "x"}]
        )
        made.append(chance.choice([_encode(job), _encode(job), _encode(job)[:-1], chance.randbytes(40)]))
    return made


@pytest.mark.timeout(180)
def test_no_payload_stops_a_worker(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    for n, payload in enumerate(_payloads(7)):
        redis.set(f"{ARQ_JOB}junk-{n}", payload)
        redis.zadd(MAIN_QUEUE if n % 2 else BULK_QUEUE, {f"junk-{n}": 1})
    recording = sandbox.world.add_recording(seconds=0.5)
    good: dict[str, Any] = {"t": None, "f": "archive_recording", "k": {}, "et": 1}
    good["a"] = [{"v": 1, "recording_id": recording.data["id"]}]
    redis.set(f"{ARQ_JOB}good", _encode(good))
    redis.zadd(MAIN_QUEUE, {"good": 2})
    with callvault(["worker"], environment, "worker ready") as worker:
        wait_for(lambda: list(archive_folder.glob(f"recordings/*/*/*/{recording.data['id']}/recording.json")), 60)
        now = redis.time()[0] * 1000
        wait_for(lambda: redis.zcount(MAIN_QUEUE, "-inf", now) == redis.zcount(BULK_QUEUE, "-inf", now) == 0, 60, "all")
        assert not worker.has_ended and "worker failed" not in worker.output
        assert worker.stop() == 0


STATE = [value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)
         and value.startswith("callvault:") and not value.endswith(":")]  # fmt: skip


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["string", "hash", "set", "list", "zset"])
def test_state_of_the_wrong_type_is_reported_and_stops_no_webhook_and_no_recording(
    kind: str, sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    """Every key of ours holds junk of one type; Redis answers a wrong type with an error."""
    put: Any = {
        "string": lambda key: redis.set(key, "\x00junk"),
        "hash": lambda key: redis.hset(key, mapping={"junk": "junk", "connection:a:a": "{"}),
        "set": lambda key: redis.sadd(key, "junk"),
        "list": lambda key: redis.rpush(key, "junk"),
        "zset": lambda key: redis.zadd(key, {"junk": 1}),
    }[kind]
    spared = {keys.LEASES, keys.UNLEASED, keys.WRITTEN}  # no job can be claimed or announced without these
    for key in sorted(set(STATE) - spared):
        redis.delete(key)
        put(key)
    with receiver(environment) as (_, serve), callvault(["worker"], environment, "worker ready") as worker:
        (recording,) = sandbox.control("calls", webhook_url=serve.webhooks, seconds=0.5)["recordings"]
        wait_for(lambda: list(archive_folder.glob(f"recordings/*/*/*/{recording}/recording.json")), 60)
        assert not worker.has_ended
        assert worker.stop() == 0
    assert sandbox.books()["deliveries"] == {"delivered": 1, "failed": 0}
    for command in (["status"], ["dead-letters", "list"], ["deletions", "list"]):
        done = run_callvault(command, environment)
        assert "Traceback" not in done.stderr and done.returncode in (0, 1), (command, done.stderr)
