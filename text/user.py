"""Name the user who runs a command, for records of who did what."""

from __future__ import annotations

import getpass
import os


def user_name() -> str:
    """The name of this process's user; `user 10001` in a container whose user has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        return f"user {os.getuid()}"
