"""MP3, read as it streams by: every frame is counted, tags are passed over, a hole or a cut end is noticed.

Sources: frames as in ISO/IEC 11172-3, the lower rates as in 13818-3 and MPEG-2.5 as players have it; ID3v2 as in id3.org's
2.4.0; APE tags as in Hydrogenaudio's APEv2; the Xing header as Xing published it, with LAME's extension as in "Mp3 Info
Tag rev 1"; Fraunhofer's VBRI header as players read it.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from archive.container import NO_AUDIO, Seen

# kbit/s by the index in a frame's head, of MPEG-1 and of MPEG-2 and 2.5, by layer; the latter's II and III are alike.
_KBITS_1 = {
    1: (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_KBITS_2 = {
    1: (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    3: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}

# What is neither frame nor tag. A player passes over it; where frames were, it is a hole, and a sector of a disk is 512.
_MOST_JUNK_BYTES = 4096  # in all
_MOST_BETWEEN_BYTES = 256  # between two frames
_LONGEST_FREE_BYTES = 8192  # a frame of a free bit rate; 640 kbit/s at 8 kHz make 5,760
_TAG_HEAD_BYTES = 32  # the longest head of a tag
_INFO_HEAD_BYTES = 192  # of a first frame: head, side information, and an information header to its last field
_MOST_PADDING_FRAMES = 5  # an encoder adds its delay before and fills its last frames after


class _Head(NamedTuple):
    """What the head of a frame says.

    Attributes:
        length: of the frame in bytes; 0 with a free bit rate, which it does not tell.
        padding: bytes more that a frame of a free bit rate has.
        kind: what the frames of one file have in common: version, layer, rate, and whether the bit rate is free.
    """

    length: int
    padding: int
    samples: int
    rate: int
    kind: tuple[int, int, bool]


@cache  # at most 65,536
def _head(b1: int, b2: int) -> _Head | None:
    """Read the second and third byte of a frame; the first is 0xFF. None if no frame begins so."""
    version, layer, kbits_index, rate_index = b1 >> 3 & 3, 4 - (b1 >> 1 & 3), b2 >> 4, b2 >> 2 & 3
    if b1 & 0xE0 != 0xE0 or version == 1 or layer == 4 or kbits_index == 15 or rate_index == 3:
        return None
    kbits = (_KBITS_1 if version == 3 else _KBITS_2)[layer][kbits_index]
    rate, padding = _RATES[version][rate_index], b2 >> 1 & 1
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    if layer == 1:
        padding *= 4
        length = 12 * kbits * 1000 // rate * 4
    else:
        length = samples * kbits * 125 // rate
    kind = (b1 & 0xFE, b2 & 0x0C, not kbits)
    return _Head(length + padding if kbits else 0, padding, samples, rate, kind)


class _Info(NamedTuple):
    """A first frame without sound, in which the encoder wrote what follows; 0 where it did not.

    Attributes:
        frames: without this one.
        size_bytes: from this frame to the end of the last.
        added_samples: that the encoder put before and behind the sound.
    """

    frames: int
    size_bytes: int
    added_samples: int


def _read_info(frame: bytes) -> _Info | None:
    """Read a Xing, Info or VBRI header."""
    if (at := max(frame.find(b"Xing"), frame.find(b"Info"))) >= 0 and len(frame) >= at + 16:
        flags, at = int.from_bytes(frame[at + 4 : at + 8], "big"), at + 8
        counts = [0, 0]
        for i in (0, 1):
            if flags >> i & 1:
                counts[i], at = int.from_bytes(frame[at : at + 4], "big"), at + 4
        at += 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
        is_extended = frame[at : at + 4] in (b"LAME", b"Lavc", b"Lavf")
        added = int.from_bytes(frame[at + 21 : at + 24], "big") if is_extended else 0
        return _Info(counts[0], counts[1], (added >> 12) + (added & 0xFFF))
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        return _Info(int.from_bytes(frame[50:54], "big"), int.from_bytes(frame[46:50], "big"), 0)
    return None


def _tag_bytes(head: bytes) -> int:
    """The length of the tag that begins so: ID3v2, ID3v1 or APE; 0 if none does."""
    if head[:3] == b"ID3" and 0xFF not in head[3:5] and len(head) >= 10 and max(head[6:10]) < 0x80:
        size = int.from_bytes(head[6:10], "big")
        seven_bits_each = (size & 0x7F) | (size >> 1 & 0x3F80) | (size >> 2 & 0x1FC000) | (size >> 3 & 0xFE00000)
        return 10 + seven_bits_each + (10 if head[5] & 0x10 else 0)
    if head[:3] == b"TAG":
        return 128
    if head[:8] == b"APETAGEX" and len(head) >= 24:
        is_head = head[23] & 0x20
        return 32 + int.from_bytes(head[12:16], "little") if is_head else 32
    return 0


def _follows(head: _Head, behind: bytes | bytearray) -> bool:
    """Whether a frame of the same kind begins there."""
    following = _head(behind[1], behind[2]) if len(behind) >= 3 and behind[0] == 0xFF else None
    return following is not None and following.kind == head.kind


class Mp3:
    """Reads one MP3 file, or what lies as such in a WAV."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._size = 0  # of all that was fed
        self._is_over = False
        self._skip = 0  # bytes of the present frame or tag that are still to come
        self._is_in_frame = False  # whether that is a frame
        self._head: _Head | None = None  # of a frame before, while frames of its kind may follow
        self._free_bytes = 0  # of a frame of a free bit rate, without padding
        self._frames = 0
        self._samples: dict[int, int] = {}  # by rate
        self._frame_samples = self._rate = 0  # of the last frame
        self._channels = 2
        self._began_at = self._ended_at = 0  # the first frame, and the end of the last
        self._info: _Info | None = None
        self._junk = self._junk_since = 0  # bytes: in all, and since the last frame or tag
        self._has_hole = False
        self._is_lost = False  # too much junk: no more is read

    def feed(self, chunk: bytes) -> None:
        """As `Container`."""
        self._size += len(chunk)
        if self._is_lost:
            return
        if self._skip > len(chunk) and not self._buffer:
            self._skip -= len(chunk)
            return
        self._buffer += chunk
        self._walk()

    def _walk(self) -> None:
        buffer, at = self._buffer, 0
        end = len(buffer)
        while not self._is_lost:
            if self._skip:
                step = min(self._skip, end - at)
                at += step
                self._skip -= step
            elif self._head is not None and (step := self._take_frames(self._head, at)):
                self._skip = max(0, at + step - end)
                at += step - self._skip
            elif end - at >= 4 and (step := self._find(at)) >= 0:
                at += step
            else:
                break
            if at == end:
                break
        del buffer[:at]

    def _take_frames(self, first: _Head, at: int) -> int:
        """Take the frames of one kind that follow each other here; returns their bytes, of which the last may lack some."""
        buffer, began, frames = self._buffer, at, 0
        last, kind, free_bytes = len(buffer) - 4, first.kind, self._free_bytes
        while at <= last and buffer[at] == 0xFF:
            head = _head(buffer[at + 1], buffer[at + 2])
            if head is None or head.kind != kind:
                break
            if buffer[at + 3] >= 0xC0:
                self._channels = 1
            frames += 1
            at += head.length or free_bytes + head.padding
        if frames:
            self._frames += frames
            self._samples[first.rate] = self._samples.get(first.rate, 0) + frames * first.samples
            self._frame_samples, self._rate = first.samples, first.rate
            self._ended_at = self._size - len(buffer) + at
            self._is_in_frame, self._junk_since = True, 0
        return at - began

    def _find(self, at: int) -> int:
        """Look for a tag or a frame of another kind here. Returns how much to pass over; -1: it takes more bytes to tell."""
        buffer = self._buffer
        left = len(buffer) - at
        if left < _TAG_HEAD_BYTES and not self._is_over:
            return -1
        if length := self._take_tag(bytes(buffer[at : at + _TAG_HEAD_BYTES])):
            self._skip, self._is_in_frame = length, False
            return 0
        head = _head(buffer[at + 1], buffer[at + 2]) if buffer[at] == 0xFF else None
        if head is None:
            return self._pass_over()
        length = head.length
        if not length:
            if left < 2 * _LONGEST_FREE_BYTES + _TAG_HEAD_BYTES and not self._is_over:
                return -1
            free_bytes = self._measure_free(at, head)
            length = free_bytes and free_bytes + head.padding
        elif left < length + 4 and not self._is_over:
            return -1
        if not length or not self._is_confirmed(at, head, length):
            return self._pass_over()
        if not head.length:
            self._free_bytes = length - head.padding
        self._has_hole |= self._frames > 0 and self._junk_since > _MOST_BETWEEN_BYTES
        self._head = head
        if not self._frames and self._info is None:
            self._began_at = self._size - left
            self._info = _read_info(bytes(buffer[at : at + min(length, _INFO_HEAD_BYTES)]))
            if self._info is not None:
                self._skip = length
        return 0

    def _take_tag(self, head: bytes) -> int:
        """Returns the length of a tag that begins so, 0 if none does."""
        length = _tag_bytes(head)
        if length == 32 and head.startswith(b"APE"):  # a foot: what looked like junk may be the tag that it ends
            tag_bytes = int.from_bytes(head[12:16], "little")
            self._junk -= min(self._junk_since, tag_bytes)
        if length:
            self._junk_since = 0
        return length

    def _is_confirmed(self, at: int, head: _Head, length: int) -> bool:
        """Whether what looks like a frame is one: a frame of its kind follows it, a tag, or the end of the file."""
        behind = bytes(self._buffer[at + length : at + length + 4])
        if len(behind) == 4:
            return _follows(head, behind) or behind[:3] in (b"TAG", b"ID3", b"APE")
        return self._frames > 0 or not self._junk

    def _measure_free(self, at: int, head: _Head) -> int:
        """The length of a frame of a free bit rate, without its padding: the way to the next one, if a third follows."""
        buffer, near = self._buffer, at + 24
        while (near := buffer.find(0xFF, near, at + _LONGEST_FREE_BYTES)) >= 0:
            following = _head(buffer[near + 1], buffer[near + 2]) if near + 4 <= len(buffer) else None
            if following is not None and following.kind == head.kind:
                free_bytes = near - at - head.padding
                third = near + free_bytes + following.padding
                if third + 4 > len(buffer) or _follows(head, buffer[third : third + 3]):
                    return free_bytes
            near += 1
        return 0

    def _pass_over(self) -> int:
        """Pass over one byte that means nothing."""
        self._head = None
        self._junk += 1
        self._junk_since += 1
        self._is_lost = self._junk > _MOST_JUNK_BYTES
        return 1

    def _end(self) -> None:
        """Judge the last bytes, which waited for more."""
        if not self._is_over:
            self._is_over = True
            self._walk()
            self._junk_since += len(self._buffer)

    @property
    def _is_end_cut(self) -> bool:
        """Whether the last frame lacks bytes."""
        return self._is_in_frame and self._skip > 0

    @property
    def _whole_samples(self) -> dict[int, int]:
        """Samples by rate, without those of a last frame that lacks bytes."""
        cut = {self._rate: self._frame_samples} if self._is_end_cut else {}
        return {rate: samples - cut.get(rate, 0) for rate, samples in self._samples.items()}

    @property
    def _duration_ms(self) -> float:
        return sum(samples * 1000 / rate for rate, samples in self._whole_samples.items())

    def _is_cut(self, expected_ms: int | None) -> bool:
        """Whether frames are missing: by what the encoder wrote, else, if the last lacks bytes, by what Telnyx says."""
        if self._has_hole or self._is_lost:
            return True
        frames = self._frames - self._is_end_cut
        if self._info is not None and self._info.size_bytes:  # some encoders count the frame in which they wrote this
            is_short = self._size - self._began_at < self._info.size_bytes
            return is_short or frames + 1 < self._info.frames
        if self._info is not None and self._info.frames:
            return frames < self._info.frames
        frame_ms = self._frame_samples * 1000 / self._rate
        return self._is_end_cut and (not expected_ms or self._duration_ms < expected_ms - frame_ms)

    def seen(self, expected_ms: int | None) -> Seen:
        """As `Container`; the length is without the samples that the encoder added, where it wrote how many."""
        self._end()
        if not any(self._whole_samples.values()):
            return NO_AUDIO
        is_cut, duration_ms = self._is_cut(expected_ms), self._duration_ms
        if self._info is not None and not is_cut:
            duration_ms = max(0.0, duration_ms - self._info.added_samples * 1000 / self._rate)
        return Seen(self._channels, self._rate, round(duration_ms), is_cut)

    def is_whole(self, expected_ms: int | None) -> bool:
        """As `Container`: the last frame is complete, and there is as much as an information header or Telnyx says."""
        self._end()
        if not self._frames or self._skip or self._junk_since or self._is_cut(expected_ms):
            return False
        if self._info is not None and self._info.size_bytes:  # with the tags behind it or without
            return self._info.size_bytes in (self._ended_at - self._began_at, self._size - self._began_at)
        if self._info is not None and self._info.frames:
            return self._frames == self._info.frames
        if not expected_ms:
            return False
        frame_ms = self._frame_samples * 1000 / self._rate
        return -1 <= self._duration_ms - expected_ms <= _MOST_PADDING_FRAMES * frame_ms
