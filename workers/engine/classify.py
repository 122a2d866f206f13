"""The failure class of each error. Apart from the table of classes, which receivers read too and which imports no SDK."""

from __future__ import annotations

from dataclasses import replace

from redis.exceptions import RedisError

from archive.archive import ArchiveConflict
from archive.proof import Damaged
from archive.records import UnreadableRecord
from archive.stores.store import StoreError, StoreRefused
from config.settings import Settings
from telnyx_api.downloads import AddressAway, DownloadFailed, ForbiddenAddress, NotAudio
from telnyx_api.errors import (
    BadRequest,
    ConnectionFailed,
    Forbidden,
    Invalid,
    NotFound,
    RateLimited,
    StatusError,
    Unauthorized,
    Unsettled,
)
from workers.engine.failure_classes import FAILURE_CLASSES, FailureClass, InProgress, NotFinished, NotYet
from workers.queue.binding import AnotherArchive

_ASKED_FOR_AT_LEAST = 50  # times; twice as often is as much as is remembered of a job, and it would never be given up

# The first row whose errors fit; more special before more general.
_ERRORS: tuple[tuple[str, tuple[type[BaseException], ...]], ...] = (
    ("not-there-yet", (NotYet, NotFound)),
    ("not-yet", (NotFinished,)),
    ("in-progress", (InProgress,)),
    ("throttled", (RateLimited,)),
    ("refused", (Unauthorized, Forbidden, StoreRefused, AnotherArchive)),
    ("not-audio", (NotAudio,)),
    ("forbidden-address", (ForbiddenAddress,)),
    ("rejected", (Invalid, BadRequest)),
    ("outage", (AddressAway,)),
    ("download", (DownloadFailed,)),
    ("conflict", (ArchiveConflict, UnreadableRecord)),
    ("damaged", (Damaged,)),
    ("outage", (ConnectionFailed, Unsettled, StatusError, StoreError, RedisError, OSError)),
)


def failure_class_of(error: BaseException, settings: Settings) -> FailureClass:
    """The failure class of an error, with the user's settings for it."""
    name = next((name for name, kinds in _ERRORS if isinstance(error, kinds)), "unexpected")
    cause = FAILURE_CLASSES[name]
    if name == "not-there-yet":
        wait = settings.not_found_wait.total_seconds()
        longest = max(cause.longest_wait_seconds, wait / _ASKED_FOR_AT_LEAST)
        return replace(cause, give_up_seconds=wait, longest_wait_seconds=longest)
    return cause
