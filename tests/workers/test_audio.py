from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.audio import make_mp3, make_wav
from workers.archive.audio import AudioReader
from workers.archive.records import AudioSummary


def read(audio_format: str, data: bytes, expected_ms: int | None = None, chunk: int = 4096) -> AudioSummary:
    reader = AudioReader(audio_format)
    for i in range(0, len(data), chunk):
        reader.feed(data[i : i + chunk])
    return reader.summary(expected_ms)


def wav(data: bytes, *, tag: int = 1, channels: int = 1, bits: int = 16, announce: int | None = None) -> bytes:
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, 8000, 8000 * frame, frame, bits)
    size = len(data) if announce is None else announce
    return b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size) + data


@pytest.mark.parametrize("chunk", [1, 7, 4096, 10**9])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_is_read_whatever_its_chunks(channels: int, chunk: int) -> None:
    audio = make_wav("x", 2.5, channels)
    summary = read("wav", b"".join(audio.read(0, audio.size)), 2500, chunk)
    assert summary == AudioSummary("wav", channels, 8000, 2500, [])


@pytest.mark.parametrize("chunk", [1, 7, 4096, 10**9])
def test_an_mp3_is_read_whatever_its_chunks(chunk: int) -> None:
    audio = make_mp3("x", 2.5)
    summary = read("mp3", b"".join(audio.read(0, audio.size)), 2500, chunk)
    assert summary == AudioSummary("mp3", 1, 8000, audio.duration_ms, [])


@pytest.mark.parametrize(
    ("expected_ms", "findings"),
    [(10_000, []), (12_000, []), (12_001, ["duration"]), (7_999, ["duration"]), (8_000, []), (None, [])],
)
def test_a_length_that_differs_by_more_than_5_percent_and_2_s_is_a_finding(
    expected_ms: int | None, findings: list[str]
) -> None:
    assert read("wav", wav(b"\1\2" * 80_000), expected_ms).findings == findings


def test_a_long_recording_may_differ_by_more_than_2_s() -> None:
    assert read("wav", wav(b"\1\2" * 800_000), 105_000).findings == []


def test_a_silent_channel_is_a_finding_wherever_chunks_fall() -> None:
    audio = make_wav("x", 2, 2, silent=True)
    for chunk in (3, 4095, 10**9):
        assert read("wav", b"".join(audio.read(0, audio.size)), 2000, chunk).findings == ["silent-channel"]


def test_one_sound_at_the_very_end_is_enough() -> None:
    quiet = bytes(40_000)
    assert read("wav", wav(quiet + b"\0\1")).findings == []
    assert read("wav", wav(quiet)).findings == ["silent-channel"]


@pytest.mark.parametrize(
    ("tag", "bits", "silence"), [(7, 8, b"\xff"), (6, 8, b"\xd5"), (1, 8, b"\x80"), (3, 32, b"\0")]
)
def test_silence_is_known_in_every_encoding(tag: int, bits: int, silence: bytes) -> None:
    assert read("wav", wav(silence * 8000, tag=tag, bits=bits)).findings == ["silent-channel"]
    assert read("wav", wav(silence * 8000 + b"\x11" * 4, tag=tag, bits=bits)).findings == []


def test_a_stream_whose_length_was_left_open_is_read_to_its_end() -> None:
    for announce in (0, 0xFFFFFFFF):
        assert read("wav", wav(b"\1\2" * 8000, announce=announce)).duration_ms == 1000


@pytest.mark.parametrize(
    ("audio_format", "data"),
    [
        ("wav", b""),
        ("wav", b"RIFF"),
        ("wav", b"not a wav file at all, just some text"),
        ("wav", wav(b"")),
        ("wav", wav(b"\1\2" * 100, announce=1000)),
        ("wav", wav(b"\1\2" * 100, channels=0)),
        ("mp3", b""),
        ("mp3", bytes(200_000)),
        ("mp3", b"".join(make_mp3("x", 1).read(0, 1000))),
        ("wav", b"".join(make_mp3("x", 1).read(0, 1000))),
    ],
)
def test_what_does_not_parse_is_a_finding(audio_format: str, data: bytes) -> None:
    assert read(audio_format, data, 1000).findings == ["unparsable"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000), st.sampled_from(["wav", "mp3"]), st.integers(1, 500), st.randoms())
def test_whatever_the_bytes_nothing_is_raised_and_little_is_held(
    data: bytes, audio_format: str, chunk: int, rng: random.Random
) -> None:
    good = wav(b"\1\2" * 400) if audio_format == "wav" else b"".join(make_mp3("x", 0.5).read(0, 3000))
    mixed = bytearray(good)
    for byte in data[:20]:
        mixed[rng.randrange(len(mixed))] = byte
    for body in (data, bytes(mixed) + data):
        read(audio_format, body, 1000, chunk)
