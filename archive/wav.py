"""WAV and its twins, read as they stream by: RIFF, RIFX (big-endian), RF64 and BW64 (64 bits), Wave64.

Of uncompressed audio each channel is watched for a sample that is not silence.

Sources: RIFF/WAVE as in Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" with the later
WAVE_FORMAT_EXTENSIBLE; RF64 in EBU Tech 3306, BW64 in ITU-R BS.2088; Wave64 as Sony wrote it down in 2003. The sizes that
recorders leave open were seen in files of ffmpeg, sox and lame (`tests/audio/`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from archive.container import NO_AUDIO, Seen
from archive.mp3 import Mp3

_PCM, _MS_ADPCM, _FLOAT, _ALAW, _MULAW, _IMA_ADPCM, _GSM, _EXTENSIBLE = 1, 2, 3, 6, 7, 0x11, 0x31, 0xFFFE
_MPEG = (0x50, 0x55)
# Each sample of so many bits: OKI, G.723, Dialogic, Yamaha, G.721, G.726, G.722, some under several numbers. Their heads'
# bytes a second are often wrong.
_BITWISE = frozenset((0x10, 0x14, 0x17, 0x20, 0x40, 0x45, 0x64, 0x65, 0x28F))
# The byte or bytes of digital silence: zero, and for the companded formats of G.711 the code of the smallest value.
_SILENCE = {_PCM: b"\0", _FLOAT: b"\0", _ALAW: b"\xd5\x55", _MULAW: b"\xff\x7f"}

_CODECS = {_PCM: "pcm", _FLOAT: "float", _ALAW: "alaw", _MULAW: "mulaw"}

_LONGEST_FORMAT_BYTES = 4096
_TO_THE_END = 1 << 62


@dataclass(frozen=True)
class _Variant:
    """How a variant of WAV writes its chunks.

    Attributes:
        order: the byte order of numbers.
        name_bytes: the length of a chunk's name; the first four bytes identify it, a longer name is a GUID.
        size_bytes: the length of a chunk's size field.
        counts_head: whether the size includes name and size field.
        aligned_bytes: chunks begin at multiples of this.
    """

    order: Literal["little", "big"] = "little"
    name_bytes: int = 4
    size_bytes: int = 4
    counts_head: bool = False
    aligned_bytes: int = 2

    @property
    def head_bytes(self) -> int:
        """Of a chunk's name and size."""
        return self.name_bytes + self.size_bytes


_LITTLE = _Variant()
_WAVE64 = _Variant(name_bytes=16, size_bytes=8, counts_head=True, aligned_bytes=8)
_VARIANTS = {
    b"RIFF": _LITTLE,
    b"RF64": _LITTLE,
    b"BW64": _LITTLE,
    b"RIFX": _Variant(order="big"),
    b"riff": _WAVE64,
}
_FORMS = {4: b"WAVE", 16: b"wave\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"}


def _is_open(size: int, size_bytes: int) -> bool:
    """Whether a size is one that writers leave who do not know it yet: they write to a pipe, or were stopped.

    Zero; the greatest number, with a sign or without, or a little less; for 32 bits also what sox and espeak write
    (0x7FFFF000), arecord (0x80000000) and lame (0x7FFFFFFF, and 36 more for the whole). A true size may be one of those.
    """
    if size == 0:
        return True
    if size_bytes == 8:
        return size >= 1 << 60
    return size >= 0xFFFFFF00 or 0x7FFFEF00 <= size <= 0x80000100


