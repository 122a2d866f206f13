"""Whether the processes of this machine are alive: each touches a file of its own while its event loop turns.

It asks nobody else, so an outage of Redis, Telnyx or the store makes no process look dead, and no container is killed for it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

LONGEST_SILENCE_SECONDS = 30.0
_TOUCH_SECONDS = 3.0


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"callvault-alive-{os.getuid()}"


async def show_alive(what: str) -> None:
    """Touch this process's file every three seconds until cancelled; without a folder to write into, do nothing.

    Args:
        what: which part this is, `serve` or `worker`.
    """
    path = _folder() / f"{what}-{os.getpid()}"
    try:
        while True:
            with suppress(OSError):  # whatever cleans that folder up, the next turn makes it again
                path.parent.mkdir(mode=0o700, exist_ok=True)
                if path.parent.stat().st_uid == os.getuid():  # nobody else's, who could have us touch what they like
                    path.touch()
            await asyncio.sleep(_TOUCH_SECONDS)
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def silences() -> dict[str, float]:
    """The processes of this user on this machine, such as `worker-17`, and for how many seconds each has been silent.

    What was killed, and could not take its file away, is left out.
    """
    found = {}
    with suppress(OSError):
        for path in sorted(_folder().iterdir()):
            with suppress(OSError, ValueError):
                os.kill(int(path.name.rpartition("-")[2]), 0)
                found[path.name] = time.time() - path.stat().st_mtime
    return found
