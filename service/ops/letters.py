"""Dead letters and deletions: why, retry or discard; what is due, what is held, pause and resume."""

from __future__ import annotations

import msgspec
from starlette.requests import Request

from service.ops.parts import Ops
from service.ops.recordings import instant_of, shown
from workers.catalogue.query import Query
from workers.catalogue.search import Hit, search
from workers.jobs.causes import CAUSES
from workers.jobs.decisions import decide
from workers.queue.attempts import Attempt

_MOST = 100


class Letter(msgspec.Struct, frozen=True):
    """A job that was given up.

    Attributes:
        cause: a row of the table of causes, and `advice` what a person does about it.
        attempts: all that are remembered, the earliest first.
    """

    job_id: str
    function: str
    cause: str
    advice: str
    error: str
    died_at: str
    attempts: list[Attempt]


class Letters(msgspec.Struct, frozen=True):
    """The jobs that were given up: how many, and the latest 100."""

    count: int
    letters: list[Letter]


class Due(msgspec.Struct, frozen=True):
    """An original on the list, and when its turn comes (ISO 8601, UTC)."""

    folder: str
    due_at: str


class Deletions(msgspec.Struct, frozen=True):
    """Deletion of originals.

    Attributes:
        mode: of the setting, `never` or `verified`.
        paused: why it is paused; None: it is not.
        due: how many are on the list, and `first` the 100 whose turn comes next.
        held: recordings on hold, 100 at most; likewise kept: for something found in their audio.
    """

    mode: str
    paused: str | None
    due: int
    first: list[Due]
    held: list[Hit]
    kept: list[Hit]


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
            CAUSES[one.cause].advice if one.cause in CAUSES else "",
            one.error,
            one.died_at,
            one.attempts,
        )
        for one in reversed(found[-_MOST:])
    ]
    return Letters(len(found), letters)


async def look_at_deletions(ops: Ops, request: Request) -> Deletions:
    """Deletion.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    due = ops.runtime.due
    first = [Due(entry.folder, instant_of(entry.due_at)) for entry in await due.entries(_MOST)]
    held, kept = await _in_state(ops, "held"), await _in_state(ops, "kept")
    return Deletions(ops.settings.delete_originals, await due.paused(), await due.count(), first, held, kept)


async def _in_state(ops: Ops, state: str) -> list[Hit]:
    hits = await ops.catalogue.ask(lambda path: search(path, Query(state=state), _MOST))
    return [shown(ops, hit) for hit in hits]


async def retry(ops: Ops, form: dict[str, str]) -> str:
    """Enqueue a dead letter's job again, or all of them."""
    done = [await ops.runtime.attempts.retry(job_id) for job_id in await _ids(ops, form)]
    return f"{sum(done)} enqueued again"


async def discard(ops: Ops, form: dict[str, str]) -> str:
    """Drop a dead letter for good."""
    done = await ops.runtime.attempts.discard(form["id"])
    return f"{int(done)} discarded"


async def _ids(ops: Ops, form: dict[str, str]) -> list[str]:
    if form["id"] != "*":
        return [form["id"]]
    return [letter.job_id for letter in await ops.runtime.attempts.letters()]


async def pause(ops: Ops, form: dict[str, str]) -> str:
    """Delete nothing until resumed."""
    await ops.runtime.due.pause(form.get("why", "").strip()[:200] or "by hand")
    return "deletion is paused"


async def resume(ops: Ops, form: dict[str, str]) -> str:
    """Go on deleting."""
    was_paused = await ops.runtime.due.resume()
    return "deletion goes on" if was_paused else "deletion was not paused"


async def hold(ops: Ops, form: dict[str, str]) -> str:
    """Never delete an original until it is released."""
    await decide(ops.runtime, form["id"], "hold", form["why"])
    return f"recording {form['id']} is on hold"


async def release(ops: Ops, form: dict[str, str]) -> str:
    """Let an original go."""
    await decide(ops.runtime, form["id"], "release", form["why"])
    return f"recording {form['id']} is released; its original is deleted once it is due"
