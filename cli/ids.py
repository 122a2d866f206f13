"""The whole ID of a recording from its beginning, as git takes the beginning of a commit's."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from redis.exceptions import RedisError

from archive.archive import Archive
from archive.stores.store import StoreError
from cli.catalogue import ids_beginning, opened, searched, up_to_date
from cli.options import settings_of
from config.settings import Settings
from text.errors import UsedWrongly, UserError
from text.one_line import one_line
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.query import Query

_LEAST = 6  # characters; fewer are too easily another recording's
_SHOWN = 5
_WHOLE = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)  # as Telnyx makes them


def is_surely_whole(typed: str) -> bool:
    """Whether a text cannot be the beginning of an ID: it has the form of a whole one, or is too short."""
    return len(typed) < _LEAST or _WHOLE.fullmatch(typed) is not None


def whole_id(settings: Settings, catalogue: Catalogue, archive: Archive, typed: str) -> str:
    """The ID that begins with a text, by the catalogue after an update; the text itself if none or a whole one does.

    Raises:
        UsedWrongly: several IDs begin with it.
        StoreError: the archive does not answer, and the catalogue is empty.
    """
    if is_surely_whole(typed) or searched(settings, catalogue, archive, Query(id=typed)):
        return typed
    up_to_date(settings, catalogue, archive, says_how=False)
    return choose(typed, ids_beginning(settings, catalogue, archive, typed, _SHOWN + 1))


def whole_or_doubtful(typed: str, data: Path | None) -> tuple[str, str | None]:
    """The whole ID, and why that is in doubt: a decision does not wait for an archive that is away.

    Raises:
        UsedWrongly: several IDs begin with it.
    """
    if is_surely_whole(typed):
        return typed, None
    try:
        settings = settings_of(data)
        with opened(settings) as (catalogue, archive):
            return whole_id(settings, catalogue, archive, typed), None
    except UsedWrongly:
        raise
    except (UserError, StoreError, RedisError, OSError, sqlite3.Error) as error:
        return typed, f"ID: {typed} is taken as a whole ID, because the catalogue cannot be searched: {one_line(error)}"


def choose(typed: str, ids: Sequence[str]) -> str:
    """Of the IDs that begin with a text, the only one; the text itself if it is one of them, or if no ID begins so.

    Raises:
        UsedWrongly: there are several.
    """
    if typed in ids or not ids:
        return typed
    if len(ids) > 1:
        more = ", and more" if len(ids) > _SHOWN else ""
        raise UsedWrongly(
            f"ID: {typed} is the beginning of several: {', '.join(ids[:_SHOWN])}{more}; type more of the one you mean"
        )
    return ids[0]


def refuse_beginning(settings: Settings, catalogue: Catalogue, archive: Archive, typed: str) -> None:
    """Refuse the beginning of an ID where only a whole one is safe.

    Raises:
        UsedWrongly: it is not an ID, and IDs begin with it.
    """
    if (whole := whole_id(settings, catalogue, archive, typed)) != typed:
        raise UsedWrongly(
            f"ID: {typed} is only the beginning of {whole}; what is erased cannot be restored, so give the whole ID"
        )
