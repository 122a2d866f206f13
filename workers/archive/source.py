"""A stream of bytes on its way into a store: hashed once, looked at by whoever asked to, cut into parts on demand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator


class Source:
    """The bytes of one object. A store draws its `chunks` or `parts` to the end; then size and digest are known.

    Args:
        chunks: the bytes, in order; or all of them, where they are in memory already.
        observers: called with each chunk as it passes; what they raise ends the upload.
    """

    def __init__(
        self,
        chunks: Iterator[bytes] | bytes,
        observers: tuple[Callable[[bytes], object], ...] = (),
    ) -> None:
        self.is_in_memory = isinstance(chunks, bytes)
        self._chunks = iter((chunks,)) if isinstance(chunks, bytes) else chunks
        self._observers = observers
        self._sha256 = hashlib.sha256()
        self._stream = self.chunks()
        self._rest = b""
        self.size = 0

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of what has passed so far."""
        return self._sha256.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """The bytes as they come, hashed and observed."""
        for chunk in self._chunks:
            self._sha256.update(chunk)
            self.size += len(chunk)
            for observe in self._observers:
                observe(chunk)
            yield chunk

    def part(self, size: int) -> bytes:
        """The next bytes, exactly `size` of them unless the end comes before."""
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
        """Take what is left, for its digest alone."""
        for _ in self.chunks():
            pass
