"""The failed attempts of jobs, and their dead letters.

arq has no dead letters and forgets a failed job. A dead letter keeps the job, its argument and every attempt with its
time and error, until a person retries or discards it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from text.times import format_instant
from workers.keys import (
    ARQ_IN_PROGRESS,
    ARQ_JOB,
    ATTEMPTS,
    DEAD_LETTERS,
    FAILING,
    FAILING_JOBS,
    FAILING_SINCE,
    QUEUES,
    REPEATED,
)
from workers.queue.jobs import JOB_TTL_MS, Job, encode_job
from workers.queue.script import AsyncRedis, Script, server_seconds, write_when_full
from workers.queue.state import read_state

_MOST_ATTEMPTS_KEPT = 100
_ATTEMPTS_TTL_SECONDS = 30 * 24 * 3600
_MOST_FAILING = 1_000  # by name for one failure class; the others are recorded again with their next attempts

_END_DEAD_LETTER = Script(__package__, "end_dead_letter.lua", uses=("merge_job.lua",), QUEUES=tuple(QUEUES.values()))
_RECORD_FAILING = Script(__package__, "record_failing.lua")


class Attempt(msgspec.Struct, frozen=True):
    """One failed attempt.

    Attributes:
        at: ISO 8601, UTC.
        cause: its failure class, a row of the table in `workers/engine/failure_classes.py`; for an original that is not
            deleted yet also `changed`, `gone` or `transcription`.
        error: one line.
    """

    at: str
    cause: str
    error: str


class DeadLetter(msgspec.Struct, frozen=True):
    """A job that failed its last attempt."""

    job_id: str
    function: str
    payload: Any
    queue: str
    cause: str
    error: str
    died_at: str
    attempts: list[Attempt]


class Attempts:
    """The attempts and dead letters of all jobs of one Redis."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis

    async def record(self, job_id: str, cause: str, error: str) -> list[Attempt]:
        """Record a failed attempt, by the server's clock.

        Returns:
            The last 100 attempts of the job, oldest first.
        """
        key = ATTEMPTS + job_id
        at = format_instant(datetime.fromtimestamp(await server_seconds(self._redis), UTC))
        *_, rows = await write_when_full(
            self._redis,
            ("RPUSH", key, msgspec.json.encode(Attempt(at, cause, error))),
            ("LTRIM", key, -_MOST_ATTEMPTS_KEPT, -1),
            ("EXPIRE", key, _ATTEMPTS_TTL_SECONDS),
            ("LRANGE", key, 0, -1),
        )
        attempts = [msgspec.json.decode(row, type=Attempt) for row in rows]
        if len(attempts) > 1 and attempts[-2].cause != cause:  # the job no longer fails for the earlier one
            await self._redis.zrem(FAILING_JOBS + attempts[-2].cause, job_id)
        return attempts

    async def record_failing(self, names: Sequence[str], cause: str, error: str, seconds: float) -> None:
        """Record for some seconds that something fails again and again and will be retried.

        An entry ends when its job succeeds or fails for another class, or after that time.

        Args:
            names: what fails, such as ids of jobs.
            cause: the failure class.
            error: one line.
            seconds: longer than until the next attempt.
        """
        keys = (FAILING_JOBS + cause, FAILING + cause)
        await _RECORD_FAILING(self._redis, keys, (error, int(seconds * 1000), _MOST_FAILING, *names))

    async def failing(self, causes: Collection[str]) -> dict[str, str]:
        """The failure classes that something fails for now, each with its last error."""
        now = await server_seconds(self._redis)
        async with self._redis.pipeline(transaction=False) as pipe:
            for cause in causes:
                pipe.zcount(FAILING_JOBS + cause, now, "+inf")
                pipe.get(FAILING + cause)
            answers = await pipe.execute()
        rows = zip(causes, answers[::2], answers[1::2], strict=True)
        return {cause: (error or b"see the log").decode() for cause, count, error in rows if count}

    async def failing_seconds(self, names: Sequence[str], forgotten_seconds: float) -> list[float]:
        """Record that some things fail now, and since when.

        Args:
            names: what fails.
            forgotten_seconds: after that long without a failure, counting starts again.

        Returns:
            For how many seconds each has been failing, by the server's clock.
        """
        now, memory_ms = await server_seconds(self._redis), int(forgotten_seconds * 1000)
        answers = await write_when_full(
            self._redis,
            *(
                command
                for key in (FAILING_SINCE + name for name in names)
                for command in (("SET", key, now, "NX", "PX", memory_ms), ("PEXPIRE", key, memory_ms), ("GET", key))
            ),
        )
        return [now - float(since or now) for since in answers[2::3]]

    async def done(self, job_id: str, *more: Sequence[str]) -> bool:
        """Forget the failures of a job that has succeeded, and end its dead letter.

        Args:
            job_id: of the job.
            more: further commands of its end, sent with these.

        Returns:
            Whether there was a dead letter.
        """
        last, _, ended, *_ = await write_when_full(  # every job does this, and a transaction would cost twice as much
            self._redis,
            ("LRANGE", ATTEMPTS + job_id, -1, -1),
            ("DEL", ATTEMPTS + job_id),
            ("HDEL", DEAD_LETTERS, job_id),
            *more,
        )
        if last:
            await self._redis.zrem(FAILING_JOBS + msgspec.json.decode(last[0], type=Attempt).cause, job_id)
        return bool(ended)

    async def bury(self, letter: DeadLetter) -> None:
        """Turn a job into a dead letter."""
        put = ("HSET", DEAD_LETTERS, letter.job_id, msgspec.json.encode(letter))
        await write_when_full(self._redis, put, ("DEL", ATTEMPTS + letter.job_id))

    async def count(self) -> int:
        """How many dead letters there are."""
        return int(await self._redis.hlen(DEAD_LETTERS))

    async def letters(self) -> list[DeadLetter]:
        """All dead letters, oldest first."""
        letters = await read_state(self._redis, DEAD_LETTERS, DeadLetter)
        return sorted(letters.values(), key=lambda letter: letter.died_at)

    async def letter(self, job_id: str) -> DeadLetter | None:
        """The dead letter of a job; None if it has none, or one that cannot be read."""
        row = await self._redis.hget(DEAD_LETTERS, job_id)
        try:
            return None if row is None else msgspec.json.decode(row, type=DeadLetter)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    async def retry(self, job_id: str, queue: str | None = None) -> bool:
        """Enqueue a dead letter's job again.

        Args:
            job_id: the id of its job.
            queue: where to run it; None: in its own queue.

        Returns:
            False if there is no such dead letter.
        """
        while (row := await self._redis.hget(DEAD_LETTERS, job_id)) is not None:
            letter = msgspec.json.decode(row, type=DeadLetter)
            job = Job(letter.function, letter.payload, letter.job_id, queue or letter.queue)
            if await self._take(job, row, encode_job(job, time.time_ns() // 1_000_000)):
                return True
        return False

    async def discard(self, job_id: str, died_at: str | None = None) -> bool:
        """Drop a dead letter for good.

        Args:
            job_id: the id of its job.
            died_at: identifies the letter that a person looked at; the job may have a newer one. None: any letter.

        Returns:
            False if there is no such dead letter.
        """
        row = await self._redis.hget(DEAD_LETTERS, job_id)
        if row is None or (died_at is not None and msgspec.json.decode(row, type=DeadLetter).died_at != died_at):
            return False
        return await self._take(Job("", None, job_id), row, b"")

    async def _take(self, job: Job, row: bytes, data: bytes) -> bool:
        keys = (DEAD_LETTERS, ARQ_JOB + job.id, job.queue, ARQ_IN_PROGRESS + job.id, REPEATED + job.id)
        return bool(await _END_DEAD_LETTER(self._redis, keys, (job.id, row, data, JOB_TTL_MS)))
