"""Audio that a player opens: tones that take turns like two people talking, made from a seed, any length.

A file is a head that is unique to it and a sequence of equal blocks out of a small set, so a recording of 1 GB costs
no more memory than one of a second. WAV is 8 kHz, 16 bit, one or two channels. MP3 is made of the frames of
`tone.mp3` or `tone-dual.mp3` (8 kHz, 16 kbit/s a channel, no bit reservoir, so frames can be strung together in any order).
"""

from __future__ import annotations

import hashlib
import math
import random
from array import array
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Protocol

RATE = 8000
_BLOCK_SECONDS = 0.25
_BLOCK_SAMPLES = int(RATE * _BLOCK_SECONDS)
_VOICES = (
    (0, 0),
    (140, 0.35),
    (165, 0.4),
    (190, 0.3),
    (220, 0.35),
    (262, 0.3),
)  # hertz, loudness; the first is a pause with a little noise in it
_MP3_FRAME_BYTES = 144  # of one channel
_MP3_FRAME_SAMPLES = 576
_READ_BYTES = 256 * 1024


class Audio(Protocol):
    """The bytes of one audio file."""

    size: int
    duration_ms: int
    channels: int

    @property
    def sha256(self) -> str:
        """Hexadecimal, of all bytes."""

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to before `end`."""


class BlockAudio:
    """A head and equal blocks."""

    def __init__(self, head: bytes, blocks: _Blocks, duration_ms: int, channels: int) -> None:
        self._head = head
        self._blocks = blocks
        self._block_bytes = len(blocks[0])
        self.size = len(head) + len(blocks) * self._block_bytes
        self.duration_ms = duration_ms
        self.channels = channels

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal, of all bytes."""
        digest = hashlib.sha256()
        for chunk in self.read(0, self.size):
            digest.update(chunk)
        return digest.hexdigest()

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to before `end`."""
        gathered = bytearray(self._head[start:end])
        position = max(start, len(self._head))
        while position < end:
            index, offset = divmod(position - len(self._head), self._block_bytes)
            piece = self._blocks[index][offset : offset + end - position]
            gathered += piece
            position += len(piece)
            if len(gathered) >= _READ_BYTES:
                yield bytes(gathered)
                gathered.clear()
        if gathered:
            yield bytes(gathered)


class FileAudio:
    """An audio file of the user's own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.duration_ms, self.channels = _look_at(path, self.size)

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal, of all bytes."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to before `end`."""
        with self.path.open("rb") as file:
            file.seek(start)
            while start < end and (chunk := file.read(min(_READ_BYTES, end - start))):
                start += len(chunk)
                yield chunk


def audio_files(folder: Path) -> list[Path]:
    """The WAV and MP3 files in a folder, by name."""
    return sorted(p for p in folder.glob("*") if p.is_file() and p.suffix.lower() in (".wav", ".mp3"))


class _Blocks:
    """Blocks out of a set, in an order drawn once that repeats; small integers are kept, not blocks."""

    def __init__(self, order: bytes, blocks: Sequence[bytes], count: int) -> None:
        self._order = order
        self._blocks = blocks
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> bytes:
        return self._blocks[self._order[index % len(self._order)]]


@cache
def _voice(hertz: int, loudness: float) -> list[int]:
    """A quarter of a second of one voice: a tone with two overtones that swells and fades."""
    rng = random.Random(hertz)
    samples = []
    for i in range(_BLOCK_SAMPLES):
        t = i / RATE
        tone = sum(math.sin(2 * math.pi * hertz * n * t) / n for n in (1, 2, 3)) if hertz else 0
        swell = math.sin(math.pi * i / _BLOCK_SAMPLES)
        samples.append(int(16000 * loudness * tone * swell) + rng.randint(-12, 12))
    return samples


@cache
def _wav_blocks(channels: int) -> tuple[bytes, ...]:
    """Every pair of what the two channels may do in a quarter of a second; seldom do both talk."""
    pause = _VOICES[0]
    if channels == 1:
        return tuple(array("h", _voice(*voice)).tobytes() for voice in _VOICES)
    blocks = []
    for left, right in [(v, pause) for v in _VOICES[1:4]] + [(pause, v) for v in _VOICES[3:]] + [(pause, pause)]:
        both = array("h", bytes(4 * _BLOCK_SAMPLES))
        both[0::2] = array("h", _voice(*left))
        both[1::2] = array("h", _voice(*right))
        blocks.append(both.tobytes())
    return tuple(blocks)


@cache
def _silenced_blocks(channels: int) -> tuple[bytes, ...]:
    blocks = []
    for block in _wav_blocks(channels):
        samples = array("h", block)
        samples[channels - 1 :: channels] = array("h", bytes(2 * _BLOCK_SAMPLES))
        blocks.append(samples.tobytes())
    return tuple(blocks)


