"""A stream of bytes on its way into a store: hashed once, looked at by whoever asked to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator


class Source:
    """The bytes of one object. A store draws its `chunks` to the end; then size and digest are known.

    Args:
        chunks: the bytes, in order.
        observers: called with each chunk as it passes; what they raise ends the upload.
    """

    def __init__(
        self,
        chunks: Iterator[bytes],
        observers: tuple[Callable[[bytes], object], ...] = (),
    ) -> None:
        self._chunks = chunks
        self._observers = observers
        self._sha256 = hashlib.sha256()
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

    def drain(self) -> None:
        """Take what is left, for its digest alone."""
        for _ in self.chunks():
            pass
