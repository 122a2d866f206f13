"""Adds a seal to the chain: the manifest, which claims the number, then the rows, the seal, and its signature.

Everything here blocks and runs in worker threads. `docs/decisions/0006` explains the order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import msgspec

from archive import layout
from archive.archive import Archive, ArchiveConflict
from archive.proof import hash_object
from archive.records import Seal, encode_record
from archive.seals import Chain, Link, Manifest
from text.times import format_instant, utc_now

_COPY_BYTES = 256 * 1024


class Unfinished(Exception):
    """The next sequence number has a manifest and no seal: a worker died, or another one is writing it."""

    def __init__(self, sequence: int) -> None:
        super().__init__(f"{layout.seal_key(sequence, 'sha256')}: the manifest has no seal yet")
        self.sequence = sequence


class SealedMeanwhile(Exception):
    """The day got a seal after it was listed; its new objects must be listed again."""


@dataclass(frozen=True)
class Making:
    """The steps that accompany the writing of a seal.

    Attributes:
        put_rows: writes the rows of a sequence number for query engines, before its seal.
        remember: receives the number and SHA-256 of a seal before it is written.
        sign: signs the bytes of a seal; None to leave seals unsigned.
    """

    put_rows: Callable[[int], None] = lambda _: None
    remember: Callable[[int, str], None] = lambda *_: None
    sign: Callable[[bytes], bytes] | None = None


def append(
    archive: Archive,
    chain: Chain,
    day: date,
    manifest: Manifest,
    reconciled_at: str,
    making: Making,
    only: int | None = None,
) -> Link:
    """Add a seal to the chain. One worker at a time where the store ignores conditions: see `workers/seals/seal.py`.

    Args:
        archive: the archive.
        chain: as it was when the day was listed; `append` refreshes it.
        day: UTC.
        manifest: the objects of the day that no seal lists.
        reconciled_at: ISO 8601.
        making: the steps that accompany it.
        only: the one number that the seal may have.

    Raises:
        Unfinished: another manifest has the next number, and must be finished first.
        SealedMeanwhile: another worker sealed the day, or took the only number.
        StoreError: the store did not take it now.
    """
    listed_with = len(chain.of_day(day))
    while True:
        chain.refresh()
        sequence = len(chain.links) + 1
        if len(chain.of_day(day)) != listed_with or only not in (None, sequence):
            raise SealedMeanwhile
        try:
            archive.put(layout.seal_key(sequence, "sha256"), manifest.chunks(), "text/plain")
        except ArchiveConflict:
            if archive.store.stat(layout.seal_key(sequence)) is None:
                raise Unfinished(sequence) from None
            continue
        making.put_rows(sequence)
        seal = Seal(
            sequence=sequence,
            day=day.isoformat(),
            recordings=manifest.recordings,
            transcriptions=manifest.transcriptions,
            bytes=manifest.bytes,
            manifest_sha256=manifest.sha256,
            previous_sha256=chain.links[-1].sha256 if chain.links else None,
            reconciled_at=reconciled_at,
            sealed_at=format_instant(utc_now()),
            not_archived=manifest.not_archived or msgspec.UNSET,
        )
        return _put_seal(archive, chain, seal, making)


def append_void(archive: Archive, chain: Chain, sequence: int, day: date, why: str, making: Making) -> Link:
    """Write a void seal for a manifest that cannot be finished, so that the chain continues after its number.

    Args:
        archive: the archive.
        chain: the chain; `append_void` refreshes it.
        sequence: the number that the manifest has.
        day: the day of its manifest, as far as is known.
        why: one line.
        making: the steps that accompany it; no rows are written.

    Raises:
        SealedMeanwhile: the number is no longer the next one, or has a seal now.
        StoreError: the store did not take it now.
    """
    chain.refresh()
    if sequence != len(chain.links) + 1:
        raise SealedMeanwhile
    now = format_instant(utc_now())
    seal = Seal(
        sequence=sequence,
        day=day.isoformat(),
        recordings=0,
        transcriptions=0,
        bytes=0,
        manifest_sha256=hash_object(archive.store, layout.seal_key(sequence, "sha256")),
        previous_sha256=chain.links[-1].sha256 if chain.links else None,
        reconciled_at=now,
        sealed_at=now,
        void=why,
    )
    return _put_seal(archive, chain, seal, making)


def _put_seal(archive: Archive, chain: Chain, seal: Seal, making: Making) -> Link:
    """Write a seal and sign it at once.

    Raises:
        SealedMeanwhile: another worker has written another seal under its number.
    """
    data = encode_record(seal)
    making.remember(seal.sequence, hashlib.sha256(data).hexdigest())
    try:
        archive.put(layout.seal_key(seal.sequence), data, "application/json")
    except ArchiveConflict:
        chain.refresh()
        standing = chain.links[seal.sequence - 1]
        if standing.seal.void != seal.void or standing.seal.manifest_sha256 != seal.manifest_sha256:
            raise SealedMeanwhile from None
        return standing  # another worker sealed the same manifest, and signs it
    if making.sign is not None:
        put_beside(archive, seal.sequence, "sig", making.sign(data))
    chain.refresh()
    return chain.links[seal.sequence - 1]


def put_beside(archive: Archive, sequence: int, suffix: Literal["sig", "tsr"], data: bytes) -> None:
    """Write a signature or a time stamp beside a seal; an existing one stays."""
    try:
        archive.put(layout.seal_key(sequence, suffix), data, "application/octet-stream")
    except ArchiveConflict:
        pass  # another worker's stamp, of another moment


def put_file(archive: Archive, key: str, path: Path) -> None:
    """Write a file to the archive; an existing one stays."""

    def chunks() -> Iterator[bytes]:
        with path.open("rb") as file:
            while chunk := file.read(_COPY_BYTES):
                yield chunk

    try:
        archive.put(key, chunks(), "application/vnd.apache.parquet")
    except ArchiveConflict:
        pass  # the same rows, written by another version of the library
