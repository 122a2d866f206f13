"""One thing after the other, where one that fails keeps no other back."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from config.logs import get_logger

log = get_logger()

_MOST_IN_A_ROW = 3  # then it is no fault of single things


@dataclass(frozen=True)
class Failure:
    """What failed of one thing.

    Attributes:
        kind: what sort of thing, such as `recordings`.
        name: which of them.
    """

    kind: str
    name: str
    error: Exception


class OneByOne:
    """Remembers what fails, and goes on; where three of a kind fail in a row, what is behind them is away.

    Args:
        errors: those that may be of one thing alone; any other ends everything.

    Attributes:
        failed: what has failed.
    """

    def __init__(self, *errors: type[Exception]) -> None:
        self._errors = errors
        self.failed: list[Failure] = []
        self._in_a_row: Counter[str] = Counter()
        self._done = 0

    @asynccontextmanager
    async def of(self, kind: str, name: str, *, must: bool = True) -> AsyncIterator[None]:
        """Around the work on one thing.

        Args:
            kind: what sort of thing.
            name: which.
            must: whether three failures in a row of this kind end everything.

        Raises:
            Exception: the error of the third in a row; or one that is no fault of this thing.
        """
        try:
            yield
        except self._errors as error:
            self.failed.append(Failure(kind, name, error))
            self._in_a_row[kind] += 1
            log.warning("passed over", kind=kind, name=name, error=f"{type(error).__name__}: {error}")
            if must and not self.is_worth_it(kind):
                raise
        else:
            self._in_a_row[kind] = 0
            self._done += 1

    def is_worth_it(self, kind: str) -> bool:
        """Whether the last things of a kind have not all failed."""
        return self._in_a_row[kind] < _MOST_IN_A_ROW

    def raise_if_nothing_was_done(self) -> None:
        """Raise the first error where nothing at all has worked."""
        if not self._done:
            self.raise_the_first()

    def raise_the_first(self) -> None:
        """Raise the first error, if there is any: all the rest is done."""
        if self.failed:
            raise self.failed[0].error
