"""One seal, with what this page has checked of it: its manifest, signature and time stamp, and who has seen its head."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
from redis.exceptions import RedisError
from starlette.responses import Response, StreamingResponse

from archive import layout
from archive.archive import Archive
from archive.proof import hash_object
from archive.records import UnreadableRecord
from archive.seals import Link
from archive.signers import check_signature, packages_of_seals
from config.settings import Settings
from service.ops.parts import Ops
from service.ops.person import Refused
from text.errors import UserError
from text.sizes import format_size
from text.times import format_moment
from workers.seals.signing import open_seal_keys
from workers.seals.witness import Witnessed, last_witnessed

_LARGEST_HASHED_BYTES = 64 * 1024 * 1024  # of a manifest: half a million objects

_TYPES = {
    "json": "application/json",
    "sha256": "text/plain",
    "sig": "text/plain",
    "tsr": "application/timestamp-reply",
}


class Check(msgspec.Struct, frozen=True):
    """The result of a check.

    Attributes:
        state: `good`, `bad`, or `unknown`: it was not checked, or there is nothing to check.
        text: what was checked with which result, or why it was not.
    """

    state: Literal["good", "bad", "unknown"]
    text: str


class SealOf(msgspec.Struct, frozen=True, kw_only=True):
    """One seal of a day.

    Attributes:
        sha256: of the seal itself, which the next seal contains; hexadecimal.
        reconciled_at: when a reconcile with Telnyx found the day complete; ISO 8601, UTC, likewise sealed_at.
        not_archived: number of recordings that its manifest lists as not archived.
        files: the names of its files under `seals/`.
        manifest, signature, time_stamp, witness: what was checked of each, now.
    """

    sequence: int
    sealed_at: str
    recordings: int
    transcriptions: int
    bytes: int
    manifest_sha256: str
    sha256: str
    previous_sha256: str | None
    reconciled_at: str
    not_archived: int
    files: list[str]
    manifest: Check
    signature: Check
    time_stamp: Check
    witness: Check


async def look_at_seals(ops: Ops, links: Sequence[Link]) -> list[SealOf]:
    """Read the seals of a day, and check them.

    Raises:
        UnreadableRecord: the archive holds another seal than is remembered.
        StoreError: the archive cannot be read now.
    """
    taken = await _read_witnessed(ops)
    return [await asyncio.to_thread(_look, ops.runtime.archive, ops.settings, link, taken) for link in links]


def _look(archive: Archive, settings: Settings, link: Link, taken: Witnessed | str) -> SealOf:
    seal = link.seal
    data = archive.read_small(layout.seal_key(seal.sequence)) or b""
    if hashlib.sha256(data).hexdigest() != link.sha256:
        raise UnreadableRecord(layout.seal_key(seal.sequence), "other bytes than this service remembers of it")
    names = [layout.seal_key(seal.sequence, suffix) for suffix in ("json", "sha256", "sig", "tsr")]
    return SealOf(
        sequence=seal.sequence,
        sealed_at=seal.sealed_at,
        recordings=seal.recordings,
        transcriptions=seal.transcriptions,
        bytes=seal.bytes,
        manifest_sha256=seal.manifest_sha256,
        sha256=link.sha256,
        previous_sha256=seal.previous_sha256,
        reconciled_at=seal.reconciled_at,
        not_archived=0 if seal.not_archived is msgspec.UNSET else seal.not_archived,
        files=[key.rpartition("/")[2] for key in names if archive.store.stat(key) is not None],
        manifest=_manifest(archive, link),
        signature=_signature(archive, settings, seal.sequence, data),
        time_stamp=_time_stamp(archive, settings, seal.sequence, data),
        witness=_witness(taken, seal.sequence),
    )


def _manifest(archive: Archive, link: Link) -> Check:
    key = layout.seal_key(link.seal.sequence, "sha256")
    stored = archive.store.stat(key)
    if stored is None:
        return Check("bad", "gone from the archive")
    if stored.size > _LARGEST_HASHED_BYTES:
        return Check(
            "unknown", f"not hashed here, for it has {format_size(stored.size)}; run `callvault verify --seals`"
        )
    if hash_object(archive.store, key) != link.seal.manifest_sha256:
        return Check("bad", "its SHA-256 is not the one in the seal")
    return Check("good", "its SHA-256 is the one in the seal")


def _signature(archive: Archive, settings: Settings, sequence: int, data: bytes) -> Check:
    key = layout.seal_key(sequence, "sig")
    if archive.store.stat(key) is None:
        is_set = settings.seal_key is not None
        why = "a worker signs it within ten minutes, if it made it" if is_set else "CALLVAULT_SEAL_KEY is not set here"
        return Check("unknown", f"none; {why}")
    try:
        trusted = open_seal_keys(settings).trusted if settings.seal_key is not None else None
        signer, problems = check_signature(archive, "signature", key, data, trusted)
    except UserError as error:
        return Check("unknown", f"not checked: {error}")
    if problems:
        return Check("bad", problems[0].what)
    if trusted is None:
        return Check("good", f"valid, by the key {signer}; CALLVAULT_SEAL_KEY is not set here to compare it with")
    return Check("good", f"valid, by the key {signer}, which CALLVAULT_SEAL_KEY names")


def _time_stamp(archive: Archive, settings: Settings, sequence: int, data: bytes) -> Check:
    key = layout.seal_key(sequence, "tsr")
    stamp = archive.read_small(key)
    if stamp is None:
        return Check("unknown", "none" if settings.timestamp_url else "none; CALLVAULT_TIMESTAMP_URL is not set here")
    try:
        with packages_of_seals(key):
            from archive.timestamps import BadTimestamp, verify_timestamp
    except UserError as error:
        return Check("unknown", f"not checked: {error}")
    try:
        instant = verify_timestamp(stamp, data, settings.timestamp_ca)
    except BadTimestamp as error:
        return Check("bad", str(error))
    who = "CALLVAULT_TIMESTAMP_CA is not set here, so the authority was not checked"
    checked = "of an authority in CALLVAULT_TIMESTAMP_CA" if settings.timestamp_ca else who
    return Check("good", f"of {instant:%Y-%m-%d %H:%M:%S} UTC; {checked}")


async def _read_witnessed(ops: Ops) -> Witnessed | str:
    """The head that the witnesses took last, or why it is not known."""
    try:
        return await last_witnessed(ops.redis) or "none is known to have its head"
    except (RedisError, OSError):
        return "unknown, for Redis does not answer"


def _witness(taken: Witnessed | str, sequence: int) -> Check:
    if isinstance(taken, str):
        return Check("unknown", taken)
    if sequence > taken.sequence:
        return Check("unknown", "none is known to have a head that covers it")
    at = format_moment(datetime.fromtimestamp(taken.at, UTC))
    return Check("good", f"the head of seal {taken.sequence}, which covers it, was sent on {at}")


async def file_of_seal(ops: Ops, name: str, links: Sequence[Link]) -> Response:
    """A file of one of some seals, as it lies in the archive.

    Raises:
        Refused: there is no such file, or it is of another seal.
        StoreError: the archive cannot be read now.
    """
    key = f"seals/{name}"
    place = layout.seal_of(key)
    is_there = place is not None and any(link.seal.sequence == place[0] for link in links)
    if place is None or not is_there or await asyncio.to_thread(ops.runtime.archive.store.stat, key) is None:
        raise Refused(404, f"no file {name[:60]} of a seal of this day in the archive")
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(ops.runtime.archive.store.read(key), 200, headers, _TYPES[place[1]])
