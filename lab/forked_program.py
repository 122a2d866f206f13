"""Runs a program such as ffprobe often: it loads its two hundred libraries once, and forks for each run (Linux).

To load them takes such a program sixty milliseconds, and a short file one.
"""

from __future__ import annotations

import atexit
import os
import select
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from lab.forks import die_with_parent

_SEPARATOR = "\x1f"


@cache
def _library() -> Path:
    """What is preloaded into a program.

    Raises:
        RuntimeError: no C compiler is installed.
    """
    compiler, source = shutil.which("cc"), Path(__file__).with_suffix(".c")
    if compiler is None:
        raise RuntimeError("tests that run a program often need a C compiler, `cc`; Debian: apt install gcc")
    folder = tempfile.TemporaryDirectory(prefix="callvault-lab-")
    atexit.register(folder.cleanup)
    library = Path(folder.name, "forked_program.so")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True, timeout=60)
    return library


@cache
def forked_program(name: str) -> ForkedProgram:
    """The program of this name, which starts with its first run and ends with this process."""
    return ForkedProgram(name)


class ForkedProgram:
    """A program that loads once and runs often, one run at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loaded = subprocess.Popen(
            [name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"LD_PRELOAD": str(_library())},
            preexec_fn=die_with_parent,
        )
        atexit.register(self._end)

    def _end(self) -> None:
        assert self._loaded.stdin is not None
        self._loaded.stdin.close()
        self._loaded.wait(10)

    def run(self, *arguments: str, folder: Path, seconds: float = 60) -> tuple[int, bytes]:
        """Run it without standard input.

        Args:
            arguments: those of this run.
            folder: its current folder.
            seconds: how long it may take.

        Returns:
            The exit status, negative after a signal, and what is on standard output.

        Raises:
            TimeoutError: it did not end in time.
        """
        assert self._loaded.stdin is not None and self._loaded.stdout is not None
        with tempfile.NamedTemporaryFile() as output:
            words = [str(folder), output.name, self._name, *arguments]
            self._loaded.stdin.write((_SEPARATOR.join(words) + "\n").encode())
            self._loaded.stdin.flush()
            if not select.select([self._loaded.stdout], [], [], seconds)[0]:
                self._loaded.kill()
                raise TimeoutError(f"{self._name} did not end within {seconds:g} s")
            answer = self._loaded.stdout.readline()
            assert answer, f"{self._name} has ended"
            return os.waitstatus_to_exitcode(int(answer)), Path(output.name).read_bytes()
