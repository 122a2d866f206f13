"""Turns what writes bytes into what is read: a function writes in a thread of its own, and the reader gets the bytes in order."""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PIECE_BYTES = 256 * 1024
_PIECES_AHEAD = 8
_LOOK_SECONDS = 0.2


class ReaderGone(Exception):
    """Nobody reads the bytes any more, so that the writer ends."""


class _Pipe(io.RawIOBase):
    """The writer's end."""

    def __init__(self) -> None:
        self.pieces: queue.Queue[bytes | BaseException | None] = queue.Queue(_PIECES_AHEAD)
        self.is_closed_by_reader = threading.Event()
        self.is_over = False  # what is written now, when a failed writer's file is closed, goes nowhere

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        piece = bytes(data)
        if not self.is_over:
            self.hand_over(piece)
        return len(piece)

    def hand_over(self, piece: bytes | BaseException | None) -> None:
        """Wait until there is room for a piece, for an error, or for the end.

        Raises:
            ReaderGone: nobody reads any more.
        """
        while not self.is_closed_by_reader.is_set():
            with suppress(queue.Full):
                self.pieces.put(piece, timeout=_LOOK_SECONDS)
                return
        raise ReaderGone


def streamed(write: Callable[[BinaryIO], object]) -> Generator[bytes]:
    """The bytes that a function writes into a file.

    The function runs once the first byte is asked for. What it raises is raised in place of the rest; if the reader closes
    this, its next write raises `ReaderGone`, and it has ended when this is closed.
    """
    pipe = _Pipe()

    def run() -> None:
        end: BaseException | None = None
        file = io.BufferedWriter(pipe, _PIECE_BYTES)
        try:
            write(file)
            file.flush()
        except BaseException as error:
            end = error
        pipe.is_over = True
        with suppress(ReaderGone):
            pipe.hand_over(end)

    thread = threading.Thread(target=run, name="callvault-stream", daemon=True)
    thread.start()
    try:
        while (piece := pipe.pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        pipe.is_closed_by_reader.set()
        thread.join()


class Readable(io.RawIOBase):
    """A file that reads from an iterator.

    Attributes:
        error: what the iterator raised: whoever reads a file may hide it behind an error of its own.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""
        self.error: Exception | None = None

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, room: Buffer) -> int:
        """Read some bytes; 0 at the end."""
        try:
            while not self._rest:
                self._rest = next(self._chunks)
        except StopIteration:
            return 0
        except Exception as error:
            self.error = error
            raise
        view = memoryview(room)
        piece, self._rest = self._rest[: len(view)], self._rest[len(view) :]
        view[: len(piece)] = piece
        return len(piece)
