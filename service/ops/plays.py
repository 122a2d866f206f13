"""Plays and downloads: one line of the access log when the first byte is asked for, and one with how much was sent.

A browser asks for audio in many ranges. All that a person asks of a recording within an hour is one play, at whichever
receiver: Redis remembers the line that began it. How much was sent is written once no more is asked for.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from archive.access import AccessLine, new_line
from process.logs import get_logger
from process.tasks import end_tasks
from service.ops.accesses import Said, line_of
from service.ops.person import Person
from workers.access.log import AccessLog, NotWritten

_QUIET_SECONDS = 60.0  # after the last byte, a play counts as paused or over
_LOOK_SECONDS = 5.0
_MOST_KNOWN = 10_000

log = get_logger()


@dataclass
class _Play:
    """A play in this process.

    Attributes:
        line: as this process would have begun it; `line_id`: the line that stands for it.
        until: when the next byte begins another play, by the monotonic clock.
        bytes_per_second: of the audio.
        sent: bytes since the last line about it.
        running: answers that are being sent.
        last: when a byte was sent last.
    """

    line: AccessLine
    line_id: str
    until: float
    bytes_per_second: float
    sent: int = 0
    running: int = 0
    last: float = field(default_factory=time.monotonic)


class Plays:
    """The plays of one process.

    Args:
        log: takes the lines.
        quiet_seconds: after how long without a byte the sent bytes are written.
    """

    def __init__(self, log: AccessLog, quiet_seconds: float = _QUIET_SECONDS) -> None:
        self._log, self._quiet_seconds = log, quiet_seconds
        self._known: dict[str, _Play] = {}
        self._beginning: dict[str, asyncio.Task[_Play]] = {}
        self._watching: asyncio.Task[None] | None = None

    async def begin(self, request: Request, person: Person, said: Said, response: Response) -> None:
        """Write the line of a play, unless one stands; count what the answer sends.

        Args:
            request: asks for audio; its `state.bytes_per_second` is how fast the audio runs.
            person: who asks.
            said: what the line says.
            response: sends the audio, and has not begun to.

        Raises:
            NotWritten: the answer must not be sent.
        """
        line = line_of(request, person, said)
        is_once = said.what == "download" and "range" not in request.headers
        name = hashlib.sha256(
            repr(
                (
                    *(line.who, line.how, line.subject, line.address, line.what, *said.recordings),
                    *(said.of_audio, said.why, said.about),
                )
            ).encode()
        ).hexdigest()[:32]
        key = line.id if is_once else name
        play = self._known.get(key)
        if play is None or time.monotonic() >= play.until:
            if (beginning := self._beginning.get(key)) is None:  # browsers ask for two ranges at once
                begun = self._begun(key, line, "" if is_once else name, request.state.bytes_per_second)
                beginning = self._beginning[key] = asyncio.create_task(begun)
                beginning.add_done_callback(lambda _: self._beginning.pop(key, None))
            play = await asyncio.shield(beginning)
        play.last = time.monotonic()
        if isinstance(response, StreamingResponse):
            response.body_iterator = self._counted(play, response.body_iterator)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())

    async def _begun(self, key: str, line: AccessLine, name: str, bytes_per_second: float) -> _Play:
        """Write the line of a play, unless one stands, and know it from now on; raises as `begin`."""
        stands = await self._log.write(line, name)
        if (before := self._known.get(key)) is not None:  # it may still be sending
            self._known[f"{before.line_id} until {before.until}"] = before
        play = self._known[key] = _Play(line, stands.id, time.monotonic() + stands.seconds, bytes_per_second)
        return play

    async def _counted(self, play: _Play, chunks: AsyncIterable[Any]) -> AsyncIterator[bytes]:
        play.running += 1
        try:
            async for chunk in chunks:
                play.sent += len(chunk)
                play.last = time.monotonic()
                yield chunk
        finally:
            play.running -= 1
            play.last = time.monotonic()
            if (close := getattr(chunks, "aclose", None)) is not None:
                await close()  # so that the connection of the store is closed at once

    async def _watch(self) -> None:
        """Write what was sent once a play is quiet, until no play is known."""
        while self._known:
            await asyncio.sleep(min(_LOOK_SECONDS, self._quiet_seconds))
            now = time.monotonic()
            for key, play in [*self._known.items()]:
                if not self._is_quiet(play, now) or not await self._write_sent(play):
                    continue
                is_over = now >= play.until or len(self._known) > _MOST_KNOWN
                if is_over and self._is_quiet(play, now):  # nobody has gone on meanwhile
                    self._known.pop(key, None)

    def _is_quiet(self, play: _Play, now: float) -> bool:
        return not play.running and now - play.last >= self._quiet_seconds

    async def _write_sent(self, play: _Play) -> bool:
        """Write how much was sent since the last such line; returns False if it has to be tried again."""
        sent, play.sent = play.sent, 0
        if not sent:
            return True
        begun = play.line
        seconds = round(sent / play.bytes_per_second, 1) if play.bytes_per_second else None
        line = new_line(
            "sent",
            begun.who,
            begun.how,
            begun.address,
            begun.recordings,
            of=play.line_id,
            bytes=sent,
            seconds=seconds,
        )
        try:
            await self._log.write(line)
        except NotWritten:
            play.sent += sent
            return False
        return True

    async def close(self) -> None:
        """Write what was sent of all plays."""
        if self._watching is not None:
            await end_tasks([self._watching])
        for play in self._known.values():
            if not await self._write_sent(play):
                log.warning("how much of a play was sent is not in the access log", recordings=play.line.recordings)
                return
