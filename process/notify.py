"""Tell systemd how this process is: started, or alive.

Source: sd_notify(3), "Notes": one datagram to the Unix socket in `NOTIFY_SOCKET`. Without systemd it is not set.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

READY = "READY=1"  # the service does its work
ALIVE = "WATCHDOG=1"  # resets the time of WatchdogSec=


def notify(state: str) -> None:
    """Send a state to systemd, if it started this process; a failure is ignored, since nobody else could act on it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
