"""The version of Callvault that this process runs."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def own_version() -> str:
    """The version of the installed package; `unknown` where the code runs without being installed."""
    try:
        return metadata.version("callvault")
    except metadata.PackageNotFoundError:
        return "unknown"
