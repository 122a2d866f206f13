"""The result of a decision about originals, and what a person must know about it."""

from __future__ import annotations

from dataclasses import dataclass

NOWHERE = "neither the archive nor Telnyx (with this API key) has this recording; check the id"
NO_REASON = "no reason given"  # of a pause or its end, where a person may leave it out
_MOST_NAMED = 10
_NOT_TOLD = "; Redis does not answer, so pages may show it as before. It is recorded: nobody needs to decide it again"
_NOT_SCHEDULED = (
    "; Redis does not answer, so the first reconcile after it answers schedules the deletion. Until then, pages may show it as "
    "before. It is recorded: nobody needs to decide it again"
)
_ONCE_FREE = "a worker deletes its original when it is due, unless something else keeps it"


@dataclass(frozen=True)
class Decided:
    """The result of a decision.

    Attributes:
        is_new: whether it was written now; False if it was in force already.
        left: ids of the recordings whose original was deleted before.
        under_way: ids of recordings whose deletion was sent before, and has no known result yet.
        transcriptions: ids of recordings that stay, with a transcription whose deletion was sent before.
        had_gone: why an original was already gone, as the end of that sentence; None if it is there or unknown.
        erased: the erasure or disposal of the recording, such as `erased at …`; None without one.
        is_nowhere: whether neither Telnyx nor the archive has the recording.
        unknown: a line for each look-up that failed, with the reason; the decision is in force anyway.
    """

    is_new: bool = True
    left: tuple[str, ...] = ()
    under_way: tuple[str, ...] = ()
    transcriptions: tuple[str, ...] = ()
    had_gone: str | None = None
    erased: str | None = None
    is_nowhere: bool = False
    unknown: tuple[str, ...] = ()

    @property
    def came_too_late(self) -> bool:
        """Whether the decision came after a deletion that it would have prevented."""
        return bool(self.left or self.under_way or self.transcriptions or self.erased)

    @property
    def is_as_meant(self) -> bool:
        """Whether everything that it concerns exists and stays, as far as is known."""
        return not (self.came_too_late or self.is_nowhere)


@dataclass(frozen=True)
class Released:
    """The result of a release or an approval; the archive has the decision.

    Attributes:
        kept: what keeps the original anyway, or the archived copy of one that is gone; None if only time does, or nothing.
        gone: why the original is gone; None if no record says so.
        instead: shown in place of both: no such recording, erased, or a look-up failed; else None.
        is_told: whether Redis knows it. If not, it is in force all the same, and a reconcile schedules the original.
    """

    kept: str | None = None
    gone: str | None = None
    instead: str | None = None
    is_told: bool = True

    @property
    def follows(self) -> str:
        """What happens to the original, in one line."""
        untold = _NOT_SCHEDULED if (self.kept, self.gone, self.instead) == (None, None, None) else _NOT_TOLD
        return f"{self.instead or what_follows(self.kept, self.gone)}{'' if self.is_told else untold}"


def too_late(decided: Decided) -> str:
    """What the decision came too late for; empty if nothing."""
    text = ""
    if decided.left:
        text += f"; too late for {len(decided.left)}, already deleted at Telnyx: {_some(decided.left)}"
    if decided.under_way:
        count, named = len(decided.under_way), _some(decided.under_way)
        text += f"; the deletion of {count} was sent before, and its result is not known yet: {named}"
    if decided.transcriptions:
        count, named = len(decided.transcriptions), _some(decided.transcriptions)
        text += f"; the deletion of the transcriptions of {count} was sent before; the archive has them: {named}"
    return text


def to_know(decided: Decided) -> str:
    """Warnings about a decision; empty if none."""
    text = too_late(decided)
    if decided.erased is not None:
        text += f"; too late, the recording was {decided.erased}"
    elif decided.had_gone is not None:
        text += f"; its original was already gone{decided.had_gone}; the hold keeps the archived copy from erasure"
    if decided.is_nowhere:
        text += f"; {NOWHERE}"
    for line in decided.unknown:
        text += f"; unknown: {line}"
    return text


def what_follows(kept: str | None, gone: str | None = None) -> str:
    """What happens to an original that was released or approved.

    Args:
        kept: what keeps it anyway, or its archived copy if it is gone; None if only time does, or nothing.
        gone: why it is gone; None if no record says so.
    """
    if gone is not None and kept is not None:
        return f"its original was already gone ({gone}); the archived copy is still {kept}"
    if gone is not None:
        return f"its original was already gone ({gone}); the archived copy may be erased unless something else holds it"
    return _ONCE_FREE if kept is None else f"Callvault still keeps its original: {kept}"


def _some(ids: tuple[str, ...]) -> str:
    return ", ".join(ids[:_MOST_NAMED]) + (f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else "")
