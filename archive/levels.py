"""The loudness of each channel over time, for a picture of who speaks when; read from the samples of a WAV as it streams.

It looks at some samples of each stretch of time, not at all: a picture of a thousand columns shows no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from archive.wav import Samples, Wav

_FIRST_MS = 20  # the first stretch; when there are too many, each two become one
_MOST_STRETCHES = 2_048
_LOOKED_AT = 48  # samples of each channel in a stretch
_FULL_SCALE = 32_768


class Levels:
    """Reads one WAV file: feed it every chunk, then take the levels."""

    def __init__(self) -> None:
        self._wav = Wav(self._take)
        self._samples: Samples | None = None
        self._read: Callable[[int, int], int] | None = None
        self._rest = b""
        self._stretch = 0  # frames in each stretch
        self._taken = 0  # frames of this stretch that have come
        self._loudest: list[int] = []  # of them, by channel
        self._tops: list[list[int]] = []

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes. Never raises."""
        self._wav.feed(chunk)

    @property
    def seconds(self) -> float:
        """How long the audio is that was read."""
        stretch = 0 if self._samples is None else self._stretch / self._samples.rate
        return len(self._tops[0]) * stretch if self._tops else 0.0

    def channels(self, steps: int) -> list[list[int]]:
        """The loudest of each of `steps` equal parts of time, by channel, from 0 to 255; empty if the codec is unknown."""
        return [_fewer(tops, steps) for tops in self._tops if tops]

    def _take(self, data: bytes, samples: Samples) -> None:
        """Take bytes of the data chunk. Only a frame that is cut waits for more, however long a stretch is."""
        if self._samples is None:
            self._samples, self._read = samples, _reader(samples)
            self._stretch = max(1, samples.rate * _FIRST_MS // 1000)
            self._tops = [[] for _ in range(samples.channels)]
            self._loudest = [0] * samples.channels
        if self._read is None:
            return
        data = self._rest + data
        frames = len(data) // samples.frame_bytes
        at = 0
        while at < frames:
            taken = min(frames - at, self._stretch - self._taken)
            self._look(data, at, at + taken, samples)
            at, self._taken = at + taken, self._taken + taken
            if self._taken == self._stretch:
                self._end_stretch()
        self._rest = data[frames * samples.frame_bytes :]

    def _look(self, data: bytes, begin: int, end: int, samples: Samples) -> None:
        """Look at some of the frames between two in `data`, all of this stretch."""
        assert self._read is not None  # noqa: S101
        width = samples.frame_bytes // samples.channels
        every = max(1, self._stretch // _LOOKED_AT)
        first, last = (begin + -self._taken % every) * samples.frame_bytes, end * samples.frame_bytes
        step = every * samples.frame_bytes
        high, low = (width - 1, width - 2) if samples.order == "little" else (0, 1)
        for channel, loudest in enumerate(self._loudest):
            sample = first + channel * width
            highs = data[sample + high : last : step]
            lows = data[sample + low : last : step] if width > 1 else highs
            self._loudest[channel] = max(loudest, max(map(self._read, highs, lows), default=0))

    def _end_stretch(self) -> None:
        for tops, loudest in zip(self._tops, self._loudest, strict=True):
            tops.append(loudest)
        self._taken, self._loudest = 0, [0] * len(self._loudest)
        if len(self._tops[0]) >= _MOST_STRETCHES:
            self._tops = [[max(two) for two in zip(t[::2], t[1::2], strict=True)] for t in self._tops]
            self._stretch *= 2


def _fewer(tops: list[int], steps: int) -> list[int]:
    """The tops of at most `steps` parts, from 0 to 255."""
    size = max(1, math.ceil(len(tops) / steps))
    return [min(255, max(tops[at : at + size]) * 256 // _FULL_SCALE) for at in range(0, len(tops), size)]


def _reader(samples: Samples) -> Callable[[int, int], int] | None:
    """Reads the size of a sample, up to 32,768, from its two highest bytes; None for a codec without samples."""
    width = samples.frame_bytes // samples.channels
    if samples.codec == "pcm":
        return _unsigned if width == 1 else _signed
    if samples.codec == "float":
        return {4: _float_32, 8: _float_64}.get(width)
    table = _ALAW if samples.codec == "alaw" else _MULAW
    return lambda high, _: table[high]


def _unsigned(high: int, _: int) -> int:
    return abs(high - 128) << 8


def _signed(high: int, low: int) -> int:
    size = high << 8 | low
    return size if high < 128 else 65_536 - size


def _float_32(high: int, low: int) -> int:
    return _of_exponent(((high & 0x7F) << 1 | low >> 7) - 126)


def _float_64(high: int, low: int) -> int:
    return _of_exponent(((high & 0x7F) << 4 | low >> 4) - 1022)


def _of_exponent(exponent: int) -> int:
    """The size of a float by its exponent alone, at most twice what it is: the picture has 256 steps."""
    return _FULL_SCALE if exponent > 0 else _FULL_SCALE >> min(-exponent, 16)


def _alaw(code: int) -> int:
    """The size of a sample in A-law (ITU-T G.711)."""
    code ^= 0x55
    segment, size = code >> 4 & 7, (code & 15) << 4 | 8
    return (size + 0x100) << segment - 1 if segment else size


def _mulaw(code: int) -> int:
    """The size of a sample in mu-law (ITU-T G.711)."""
    code ^= 0xFF
    return ((((code & 15) << 3) + 0x84) << (code >> 4 & 7)) - 0x84


_ALAW, _MULAW = tuple(map(_alaw, range(256))), tuple(map(_mulaw, range(256)))
