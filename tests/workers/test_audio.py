from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.audio import AudioReader, Expected
from archive.records import AudioSummary
from sandbox.audio import make_mp3, make_wav


def read(audio_format: str, data: bytes, expected_ms: int | None = None, chunk: int = 4096) -> AudioSummary:
    reader = AudioReader(audio_format)
    for i in range(0, len(data), chunk):
        reader.feed(data[i : i + chunk])
    return reader.summary(Expected(expected_ms))


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
    ("telnyx_ms", "findings"),
    [(10_000, []), (12_000, []), (12_001, ["duration"]), (7_999, ["duration"]), (8_000, []), (None, [])],
)
def test_a_length_that_differs_by_more_than_2_s_is_a_finding(telnyx_ms: int | None, findings: list[str]) -> None:
    assert read("wav", wav(b"\1\2" * 80_000), telnyx_ms).findings == findings


def test_an_hour_may_differ_by_18_s_and_not_by_three_minutes() -> None:
    for lacking_s, findings in ((18, []), (19, ["duration"]), (180, ["duration"])):
        hour = wav(b"\1" * 8000 * (3600 - lacking_s), tag=7, bits=8)
        assert read("wav", hour, 3_600_000, 10**6).findings == findings


def test_the_tolerance_is_as_asked() -> None:
    reader = AudioReader("wav")
    reader.feed(wav(b"\1\2" * 80_000))
    for telnyx_ms, tolerance_ms, percent, findings in (
        (10_100, 100, 0, []),
        (10_101, 100, 0, ["duration"]),
        (12_000, 100, 20, []),
    ):
        assert reader.summary(Expected(telnyx_ms, None, tolerance_ms, percent)).findings == findings


@pytest.mark.parametrize("audio_format", ["wav", "mp3"])
@pytest.mark.parametrize(
    ("duration", "channels", "findings"),
    [("dual", 1, ["channels"]), ("dual", 2, []), ("single", 1, []), ("single", 2, []), (None, 1, [])],
)
def test_one_channel_in_place_of_two_is_a_finding(
    audio_format: str, duration: str | None, channels: int, findings: list[str]
) -> None:
    audio = make_wav("x", 1, channels) if audio_format == "wav" else make_mp3("x", 1, channels)
    reader = AudioReader(audio_format)
    for chunk in audio.read(0, audio.size):
        reader.feed(chunk)
    summary = reader.summary(Expected(audio.duration_ms, duration))
    assert (summary.channels, summary.findings) == (channels, findings)


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
def test_unparsable_audio_is_a_finding(audio_format: str, data: bytes) -> None:
    assert read(audio_format, data, 1000).findings == ["unparsable"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000), st.sampled_from(["wav", "mp3"]), st.integers(1, 500), st.randoms())
def test_any_bytes_raise_nothing_and_use_little_memory(
    data: bytes, audio_format: str, chunk: int, rng: random.Random
) -> None:
    good = wav(b"\1\2" * 400) if audio_format == "wav" else b"".join(make_mp3("x", 0.5).read(0, 3000))
    mixed = bytearray(good)
    for byte in data[:20]:
        mixed[rng.randrange(len(mixed))] = byte
    for body in (data, bytes(mixed) + data):
        read(audio_format, body, 1000, chunk)


def is_whole(audio_format: str, data: bytes, expected_ms: int | None = None, chunk: int = 4096) -> bool:
    reader = AudioReader(audio_format)
    for i in range(0, len(data), chunk):
        reader.feed(data[i : i + chunk])
    return reader.is_whole(Expected(expected_ms))


