"""About when a word of a transcription is said. Telnyx gives no times with the words, so this is an estimate."""

from __future__ import annotations

import msgspec

from workers.catalogue.words import places_of

_EARLIER_SECONDS = 3  # a listener rather waits for the word than misses it


class Mark(msgspec.Struct, frozen=True):
    """A place in a transcription that was searched for.

    Attributes:
        start: its first character; end: the one behind it.
        about_seconds: about when it is said, in seconds from the beginning; None: the length of the call is unknown.
    """

    start: int
    end: int
    about_seconds: int | None


def marks_of(text: str, words: str, duration_ms: float | None) -> list[Mark]:
    """The places of words in a transcription, the earliest first.

    A word half-way through the text is taken to be said half-way through the call, and the mark is three seconds earlier.

    Raises:
        BadWords: the words are no valid search.
    """
    found: list[Mark] = []
    for start, end in places_of(text, words):
        if found and start < found[-1].end:  # a word, and a phrase with it
            continue
        about = None
        if duration_ms is not None:
            about = max(0, int(duration_ms / 1000 * start / len(text)) - _EARLIER_SECONDS)
        found.append(Mark(start, end, about))
    return found
