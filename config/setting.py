"""A row of the table of settings, and the readers that several rows share.

A reader makes the value of a setting from its text and raises a ValueError if it cannot; the error's text, if it has one, says
why. A value that is not text, such as the number of an option, passes the same checks.

These few readers are our own: pydantic, which read the settings before, takes a fifth of the time of a short command to import.
They accept what it accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from config.values import read_duration, read_list
from text.times import parse_duration

_WHOLE = re.compile(r"[+-]?\d+(?:_\d+)*(?:\.0+)?", re.ASCII)
_FLAGS = dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True) | dict.fromkeys(
    ("0", "false", "f", "no", "n", "off"), False
)

# Which processes should have the same value: workers and commands, workers alone, or none, since it is of each process.
SameIn = Literal["service", "workers", "nothing"]
Reader = Callable[[Any], Any]


class Setting(NamedTuple):
    """A row of the table.

    Attributes:
        name: the environment variable.
        default: the value if it is not set.
        read: its reader.
        help: what it is for.
        expected: what can be written there, for an error.
        is_secret: whether it is never shown, and can come from a file.
        same_in: which processes should have the same value.
    """

    name: str
    default: Any
    read: Reader
    help: str
    expected: str
    is_secret: bool
    same_in: SameIn


class Secret:
    """A text that no log, error or trace shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        """The text."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('**********')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def setting(
    name: str,
    default: Any,
    read: Reader,
    *,
    help: str,
    expected: str,
    same_in: SameIn = "service",
) -> Any:
    """A row of the table; see `Setting`. The class of the settings declares the type of the value."""
    return Setting(name, default, read, help, expected, False, same_in)


def secret(name: str, read: Reader = str, *, help: str, expected: str, same_in: SameIn = "service") -> Any:
    """A row whose value is never shown: a `Secret`, unset by default."""
    return Setting(name, None, lambda value: Secret(str(read(value))), help, expected, True, same_in)


def secrets(name: str, *, help: str, expected: str, same_in: SameIn) -> Any:
    """A row whose value is a tuple of `Secret`s, by default an empty one."""
    return Setting(name, (), lambda value: tuple(map(Secret, read_list(value))), help, expected, True, same_in)


def at_least(least: str) -> Reader:
    """Reads a duration no shorter than `least`, such as `1d`."""

    def read(value: str | timedelta) -> timedelta:
        duration = read_duration(value)
        if duration < parse_duration(least):
            raise ValueError(f"the minimum is {least}")
        return duration

    return read


def whole(least: int, most: int) -> Reader:
    """Reads a whole number of a range."""

    def read(value: object) -> int:
        text = str(value).strip()
        if not _WHOLE.fullmatch(text) or len(text) > len(str(most)) + 20:
            raise ValueError
        found = int(text.partition(".")[0])
        if not least <= found <= most:
            raise ValueError
        return found

    return read


def number(least: float, most: float) -> Reader:
    """Reads a number of a range."""

    def read(value: object) -> float:
        if not str(value).isascii():
            raise ValueError
        try:
            found = float(str(value))
        except ValueError:
            raise ValueError from None  # the reason would only repeat the value
        if not least <= found <= most:  # also `nan`
            raise ValueError
        return found

    return read


def one_of(*words: str) -> Reader:
    """Reads one of some words."""

    def read(value: object) -> object:
        if value not in words:
            raise ValueError
        return value

    return read


def flag(value: object) -> bool:
    """`true` or `false`, or another word for one of them."""
    found = _FLAGS.get(str(value).lower())
    if found is None:
        raise ValueError
    return found
