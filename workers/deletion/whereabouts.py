"""Where a recording is, in the archive and at Telnyx, as far as each answers: a decision does not wait for the network."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date

from archive import layout
from archive.archive import Archive
from archive.readers import ERASURE, GONE, RECEIPT
from archive.records import UnreadableRecord
from archive.stores.store import StoreError
from telnyx_api.errors import NotFound, TelnyxError
from workers.catalogue.lookup import find_in_archive
from workers.runtime import Runtime

_TELNYX_SECONDS = 10.0


@dataclass(frozen=True)
class Whereabouts:
    """Where a recording is.

    Attributes:
        folder: in the archive; None: it is not committed, or lies far from the day that Telnyx names.
        is_at_telnyx: whether Telnyx has its original; None: unknown.
        gone: what the archive records of the end of its original, one line; None: nothing.
        erased: what the archive records of its erasure, likewise.
        unknown: a line for each look-up that failed, with the reason.
    """

    folder: str | None = None
    is_at_telnyx: bool | None = None
    gone: str | None = None
    erased: str | None = None
    unknown: tuple[str, ...] = ()


async def find_recording(runtime: Runtime, recording_id: str) -> Whereabouts:
    """Look for a recording; the answer names what could not be asked, and nothing is raised."""
    unknown: list[str] = []
    near: date | None = None
    is_there: bool | None = None
    try:
        near = await _day_at_telnyx(runtime, recording_id)
        is_there = near is not None
    except (TelnyxError, ValueError) as error:
        unknown.append(f"whether its original is still at Telnyx ({error})")
    try:
        folder, gone, erased = await runtime.in_thread(_in_archive, runtime.archive, recording_id, near)
    except (StoreError, UnreadableRecord) as error:
        unknown.append(f"where it lies in the archive ({error})")
        return Whereabouts(is_at_telnyx=is_there, unknown=tuple(unknown))
    return Whereabouts(folder, is_there, gone, erased, tuple(unknown))


async def is_at_telnyx(runtime: Runtime, recording_id: str) -> bool | None:
    """Whether Telnyx shows a recording; None if Telnyx does not answer now."""
    try:
        return await _day_at_telnyx(runtime, recording_id) is not None
    except (TelnyxError, ValueError):
        return None


async def _day_at_telnyx(runtime: Runtime, recording_id: str) -> date | None:
    """The day of a recording at Telnyx; None if Telnyx does not show it.

    Raises:
        TelnyxError, ValueError: it cannot be asked now, or names no day.
    """
    if not runtime.has_api_key:
        raise TelnyxError("TELNYX_API_KEY is not set")
    try:
        async with asyncio.timeout(_TELNYX_SECONDS):
            return (await runtime.telnyx.recordings.retrieve(recording_id)).dated.date()
    except NotFound:
        return None
    except TimeoutError:
        raise TelnyxError(f"no answer within {_TELNYX_SECONDS:g} s") from None


def _in_archive(archive: Archive, recording_id: str, near: date | None) -> tuple[str | None, str | None, str | None]:
    folder = archive.find_folder(recording_id, near) if near else find_in_archive(archive, recording_id)
    if folder is None:
        return None, None, None
    return folder, _gone(archive, folder), erasure_of(archive, folder)


def _gone(archive: Archive, folder: str) -> str | None:
    key = layout.receipt_key(folder)
    if (data := archive.read_small(key)) is not None:
        return f"deleted at Telnyx, which was confirmed at {RECEIPT.read(data, key).confirmed_gone_at[:19]}Z"
    key = layout.gone_key(folder)
    if (data := archive.read_small(key)) is not None:
        return f"gone at Telnyx before we asked for its deletion, found at {GONE.read(data, key).found_gone_at[:19]}Z"
    return None


def erasure_of(archive: Archive, folder: str) -> str | None:
    """The recorded erasure of a recording in one line; None without one; blocks.

    Raises:
        UnreadableRecord: the record cannot be read.
        StoreError: the archive cannot be asked now.
    """
    key = layout.erasure_key(folder)
    if (data := archive.read_small(key)) is None:
        return None
    record = ERASURE.read(data, key)
    return f"erased at {record.erased_at[:19]}Z by {record.by}: {record.why}"
