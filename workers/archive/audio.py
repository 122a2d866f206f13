"""What the audio itself says: read from the bytes while they stream by, at no second pass.

A WAV's chunks and an MP3's frames are walked to the end, which gives channels, rate and length (`wav.py`, `mp3.py`); here
that is held against what Telnyx says. A file is never refused for what is found: it is archived, marked in the commit
record, and its original is kept until a person says otherwise. docs/audio.md has the rules, and a table of odd files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.archive.container import Container, Seen
from workers.archive.mp3 import Mp3
from workers.archive.records import AudioSummary
from workers.archive.wav import Wav

TOLERANCE_MS = 2_000
TOLERANCE_PERCENT = 0.5


@dataclass(frozen=True)
class Expected:
    """What Telnyx says of a recording, and how far its length may be from that.

    Attributes:
        duration_ms: its `duration_millis`; None where it says nothing.
        channels: its `channels`: `single` or `dual`; None where it says nothing.
        tolerance_ms: by how much the lengths may differ.
        tolerance_percent: or by this share of what Telnyx says, where that is more.
    """

    duration_ms: int | None = None
    channels: str | None = None
    tolerance_ms: float = TOLERANCE_MS
    tolerance_percent: float = TOLERANCE_PERCENT


class AudioReader:
    """Watches one audio file go by: pass it every chunk, then ask for its summary.

    Args:
        audio_format: `wav` or `mp3`, as Telnyx calls the file.
    """

    def __init__(self, audio_format: str) -> None:
        self._format = audio_format
        self._container: Container = Wav() if audio_format == "wav" else Mp3()

    def feed(self, chunk: bytes) -> None:
        """The next bytes. Never raises, whatever the bytes.

        Of a WAV each channel is looked at only until it sounds, which costs next to nothing; of an MP3 every frame's
        head is read, some microseconds for each second of audio.
        """
        self._container.feed(chunk)

    def is_whole(self, expected: Expected) -> bool:
        """Whether the audio itself shows that its end has been reached, where nobody else says how long it is.

        Of a WAV by the sizes in its head; of an MP3 by its last frame, and its information header or `duration_millis`.
        """
        return self._container.is_whole(expected.duration_ms)

    def summary(self, expected: Expected) -> AudioSummary:
        """What was found, held against what Telnyx says."""
        seen = self._container.seen(expected.duration_ms)
        findings = list(_find(seen, expected))
        return AudioSummary(self._format, seen.channels, seen.rate_hz, seen.duration_ms or 0, findings)


def _find(seen: Seen, expected: Expected) -> Sequence[str]:
    """What is not as Telnyx says; `docs/archive-format.md` has the words."""
    if not seen.channels:
        return ["unparsable"]
    is_single_in_place_of_dual = expected.channels == "dual" and seen.channels == 1
    found = {
        "unparsable": seen.is_cut,
        "not-looked-at": not seen.is_cut and seen.duration_ms is None,
        "duration": not seen.is_cut and _is_other_length(seen.duration_ms, expected),
        "channels": is_single_in_place_of_dual,
        "silent-channel": seen.has_silent_channel,
    }
    return [name for name, is_so in found.items() if is_so]


def _is_other_length(duration_ms: int | None, expected: Expected) -> bool:
    if duration_ms is None or expected.duration_ms is None:
        return False
    tolerance_ms = max(expected.tolerance_ms, expected.duration_ms * expected.tolerance_percent / 100)
    return abs(duration_ms - expected.duration_ms) > tolerance_ms


def merge_summaries(summaries: Sequence[AudioSummary]) -> AudioSummary:
    """One summary of a recording's formats: the first, with what was found in any."""
    first = summaries[0]
    findings = sorted({finding for summary in summaries for finding in summary.findings})
    return AudioSummary(first.format, first.channels, first.sample_rate_hz, first.duration_ms, findings)
