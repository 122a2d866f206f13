"""How much room is free on the disks that a process writes to."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from config.settings import Settings

_LOOK_SECONDS = 30
_STEP_BYTES = 10_000_000


def folders_of(settings: Settings) -> dict[str, Path]:
    """The folders that a process writes to: the data folder and, unless it is a bucket, the archive."""
    found = {"data folder": settings.data_folder}
    if settings.archive_address.startswith("file:"):
        found["archive"] = Path(unquote(urlsplit(settings.archive_address).path))
    return found


def free_bytes(folder: Path) -> int:
    """The free bytes on the disk of a folder, which need not exist yet; blocks.

    Raises:
        OSError: the disk does not answer.
    """
    there = next((path for path in (folder, *folder.resolve().parents) if path.exists()), Path("/"))
    return shutil.disk_usage(there).free


class Disks:
    """The free bytes as they were a minute ago or less; reading them waits for no disk."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}  # by place: the bytes, and when the disk answered

    @property
    def free(self) -> dict[str, int]:
        """By place, rounded down to ten million; a disk that fails or hangs has no value."""
        since = time.monotonic() - 2 * _LOOK_SECONDS
        return {place: count for place, (count, at) in self._seen.items() if at >= since}

    async def watch(self, settings: Settings) -> None:
        """Look every half a minute until cancelled; a disk that hangs holds up no other."""
        await asyncio.gather(*(self._watch(place, folder) for place, folder in folders_of(settings).items()))

    async def _watch(self, place: str, folder: Path) -> None:
        while True:
            with suppress(OSError):
                count = await asyncio.to_thread(free_bytes, folder)
                self._seen[place] = count - count % _STEP_BYTES, time.monotonic()
            await asyncio.sleep(_LOOK_SECONDS)
