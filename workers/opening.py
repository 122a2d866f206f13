"""Opens the archive of the settings, for commands too: most need nothing else of what a worker has."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from archive.archive import Archive
from archive.identity import NoArchive
from archive.stores.lifecycle import is_cold
from archive.stores.store import MIB, Store, StoreError, StoreOptions, StoreRefused, open_store
from config.settings import Settings
from process.logs import get_logger
from text.times import utc_now

log = get_logger()


def open_archive(settings: Settings, now: Callable[[], datetime] = utc_now, *, needs_archive: bool = True) -> Archive:
    """Open the archive of the settings. Only `callvault init` creates archives.

    If the store does not answer, the identity is read later, before the first write, so a process also starts during an
    outage.

    Args:
        settings: of the process.
        now: see `StoreOptions`.
        needs_archive: whether the caller needs an archive. If not, using a missing one raises `NoArchive`.

    Raises:
        StoreRefused: it cannot be opened, or is not an archive; the text has the advice.
    """
    address = settings.archive_address
    if settings.archive_url is None and not settings.data_folder.is_dir():
        raise StoreRefused(
            f"data folder {settings.data_folder} does not exist; set CALLVAULT_DATA or --data to the folder the service uses, "
            "or set CALLVAULT_ARCHIVE_URL"
        )
    archive = Archive(open_archive_store(settings, now), settings.proof, needs_identity=True)
    try:
        _ = archive.identity
    except NoArchive:
        if needs_archive:
            raise
    except StoreError as error:
        log.info("the archive does not answer yet", archive=address, error=str(error))  # whoever uses it reports that
    return archive


def open_archive_store(settings: Settings, now: Callable[[], datetime] = utc_now) -> Store:
    """Open the store of the settings, whether it holds an archive or not.

    Raises:
        StoreRefused: it cannot be opened, or audio would be written where nobody can read it.
    """
    if is_cold(settings.archive_address, settings.storage_class):
        raise StoreRefused(
            f"CALLVAULT_STORAGE_CLASS: nothing in {settings.storage_class} can be read before it is restored, so new audio "
            "could not be proven or heard; unset it, and move audio there later by a lifecycle rule (docs/stores.md)"
        )
    options = StoreOptions(
        buffer_bytes=settings.upload_buffer_mib * MIB,
        encryption_key=settings.encryption_key,
        storage_class=settings.storage_class,
        retention=settings.retention,
        retention_mode=settings.retention_mode,
        label=settings.object_labels,
        now=now,
    )
    return open_store(settings.archive_address, options)
