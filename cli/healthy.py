"""`callvault healthy`: check that local receivers and workers are alive, for container health checks."""

from __future__ import annotations

import sys

from cli.options import DataFolder, settings_of
from process.alive import LONGEST_SILENCE_SECONDS, file_of, killed, silences


def command(data: DataFolder = None) -> int:
    """Check that local receivers and workers are alive.

    It looks at processes of this data folder on this machine. Exit status 1: one hangs, one was killed,
    or none is running.

    Example: callvault healthy
    """
    folder = settings_of(data).data_folder
    found, lost = silences(folder), killed(folder)
    for name, seconds in found.items():
        state = "alive" if seconds <= LONGEST_SILENCE_SECONDS else f"hangs: no sign of life for {seconds:.0f}s"
        sys.stdout.write(f"{name} {state}\n")
    for name in lost:
        sys.stderr.write(
            f"callvault: {name} was killed and not replaced; start another, or remove {file_of(name, folder)}\n"
        )
    if not found:
        sys.stderr.write(f"callvault: no receiver or worker runs on this machine for data folder {folder.resolve()}\n")
    return 0 if found and not lost and max(found.values()) <= LONGEST_SILENCE_SECONDS else 1
