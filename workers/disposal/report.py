"""The result of a run of disposal, and who hears of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from process.logs import get_logger
from text.counts import many
from workers.disposal.stop import Stop
from workers.keys import DISPOSAL_REPORTED
from workers.runtime import Runtime

log = get_logger()

# The kinds of which a person hears, once for each.
_REPORTED = ("locked", "original", "custom-storage", "damaged", "undone")


class Gone(msgspec.Struct, frozen=True):
    """What was disposed of, or would be.

    Attributes:
        recording_id: its id.
        rule: the rule, and rules_number: of the applied rules that have it.
        goes: the parts.
        keeps_record: whether the commit record stays.
        objects: how many; `size_bytes`: of all of them.
    """

    recording_id: str
    rule: str
    rules_number: int
    goes: Sequence[str]
    keeps_record: bool
    objects: int
    size_bytes: int


class Left(msgspec.Struct, frozen=True):
    """A recording past its term that stays.

    Attributes:
        recording_id: its id.
        kind: as in `Kept`.
        why: one line.
    """

    recording_id: str
    kind: str
    why: str


@dataclass
class Report:
    """The result of a run.

    Attributes:
        gone: what was disposed of; in a dry run, what would be.
        left: what is past its term and stays.
        past_term: how many recordings were found to be past a term.
        of: how many recordings the looked-at archive has.
        stop: why nothing goes without an approval; None: it may go.
        stopped: why the run ended early; None: it did not. is_meant: whether that is as somebody wants it.
    """

    gone: list[Gone] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    past_term: int = 0
    of: int = 0
    stop: Stop | None = None
    stopped: str | None = None
    is_meant: bool = False


async def tell(runtime: Runtime, report: Report) -> None:
    """Log what a run did, and alert about what is new.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    if report.stop is not None:
        text = f"Disposal stopped itself: {report.stop.sentence}."
        advice = "Check the rules and the list (`callvault retention dispose --dry-run`); if all of it may go, run "
        await runtime.alerts.send(
            "disposal-stopped", report.stop.id, text, f'{advice}`callvault retention approve --why "..."`.'
        )
    if report.gone or report.left:
        kept = dict(Counter(one.kind for one in report.left))
        recordings = len({one.recording_id for one in report.gone})
        log.info("disposal run", recordings=recordings, kept=kept, stopped=report.stopped or "")
    for kind in _REPORTED:
        await _tell_once(runtime, kind, [one for one in report.left if one.kind == kind])


async def _tell_once(runtime: Runtime, kind: str, left: Sequence[Left]) -> None:
    """Alert about recordings that stay, if no alert named them before."""
    new = [one for one in left if await runtime.redis.sadd(DISPOSAL_REPORTED, f"{kind} {one.recording_id}")]
    if new:
        which = many(len(new), "recording is past its term and stays", "recordings are past their terms and stay")
        text = f"{which}: {new[0].recording_id}: {new[0].why}."
        advice = "`callvault retention dispose --dry-run` lists all of them. Each goes as soon as nothing keeps it."
        await runtime.alerts.send("disposal-kept", kind, text, advice)
