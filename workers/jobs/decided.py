"""What came of a decision about originals, and what a person must know of it."""

from __future__ import annotations

from dataclasses import dataclass

NOWHERE = "neither the archive nor Telnyx (with this API key) has this recording; check the id"
_MOST_NAMED = 10
_ONCE_FREE = "a worker deletes its original when it is due, unless something else keeps it"


@dataclass(frozen=True)
class Decided:
    """What came of a decision.

    Attributes:
        is_new: whether it was written; False: it stood already.
        left: ids of the recordings whose original had left before.
        under_way: of those whose deletion was sent before and whose end is not known yet.
        transcriptions: of those that stay, but of which the deletion of a transcription was sent before.
        had_gone: what is known of an original that was gone long before, to follow these words; None: it is there, or that is not
            known.
        erased: what is on record of the erasure of a recording; None: nothing is.
        is_nowhere: whether neither Telnyx nor the archive has the recording.
        unknown: what could not be looked up, and why, a line each; the decision stands all the same.
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
        """Whether something left, or may leave, that it would have kept."""
        return bool(self.left or self.under_way or self.transcriptions or self.erased)

    @property
    def is_as_meant(self) -> bool:
        """Whether all that it is about is there and stays, as far as could be asked."""
        return not (self.came_too_late or self.is_nowhere)


@dataclass(frozen=True)
class Released:
    """What came of a release.

    Attributes:
        kept: what keeps the original all the same; None: nothing but its time, or it is gone.
        gone: what is on record of the end of the original; None: nothing is.
        instead: said in place of both: no such recording exists, it was erased, or a look-up failed; None: nothing of that kind.
    """

    kept: str | None = None
    gone: str | None = None
    instead: str | None = None

    @property
    def follows(self) -> str:
        """What becomes of the original, in one line."""
        return self.instead or what_follows(self.kept, self.gone)


def too_late(decided: Decided) -> str:
    """What a person must know of a decision that came too late for something; empty if it did not."""
    said = ""
    if decided.left:
        said += f"; too late for {len(decided.left)}, already deleted at Telnyx: {_some(decided.left)}"
    if decided.under_way:
        count, named = len(decided.under_way), _some(decided.under_way)
        said += f"; the deletion of {count} was sent before, and its result is not known yet: {named}"
    if decided.transcriptions:
        count, named = len(decided.transcriptions), _some(decided.transcriptions)
        said += f"; the deletion of the transcriptions of {count} was sent before; the archive has them: {named}"
    return said


def to_know(decided: Decided) -> str:
    """What a person must know of a decision beside that it stands; empty if there is nothing."""
    said = too_late(decided)
    if decided.erased is not None:
        said += f"; too late, the recording was {decided.erased}"
    elif decided.had_gone is not None:
        said += f"; its original was already gone{decided.had_gone}; the hold keeps the archived copy from erasure"
    if decided.is_nowhere:
        said += f"; {NOWHERE}"
    for line in decided.unknown:
        said += f"; not known: {line}"
    return said


def what_follows(kept: str | None, gone: str | None = None) -> str:
    """What becomes of an original that was released or approved.

    Args:
        kept: what keeps it all the same; None: nothing but its time.
        gone: what is on record of its end; None: nothing is.
    """
    if gone is not None:
        return f"its original was already gone ({gone}); the archived copy may be erased unless something else holds it"
    return _ONCE_FREE if kept is None else f"its original stays anyway: {kept}"


def _some(ids: tuple[str, ...]) -> str:
    return ", ".join(ids[:_MOST_NAMED]) + (f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else "")
