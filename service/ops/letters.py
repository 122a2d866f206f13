"""The page of dead letters: why jobs failed for good; retry or discard one, those that are selected, or a group."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

import msgspec
from starlette.requests import Request

from archive import layout
from archive.stores.store import StoreError
from service.ops.bulk import change_each
from service.ops.parts import Ops
from service.ops.view import View, view_of
from text.counts import many
from text.errors import UserError
from workers.catalogue.query import BadQuery
from workers.catalogue.rows import Row
from workers.engine.attempts import Attempt, DeadLetter
from workers.engine.failure_classes import FAILURE_CLASSES, Advised, advice_of, advised_for
from workers.recordings.requests import JOBS

_MOST = 100
_MOST_OF_A_GROUP = 1_000
_ANY = "*"

FILTERS = {"cause": "failure class", "kind": "name of the job's function"}
_PLACE = re.compile(r"([0-9TZ:.+-]{10,40})~([A-Za-z0-9_.~%-]{1,1000})")


class Letter(msgspec.Struct, frozen=True):
    """A job that was given up.

    Attributes:
        cause: its failure class; `advice`: what to do about it; `advised`: what that comes to in the end.
        attempts: the recorded attempts, the earliest first.
        recording_id: of the recording that it is about; None if it is about none, or does not name it.
        call: of this recording, as the catalogue has it; None if it does not know it, as before it is archived.
    """

    job_id: str
    function: str
    cause: str
    advice: str
    error: str
    died_at: str
    attempts: list[Attempt]
    advised: Advised
    recording_id: str | None
    call: Row | None

    @property
    def name(self) -> str:
        """What identifies it in a form, without a space: when it died, and its job."""
        return f"{self.died_at}~{quote(self.job_id, safe='')}"

    @property
    def what(self) -> str:
        """What its job does, in words."""
        return what_of(self.function)


class Letters(msgspec.Struct, frozen=True):
    """The dead letters.

    Attributes:
        count: of all.
        letters: the latest 100 of those that the filters leave.
        groups: how many they leave of each failure class.
        causes: how many there are of each failure class; kinds: likewise of each kind of job.
        after: pass it to get the next page; None at the end.
    """

    count: int
    letters: list[Letter]
    groups: dict[str, int]
    causes: dict[str, int]
    kinds: dict[str, int]
    after: str | None


async def look(ops: Ops, request: Request) -> Letters:
    """The dead letters; `cause` and `kind` of the query filter them, `after` continues.

    Raises:
        BadQuery: a filter is not known; UserError: `after` is no place in the list.
        redis.exceptions.RedisError: Redis is away.
    """
    every = await ops.runtime.attempts.letters()
    causes, kinds = Counter(one.cause for one in every), Counter(one.function for one in every)
    cause = _filter("cause", request.query_params.get("cause"), {*causes, *FAILURE_CLASSES})
    kind = _filter("kind", request.query_params.get("kind"), {*kinds, *JOBS})
    found = _of_group(every, cause, kind)
    later = sorted(_before(found, request.query_params.get("after")), key=_place_of, reverse=True)
    shown = later[:_MOST]
    ids = {one.job_id: _recording_of(one) for one in shown}
    calls = await _calls(view_of(request), [recording_id for recording_id in ids.values() if recording_id is not None])
    letters = [
        Letter(
            one.job_id,
            one.function,
            one.cause,
            advice_of(one.cause),
            one.error,
            one.died_at,
            one.attempts,
            advised_for(one.cause),
            ids[one.job_id],
            calls.get(ids[one.job_id] or ""),
        )
        for one in shown
    ]
    after = letters[-1].name if len(later) > _MOST else None
    return Letters(len(every), letters, dict(Counter(one.cause for one in found)), dict(causes), dict(kinds), after)


def _place_of(letter: DeadLetter) -> tuple[str, str]:
    return letter.died_at, letter.job_id


def _before(letters: Sequence[DeadLetter], after: str | None) -> Sequence[DeadLetter]:
    """The letters that follow a place in the list, the latest of which come first."""
    if after is None:
        return letters
    if (place := _PLACE.fullmatch(after)) is None:
        raise UserError("after: not a value that a previous page returned")
    last = (place[1], unquote(place[2]))
    return [one for one in letters if _place_of(one) < last]


def what_of(function: str) -> str:
    """What a job does in words, by the name of its function."""
    return "delete original" if function == "schedule_again" else function.replace("_", " ")


def _filter(name: str, value: str | None, known: set[str]) -> str:
    value = (value or "").strip() or _ANY
    if value not in {_ANY, *known}:
        raise BadQuery(f"unknown {value[:40]!r}; expected one of {', '.join(sorted(known))}", name)
    return value


def _of_group(letters: Sequence[DeadLetter], cause: str, kind: str) -> list[DeadLetter]:
    return [one for one in letters if cause in (_ANY, one.cause) and kind in (_ANY, one.function)]


def _recording_of(letter: DeadLetter) -> str | None:
    """The id of the recording that a job is about, from its request or the folder in it."""
    payload: Any = letter.payload if isinstance(letter.payload, dict) else {}
    recording_id, folder = payload.get("recording_id"), payload.get("folder")
    if isinstance(recording_id, str):
        return recording_id
    place = layout.recording_of(layout.commit_key(folder)) if isinstance(folder, str) else None
    return None if place is None else place[1]


async def _calls(view: View, recording_ids: Sequence[str]) -> dict[str, Row]:
    """What the catalogue knows of some recordings; nothing while it cannot be asked, for the letters are shown anyway."""
    try:
        found = await view.of_ids(recording_ids) if recording_ids else {}
    except (StoreError, UserError):
        return {}
    return {recording_id: hit.row for recording_id, hit in found.items()}


async def retry(ops: Ops, form: dict[str, str]) -> str:
    """Enqueue a dead letter's job again, or all of them."""
    if form["id"] == _ANY:
        return await _all_of(ops, await ops.runtime.attempts.letters(), "retry")
    return f"{many(int(await ops.runtime.attempts.retry(form['id'])), 'job')} enqueued again"