@cache
def _mp3_frames(channels: int) -> tuple[bytes, ...]:
    data = (Path(__file__).parent / ("tone.mp3" if channels == 1 else "tone-dual.mp3")).read_bytes()
    frame_bytes = _MP3_FRAME_BYTES * channels
    return tuple(data[i : i + frame_bytes] for i in range(0, len(data), frame_bytes))


def make_wav(identity: str, seconds: float, channels: int, *, silent: bool = False) -> Audio:
    """A WAV file that is unique to an identity; on demand with a last channel of nothing but zeros."""
    count = max(1, round(seconds / _BLOCK_SECONDS))
    blocks = _silenced_blocks(channels) if silent else _wav_blocks(channels)
    data_bytes = count * len(blocks[0])
    if data_bytes > 0xFFFFFF00 - 1024:
        raise ValueError("a WAV file ends at 4 GiB")
    comment = identity.encode()[:200]
    comment += b"\0" * (2 - len(comment) % 2)
    info = b"INFOICMT" + len(comment).to_bytes(4, "little") + comment
    form = b"".join(
        (
            b"WAVEfmt \x10\0\0\0\x01\0",
            channels.to_bytes(2, "little"),
            RATE.to_bytes(4, "little"),
            (RATE * channels * 2).to_bytes(4, "little"),
            (channels * 2).to_bytes(2, "little"),
            b"\x10\0LIST",
            len(info).to_bytes(4, "little"),
            info,
            b"data",
            data_bytes.to_bytes(4, "little"),
        )
    )
    head = b"RIFF" + (len(form) + data_bytes).to_bytes(4, "little") + form
    return BlockAudio(head, _order(identity, blocks, count), round(count * _BLOCK_SECONDS * 1000), channels)


def make_mp3(identity: str, seconds: float, channels: int = 1) -> Audio:
    """An MP3 file that is unique to an identity."""
    frames = _mp3_frames(channels)
    count = max(1, round(seconds * RATE / _MP3_FRAME_SAMPLES))
    text = b"\x03" + identity.encode()[:200]
    frame = b"TIT2" + len(text).to_bytes(4, "big") + b"\0\0" + text
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    start = random.Random(identity).randrange(len(frames))
    order = bytes((start + i) % len(frames) for i in range(len(frames)))
    head = b"ID3\x03\0\0" + size + frame
    return BlockAudio(head, _Blocks(order, frames, count), round(count * _MP3_FRAME_SAMPLES * 1000 / RATE), channels)


def _order(identity: str, blocks: Sequence[bytes], count: int) -> _Blocks:
    """Turns of one to three seconds, so that it looks and sounds like a conversation."""
    rng = random.Random(identity)
    order = bytearray()
    while len(order) < min(count, 2400):
        order += bytes([rng.randrange(len(blocks))]) * rng.randint(4, 12)
    return _Blocks(bytes(order), blocks, count)


def _look_at(path: Path, size: int) -> tuple[int, int]:
    """The duration of a user's file in milliseconds, as exactly as its head tells, and its channels."""
    head = path.read_bytes()[:65536] if size < 1 << 20 else path.open("rb").read(65536)
    if head[:4] == b"RIFF" and (at := head.find(b"fmt ")) > 0:
        bytes_per_second = int.from_bytes(head[at + 16 : at + 20], "little") or 1
        data = head.find(b"data")
        data_bytes = int.from_bytes(head[data + 4 : data + 8], "little") if data > 0 else size
        return round(min(data_bytes, size) * 1000 / bytes_per_second), int.from_bytes(head[at + 10 : at + 12], "little")
    return _look_at_mp3(path)


def _look_at_mp3(path: Path) -> tuple[int, int]:
    """Count the frames of a layer III file."""
    data = path.read_bytes()
    at = 0
    if data[:3] == b"ID3":
        at = 10 + sum((data[6 + i] & 0x7F) << (21 - 7 * i) for i in range(4))
    kbits = {
        3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
        2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
    }
    rates = {3: (44100, 48000, 32000, 0), 2: (22050, 24000, 16000, 0), 0: (11025, 12000, 8000, 0)}
    seconds, channels = 0.0, 2
    while at + 4 <= len(data):
        version = data[at + 1] >> 3 & 3
        rate = rates.get(version, (0,) * 4)[data[at + 2] >> 2 & 3]
        rate_kbits = kbits[3 if version == 3 else 2][data[at + 2] >> 4]
        if data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2 or not rate or not rate_kbits:
            at += 1
            continue
        samples = 1152 if version == 3 else 576
        seconds += samples / rate
        channels = 1 if data[at + 3] >> 6 == 3 else 2
        at += samples * rate_kbits * 125 // rate + (data[at + 2] >> 1 & 1)
    return round(seconds * 1000), channels
