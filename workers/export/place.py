"""The place of exports from the pages (`CALLVAULT_EXPORTS_URL`): what was asked for, the finished bundles, how each ended.

It is a store like the archive's and never in it: what lies here is removed after its end (decision 34). An export is a folder:

    20261127T131500.000000Z-…/chosen.json       by a receiver: the recordings
                              request.json      then: who asks for them
                              bundle-….zip      by a worker; of several attempts, the one that end.json names counts
                              end.json          ready, failed or cancelled: whoever writes it first decides
                              revoked.json      a person wants it removed before its end

Redis holds nothing of it but the progress. `place.json` names the place, so that two machines with a folder each do not take
theirs for the same one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec

from archive.ahead import ahead
from archive.archive import Archive
from archive.records import UnreadableRecord
from archive.source import Source
from archive.stores.store import MIB, KeyExists, Store, StoredObject, StoreOptions, StoreRefused, open_store
from config.settings import Settings
from process.logs import get_logger
from process.private import private_folder
from text.times import format_instant, parse_instant, utc_now
from workers.catalogue.search import Chosen

MOST_RECORDINGS = 10_000
MOST_BYTES = 100_000_000_000
MOST_HOURS = 168
GIVEN_UP_AFTER = timedelta(days=3)  # an export that no worker has made by then has failed
FORGOTTEN_AFTER = timedelta(days=14)  # whatever still lies in the folder of an export then goes
SHOWN_AFTER_FAILING = timedelta(days=1)

log = get_logger()

_PLACE = "place.json"
_PART_BYTES = 16 * MIB  # 10,000 parts, the most of S3, are then more than `MOST_BYTES`
_AT_ONCE = 8
_ID = re.compile(r"(\d{8}T\d{6}\.\d{6}Z)-[0-9a-f]{16}")

State = Literal["ready", "failed", "cancelled"]
R = TypeVar("R")


class Place(msgspec.Struct, frozen=True):
    """Which place of exports this is.

    Attributes:
        id: random.
        archive_id: of the archive whose exports lie here.
    """

    id: str
    archive_id: str


class Request(msgspec.Struct, frozen=True):
    """What a person asked for.

    Attributes:
        id: of the export.
        archive_id: of the archive.
        at: ISO 8601, UTC; likewise all instants here.
        by: who.
        query: the search; empty: they were selected one by one.
        recordings: how many; size_bytes: of their audio, as the catalogue had it.
        recipients: whom it is encrypted for; none: it is not.
        hours: how long the bundle is kept once it is ready.
    """

    id: str
    archive_id: str
    at: str
    by: str
    query: str
    recordings: int
    size_bytes: int
    recipients: list[str]
    hours: int


class End(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an export ended.

    Attributes:
        state: how.
        at: when.
        ends_at: when what is left of it is removed.
        key: of the bundle, if it is ready; likewise the rest, but `why`.
        size_bytes: of the bundle.
        sha256: of the bundle.
        recordings: in it; `unsealed`: those that no seal lists yet; `problems`: what it lacks.
        why: it failed; who cancelled it.
    """

    state: State
    at: str
    ends_at: str
    key: str = ""
    size_bytes: int = 0
    sha256: str = ""
    recordings: int = 0
    unsealed: int = 0
    problems: int = 0
    why: str = ""


class Revoked(msgspec.Struct, frozen=True):
    """A person wants an export removed before its end."""

    at: str
    by: str


class Export(msgspec.Struct, frozen=True):
    """An export.

    Attributes:
        id: its id.
        request: what was asked for; None: removed already.
        end: how it ended; None: it has not.
        revoked: whether somebody wants it removed.
    """

    id: str
    request: Request | None
    end: End | None
    revoked: bool

    @property
    def is_over(self) -> bool:
        """Whether nobody may get it any more."""
        return self.revoked or (self.end is not None and parse_instant(self.end.ends_at) <= utc_now())


def new_id(at: datetime) -> str:
    """An id for an export; they sort by time."""
    return f"{at:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(8)}"


def asked_at(export_id: str) -> datetime | None:
    """When an export was asked for, by its id; None if it is no id."""
    found = _ID.fullmatch(export_id)
    with suppress(ValueError):
        return parse_instant(found[1]) if found else None
    return None


