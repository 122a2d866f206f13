"""An error in one line for the person on call: no class names, no words that only the author of a client understands."""

from __future__ import annotations

import re

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import MasterNotFoundError

# The first row that matches counts: special rows before general ones.
_REDIS: tuple[tuple[type[RedisError], str], ...] = (
    (AuthenticationError, "Redis{at} rejects the user or the password; check REDIS_URL"),
    (BusyLoadingError, "Redis{at} is still loading its data; wait until it has finished"),
    (MasterNotFoundError, "Sentinel names no primary; check that one runs, and check REDIS_URL"),
    (RedisTimeoutError, "Redis does not answer{at} in time{why}; check that it runs, and check REDIS_URL"),
    (RedisConnectionError, "Redis does not answer{at}{why}; check that it runs, and check REDIS_URL"),
    (NoPermissionError, "Redis{at} refuses a command; give its user the rights in docs/redis.md"),
    (OutOfMemoryError, "Redis{at} is full; give it more memory (`maxmemory`) or add workers"),
    (ReadOnlyError, "Redis{at} is a replica and takes no writes; set REDIS_URL to the primary"),
)
# As redis-py writes it, without user and password: the address, and why; of a refusal asyncio names no reason.
_CONNECTING = re.compile(r"^Error .*?connecting to (?:unix socket: )?(?P<address>\S+?)\.? (?P<why>.*)$")
_NO_REASON = re.compile(r"\[SSL: \w+\] | \(_ssl\.c:\d+\)|(Multiple exceptions: .*)?Connect call failed .*|[. ]+$")


def one_line(error: BaseException) -> str:
    """What failed, in one line.

    Args:
        error: an expected one; for others the caller adds the name of the class.
    """
    text = " ".join(str(error).split())
    if isinstance(error, RedisError):
        place = _CONNECTING.search(f"{text} ")
        words = next((words for kind, words in _REDIS if isinstance(error, kind)), f"Redis{{at}} answers: {text}")
        at, why = (f" at {place['address']}", _NO_REASON.sub("", place["why"])) if place else ("", "")
        return words.replace("{at}", at).replace("{why}", f" ({why})" if why else "")
    if isinstance(error, OSError) and error.strerror and type(error).__module__ == "builtins":
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return text or type(error).__name__
