"""Reads back the whole entries of a ZIP that has no directory yet, because the run that wrote it was interrupted.

An entry begins with its local header (APPNOTE 6.3.10, section 4.3.7), in which zipfile writes the sizes once they are known.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

_HEADER = struct.Struct("<4sHHHHHLLLHH")
_SIGNATURE = b"PK\x03\x04"
_ZIP64 = struct.Struct("<HHQQ")
_IN_ZIP64 = 0xFFFFFFFF
_UTF8 = 0x800
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Kept:
    """A whole entry.

    Attributes:
        info: as the directory of the ZIP will have it.
        sha256: of its content.
        end: where the next entry begins.
    """

    info: zipfile.ZipInfo
    sha256: str
    end: int


def read_kept(file: IO[bytes]) -> Iterator[Kept]:
    """The entries from the beginning of a file up to the first that is not whole; each is read and checked.

    Raises:
        OSError: the file cannot be read.
    """
    at = 0
    while (one := _read(file, at)) is not None:
        yield one
        at = one.end


def _read(file: IO[bytes], at: int) -> Kept | None:
    file.seek(at)
    head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        return None
    signature, version, flags, method, clock, day, crc, packed, size, name_length, extra_length = _HEADER.unpack(head)
    if signature != _SIGNATURE or method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or flags & ~_UTF8:
        return None
    name, extra = file.read(name_length), file.read(extra_length)
    if _IN_ZIP64 in (packed, size):
        if len(extra) != _ZIP64.size:
            return None
        _, _, size, packed = _ZIP64.unpack(extra)
    try:
        info = zipfile.ZipInfo(name.decode(), _instant(day, clock))
    except ValueError:
        return None
    found = _content(file, packed, is_deflated=method == zipfile.ZIP_DEFLATED)
    if found is None or found[:2] != (size, crc):
        return None
    info.compress_type, info.CRC, info.compress_size, info.file_size = method, crc, packed, size
    info.flag_bits, info.header_offset, info.extract_version, info.create_version = flags, at, version, version
    return Kept(info, found[2], at + _HEADER.size + name_length + extra_length + packed)


def _instant(day: int, clock: int) -> tuple[int, int, int, int, int, int]:
    return (day >> 9) + 1980, (day >> 5) & 15, day & 31, clock >> 11, (clock >> 5) & 63, (clock & 31) * 2


def _content(file: IO[bytes], packed: int, *, is_deflated: bool) -> tuple[int, int, str] | None:
    """The size, CRC-32 and SHA-256 of a content; None if it is cut off or cannot be read."""
    digest, crc, size = hashlib.sha256(), 0, 0
    inflate = zlib.decompressobj(-zlib.MAX_WBITS) if is_deflated else None
    while packed:
        chunk = file.read(min(packed, _CHUNK_BYTES))
        if not chunk:
            return None
        packed -= len(chunk)
        if inflate is not None:
            try:
                chunk = inflate.decompress(chunk)
            except zlib.error:
                return None
        digest.update(chunk)
        crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    if inflate is not None and not inflate.eof:
        return None
    return size, crc, digest.hexdigest()
