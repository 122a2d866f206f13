"""Finds one recording by its id: in the archive itself if the catalogue does not have it.

A recording lies under its day, and its id does not contain the day. So known days, such as Telnyx's, come first, and
then every day of the last years, latest first.
"""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from typing import TYPE_CHECKING

from archive.ahead import ahead
from archive.archive import Archive
from text.times import parse_instant, utc_now
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.feed import take_folder

if TYPE_CHECKING:
    from telnyx_api.client import TelnyxClient

_DAYS_BEFORE = 400  # a backfill may archive recordings older than the archive
_MOST_DAYS = 1_500
_TELNYX_SECONDS = 3.0


async def day_at_telnyx(telnyx: TelnyxClient, recording_id: str) -> date | None:
    """The day of a recording at Telnyx; None if Telnyx no longer has it or does not answer within three seconds."""
    from telnyx_api.errors import TelnyxError

    try:
        async with asyncio.timeout(_TELNYX_SECONDS):
            return (await telnyx.recordings.retrieve(recording_id)).dated.date()
    except (TelnyxError, TimeoutError, ValueError):
        return None


def take_from_archive(catalogue: Catalogue, archive: Archive, recording_id: str, near: date | None) -> bool:
    """Find a recording in the archive itself and import its folder; blocks.

    Args:
        catalogue: it imports the folder.
        archive: the archive.
        recording_id: the recording's id.
        near: its day, if known.

    Returns:
        Whether the archive has it.

    Raises:
        StoreError: the archive cannot be asked now.
    """
    folder = None if near is None else archive.find_folder(recording_id, near)
    folder = folder or find_in_archive(archive, recording_id, catalogue)
    if folder is None:
        return False
    take_folder(catalogue, archive, folder)
    return True


def first_day(catalogue: Catalogue | None, archive: Archive) -> date:
    """The first day to search: 400 days before the archive was created, or before its first known recording."""
    began = parse_instant(archive.identity.created_at).date()
    oldest = None if catalogue is None else catalogue.oldest_day()
    first = min(began, oldest or began) - timedelta(days=_DAYS_BEFORE)
    return max(first, utc_now().date() - timedelta(days=_MOST_DAYS))


def find_in_archive(archive: Archive, recording_id: str, catalogue: Catalogue | None = None) -> str | None:
    """The folder of a committed or erased recording of unknown day, by a look under every day; blocks.

    Args:
        archive: the archive.
        recording_id: the recording's id.
        catalogue: it may know of recordings older than the archive.

    Raises:
        StoreError: the archive cannot be asked now.
    """
    first = first_day(catalogue, archive)
    last = utc_now().date() + timedelta(days=1)  # in case a clock was ahead
    days = (last - timedelta(days=n) for n in range((last - first).days + 1))

    def found(day: date) -> str | None:
        return archive.find_folder(recording_id, day, days=0)

    return next((folder for folder in ahead(days, found) if folder is not None), None)
