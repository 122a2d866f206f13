"""The picture of who speaks when: from every codec with samples, however the bytes are cut."""

from __future__ import annotations

import math
import struct
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.levels import Levels
from tests.audio.build import RATE, form, noise, rf64, riff, rifx, wav
from tests.audio.build import chunk as a_chunk
from tests.audio.odd_files import all_odd

SECONDS = 8
# How a codec writes a sample from -1 to 1, and the format chunk of two channels. G.711: 0.5 and silence as ffmpeg writes them.
CODECS: dict[str, tuple[Callable[[float], bytes], bytes]] = {
    "pcm 8": (lambda x: bytes([round(128 + x * 127)]), form(1, 2, 8)),
    "pcm 16": (lambda x: struct.pack("<h", round(x * 32767)), form(1, 2, 16)),
    "pcm 24": (lambda x: struct.pack("<i", round(x * 8388607))[:3], form(1, 2, 24)),
    "pcm 32": (lambda x: struct.pack("<i", round(x * 2147483647)), form(1, 2, 32)),
    "float 32": (lambda x: struct.pack("<f", x), form(3, 2, 32)),
    "float 64": (lambda x: struct.pack("<d", x), form(3, 2, 64)),
    "a-law": (lambda x: b"\xb5" if x > 0.2 else b"\x35" if x < -0.2 else b"\xd5", form(6, 2, 8)),
    "mu-law": (lambda x: b"\x8f" if x > 0.2 else b"\x0f" if x < -0.2 else b"\xff", form(7, 2, 8)),
}


def speech(write: Callable[[float], bytes], loud: float = 0.5) -> bytes:
    """The first channel sounds in the first quarter, the second in the last."""
    tone = [write(loud * math.sin(n / 3)) for n in range(RATE)]
    still = write(0.0)
    first = b"".join(tone[n % RATE] + still for n in range(SECONDS * RATE // 4))
    last = b"".join(still + tone[n % RATE] for n in range(SECONDS * RATE // 4))
    return first + still * (2 * SECONDS * RATE // 2) + last


def read(data: bytes, size: int = 65_536) -> Levels:
    levels = Levels()
    for at in range(0, len(data), size):
        levels.feed(data[at : at + size])
    return levels


@pytest.mark.parametrize("codec", CODECS)
def test_each_codec_shows_who_sounds_when_and_how_loud(codec: str) -> None:
    write, fmt = CODECS[codec]
    levels = read(wav(speech(write), fmt))
    first, second = levels.channels(8)
    assert levels.seconds == pytest.approx(SECONDS, abs=0.1)
    assert [level > 60 for level in first] == [True, True] + [False] * 6
    assert [level > 60 for level in second] == [False] * 6 + [True, True]
    assert max(first[2:]) <= 2 and max(second[:6]) <= 2
    if codec.startswith("pcm"):
        assert abs(first[0] - 128) <= 2 and abs(second[-1] - 128) <= 2


def test_the_other_byte_order_and_sizes_of_64_bits_are_read_too() -> None:
    data = speech(CODECS["pcm 16"][0])
    expected = read(wav(data, form(1, 2, 16))).channels(40)
    swapped = b"".join(data[at + 1 : at + 2] + data[at : at + 1] for at in range(0, len(data), 2))
    mono = data[: len(data) // 2]
    chunks = (a_chunk(b"fmt ", form(1, 2, 16, order=">"), order=">"), a_chunk(b"data", swapped, order=">"))
    assert read(riff(*chunks, name=b"RIFX", order=">")).channels(40) == expected
    assert [len(read(make(mono)).channels(40)) for make in (rifx, rf64)] == [1, 1]


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 5_000))
def test_the_levels_do_not_depend_on_how_the_bytes_are_cut(size: int) -> None:
    data = wav(speech(CODECS["pcm 16"][0])[:20_000], form(1, 2, 16))
    assert read(data, size).channels(600) == read(data).channels(600)


def test_a_long_call_has_no_more_levels_than_a_short_one() -> None:
    levels, tone = Levels(), speech(CODECS["pcm 8"][0])
    levels.feed(wav(b"", form(1, 2, 8), data_size=0xFFFFFFFF))
    for _ in range(450):  # an hour
        levels.feed(tone)
    first, second = levels.channels(600)
    assert 300 < len(first) == len(second) <= 600
    assert levels.seconds == pytest.approx(3600, abs=10)
    assert min(max(first[at : at + 8]) for at in range(0, len(first) - 8, 8)) > 60


def test_a_file_without_samples_has_no_levels() -> None:
    for odd in all_odd():
        levels = read(odd.make())
        channels = levels.channels(600)
        assert all(0 <= level <= 255 for one in channels for level in one), odd.name
        if odd.audio_format == "mp3" and odd.make()[:4] != b"RIFF":
            assert (channels, levels.seconds) == ([], 0.0), odd.name


def test_a_head_with_any_rate_takes_no_more_memory() -> None:
    for rate in (1, 8_000, 4_000_000_000):
        levels = Levels()
        levels.feed(wav(b"", form(1, 2, 16, rate=rate, per_second=0), data_size=0xFFFFFFFF))
        sound = noise(1 << 20)
        tracemalloc.start()
        for _ in range(4):
            levels.feed(sound)
        _, most_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most_bytes < 1 << 20, rate
