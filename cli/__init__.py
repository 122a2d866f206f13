"""The commands. Ctrl-C while their modules are still being imported ends quietly."""

import os
import sys
from types import TracebackType


def _end_quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write("callvault: interrupted: nothing was begun\n")
    sys.stderr.flush()
    os._exit(130)


if sys.excepthook is sys.__excepthook__:
    sys.excepthook = _end_quietly