async def discard(ops: Ops, form: dict[str, str]) -> str:
    """Drop a dead letter permanently, unless it is a newer one than the page showed."""
    done = await ops.runtime.attempts.discard(form["id"], form["died_at"])
    return f"{many(int(done), 'job')} discarded"


async def retry_group(ops: Ops, form: dict[str, str]) -> str:
    """Enqueue the jobs of a cause again, as far as the page showed them."""
    return await _all_of(ops, await _group(ops, form), "retry")


async def discard_group(ops: Ops, form: dict[str, str]) -> str:
    """Drop the dead letters of a cause permanently, as far as the page showed them."""
    return await _all_of(ops, await _group(ops, form), "discard")


async def retry_selected(ops: Ops, form: dict[str, str]) -> str:
    """Enqueue the jobs of several dead letters again."""
    return await _each(ops, _selected(form), "retry")


async def discard_selected(ops: Ops, form: dict[str, str]) -> str:
    """Drop several dead letters permanently."""
    return await _each(ops, _selected(form), "discard")


def _selected(form: dict[str, str]) -> dict[str, str]:
    """The dead letters that a form names, as `Letter.name` does: when each died, by job.

    Raises:
        UserError: one is not named so.
    """
    pairs = [name.partition("~") for name in form["ids"].split()]
    if not all(job_id for _, _, job_id in pairs):
        raise UserError("ids: not dead letters as the page names them; reload it")
    return {unquote(job_id): died_at for died_at, _, job_id in pairs}


async def _group(ops: Ops, form: dict[str, str]) -> list[DeadLetter]:
    """The dead letters of a cause and a kind of job that were there when the page was made."""
    every = await ops.runtime.attempts.letters()
    return [one for one in _of_group(every, form["cause"], form["kind"]) if one.died_at <= form["until"]]


async def _all_of(ops: Ops, letters: Sequence[DeadLetter], what: Advised) -> str:
    """Change some dead letters, the oldest 1,000 at once."""
    if not letters:
        raise UserError("these are no longer dead letters")
    some = {one.job_id: one.died_at for one in letters[:_MOST_OF_A_GROUP]}
    said = await _each(ops, some, what)
    left = len(letters) - len(some)
    return f"{said}; {many(left, 'more waits', 'more wait')}: do it again for these" if left else said


async def _each(ops: Ops, died_at: dict[str, str], what: Advised) -> str:
    attempts = ops.runtime.attempts

    async def one(job_id: str) -> str:
        is_done = await (attempts.retry(job_id) if what == "retry" else attempts.discard(job_id, died_at[job_id]))
        if not is_done:
            raise UserError("no longer this dead letter")
        return ""

    how = "enqueued again" if what == "retry" else "discarded"
    return await change_each(list(died_at), one, "job", how, _MOST_OF_A_GROUP)
