"""How a process ends: while its threads still work, and before its server has begun."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time

_SECONDS = 2.0


def end_on_signals() -> None:
    """Have SIGTERM and SIGINT end this process with status 0, until and after a server of uvicorn's has its own way with them.

    uvicorn raises a signal again once it has stopped. One that comes before it listens to signals ends the process too: a
    handler that only swallowed it would leave a process that nobody asks to end a second time.
    """

    def end(*_: object) -> None:
        raise SystemExit(0)

    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, end)


def leave_soon(status: int) -> None:
    """Have this process end with a status within two seconds, whatever its threads do.

    Python waits for the threads of pools to end. One of them may be sending a block of a recording over a thin line, or
    waiting to send it again, for minutes; whoever asked the process to end would kill it first. What such a thread was
    at may stop at any line, and is done again by the next run of its job.
    """

    def leave() -> None:
        time.sleep(_SECONDS)
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)

    threading.Thread(target=leave, name="callvault-leave", daemon=True).start()
