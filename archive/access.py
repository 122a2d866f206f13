"""The lines of the access log: who looked at, heard, exported or decided what, when and from where.

`access-log/…/{instant}-{writer}.jsonl` holds some of them, in the order in which they were written. Readers outside this
project depend on their shape (docs/archive-format.md).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from archive import layout
from archive.archive import Archive
from text.times import format_instant, utc_now


class AccessLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line.

    Attributes:
        id: random; a line that was written twice counts once.
        at: ISO 8601, UTC.
        what: what was done.
        who: the name of the person or program.
        how: how the name is known: `token`, `local`, `command` or a way of a later version.
        address: of the client; of a command the name of its machine.
        recordings: the ids of the recordings.
        role: what the person may do; `subject`: the id of the API token, or of the person at the provider or proxy.
        query: a search or export as it was asked for; `found`: how many recordings matched.
        about: what else it was about, such as a connection or a dead letter.
        why: the reason that the person gave; `by`: the name that the person gave.
        of: the `id` of the line that this one completes.
        bytes: how much of the audio was sent; `seconds`: its share of the length. Of an export: how much audio it is of.
        error: why what was asked for was not done.
    """

    schema: Literal["callvault.access/1"] = "callvault.access/1"
    id: str
    at: str
    what: str
    who: str
    how: str
    address: str
    recordings: list[str]
    role: str | msgspec.UnsetType = msgspec.UNSET
    subject: str | msgspec.UnsetType = msgspec.UNSET
    query: str | msgspec.UnsetType = msgspec.UNSET
    found: int | msgspec.UnsetType = msgspec.UNSET
    about: str | msgspec.UnsetType = msgspec.UNSET
    why: str | msgspec.UnsetType = msgspec.UNSET
    by: str | msgspec.UnsetType = msgspec.UNSET
    of: str | msgspec.UnsetType = msgspec.UNSET
    bytes: int | msgspec.UnsetType = msgspec.UNSET
    seconds: float | msgspec.UnsetType = msgspec.UNSET
    error: str | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AccessLine)


def new_line(what: str, who: str, how: str, address: str, recordings: Iterable[str] = (), **more: object) -> AccessLine:
    """A line of this moment.

    Args:
        what: see `AccessLine`, likewise the next three.
        who: the name.
        how: how it is known.
        address: where from.
        recordings: their ids.
        more: further fields; those that are None or empty are left out.
    """
    line = AccessLine(
        id=secrets.token_hex(8),
        at=format_instant(utc_now()),
        what=what,
        who=who,
        how=how,
        address=address,
        recordings=[*recordings],
    )
    given: dict[str, Any] = {name: value for name, value in more.items() if value not in (None, "")}
    return msgspec.structs.replace(line, **given)


def encode_line(line: AccessLine) -> bytes:
    """The bytes of a line, without a line break: JSON escapes those in its values."""
    return _encoder.encode(line)


def decode_line(data: bytes) -> AccessLine | None:
    """Read a line; None if it is not one."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def put_lines(archive: Archive, key: str, lines: Iterable[bytes]) -> None:
    """Write the object of some lines; blocks.

    Raises:
        ArchiveConflict: the key holds other lines.
        StoreError: the archive did not take it now.
    """
    archive.put(key, b"".join(line + b"\n" for line in lines), "application/x-ndjson")


def new_key() -> str:
    """The key of an object that this process writes now."""
    return layout.access_log_key(utc_now(), new_writer())


def new_writer() -> str:
    """The part of a key that keeps two writers apart: random."""
    return secrets.token_hex(8)


def read_lines(archive: Archive, key: str) -> list[bytes]:
    """The lines of an object, each without its line break; empty if the key is not in use. Blocks.

    Raises:
        StoreError: the store cannot be read now.
    """
    try:
        return [line for line in b"".join(archive.store.read(key)).split(b"\n") if line]
    except KeyError:
        return []
