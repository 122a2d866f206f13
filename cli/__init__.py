"""The commands. Ctrl-C while their modules are still being imported ends quietly."""

import os
import signal
import sys
from types import TracebackType

_AGAIN_SECONDS = 0.01


def _end_quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write("callvault: interrupted: nothing was begun\n")
    sys.stderr.flush()
    os._exit(130)


def _interrupt_again(ignored: "sys.UnraisableHookArgs") -> None:
    """Python ignores what is raised in some places, as where the lock of an import goes: Ctrl-C comes again after it."""
    if not issubclass(ignored.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(ignored)
        return
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)


if sys.excepthook is sys.__excepthook__:
    sys.excepthook = _end_quietly
if sys.unraisablehook is sys.__unraisablehook__:
    sys.unraisablehook = _interrupt_again
