"""`callvault healthy`: whether the receivers and workers of one installation live, for container health checks."""

from __future__ import annotations

import sys

from config.alive import LONGEST_SILENCE_SECONDS, file_of, killed, silences
from config.settings import Settings


def run(settings: Settings) -> int:
    """Say which live; returns the exit status: 1 if one hangs or was killed, or none is there."""
    folder = settings.data_folder
    found, lost = silences(folder), killed(folder)
    for name, seconds in found.items():
        state = "alive" if seconds <= LONGEST_SILENCE_SECONDS else f"hangs: nothing from it for {seconds:.0f}s"
        sys.stdout.write(f"{name} {state}\n")
    for name in lost:
        sys.stderr.write(
            f"callvault: {name} was killed and none has started in its place: start one, or remove {file_of(name, folder)}\n"
        )
    if not found:
        where = f"data folder {folder.resolve()}"
        sys.stderr.write(f"callvault: {where}: no receiver or worker of this user runs there on this machine\n")
    return 0 if found and not lost and max(found.values()) <= LONGEST_SILENCE_SECONDS else 1
