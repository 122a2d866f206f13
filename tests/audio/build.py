"""The parts of odd audio files: chunks of WAV and its twins, frames and tags of MP3."""

from __future__ import annotations

import random
import struct
from functools import cache

from sandbox.audio import make_mp3

RATE = 8000
GUID_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_SOUND = bytes(1 + n % 0x54 for n in range(256))
RIFF_GUID = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")


@cache
def noise(size: int) -> bytes:
    """Bytes without a pattern; none looks like silence or a frame header."""
    return random.Random(1).randbytes(size).translate(_SOUND)


def pcm(seconds: float, channels: int = 1, width: int = 2) -> bytes:
    """Samples that sound."""
    return noise(round(seconds * RATE) * channels * width)


def form(
    tag: int = 1,
    channels: int = 1,
    bits: int = 16,
    *,
    rate: int = RATE,
    block: int | None = None,
    per_second: int | None = None,
    more: bytes = b"",
    order: str = "<",
) -> bytes:
    """The body of a format chunk."""
    block = channels * bits // 8 if block is None else block
    per_second = rate * block if per_second is None else per_second
    return struct.pack(order + "HHIIHH", tag, channels, rate, per_second, block, bits) + more


def chunk(name: bytes, body: bytes, size: int | None = None, order: str = "<") -> bytes:
    """A chunk, padded; on demand with a size that is not its own."""
    return name + struct.pack(order + "I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def riff(*chunks: bytes, name: bytes = b"RIFF", size: int | None = None, order: str = "<") -> bytes:
    """A file of chunks; on demand with a size that is not its own."""
    body = b"WAVE" + b"".join(chunks)
    return name + struct.pack(order + "I", len(body) if size is None else size) + body


def wav(
    data: bytes,
    fmt: bytes | None = None,
    *,
    data_size: int | None = None,
    size: int | None = None,
    before: bytes = b"",
    behind: bytes = b"",
) -> bytes:
    """A WAV file."""
    return riff(chunk(b"fmt ", fmt or form()), before, chunk(b"data", data, data_size), behind, size=size)


def rifx(data: bytes, data_size: int | None = None, size: int | None = None) -> bytes:
    """A big-endian WAV."""
    parts = chunk(b"fmt ", form(order=">"), order=">"), chunk(b"data", data, data_size, ">")
    return riff(*parts, name=b"RIFX", size=size, order=">")


def rf64(data: bytes, name: bytes = b"RF64", *, is_open: bool = False) -> bytes:
    """A WAV with sizes of 64 bits, or with none."""
    rest = chunk(b"fmt ", form()) + chunk(b"data", data, 0xFFFFFFFF)
    sizes = (0, 0, 0) if is_open else (4 + 36 + len(rest), len(data), len(data) // 2)
    return riff(chunk(b"ds64", struct.pack("<QQQI", *sizes, 0)), rest, name=name, size=0xFFFFFFFF)


def wave64(data: bytes, *, size: int | None = None, data_size: int | None = None) -> bytes:
    """A Wave64 file."""
    fmt = b"fmt " + GUID_TAIL + struct.pack("<Q", 40) + form()
    head = b"data" + GUID_TAIL + struct.pack("<Q", 24 + len(data) if data_size is None else data_size)
    whole = 40 + len(fmt) + len(head) + len(data)
    return RIFF_GUID + struct.pack("<Q", whole if size is None else size) + b"wave" + GUID_TAIL + fmt + head + data


def extensible(subformat: int, bits: int, channels: int = 2) -> bytes:
    """The body of a WAVE_FORMAT_EXTENSIBLE chunk."""
    guid = struct.pack("<H", subformat) + bytes.fromhex("000000001000800000aa00389b71")
    return form(0xFFFE, channels, bits, more=struct.pack("<HHI", 22, bits, 3) + guid)


@cache
def frames(seconds: float, channels: int = 1) -> bytes:
    """Frames of speech-like tones, 8 kHz, 16 kbit/s a channel, without a tag."""
    audio = make_mp3("x", seconds, channels)
    data = b"".join(audio.read(0, audio.size))
    return data[10 + data[9] :]


def still_frame(b1: int, b2: int, b3: int, length: int) -> bytes:
    """A silent frame of any kind: zeros after its header."""
    return bytes((0xFF, b1, b2, b3)) + bytes(length - 4)


def id3v2(size: int, *, has_foot: bool = False) -> bytes:
    """An ID3v2 tag with so many bytes after its header."""
    seven = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    text = b"TIT2\0\0\0\2\0\0\3x"
    foot = b"3DI\x04\0\x10" + seven if has_foot else b""
    return b"ID3\x04\0" + (b"\x10" if has_foot else b"\0") + seven + text + bytes(size - len(text)) + foot


def id3v1() -> bytes:
    """A tag of ID3v1."""
    return b"TAG" + b"a song".ljust(125, b"\0")


def ape(*, has_head: bool = True) -> bytes:
    """A tag of APEv2."""
    item = struct.pack("<II", 300, 0) + b"Title\0" + b"x" * 300

    def end(flags: int) -> bytes:
        return b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, flags) + bytes(8)

    if has_head:
        return end(0xA0000000) + item + end(0x80000000)
    return item + end(0)


def info(count: int | None, size: int | None, *, name: bytes = b"Info", added: tuple[int, int] | None = None) -> bytes:
    """A silent frame (mono, 8 kHz, 40 kbit/s) that gives the number of frames and the total length."""
    flags = (count is not None) + 2 * (size is not None)
    fields = name + struct.pack(">I", flags) + b"".join(struct.pack(">I", n) for n in (count, size) if n is not None)
    if added:
        fields += b"LAME3.100" + bytes(12) + (added[0] << 12 | added[1]).to_bytes(3, "big")
    return bytes((0xFF, 0xE3, 0x58, 0xC0)) + bytes(9) + fields.ljust(_INFO_FRAME_BYTES - 13, b"\0")


_INFO_FRAME_BYTES = 576 * 40 * 125 // RATE  # 360


def vbri(count: int, size: int) -> bytes:
    """The same as Fraunhofer's encoder writes it."""
    fields = b"VBRI" + struct.pack(">HHHII", 1, 0, 0, size, count)
    return bytes((0xFF, 0xE3, 0x58, 0xC0)) + bytes(32) + fields.ljust(_INFO_FRAME_BYTES - 36, b"\0")
