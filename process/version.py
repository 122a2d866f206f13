"""The version of Callvault that this process runs."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def own_version() -> str:
    """The version of the installed package; `unknown` where the code runs without being installed."""
    try:
        return version("callvault")
    except PackageNotFoundError:
        return "unknown"