@dataclass(frozen=True)
class _Format:
    """What the format chunk says."""

    tag: int
    channels: int
    rate: int
    bytes_per_second: int
    block_bytes: int
    bits: int

    @property
    def frame_bytes(self) -> int:
        """Of one sample of every channel; where the head says too few, what its bits make."""
        return max(self.block_bytes, self.channels * ((self.bits + 7) // 8))

    @property
    def is_uncompressed(self) -> bool:
        """Whether its bytes are samples, so that each channel can be looked at."""
        return self.tag in _SILENCE

    def _samples_in(self, block: int) -> int:
        """How many samples of each channel a block of so many bytes holds; 0 for a codec whose blocks are not known here."""
        channels = self.channels
        if self.is_uncompressed:
            return block // self.frame_bytes
        if self.tag in _BITWISE and self.bits:
            return block * 8 // (self.bits * channels)
        if self.tag == _GSM:
            return 320 * (block // 65)
        if self.tag == _IMA_ADPCM:
            return (block - 4 * channels) * 2 // channels + 1 if block > 4 * channels else 0
        if self.tag == _MS_ADPCM:
            return (block - 7 * channels) * 2 // channels + 2 if block >= 7 * channels else 0
        return 0

    def duration_ms(self, data_bytes: int, stated_samples: int) -> int | None:
        """How long so many bytes last; None where the head does not tell.

        Args:
            stated_samples: what the fact chunk says; it is believed where the bytes themselves do not tell, and of a last
                block that the encoder filled up.
        """
        is_in_blocks = not self.is_uncompressed and self.tag not in _BITWISE and self.block_bytes
        block_samples = self._samples_in(self.block_bytes) if is_in_blocks else 0
        if block_samples:
            blocks, rest = divmod(data_bytes, self.block_bytes)
            samples = blocks * block_samples + self._samples_in(rest)
            if 0 < samples - stated_samples < block_samples:
                samples = stated_samples
        else:
            samples = self._samples_in(data_bytes) or stated_samples
        if samples:
            return round(samples * 1000 / self.rate)
        return round(data_bytes * 1000 / self.bytes_per_second) if self.bytes_per_second else None


class Samples(NamedTuple):
    """How the samples of an uncompressed file lie.

    Attributes:
        codec: `pcm`, `float`, `alaw` or `mulaw`.
        rate: of each channel, a second.
        frame_bytes: of one sample of every channel.
        order: of the bytes of a sample.
    """

    codec: str
    channels: int
    rate: int
    frame_bytes: int
    order: Literal["little", "big"]


class Wav:
    """Reads one file of any twin.

    Args:
        watch: called with all samples of an uncompressed file, as they come.
    """

    def __init__(self, watch: Callable[[bytes, Samples], None] | None = None) -> None:
        self._watch = watch
        self._samples: Samples | None = None
        self._buffer = bytearray()
        self._variant: _Variant | None = None
        self._format: _Format | None = None
        self._stated_samples = 0  # as the fact chunk says; 0 where it does not
        self._is_broken = False
        self._skip = 0
        self._size = 0  # of all that was fed
        self._file_bytes = 0  # of the whole file, as its head says; 0 where it leaves that open
        self._data_bytes_64 = 0  # of the data chunk, as the `ds64` chunk of an RF64 file says
        self._in_data = False
        self._left = 0  # bytes of the data chunk still to come
        self._data_bytes = 0
        self._align = 0  # bytes behind it that are not of it
        self._is_open = False
        self._silence = b"\0"
        self._silent: list[bool] = []
        self._frame_bytes = 0
        self._phase = 0  # where in a frame the next byte of data falls
        self._mpeg: Mp3 | None = None

    def feed(self, chunk: bytes) -> None:
        """As `Container`."""
        self._size += len(chunk)
        if self._is_broken:
            return
        if self._in_data:  # nearly all of a file: looked at as it is, without a copy
            taken = self._take_data(chunk)
            if taken == len(chunk):
                return
            chunk = chunk[taken:]
        if self._skip and not self._buffer:  # likewise what is passed over
            passed = min(self._skip, len(chunk))
            self._skip -= passed
            if passed == len(chunk):
                return
            chunk = chunk[passed:]
        self._buffer += chunk
        while self._buffer and not self._is_broken:
            if self._in_data:
                taken = self._take_data(bytes(self._buffer))
                del self._buffer[:taken]
            elif self._skip:
                taken = min(self._skip, len(self._buffer))
                del self._buffer[:taken]
                self._skip -= taken
            elif not (self._take_chunk(self._variant) if self._variant else self._take_file_head()):
                return

    def _take_file_head(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 4:
            return False
        variant = _VARIANTS.get(bytes(buffer[:4]))
        if variant is None:
            self._is_broken = True
            return False
        head_bytes = variant.head_bytes + variant.name_bytes
        if len(buffer) < head_bytes:
            return False
        self._is_broken = buffer[variant.head_bytes : head_bytes] != _FORMS[variant.name_bytes]
        self._variant = variant
        size = int.from_bytes(buffer[variant.name_bytes : variant.head_bytes], variant.order)
        if not _is_open(size, variant.size_bytes):
            self._file_bytes = size if variant.counts_head else size + variant.head_bytes
        del buffer[:head_bytes]
        return True

    def _take_chunk(self, variant: _Variant) -> bool:
        buffer, head_bytes = self._buffer, variant.head_bytes
        if len(buffer) < head_bytes:
            return False
        name = bytes(buffer[:4])
        announced = int.from_bytes(buffer[variant.name_bytes : head_bytes], variant.order)
        size = announced - head_bytes if variant.counts_head else announced
        if name == b"data":
            del buffer[:head_bytes]
            self._begin_data(variant, announced, size)
            return True
        if size < 0:
            self._is_broken = True
            return False
        if name == b"fmt ":
            if size > _LONGEST_FORMAT_BYTES:
                self._is_broken = True
                return False
            if len(buffer) < head_bytes + size:
                return False
            self._read_format(bytes(buffer[head_bytes : head_bytes + size]), variant)
        elif name == b"fact" and size == 4:
            if len(buffer) < head_bytes + 4:
                return False
            samples = int.from_bytes(buffer[head_bytes : head_bytes + 4], variant.order)
            self._stated_samples = 0 if _is_open(samples, 4) else samples
        elif name == b"ds64" and size >= 16:
            if len(buffer) < 24:
                return False
            file_bytes, self._data_bytes_64 = (int.from_bytes(buffer[at : at + 8], "little") for at in (8, 16))
            self._file_bytes = 0 if _is_open(file_bytes, 8) else file_bytes + 8
        del buffer[:head_bytes]
        self._skip = size + -size % variant.aligned_bytes
        return True

    def _begin_data(self, variant: _Variant, announced: int, size: int) -> None:
        """Begin a data chunk; players play all of them, one after the other."""
        size_bytes = variant.size_bytes
        if announced == 0xFFFFFFFF and self._data_bytes_64:
            announced = size = self._data_bytes_64
            size_bytes = 8
        self._in_data = True
        self._is_open = size <= 0 or _is_open(announced, size_bytes)
        self._left = _TO_THE_END if self._is_open else size
        self._align = -size % variant.aligned_bytes

    def _read_format(self, body: bytes, variant: _Variant) -> None:
        if len(body) < 14:
            self._is_broken = True
            return
        fields = ((0, 2), (2, 4), (4, 8), (8, 12), (12, 14), (14, 16))
        tag, channels, rate, per_second, block, bits = (int.from_bytes(body[a:b], variant.order) for a, b in fields)
        if tag == _EXTENSIBLE and len(body) >= 26:
            tag = int.from_bytes(body[24:26], variant.order)
        form = self._format = _Format(tag, channels, rate, per_second, block, bits)
        self._is_broken = not (0 < channels <= 64 and rate > 0)
        if self._is_broken:
            return
        if form.is_uncompressed:
            frame = self._frame_bytes = form.frame_bytes
            self._is_broken = frame < channels
            if frame % channels == 0 and not self._data_bytes:  # else its beginning has passed unseen
                self._silent = [True] * channels
                is_unsigned = tag == _PCM and frame == channels  # 8 bits: the middle is silence
                self._silence = b"\x80" if is_unsigned else _SILENCE[tag]
                self._samples = Samples(_CODECS[tag], channels, rate, frame, variant.order)
        elif tag in _MPEG:
            self._mpeg = Mp3()

    def _take_data(self, data: bytes) -> int:
        """Take what belongs to the data chunk; returns how much that was."""
        taken = min(len(data), self._left)
        self._left -= taken
        self._data_bytes += taken
        own = data if taken == len(data) else data[:taken]
        if self._watch is not None and self._samples is not None:
            self._watch(own, self._samples)
        if any(self._silent):
            self._look_for_sound(own)
        elif self._mpeg:
            self._mpeg.feed(own)
        if not self._left:
            self._in_data = False
            self._skip = self._align
        return taken

    def _look_for_sound(self, data: bytes) -> None:
        """Strip silence from each byte position of a frame; what is left over belongs to a channel that sounds."""
        frame_bytes, channels = self._frame_bytes, len(self._silent)
        width = frame_bytes // channels
        for place in range(frame_bytes):
            channel = place // width
            first = (place - self._phase) % frame_bytes
            if self._silent[channel] and data[first::frame_bytes].strip(self._silence):
                self._silent[channel] = False
        self._phase = (self._phase + len(data)) % frame_bytes

    def seen(self, expected_ms: int | None) -> Seen:
        """As `Container`; bytes that are missing are missing, whatever length Telnyx gives.

        Some writers count the head into the data. The file then ends where its first size says, which none does that was cut.
        """
        form = self._format
        if self._is_broken or form is None or not self._data_bytes:
            return NO_AUDIO
        is_cut = self._in_data and not self._is_open and self._size != self._file_bytes
        if self._mpeg:
            inner = self._mpeg.seen(expected_ms)
            return Seen(inner.channels, inner.rate_hz, inner.duration_ms, is_cut or inner.is_cut)
        stated_samples = 0 if is_cut or self._is_open else self._stated_samples
        duration_ms = form.duration_ms(self._data_bytes, stated_samples)
        return Seen(form.channels, form.rate, duration_ms, is_cut, any(self._silent))

    def is_whole(self, expected_ms: int | None) -> bool:
        """As `Container`: it has reached the sizes that its head gives, to the byte; an open size shows no end."""
        has_data = not self._is_broken and self._data_bytes > 0 and not self._in_data
        return has_data and self._size == self._file_bytes
