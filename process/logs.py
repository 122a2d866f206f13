"""Structured logs on standard error: JSON lines for machines, colour for a terminal, plain lines from commands.

Only a terminal needs structlog, for its colours. It is imported only then: its import takes longer than most commands.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

_OURS = "callvault"

# Only these loggers may write below warnings. Other libraries log job arguments and whole URLs there: at `debug`, urllib3
# and Apprise write the signatures and tokens in them.
_HEARD = (_OURS, "uvicorn.error")

# Attributes of every record, which are no fields of a line, and uvicorn's coloured copy of its message.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_FIELDS = "callvault_fields"
_LOG_EVERY_SECONDS = 10
_ON_EVERY_LINE = ("event", "program", "level", "timestamp")

# Makes the text of a line from its fields and from an exception, as `sys.exc_info` returns it, or None.
_Render = Callable[[dict[str, Any], Any], str]

_bound: ContextVar[dict[str, Any]] = ContextVar("bound_fields", default={})  # noqa: B039  nothing changes it in place


class Logger:
    """Writes events: a short text and fields."""

    def debug(self, event: str, **fields: Any) -> None:
        """Write a detail that helps to debug."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Write normal progress."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Write what may need attention."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, exc_info: bool = False, **fields: Any) -> None:
        """Write a failure.

        Args:
            event: what failed.
            exc_info: whether to add the stack trace of the current exception.
            fields: of the line.
        """
        self._write(logging.ERROR, event, fields, exc_info)

    def _write(self, level: int, event: str, fields: dict[str, Any], exc_info: bool = False) -> None:
        logger = logging.getLogger(_OURS)
        if logger.isEnabledFor(level):
            logger.log(level, event, extra={_FIELDS: fields}, exc_info=exc_info)


def get_logger() -> Logger:
    """The logger of a module."""
    return Logger()


@contextmanager
def bound_fields(**fields: Any) -> Iterator[None]:
    """Add fields to every line that is written in the block, also by libraries."""
    token = _bound.set(_bound.get() | fields)
    try:
        yield
    finally:
        _bound.reset(token)


def configure_logs(level: str = "info", *, program: str, is_command: bool = False) -> None:
    """Send the logs of this process and of the libraries in it to standard error.

    Args:
        level: the minimum severity: debug, info, warning or error; for libraries at least warning.
        program: the name of the program (`serve`, `worker`, …); on every line.
        is_command: whether a person waits for the output. Then lines are plain text without alerts, which go elsewhere.
    """
    handler = logging.StreamHandler(sys.stderr)
    render: _Render = _as_command if is_command else _coloured() if sys.stderr.isatty() else _as_json
    handler.setFormatter(_Lines(program, render))
    if is_command:
        handler.addFilter(lambda record: record.msg != "alert")
    root = logging.getLogger()
    root.handlers[:] = [handler]
    wanted = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(logging.WARNING, wanted))
    for name in _HEARD:
        logging.getLogger(name).setLevel(wanted if wanted < root.level else logging.NOTSET)


class _Lines(logging.Formatter):
    """Formats our records and those of libraries.

    Args:
        program: see `configure_logs`.
        render: makes the text.
    """

    def __init__(self, program: str, render: _Render) -> None:
        super().__init__()
        self._program = program
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, _FIELDS, None)
        if fields is None:
            fields = {name: value for name, value in vars(record).items() if name not in _OWN}
        line = {"program": self._program} | _bound.get() | fields
        line["event"] = record.getMessage()
        line["level"] = record.levelname.lower()
        written = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        line["timestamp"] = written.replace("+00:00", "Z")
        return self._render(line, record.exc_info)


def _as_json(line: dict[str, Any], error: Any) -> str:
    if error:
        line["exception"] = logging.Formatter().formatException(error)
    return json.dumps(line, default=repr)


def _as_command(line: dict[str, Any], _: Any) -> str:
    """`callvault: event: name value, name value`; the error comes last, because it may be long."""
    values = {name: " ".join(str(value).split()) for name, value in line.items() if name not in _ON_EVERY_LINE}
    fields = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
    return f"callvault: {line['event']}" + (f": {fields}" if fields else "")


def _coloured() -> _Render:
    from structlog.dev import ConsoleRenderer, plain_traceback

    renderer = ConsoleRenderer(exception_formatter=plain_traceback)

    def render(line: dict[str, Any], error: Any) -> str:
        return str(renderer(None, "", line | ({"exc_info": error} if error else {})))

    return render


class LogThrottle:
    """Limits log lines that every waiting job repeats, as in an outage: one in ten seconds, with a count."""

    def __init__(self) -> None:
        # When the last line was logged, and how many were left out since.
        self._kinds: dict[Hashable, tuple[float, int]] = {}

    def count(self, kind: Hashable) -> int:
        """How many lines this one stands for, itself included; 0 if it is left out."""
        logged_at, lines = self._kinds.get(kind, (-math.inf, 0))
        if time.monotonic() - logged_at < _LOG_EVERY_SECONDS:
            self._kinds[kind] = logged_at, lines + 1
            return 0
        self._kinds[kind] = time.monotonic(), 0
        return lines + 1
