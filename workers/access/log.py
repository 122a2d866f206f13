"""Writes the access log: a line is durable before anything that it is about is shown or done.

Redis takes it, and a worker moves it into the archive (`move.py`). If Redis is away or full, this process writes an object into
the archive itself. If neither takes it, nothing is shown. Lines that come while others are being written go together, so
many people cost few round trips and few objects.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from redis.exceptions import RedisError

from archive.access import AccessLine, encode_line, new_key, put_lines
from archive.archive import Archive
from text.one_line import one_line
from workers.access.waiting import PLAY_SECONDS, NewLine, Standing, add_lines
from workers.queue.replicas import Replicas
from workers.queue.script import AsyncRedis

_MOST_AT_ONCE = 500
_MOST_WAITING = 10_000
_PUT_SECONDS = 60


class NotWritten(Exception):
    """The access log cannot be written, so nothing may be shown or done."""


class _Waiting(NamedTuple):
    line: NewLine
    done: asyncio.Future[Standing]


class AccessLog:
    """Writes lines; one per process.

    Args:
        redis: the client; None if this process has none.
        archive: gives the archive while Redis is away.
        archive_id: gives the id of the archive, empty while it is not known.
        replicas: the replicas that must confirm a line; None: the server alone is enough.
        collect_seconds: how long lines are collected for one object while Redis is away.
    """

    def __init__(
        self,
        redis: AsyncRedis | None,
        archive: Callable[[], Awaitable[Archive]],
        archive_id: Callable[[], str],
        replicas: Replicas | None = None,
        collect_seconds: float = 1.0,
    ) -> None:
        self._redis, self._archive, self._archive_id, self._replicas = redis, archive, archive_id, replicas
        self._collect_seconds = collect_seconds
        self._waiting: list[_Waiting] = []
        self._flusher: asyncio.Task[None] | None = None

    async def write(self, line: AccessLine, play: str = "") -> Standing:
        """Write a line; it is durable when this returns.

        Args:
            line: the line.
            play: the name of what it begins, such as a play: it is then written only if no line of the last hour began it.

        Returns:
            The line that stands for it.

        Raises:
            NotWritten: neither Redis nor the archive took it.
        """
        if len(self._waiting) >= _MOST_WAITING:
            raise NotWritten(f"{_MOST_WAITING} lines already wait for the access log; try again")
        done: asyncio.Future[Standing] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(NewLine(play, line.id, encode_line(line)), done))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return await done

    async def _flush(self) -> None:
        while self._waiting:
            began, batch = time.monotonic(), self._take()
            try:
                standing = await self._added([one.line for one in batch])
            except (RedisError, OSError) as refused:
                await asyncio.sleep(max(0.0, began + self._collect_seconds - time.monotonic()))
                batch += self._take(_MOST_AT_ONCE - len(batch))
                await self._put(batch, one_line(refused))
                continue
            except Exception as error:  # nobody may wait for ever
                self._fail(batch, NotWritten(f"the access log cannot be written: {type(error).__name__}: {error}"))
                continue
            for one, stands in zip(batch, standing, strict=True):
                _answer(one, stands)

    def _take(self, most: int = _MOST_AT_ONCE) -> list[_Waiting]:
        taken, self._waiting = self._waiting[:most], self._waiting[most:]
        return taken

    async def _added(self, lines: list[NewLine]) -> list[Standing]:
        if self._redis is None:
            raise OSError("this process has no Redis")
        return await add_lines(self._redis, self._archive_id(), lines, self._replicas)

    async def _put(self, batch: list[_Waiting], why: str) -> None:
        """Write an object, because Redis did not take the lines."""
        try:
            async with asyncio.timeout(_PUT_SECONDS):
                archive = await self._archive()
                await asyncio.to_thread(put_lines, archive, new_key(), [one.line.data for one in batch])
        except Exception as error:
            text = f"the access log cannot be written, and without it nothing is shown or done. Redis: {why}"
            self._fail(batch, NotWritten(f"{text}; the archive: {one_line(error)}"))
        else:
            for one in batch:
                _answer(one, Standing(one.line.id, PLAY_SECONDS))

    def _fail(self, batch: list[_Waiting], error: NotWritten) -> None:
        for one in batch:
            if not one.done.done():
                one.done.set_exception(error)


def _answer(one: _Waiting, stands: Standing) -> None:
    if not one.done.done():  # whoever asked may have gone
        one.done.set_result(stands)
