"""How much room is free on the disks that a process writes to."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from config.settings import Settings

_LOOK_SECONDS = 30
_STEP_BYTES = 10_000_000


def free_bytes(settings: Settings) -> dict[str, int]:
    """The free bytes for the data folder and, if it is a folder, for the archive; blocks.

    Raises:
        OSError: a disk does not answer.
    """
    places = {"data folder": settings.data_folder}
    if settings.archive_address.startswith("file:"):
        places["archive"] = Path(unquote(urlsplit(settings.archive_address).path))
    found = {}
    for name, path in places.items():
        there = next((p for p in (path, *path.resolve().parents) if p.exists()), Path("/"))
        found[name] = shutil.disk_usage(there).free
    return found


class Disks:
    """The free bytes as they were half a minute ago or less; reading them waits for no disk.

    Attributes:
        free: by place, rounded down to ten million; a place that does not answer keeps its last value.
    """

    def __init__(self) -> None:
        self.free: dict[str, int] = {}

    async def watch(self, settings: Settings) -> None:
        """Look every half a minute until cancelled."""
        while True:
            with suppress(OSError):
                found = await asyncio.to_thread(free_bytes, settings)
                self.free = {place: count - count % _STEP_BYTES for place, count in found.items()}
            await asyncio.sleep(_LOOK_SECONDS)
