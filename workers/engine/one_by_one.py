"""Do one thing after the other; one that fails does not stop the others."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from process.logs import get_logger

log = get_logger()

_MOST_IN_A_ROW = 3  # then it is asked whether it is the fault of single things
_PATIENCE_SECONDS = 600.0  # that failing things of a kind may take in all, each with its retries


@dataclass(frozen=True)
class Failure:
    """The failure of one thing.

    Attributes:
        kind: what sort of thing, such as `recordings`.
        name: which of them.
    """

    kind: str
    name: str
    error: Exception


class OneByOne:
    """Remembers failures and continues, unless the service behind the things is down.

    Where three of a kind fail in a row, something is asked that works whatever single things are like. If it works, they have
    failed alone, and the next is tried; if not, or after ten minutes of failures, no other of the kind is worth a try.

    Args:
        errors: those that may be of one thing alone; any other ends everything.
        answers: what is asked then, about a kind; raises if it is away.

    Attributes:
        failed: what has failed.
    """

    def __init__(self, *errors: type[Exception], answers: Callable[[str], Awaitable[object]]) -> None:
        self._errors = errors
        self._answers = answers
        self.failed: list[Failure] = []
        self._in_a_row: Counter[str] = Counter()
        self._seconds = defaultdict[str, float](float)  # of what failed
        self._away: set[str] = set()
        self._done = 0

    @asynccontextmanager
    async def of(self, kind: str, name: str, *, must: bool = True) -> AsyncIterator[None]:
        """Wrap the work on one thing.

        Args:
            kind: what sort of thing.
            name: which.
            must: whether everything ends where what is behind this kind is away.

        Raises:
            Exception: the error of the last one then; or one that is no fault of this thing.
        """
        began = time.monotonic()
        try:
            yield
        except self._errors as error:
            self.failed.append(Failure(kind, name, error))
            self._in_a_row[kind] += 1
            self._seconds[kind] += time.monotonic() - began
            log.warning("skipped after an error", kind=kind, name=name, error=f"{type(error).__name__}: {error}")
            if self._in_a_row[kind] >= _MOST_IN_A_ROW:
                await self._look_behind(kind)
            if must and not self.is_worth_it(kind):
                raise
        else:
            self._in_a_row[kind] = 0
            self._done += 1

    async def _look_behind(self, kind: str) -> None:
        """Check whether the service behind a kind answers, though the last things of it have failed."""
        self._in_a_row[kind] = 0
        if self._seconds[kind] >= _PATIENCE_SECONDS:
            self._away.add(kind)
            return
        try:
            await self._answers(kind)
        except Exception as error:
            log.warning("the rest of this kind is skipped", kind=kind, error=f"{type(error).__name__}: {error}")
            self._away.add(kind)

    def is_worth_it(self, kind: str) -> bool:
        """Whether another thing of a kind is worth a try: the service behind it is not known to be down."""
        return kind not in self._away

    def raise_if_nothing_was_done(self) -> None:
        """Raise the first error if nothing at all has worked."""
        if not self._done:
            self.raise_the_first()

    def raise_the_first(self) -> None:
        """Raise the first error, if there is any; the rest is done by now."""
        if self.failed:
            raise self.failed[0].error
