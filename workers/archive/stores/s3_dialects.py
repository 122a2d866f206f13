"""What an endpoint that speaks S3 understands of our headers: learned by contrast, and asked again.

Stores refuse headers that they do not know with all kinds of answers, some of them about credentials; and healthy stores give
the same answers for a moment while a right, a token or a gateway changes. So one refusal teaches nothing. A dialect is given
up for a lower one only where a small write in it is refused and the same write in the lower one is taken, again and again in
turn; and after an hour it is tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from config.logs import get_logger
from workers.archive.stores.s3_errors import BadDigest, NotUnderstood
from workers.archive.stores.store import KeyExists, StoreError

log = get_logger()

_AGAIN_SECONDS = 3600.0
_IN_VAIN_SECONDS = 30.0
_ROUNDS = 2


@dataclass(frozen=True)
class Dialect:
    """How integrity and create-only are asked for.

    Attributes:
        name: for the log.
        checksums: as headers.
        of_whole: whether an upload in parts is completed by the checksum of all its bytes.
        md5: as `Content-MD5`.
        conditions: `If-None-Match`.
    """

    name: str
    checksums: bool
    of_whole: bool
    md5: bool
    conditions: bool


DIALECTS = (
    Dialect("checksums as headers", checksums=True, of_whole=True, md5=False, conditions=True),
    Dialect("checksums of parts, none of their whole", checksums=True, of_whole=False, md5=False, conditions=True),
    Dialect("the body's SHA-256 in the signature alone", checksums=False, of_whole=False, md5=False, conditions=True),
    Dialect("Content-MD5", checksums=False, of_whole=False, md5=True, conditions=True),
    Dialect("Content-MD5, and no conditions", checksums=False, of_whole=False, md5=True, conditions=False),
)


class SpokenDialect:
    """The dialect that is spoken with one endpoint; used from several threads.

    Args:
        store: its URL, for the log.
        is_fixed: whether the first is always right (AWS), so that a refusal is one.
    """

    def __init__(self, store: str, *, is_fixed: bool) -> None:
        self._store = store
        self._is_fixed = is_fixed
        self._index = 0
        self._learned = 0  # the last one that was shown, taken again at the next refusal without new writes in it
        self._until = 0.0
        self._in_vain_until = 0.0
        self._lock = Lock()

    @property
    def now(self) -> Dialect:
        """What to say next: the one that was learned, or after an hour the first again."""
        if self._index and time.monotonic() > self._until:
            self._index = 0
        return DIALECTS[self._index]

    def send(self, send: Callable[[Dialect], None], ask: Callable[[Dialect], None]) -> Dialect:
        """Send in the dialect that is spoken; after a refusal, in the one that the store is shown to understand.

        Args:
            send: sends in a dialect.
            ask: see `after`.

        Returns:
            The dialect in which it was taken.
        """
        dialect = self.now
        for last in (False, False, True):
            try:
                send(dialect)
                break
            except NotUnderstood as error:
                if last:
                    raise
                dialect = self.after(dialect, error, ask)
        return dialect

    def after(self, refused: Dialect, error: StoreError, ask: Callable[[Dialect], None]) -> Dialect:
        """The dialect to try again in, after a refusal.

        Args:
            refused: the dialect that was spoken.
            error: the answer.
            ask: makes a write like the refused one, of a few bytes, in a dialect.

        Returns:
            A lower one that has been shown to be understood where this is not; or the same, if the store takes it now.

        Raises:
            StoreError: `error`, if no lower one helps; or that the store cannot be asked now.
        """
        if self._is_fixed:
            raise error
        with self._lock:
            first = DIALECTS.index(refused)
            if self._index > first:
                return DIALECTS[self._index]
            if time.monotonic() < self._in_vain_until:
                raise error
            if not _is_refused(ask, refused):
                return refused
            if self._learned > first:
                return self._take(self._learned, error)
            for index in range(first + 1, len(DIALECTS)):
                if _is_shown(ask, refused, DIALECTS[index]):
                    return self._take(index, error)
            self._in_vain_until = time.monotonic() + _IN_VAIN_SECONDS
        raise error

    def _take(self, index: int, error: StoreError) -> Dialect:
        if index != self._learned:
            log.warning("this store refuses some headers", store=self._store, now=DIALECTS[index].name, why=str(error))
        self._index = self._learned = index
        self._until = time.monotonic() + _AGAIN_SECONDS
        return DIALECTS[index]


def _is_shown(ask: Callable[[Dialect], None], refused: Dialect, lower: Dialect) -> bool:
    """Whether the lower dialect is taken, and the other is still refused right after, each time."""
    return all(not _is_refused(ask, lower) and _is_refused(ask, refused) for _ in range(_ROUNDS))


def _is_refused(ask: Callable[[Dialect], None], dialect: Dialect) -> bool:
    try:
        ask(dialect)
    except (NotUnderstood, BadDigest):
        return True
    except KeyExists:
        pass
    return False
