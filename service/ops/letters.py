"""The page of dead letters: why jobs failed for good; retry or discard them."""

from __future__ import annotations

import msgspec
from starlette.requests import Request

from service.ops.parts import Ops
from text.counts import many
from workers.engine.attempts import Attempt
from workers.engine.failure_classes import advice_of

_MOST = 100


class Letter(msgspec.Struct, frozen=True):
    """A job that was given up.

    Attributes:
        cause: its failure class; `advice`: what to do about it.
        attempts: the recorded attempts, the earliest first.
    """

    job_id: str
    function: str
    cause: str
    advice: str
    error: str
    died_at: str
    attempts: list[Attempt]


class Letters(msgspec.Struct, frozen=True):
    """The dead letters: their number, and the latest 100."""

    count: int
    letters: list[Letter]


async def look(ops: Ops, request: Request) -> Letters:
    """The dead letters.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    found = await ops.runtime.attempts.letters()
    letters = [
        Letter(
            one.job_id,
            one.function,
            one.cause,
            advice_of(one.cause),
            one.error,
            one.died_at,
            one.attempts,
        )
        for one in reversed(found[-_MOST:])
    ]
    return Letters(len(found), letters)


async def retry(ops: Ops, form: dict[str, str]) -> str:
    """Enqueue a dead letter's job again, or all of them."""
    done = [await ops.runtime.attempts.retry(job_id) for job_id in await _ids(ops, form)]
    return f"{many(sum(done), 'job')} enqueued again"


async def discard(ops: Ops, form: dict[str, str]) -> str:
    """Drop a dead letter permanently, unless it is a newer one than the page showed."""
    done = await ops.runtime.attempts.discard(form["id"], form["died_at"])
    return f"{many(int(done), 'job')} discarded"


async def _ids(ops: Ops, form: dict[str, str]) -> list[str]:
    if form["id"] != "*":
        return [form["id"]]
    return [letter.job_id for letter in await ops.runtime.attempts.letters()]
