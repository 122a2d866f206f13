"""THE table of failure classes: why jobs fail, and what follows. `failing.py` finds the class of an error.

To add one: a row here, and its errors there. `docs/dead-letters.md` is made from the table.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from text.times import parse_instant
from workers.engine.attempts import Attempt

Advised = Literal["retry", "discard"]


class NotYet(Exception):
    """Telnyx does not know the recording yet; a webhook can arrive before the API shows it."""


class NotFinished(Exception):
    """Telnyx lists the recording, but does not give its audio yet."""


class InProgress(Exception):
    """Telnyx is still making the transcription."""


@dataclass(frozen=True)
class FailureClass:
    """A row of the table.

    Attributes:
        name: as dead letters and metrics call it.
        tries: attempts before the job is given up; None: only `give_up_seconds` ends it, if that is set.
        give_up_seconds: of failing in this class without a break; None: never by time.
        first_wait_seconds: before the second attempt; doubles from there.
        longest_wait_seconds: what it grows to.
        advice: what a person does about a dead letter of this class.
        quiet_seconds: how long jobs may fail in this class before anybody is alerted.
        stays: whether it needs a person; reconcile retries the dead letters of the other classes.
        advised: what a person does with its dead letter in the end.
    """

    name: str
    tries: int | None
    give_up_seconds: float | None
    first_wait_seconds: float
    longest_wait_seconds: float
    advice: str
    quiet_seconds: float = 0.0
    stays: bool = False
    advised: Advised = "retry"

    @property
    def is_never_given_up(self) -> bool:
        """Whether such jobs are retried for ever, and never become dead letters."""
        return self.tries is None and self.give_up_seconds is None

    def wait_seconds(self, attempts: int) -> float:
        """The wait after so many failed attempts: exponential, with a random part of up to half."""
        longest = min(self.longest_wait_seconds, self.first_wait_seconds * 2.0 ** min(attempts - 1, 30))
        return longest * random.uniform(0.5, 1)  # noqa: S311

    def of(self, attempts: Sequence[Attempt]) -> tuple[int, float]:
        """How many attempts of a job, oldest first, failed in this class, and for how many seconds without a break.

        The time between two attempts counts only if both failed in this class: during an outage Telnyx answered nothing
        about the recording.
        """
        same = sum(attempt.cause == self.name for attempt in attempts)
        pairs = [pair for pair in itertools.pairwise(attempts) if {one.cause for one in pair} == {self.name}]
        return same, sum((parse_instant(b.at) - parse_instant(a.at)).total_seconds() for a, b in pairs)

    def is_final(self, attempts: int, seconds: float) -> bool:
        """Whether a job that failed so often and for so long is given up."""
        if self.tries is not None and attempts >= self.tries:
            return True
        return self.give_up_seconds is not None and seconds >= self.give_up_seconds


FAILURE_CLASSES = {
    cause.name: cause
    for cause in (
        FailureClass(
            "not-there-yet",
            None,
            600,
            1,
            60,
            "Telnyx does not have it: deleted, or of another account. Discard.",
            advised="discard",
        ),
        FailureClass(
            "not-yet",
            None,
            None,
            2,
            3600,
            "Telnyx lists the recording but has no audio for it yet. The job retries by itself. If the call ended long ago, "
            "ask Telnyx support.",
            quiet_seconds=86_400,
        ),
        FailureClass(
            "in-progress", None, 86_400, 2, 1800, "Telnyx never finished the transcription. Ask Telnyx support."
        ),
        FailureClass("throttled", None, None, 2, 60, "Telnyx limits the account. The job retries by itself."),
        FailureClass(
            "outage",
            None,
            None,
            1,
            60,
            "Telnyx, its download host, Redis or the store is down or sends almost nothing. The job retries by itself.",
        ),
        FailureClass(
            "refused", None, None, 5, 300, "A key or permission is missing. Fix it; the job retries by itself."
        ),
        FailureClass(
            "cold",
            None,
            None,
            60,
            3600,
            "An object is in cold storage and must be restored before it can be read (docs/stores.md). The job retries by "
            "itself.",
            quiet_seconds=86_400,
        ),
        FailureClass("download", 8, None, 1, 60, "The download is never complete. Read the attempts, then retry."),
        FailureClass("not-audio", 4, None, 2, 60, "Telnyx sends an error page or text, not audio. Ask Telnyx support."),
        FailureClass(
            "forbidden-address",
            3,
            None,
            5,
            60,
            "Callvault does not fetch this download address: it is plain http, or not on the public internet. Read the error, "
            "and check how its host name resolves.",
        ),
        FailureClass(
            "rejected",
            1,
            None,
            0,
            0,
            "Telnyx rejects the request. Read the error; a retry alone does not help.",
            stays=True,
        ),
        FailureClass(
            "conflict",
            1,
            None,
            0,
            0,
            "The archive holds something else under this key. Compare the two before you retry.",
            stays=True,
        ),
        FailureClass(
            "damaged",
            1,
            None,
            0,
            0,
            "The archive does not hold the bytes that were sent. The error names the key. Fix the store.",
            stays=True,
        ),
        FailureClass(
            "not-deleted",
            10,
            None,
            10,
            3600,
            "Telnyx does not delete the original. Read the error, ask Telnyx support, then retry.",
            stays=True,
        ),
        FailureClass(
            "unexpected", 6, None, 1, 120, "Callvault has a bug, or an answer was unexpected. Report it, then retry."
        ),
    )
}


def may_have_passed(name: str) -> bool:
    """Whether a job that was given up in this class may succeed by now; False for a class of another version."""
    return name in FAILURE_CLASSES and not FAILURE_CLASSES[name].stays


def advice_of(name: str) -> str:
    """What to do about a dead letter of a class; empty for a class of another version."""
    return FAILURE_CLASSES[name].advice if name in FAILURE_CLASSES else ""


def advised_for(name: str) -> Advised:
    """What a person does in the end with a dead letter of a class; a retry for a class of another version."""
    return FAILURE_CLASSES[name].advised if name in FAILURE_CLASSES else "retry"
