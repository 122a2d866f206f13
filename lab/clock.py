"""A wall clock that a test sets for one process, by a library that is preloaded into it (Linux)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from lab.stores import environ
from workers.queue.embedded import EmbeddedServer


class Clock:
    """The wall clock of a process, which can be moved while the process runs.

    Attributes:
        environment: the variables that give a process this clock.

    Raises:
        RuntimeError: no C compiler is installed.
    """

    def __init__(self, folder: Path, name: str, ahead_seconds: int = 0) -> None:
        self._file, library = folder / f"clock-of-{name}", folder / "clock.so"
        self.move(ahead_seconds)
        if not library.exists():
            compiler, source = shutil.which("cc"), Path(__file__).parent / "clock.c"
            if compiler is None:
                raise RuntimeError("tests that set a clock need a C compiler, `cc`; Debian: apt install gcc")
            subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._file)}

    def move(self, ahead_seconds: int) -> None:
        """Set it; the process sees it within a tenth of a second."""
        written = self._file.with_suffix(".new")
        written.write_text(str(ahead_seconds))
        written.rename(self._file)


class SkewedServer(EmbeddedServer):
    """An embedded server with a clock of its own."""

    def __init__(self, data_folder: Path, clock: Clock) -> None:
        super().__init__(data_folder)
        self.clock = clock

    def _spawn(self, lock: int) -> subprocess.Popen[bytes]:
        with environ(self.clock.environment):
            return super()._spawn(lock)
