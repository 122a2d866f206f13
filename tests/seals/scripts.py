"""Runs a program that stands alone, such as docs/verify_archive.py, in this process: fifteen times as fast as a start of Python.

What it needs of a process, such as no other module than Python's own, tests show that start one.
"""

from __future__ import annotations

import io
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess
from types import CodeType
from typing import Any

import pytest

VERIFY_ARCHIVE = Path(__file__).parents[2] / "docs" / "verify_archive.py"


@cache
def _compiled(source: bytes, path: str) -> CodeType:
    return compile(source, path, "exec", dont_inherit=True)


def run_script(path: Path, *arguments: str) -> CompletedProcess[str]:
    """Run a program of Python to its end, with names of its own, as `python PATH ARGUMENTS…` does."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    code = _compiled(path.read_bytes(), str(path))
    status: Any = 0
    with pytest.MonkeyPatch.context() as patch, ExitStack() as streams:
        patch.setattr(sys, "argv", [str(path), *arguments])
        streams.enter_context(redirect_stdout(out))
        streams.enter_context(redirect_stderr(err))
        try:
            exec(code, {"__name__": "__main__", "__file__": str(path)})
        except SystemExit as end:
            status = end.code or 0
    return CompletedProcess([str(path), *arguments], int(status), *map(_text, (out, err)))


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