class Exports:
    """The place of exports; its methods block.

    Args:
        store: of the place.
        archive_id: of the archive whose exports lie there.
    """

    def __init__(self, store: Store, archive_id: str) -> None:
        self.store, self.archive_id = store, archive_id
        self._id: str | None = None

    def known_id(self) -> str:
        """Which place it is; the first process that asks names it.

        Raises:
            StoreError: the place does not answer, cannot be written, or belongs to another archive.
        """
        if self._id is None:
            found = self._read(_PLACE, Place)
            if found is None:
                self._write(_PLACE, Place(secrets.token_hex(8), self.archive_id))
                found = self._read(_PLACE, Place)
            if found is None:
                raise StoreRefused(f"{self.store.url}/{_PLACE}: cannot be read back after it was written")
            if found.archive_id != self.archive_id:
                raise StoreRefused(
                    f"CALLVAULT_EXPORTS_URL: the exports of another archive lie in {self.store.url}; give each archive a "
                    "place of its own"
                )
            self._id = found.id
        return self._id

    def ask(self, request: Request, chosen: Sequence[Chosen]) -> None:
        """Write what a person asks for, and the recordings, oldest first."""
        self._write(f"{request.id}/chosen.json", list(chosen))
        self._write(f"{request.id}/request.json", request)

    def chosen(self, export_id: str) -> list[Chosen]:
        """The recordings of an export; none if it was removed."""
        return self._read(f"{export_id}/chosen.json", list[Chosen]) or []

    def read(self, export_id: str) -> Export | None:
        """An export; None if no export has this id."""
        if asked_at(export_id) is None:
            return None
        request = self._read(f"{export_id}/request.json", Request)
        end = self._read(f"{export_id}/end.json", End)
        if request is None and end is None:
            return None
        return Export(export_id, request, end, self.store.stat(f"{export_id}/revoked.json") is not None)

    def ids(self) -> list[str]:
        """The id of every export, the latest first."""
        return sorted({one.key.partition("/")[0] for one in self.objects()}, reverse=True)

    def all(self) -> list[Export]:
        """Every export that can be read, the latest first."""
        return [found for found in ahead(self.ids(), self.readable, _AT_ONCE) if found is not None]

    def readable(self, export_id: str) -> Export | None:
        """The same as `read`; None, after a line in the log, also for an export that cannot be read."""
        try:
            return self.read(export_id)
        except UnreadableRecord as error:
            log.warning("export cannot be read", export=export_id, error=str(error))
            return None

    def objects(self, export_id: str = "") -> Iterator[StoredObject]:
        """The objects of one export, or of all."""
        prefix = f"{export_id}/" if export_id else ""
        return (one for one in self.store.list(prefix) if asked_at(one.key.partition("/")[0]) is not None)

    def put_bundle(self, export_id: str, source: Source, *, is_encrypted: bool) -> str:
        """Write a bundle; returns its key, which no other attempt has."""
        key = f"{export_id}/bundle-{secrets.token_hex(8)}.zip{'.age' if is_encrypted else ''}"
        self.store.put(key, source, "application/octet-stream" if is_encrypted else "application/zip", {})
        return key

    def end(self, export_id: str, end: End) -> bool:
        """Say how an export ended; False: that is said already."""
        return self._write(f"{export_id}/end.json", end)

    def is_wanted(self, export_id: str) -> bool:
        """Whether an export has still to be made: it has not ended, and nobody has removed it."""
        has, ends = f"{export_id}/request.json", (f"{export_id}/end.json", f"{export_id}/revoked.json")
        return self.store.stat(has) is not None and all(self.store.stat(key) is None for key in ends)

    def revoke(self, export_id: str, by: str) -> None:
        """Have an export removed now."""
        self._write(f"{export_id}/revoked.json", Revoked(format_instant(utc_now()), by))

    def _write(self, key: str, value: object) -> bool:
        try:
            self.store.put(key, Source(msgspec.json.encode(value)), "application/json", {})
        except KeyExists:
            return False
        return True

    def _read(self, key: str, kind: type[R]) -> R | None:
        try:
            return msgspec.json.decode(b"".join(self.store.read(key)), type=kind)
        except KeyError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UnreadableRecord(key, f"not a record of an export: {error}") from None


def open_exports(settings: Settings, archive: Archive) -> Exports:
    """Open the place of exports of the settings; the folder in the data folder is created; blocks.

    Raises:
        StoreRefused: it cannot be opened, lies in the archive, or belongs to another archive.
        StoreError: it or the archive does not answer.
    """
    url = settings.exports_address
    if _is_within(url, settings.archive_address) or _is_within(settings.archive_address, url):
        raise StoreRefused(
            f"CALLVAULT_EXPORTS_URL: {url} and the archive ({settings.archive_address}) lie in each other; choose a bucket or "
            "a folder apart, since what lies there is removed after its end"
        )
    options = StoreOptions(
        _PART_BYTES,
        4 * _PART_BYTES,
        encryption_key=settings.encryption_key,
        file_mode=0o600 if settings.exports_url is None else 0o640,
    )
    store = open_store(url, options)
    if url.startswith("file:"):
        folder = Path(unquote(urlsplit(url).path))
        try:
            if settings.exports_url is None:
                private_folder(folder)
        except OSError as error:
            raise StoreRefused(
                f"{folder}: {error.strerror}; the exports of the pages need a folder to write to"
            ) from None
        if not folder.is_dir():
            raise StoreRefused(f"{folder}: does not exist; create it, or mount its disk, for the exports of the pages")
        store.create_place()
    exports = Exports(store, archive.identity.id)
    exports.known_id()
    return exports


def _is_within(inner: str, outer: str) -> bool:
    (one, path), (other, above) = _parts(inner), _parts(outer)
    return one == other and f"{path}/".startswith(f"{above}/")


def _parts(url: str) -> tuple[str, str]:
    """The bucket of a URL, and the rest; of a folder, where it really is."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return "", str(Path(unquote(parts.path)).resolve())
    return f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
