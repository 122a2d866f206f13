"""The interface of the readers of audio files, `wav.py` and `mp3.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Seen:
    """What the bytes of a file show.

    Attributes:
        channels: the number of channels; 0 if the file is not of its format, and the rest then means nothing.
        rate_hz: samples a second.
        duration_ms: the length of what was read; None if the codec does not define it.
        is_cut: the file ends before the size in its header, or a part is missing inside.
        has_silent_channel: one channel holds digital silence alone.
    """

    channels: int
    rate_hz: int = 0
    duration_ms: int | None = None
    is_cut: bool = False
    has_silent_channel: bool = False


NO_AUDIO = Seen(0)


class Container(Protocol):
    """Reads one file as it streams by."""

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes. Never raises, and buffers a few kilobytes at most."""

    def seen(self, expected_ms: int | None) -> Seen:
        """The result after the last bytes.

        Args:
            expected_ms: the length that Telnyx gives, used where the file leaves it open.
        """

    def is_whole(self, expected_ms: int | None) -> bool:
        """Whether the file itself shows that it is complete, if no other source gives its length."""
