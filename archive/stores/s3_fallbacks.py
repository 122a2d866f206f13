"""Fallbacks for S3 endpoints that refuse some of our headers.

Stores refuse unknown headers with all kinds of answers, some of them about credentials. Healthy stores give the same
answers for a moment while a right, a token or a gateway changes, so one refusal proves nothing. The store switches to a
lower fallback only if it refuses a small write with the current one and takes the same write with the lower one, several
times in turn. After an hour it tries the first again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from archive.stores.s3_errors import BadDigest, NotUnderstood
from archive.stores.store import KeyExists, StoreError
from process.logs import get_logger

log = get_logger()

_AGAIN_SECONDS = 3600.0
_IN_VAIN_SECONDS = 30.0
_ROUNDS = 2


@dataclass(frozen=True)
class Fallback:
    """How a request asks for integrity and create-only.

    Attributes:
        name: the name in the log.
        checksums: send checksum headers.
        of_whole: complete a multipart upload with the checksum of all its bytes.
        md5: send `Content-MD5`.
        conditions: send `If-None-Match`.
    """

    name: str
    checksums: bool
    of_whole: bool
    md5: bool
    conditions: bool


FALLBACKS = (
    Fallback("checksums as headers", checksums=True, of_whole=True, md5=False, conditions=True),
    Fallback("checksums of parts, none of their whole", checksums=True, of_whole=False, md5=False, conditions=True),
    Fallback("the body's SHA-256 in the signature alone", checksums=False, of_whole=False, md5=False, conditions=True),
    Fallback("Content-MD5", checksums=False, of_whole=False, md5=True, conditions=True),
    Fallback("Content-MD5, and no conditions", checksums=False, of_whole=False, md5=True, conditions=False),
)


class ChosenFallback:
    """The fallback that one endpoint needs. Several threads use it.

    Args:
        store: the URL of the store, for the log.
        is_fixed: always use the first, as AWS understands every header.
    """

    def __init__(self, store: str, *, is_fixed: bool) -> None:
        self._store = store
        self._is_fixed = is_fixed
        self._index = 0
        self._learned = 0  # the last one that the store took; the next refusal reuses it without new probes
        self._until = 0.0
        self._in_vain_until = 0.0
        self._lock = Lock()

    @property
    def now(self) -> Fallback:
        """The fallback for the next request: the learned one, or after an hour the first again."""
        if self._index and time.monotonic() > self._until:
            self._index = 0
        return FALLBACKS[self._index]

    def send(self, send: Callable[[Fallback], None], ask: Callable[[Fallback], None]) -> Fallback:
        """Send a request with the current fallback; after a refusal, with one that the store is shown to understand.

        Args:
            send: sends the request with a fallback.
            ask: see `after`.

        Returns:
            The fallback with which the store took the request.
        """
        fallback = self.now
        for last in (False, False, True):
            try:
                send(fallback)
                break
            except NotUnderstood as error:
                if last:
                    raise
                fallback = self.after(fallback, error, ask)
        return fallback

    def after(self, refused: Fallback, error: StoreError, ask: Callable[[Fallback], None]) -> Fallback:
        """The fallback to retry with after a refusal.

        Args:
            refused: the fallback of the refused request.
            error: the refusal.
            ask: probes a fallback with a small write like the refused one.

        Returns:
            A lower fallback that the store takes while it refuses this one; or the same, if the store takes it now.

        Raises:
            StoreError: `error` if no lower fallback helps; or the store does not answer now.
        """
        if self._is_fixed:
            raise error
        with self._lock:
            first = FALLBACKS.index(refused)
            if self._index > first:
                return FALLBACKS[self._index]
            if time.monotonic() < self._in_vain_until:
                raise error
            if not _is_refused(ask, refused):
                return refused
            if self._learned > first:
                return self._take(self._learned, error)
            for index in range(first + 1, len(FALLBACKS)):
                if _is_shown(ask, refused, FALLBACKS[index]):
                    return self._take(index, error)
            self._in_vain_until = time.monotonic() + _IN_VAIN_SECONDS
        raise error

    def _take(self, index: int, error: StoreError) -> Fallback:
        if index != self._learned:
            log.warning("this store refuses some headers", store=self._store, now=FALLBACKS[index].name, why=str(error))
        self._index = self._learned = index
        self._until = time.monotonic() + _AGAIN_SECONDS
        return FALLBACKS[index]


def _is_shown(ask: Callable[[Fallback], None], refused: Fallback, lower: Fallback) -> bool:
    """Whether the store takes the lower fallback and still refuses the other right after, each time."""
    return all(not _is_refused(ask, lower) and _is_refused(ask, refused) for _ in range(_ROUNDS))


def _is_refused(ask: Callable[[Fallback], None], fallback: Fallback) -> bool:
    try:
        ask(fallback)
    except (NotUnderstood, BadDigest):
        return True
    except KeyExists:
        pass
    return False
