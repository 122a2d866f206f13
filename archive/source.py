"""A stream of bytes on its way into a store: hashed once, shown to observers, cut into parts on demand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime


class Source:
    """The hashed stream of one object. Its size and digest are known once a store has read it to the end.

    Args:
        chunks: the bytes in order, or all of them if they are in memory already.
        observers: called with each chunk; an exception of theirs ends the upload.
        locked_until: until when the object should be locked, UTC; None: the options of the store decide alone.

    Attributes:
        is_free: the answer to `Store.ask_free` about its key, if it was asked for a moment ago.
        meanwhile: to be run after the write, while the store is asked what it holds; it raises nothing.
    """

    def __init__(
        self,
        chunks: Iterator[bytes] | bytes,
        observers: tuple[Callable[[bytes], object], ...] = (),
        locked_until: datetime | None = None,
    ) -> None:
        self.locked_until = locked_until
        self.is_in_memory = isinstance(chunks, bytes)
        self._chunks = iter((chunks,)) if isinstance(chunks, bytes) else chunks
        self._observers = observers
        self._sha256 = hashlib.sha256()
        self._stream = self.chunks()
        self._rest = b""
        self.size = 0
        self.is_free: Callable[[], object] | None = None
        self.meanwhile: Callable[[], object] | None = None

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the bytes read so far."""
        return self._sha256.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """The bytes, hashed and shown to the observers."""
        for chunk in self._chunks:
            self._sha256.update(chunk)
            self.size += len(chunk)
            for observe in self._observers:
                observe(chunk)
            yield chunk

    def part(self, size: int) -> bytes:
        """The next `size` bytes, or fewer at the end."""
        pieces: list[bytes] = []
        length = len(self._rest)
        if self._rest:
            pieces.append(self._rest)
            self._rest = b""
        while length < size:
            chunk = next(self._stream, None)
            if chunk is None:
                break
            pieces.append(chunk)
            length += len(chunk)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if length > size:
            self._rest = data[size:]
            data = data[:size]
        return data

    def drain(self) -> None:
        """Read the rest for its digest."""
        for _ in self.chunks():
            pass
