"""`callvault healthy`: whether the receivers and workers of this machine live, for container health checks."""

from __future__ import annotations

import sys

from config.alive import LONGEST_SILENCE_SECONDS, silences


def run() -> int:
    """Say which live; returns the exit status: 1 if one hangs, or none is there."""
    found = silences()
    for name, seconds in found.items():
        state = "alive" if seconds <= LONGEST_SILENCE_SECONDS else f"hangs: nothing from it for {seconds:.0f}s"
        sys.stdout.write(f"{name} {state}\n")
    if not found:
        sys.stderr.write("callvault: no receiver or worker of this user runs on this machine\n")
    return 0 if found and max(found.values()) <= LONGEST_SILENCE_SECONDS else 1
