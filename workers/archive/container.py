"""What a reader of one kind of audio file promises; `wav.py` and `mp3.py` keep it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Seen:
    """What the bytes of a file show.

    Attributes:
        channels: number of channels; 0 if it is no such file. The rest then says nothing.
        rate_hz: samples a second.
        duration_ms: of what was read; None where the codec does not tell how long its bytes last.
        is_cut: it ends before its own head says, or a part is missing inside.
        has_silent_channel: one channel is nothing but digital silence.
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
        """The next bytes, as many as there are. Never raises, and holds a few kilobytes at most."""

    def seen(self, expected_ms: int | None) -> Seen:
        """What was read, after the last bytes.

        Args:
            expected_ms: the length that Telnyx gives, which may settle what the file leaves open.
        """

    def is_whole(self, expected_ms: int | None) -> bool:
        """Whether the file itself shows that its end has been reached, where nobody else says how long it is."""
