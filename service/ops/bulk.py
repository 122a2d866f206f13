"""Change several things at once: a few at a time, with an answer that names those that could not be changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError

from archive.records import UnreadableRecord
from archive.stores.store import StoreError
from text.counts import many
from text.errors import UserError
from text.one_line import one_line

MOST_AT_ONCE = 200  # of one request: more than a page shows, and what a proxy waits for
_AT_ONCE = 8
_MOST_NAMED = 10


class PartlyDone(UserError):
    """A change was made for some of several. The text names the others, and how many were changed."""


@dataclass(frozen=True)
class Shared:
    """The answer to a change that makes an address: `text` is logged, and the address, which is a secret, is not.

    Attributes:
        text: one line for the person.
        address: its path.
    """

    text: str
    address: str


def assert_few(names: Sequence[str], noun: str, most: int = MOST_AT_ONCE) -> None:
    """Check that a person has not selected more than one request takes.

    Raises:
        UserError: there are too many.
    """
    if len(names) > most:
        raise UserError(f"{many(len(names), noun)} selected; select {most} at most at once")


async def change_each(
    names: Sequence[str], change: Callable[[str], Awaitable[str]], noun: str, how: str, most: int = MOST_AT_ONCE
) -> str:
    """Make one change for each of some things.

    Args:
        names: of the things, such as ids of recordings.
        change: changes one; returns what a person must know of it, empty if nothing.
        noun: what they are, such as `recording`.
        how: what they are afterwards, such as `on hold`.
        most: how many there may be.

    Returns:
        How many were changed, and what there is to know of each, the same once.

    Raises:
        PartlyDone: it was not possible for some.
        UserError: it was possible for none, and the text says why; or there are too many.
    """
    assert_few(names, noun, most)
    at_once = asyncio.Semaphore(_AT_ONCE)
    notes: dict[str, list[str]] = {}  # names, by what there is to know of them
    failed: list[str] = []

    async def one(name: str) -> None:
        async with at_once:
            try:
                note = await change(name)
            except (UserError, StoreError, UnreadableRecord, RedisError, OSError) as error:
                failed.append(f"{name}: {one_line(error)}")
                return
        if note:
            notes.setdefault(note, []).append(name)

    await asyncio.gather(*map(one, names))
    count = len(names) - len(failed)
    done = f"{many(count, noun)} {'is' if count == 1 else 'are'} {how}"
    known = "".join(f"; {note}" if len(of) == count else f"; {_some(of, ', ')}: {note}" for note, of in notes.items())
    if failed:
        line = f"{done}, {len(failed)} not: {_some(failed, '; ')}{known}"
        raise PartlyDone(line) if count else UserError(line)
    return done + known


def named(ids: Sequence[str]) -> str:
    """Some ids for a person, the first ten by name."""
    return _some(ids, ", ")


def _some(texts: Sequence[str], between: str) -> str:
    more = len(texts) - _MOST_NAMED
    return between.join(texts[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
