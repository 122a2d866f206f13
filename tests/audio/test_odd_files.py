"""Callvault's verdict on odd files: as in the table, independent of chunks, and compared with ffprobe's."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.audio import AudioReader
from tests.audio import table, tools
from tests.audio.build import id3v1
from tests.audio.odd_files import Odd, all_odd

ODD = all_odd()
MADE = tools.all_made()
HAS_RECORDED_PROBE = table.probe_version() == table.recorded_version()
NEEDS_PROBE = pytest.mark.skipif(not HAS_RECORDED_PROBE, reason="another ffprobe than docs/audio.md quotes, or none")
NEEDS_TOOLS = pytest.mark.skipif(not (HAS_RECORDED_PROBE and tools.are_there()), reason="no ffmpeg, sox and lame here")

_WORDS = re.compile(r"(\d+) channels?, ([\d.]+) s(?:: (.*))?")


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)
def test_an_odd_file_gets_the_verdict_of_the_table(odd: Odd) -> None:
    telnyx, _, ours, why = table.recorded("by hand")[odd.name]
    now = table.in_words(table.read(odd, odd.make()).summary(table.expected(odd)))
    assert (telnyx, ours, why) == (table.telnyx_in_words(odd), now, odd.why)


def test_the_table_lists_every_odd_file_and_no_other() -> None:
    assert list(table.recorded("by hand")) == [odd.name for odd in ODD]
    assert list(table.recorded("by tools")) == [odd.name for odd in MADE]


@NEEDS_PROBE
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)
def test_ffprobe_agrees_with_the_table(odd: Odd) -> None:
    assert table.probe(odd) == table.recorded("by hand")[odd.name][1]


@NEEDS_TOOLS
@pytest.mark.parametrize("odd", MADE, ids=lambda odd: odd.name)
def test_files_of_recorders_get_the_verdict_of_the_table(odd: Odd) -> None:
    _, theirs, ours, _ = table.recorded("by tools")[odd.name]
    assert (theirs, ours) == (
        table.probe(odd),
        table.in_words(table.read(odd, odd.make()).summary(table.expected(odd))),
    )


@pytest.mark.parametrize("which", ["by hand", "by tools"])
def test_the_table_explains_each_difference_from_ffprobe(which: str) -> None:
    """They agree if both find no audio, or the same channels and, within a frame or so, the same length."""
    for name, (_, theirs, ours, why) in table.recorded(which).items():
        mine, other = _WORDS.fullmatch(ours), _WORDS.fullmatch(theirs)
        if mine and other:
            is_close = abs(float(mine[2]) - float(other[2])) < 0.4
            agree = mine[1] == other[1] and is_close and "unparsable" not in (mine[3] or "")
        else:
            agree = mine is other is None
        assert agree or why, name


def test_no_file_that_a_recorder_made_is_a_finding() -> None:
    """Files that a pipe left open cause no alert; ffprobe cannot read some of them."""
    for name, (_, _, ours, _) in table.recorded("by tools").items():
        assert ":" not in ours, name


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = i = 0
    while at < len(data):
        yield data[at : at + sizes[i % len(sizes)]]
        at += sizes[i % len(sizes)]
        i += 1


def verdict(odd: Odd, reader: AudioReader) -> tuple[object, bool]:
    return reader.summary(table.expected(odd)), reader.is_whole(table.expected(odd))


SMALL = [odd for odd in ODD if len(odd.make()) < 500_000]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(SMALL),
    st.lists(st.sampled_from((1, 2, 3, 7, 143, 144, 145, 4096)) | st.integers(1, 70_000), min_size=1, max_size=8),
)
def test_the_verdict_does_not_depend_on_how_the_bytes_are_cut(odd: Odd, sizes: list[int]) -> None:
    data = odd.make()
    assert verdict(odd, table.read(odd, data, pieces(data, sizes))) == verdict(odd, table.read(odd, data))


@pytest.mark.parametrize("odd", [odd for odd in SMALL if len(odd.make()) < 60_000], ids=lambda odd: odd.name)
def test_the_verdict_is_the_same_byte_by_byte(odd: Odd) -> None:
    data = odd.make()
    assert verdict(odd, table.read(odd, data, pieces(data, [1]))) == verdict(odd, table.read(odd, data))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([odd for odd in SMALL if odd.audio_format == "wav" and len(odd.make())]), st.data())
def test_a_wav_cut_anywhere_is_not_whole(odd: Odd, data: st.DataObject) -> None:
    whole = odd.make()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert not table.read(odd, cut).is_whole(table.expected(odd))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([odd for odd in SMALL if "MP3, Info header" in odd.name or "VBRI" in odd.name]), st.data())
def test_an_mp3_with_a_frame_count_is_not_whole_without_each_frame(odd: Odd, data: st.DataObject) -> None:
    whole = odd.make().removesuffix(id3v1())
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    reader = table.read(odd, cut)
    assert not reader.is_whole(table.expected(odd))
    assert "unparsable" in reader.summary(table.expected(odd)).findings


def test_little_is_held_of_any_file() -> None:
    """At most a few kilobytes wait for more: a header, or a frame without a length."""
    for odd in SMALL:
        whole = list(pieces(odd.make(), [1000]))
        tracemalloc.start()
        try:
            reader = AudioReader(odd.audio_format)
            for piece in whole:
                reader.feed(piece)
                assert tracemalloc.get_traced_memory()[0] < 40_000, odd.name
        finally:
            tracemalloc.stop()
