"""Reads what the audio shows while its bytes stream, and compares that with what Telnyx says.

`wav.py` and `mp3.py` read the channels, rate and length from chunks and frames. No finding refuses a file: it is archived,
the commit record names the finding, and the original stays until a person approves. docs/audio.md has the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archive.container import Container, Seen
from archive.mp3 import Mp3
from archive.records import AudioSummary
from archive.wav import Wav

TOLERANCE_MS = 2_000
TOLERANCE_PERCENT = 0.5


@dataclass(frozen=True)
class Expected:
    """What Telnyx says of a recording, and the tolerance of its length.

    Attributes:
        duration_ms: `duration_millis` at Telnyx; None if unknown.
        channels: `channels` at Telnyx, `single` or `dual`; None if unknown.
        tolerance_ms: how much the lengths may differ.
        tolerance_percent: the same as a share of Telnyx's length, if that is more.
    """

    duration_ms: int | None = None
    channels: str | None = None
    tolerance_ms: float = TOLERANCE_MS
    tolerance_percent: float = TOLERANCE_PERCENT


class AudioReader:
    """Reads one audio file: feed it every chunk, then take the summary.

    Args:
        audio_format: `wav` or `mp3`, as Telnyx calls the file.
    """

    def __init__(self, audio_format: str) -> None:
        self._format = audio_format
        self._container: Container = Wav() if audio_format == "wav" else Mp3()

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes. Never raises.

        It reads each channel of a WAV until its first sound, and the header of every MP3 frame: some microseconds for
        each second of audio.
        """
        self._container.feed(chunk)

    def is_whole(self, expected: Expected) -> bool:
        """Whether the audio itself shows that it is complete, if no other source gives its length.

        A WAV shows it by the sizes in its header; an MP3 by its last frame, with its information header or
        `duration_millis`.
        """
        return self._container.is_whole(expected.duration_ms)

    def summary(self, expected: Expected) -> AudioSummary:
        """The result, compared with what Telnyx says."""
        seen = self._container.seen(expected.duration_ms)
        findings = list(_find(seen, expected))
        return AudioSummary(self._format, seen.channels, seen.rate_hz, seen.duration_ms or 0, findings)


def _find(seen: Seen, expected: Expected) -> Sequence[str]:
    """The differences from what Telnyx says; `docs/archive-format.md` describes each."""
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
    """Merge the summaries of a recording's formats: the first, with the findings of all."""
    first = summaries[0]
    findings = sorted({finding for summary in summaries for finding in summary.findings})
    return AudioSummary(first.format, first.channels, first.sample_rate_hz, first.duration_ms, findings)
