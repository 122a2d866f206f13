"""End a process: by a signal before its server runs, and in time although threads still work."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import NoReturn

_SECONDS = 2.0


def end_on_signals() -> None:
    """Let SIGTERM and SIGINT end this process with status 0 while uvicorn does not handle them.

    uvicorn handles signals while it serves, and raises them again once it has stopped. A signal that arrives earlier must
    end the process too, because nobody sends it twice.
    """

    def end(*_: object) -> None:
        raise SystemExit(0)

    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, end)


def leave_soon(status: int) -> None:
    """End this process with a status: at once if no other thread works, else within two seconds, whatever the threads do.

    Python waits for pool threads to end. One of them may spend minutes on an upload over a slow line, and the supervisor
    would kill the process first. Jobs may stop at any line, so ending such a thread is safe: the next run repeats its work.

    To end at once leaves out that Python destroys every module first, a tenth of the CPU of a short command. If what was
    printed cannot be written, Python ends the process, and says so.
    """
    if threading.active_count() == 1:
        atexit._run_exitfuncs()  # as Python would; `multiprocessing` does so too
        with suppress(OSError, ValueError):
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
            os._exit(status)

    def leave() -> None:
        time.sleep(_SECONDS)
        leave_now(status)

    threading.Thread(target=leave, name="callvault-leave", daemon=True).start()


def leave_now(status: int) -> NoReturn:
    """End this process with a status at once, whatever its threads do.

    An interrupted command ends like this: CPython would replace its status by a death of SIGINT if the signal came while
    something was compiled, as in an import (`unhandled_keyboard_interrupt` in its Python/pythonrun.c).
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(status)
