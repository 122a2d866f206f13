"""Structured logs: JSON lines for machines, colour for a person at a terminal. Always on standard error."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

# Libraries that log what we log better, or that would log arguments of jobs and addresses with credentials in them.
_QUIET = {
    "arq": logging.WARNING,
    "azure": logging.WARNING,
    "botocore": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "uvicorn.access": logging.WARNING,
}


def configure_logs(level: str = "info", *, program: str) -> None:
    """Send the logs of this process and of the libraries in it to standard error.

    Args:
        level: the least severity to write: debug, info, warning or error.
        program: which part this is (`serve`, `worker`, …); on every line.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _drop_colour,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    person = sys.stderr.isatty()
    render: list[Any]
    if person:
        plain = structlog.dev.plain_traceback
        render = [structlog.dev.ConsoleRenderer(exception_formatter=plain)]
    else:
        render = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(quiet, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(program=program)


def _drop_colour(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.pop("color_message", None)  # uvicorn's second copy of its message
    return event


def get_logger() -> structlog.stdlib.BoundLogger:
    """The logger of a module; events are short words, everything else is a field."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger
