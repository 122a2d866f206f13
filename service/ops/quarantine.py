"""The page of the quarantine: signed webhooks from which Callvault could make no job."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

from service.ops.masking import masked
from service.ops.parts import Ops
from service.ops.view import view_of
from workers.catalogue.query import BadQuery
from workers.queue.quarantine import MOST_KEPT, Quarantined, read_quarantine

PER_PAGE = 20

QUERY = (("after", "how many to pass over, the newest first"),)

_NUMBER = re.compile(r"(?<![\w.-])\+?\d{7,15}(?![\w-])")
# The link of a recording lets whoever has it hear the recording, at Telnyx and without a trace; "/" may be escaped.
_LINK = re.compile(r"(https?:(?:\\?/){2}[^\s/\"\\?#]*)[^\s\"]*", re.IGNORECASE)
_SIP_USER = re.compile(r"(?<=\bsip:)[^\"\s@]+(?=@)|(?<=\bsips:)[^\"\s@]+(?=@)")


class Webhook(msgspec.Struct, frozen=True):
    """A webhook in quarantine.

    Attributes:
        at: when it came, ISO 8601, UTC; None, as all but the content, if an earlier version kept it.
        event_id: empty if it has none, likewise event_type.
        why: no job could be made from it.
        size_bytes: of the whole body.
        content: the body as a text, easy to read, with the hosts of links only; its first 32 KiB at most.
        is_cut: whether it is larger.
    """

    at: str | None
    event_id: str | None
    event_type: str | None
    why: str | None
    size_bytes: int | None
    content: str
    is_cut: bool


class Quarantine(msgspec.Struct, frozen=True):
    """A page of the quarantine, the newest first; `after`: pass it to get the next page, None at the end."""

    webhooks: list[Webhook]
    after: int | None


async def look(ops: Ops, request: Request) -> Quarantine:
    """The quarantine.

    Raises:
        BadQuery: `after` is not a number that a previous page returned.
        redis.exceptions.RedisError: Redis is away.
    """
    given = request.query_params.get("after") or "0"
    if not re.fullmatch(r"\d{1,3}", given, re.ASCII) or int(given) > MOST_KEPT:
        raise BadQuery("not a value that a previous page returned", "after")
    first = int(given)
    found = await read_quarantine(ops.redis, first, PER_PAGE + 1)
    webhooks = [_webhook(one, is_masked=view_of(request).masks_all) for one in found[:PER_PAGE]]
    return Quarantine(webhooks, first + PER_PAGE if len(found) > PER_PAGE else None)


def _webhook(one: Quarantined, *, is_masked: bool) -> Webhook:
    content = _LINK.sub(r"\1/***", _readable(one.body))
    if is_masked:
        content = _SIP_USER.sub("***", _NUMBER.sub(lambda found: masked(found.group()) or "", content))
    if one.note is None:
        return Webhook(None, None, None, None, None, content, False)
    note = one.note
    return Webhook(
        note.at, note.event_id, note.event_type, note.why, note.size_bytes, content, note.size_bytes > len(one.body)
    )


def _readable(body: bytes) -> str:
    """JSON with a line for each field, a form likewise; anything else as it came."""
    try:
        return msgspec.json.format(body, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    text = body.decode("utf-8", "replace")
    try:
        return "\n".join(f"{name}={value}" for name, value in parse_qsl(text, strict_parsing=True))
    except ValueError:
        return text