def with_sizes(data: bytes) -> bytes:
    """The same WAV with the size in its head filled in."""
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def rf64(data: bytes) -> bytes:
    form = struct.pack("<HHIIHH", 1, 1, 8000, 16_000, 2, 16)
    rest = b"fmt " + struct.pack("<I", 16) + form + b"data\xff\xff\xff\xff" + data
    sizes = struct.pack("<QQQI", 4 + 8 + 28 + len(rest), len(data), len(data) // 2, 0)
    return b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<I", 28) + sizes + rest


def with_info(frames: int, size: int | None) -> bytes:
    """An MP3 of equal frames after an information frame with their number and the total length."""
    audio = make_mp3("x", 2.5)
    body = b"".join(audio.read(0, audio.size))[22:]  # without its ID3 tag
    frame = bytearray(body[: len(body) // (audio.duration_ms // 72)])
    counts = struct.pack(">I", frames) + (b"" if size is None else struct.pack(">I", size))
    head = b"Info" + struct.pack(">I", 1 if size is None else 3) + counts
    frame[13 : 13 + len(head)] = head
    return bytes(frame) + body


@pytest.mark.parametrize("chunk", [1, 7, 10**9])
def test_a_wav_shows_its_end_by_the_sizes_in_its_head(chunk: int) -> None:
    for good in (with_sizes(wav(b"\1\2" * 800)), rf64(b"\1\2" * 800)):
        assert is_whole("wav", good, None, chunk)
        assert read("wav", good, 100, chunk) == AudioSummary("wav", 1, 8000, 100, [])
        assert not is_whole("wav", good[:-1], None, chunk)
        assert not is_whole("wav", good + b"\0", None, chunk)


def test_a_wav_whose_head_leaves_its_size_open_shows_no_end() -> None:
    assert not is_whole("wav", wav(b"\1\2" * 800), 100)
    for announce in (0, 0xFFFFFFFF):
        assert not is_whole("wav", with_sizes(wav(b"\1\2" * 800, announce=announce)), 100)


@pytest.mark.parametrize("chunk", [1, 7, 10**9])
def test_the_end_of_an_mp3_shows_by_its_last_frame_and_its_length_at_telnyx(chunk: int) -> None:
    audio = make_mp3("x", 2.5)
    body = b"".join(audio.read(0, audio.size))
    assert is_whole("mp3", body, audio.duration_ms, chunk)
    assert is_whole("mp3", body, audio.duration_ms - 100, chunk), "an encoder pads"
    assert not is_whole("mp3", body, None, chunk)
    assert not is_whole("mp3", body[:-1], audio.duration_ms, chunk)
    assert not is_whole("mp3", body, audio.duration_ms + 80, chunk), "a frame is missing"
    assert not is_whole("mp3", body, audio.duration_ms - 1000, chunk), "a smaller size may be wrong about the end too"


@pytest.mark.parametrize("chunk", [1, 7, 10**9])
def test_an_mp3_shows_its_end_by_its_information_header(chunk: int) -> None:
    frames = round(make_mp3("x", 2.5).duration_ms / 72)
    size = len(with_info(frames, 0))
    for good in (with_info(frames, size), with_info(frames, None)):
        assert is_whole("mp3", good, None, chunk)
    assert is_whole("mp3", with_info(frames, size) + b"TAG" + bytes(125), None, chunk)
    for bad in (with_info(frames, size + 72), with_info(frames + 1, None)):
        assert not is_whole("mp3", bad, None, chunk)


def fed(head: bytes, data_bytes: int) -> AudioReader:
    """A reader that has read a header and very many bytes of sound."""
    reader, chunk = AudioReader("wav"), b"\1\2" * 2**21
    reader.feed(head)
    for _ in range(data_bytes // len(chunk)):
        reader.feed(chunk)
    reader.feed(chunk[: data_bytes % len(chunk)])
    return reader


def test_an_rf64_of_5_gib_is_read_and_known_when_it_is_cut() -> None:
    sizes = struct.pack("<QQQI", 5 * 2**30 + 72, 5 * 2**30, 0, 0)
    head = rf64(b"")[:20] + sizes + rf64(b"")[48:]
    five_gib_ms = round(5 * 2**30 / 16)
    for data_bytes, findings in (
        (5 * 2**30, []),
        (5 * 2**30 * 7 // 10, ["unparsable"]),
        (5 * 2**30 - 2, ["unparsable"]),
    ):
        reader = fed(head, data_bytes)
        assert reader.summary(Expected(five_gib_ms)).findings == findings
        assert reader.is_whole(Expected(five_gib_ms)) == (not findings)


def test_a_wav_that_outgrew_what_its_pipe_announced_is_read_to_its_end() -> None:
    summary = fed(wav(b"", announce=0x7FFFF000), 3 * 2**30).summary(Expected(round(3 * 2**30 / 16)))
    assert (summary.duration_ms, summary.findings) == (round(3 * 2**30 / 16), [])
