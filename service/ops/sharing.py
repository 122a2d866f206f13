"""Signed addresses of the evidence of one day: made by a person, and read by `shared.py`.

They are signed as sessions are, so a new `CALLVAULT_OPS_TOKEN`, or without one a new secret of the OpenID client, ends all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from itsdangerous import BadSignature, SignatureExpired
from starlette.requests import Request

from service.ops.bulk import Shared
from service.ops.evidence import read_day
from service.ops.parts import Ops
from service.ops.person import Refused
from text.errors import UserError
from text.times import format_instant, parse_day

SHARED_FOR = timedelta(days=7)


@dataclass(frozen=True)
class Share:
    """What an address shows.

    Attributes:
        day: UTC.
        by: who shared it.
        ends_at: when it ends, ISO 8601, UTC.
    """

    day: date
    by: str
    ends_at: str


def whole_address(request: Request, path: str) -> str:
    """The address of a path as the browser sees it; behind a proxy, `X-Forwarded-Proto` must be believed."""
    return str(request.url.replace(path=path, query=""))


async def share(ops: Ops, form: dict[str, str]) -> Shared:
    """Make the address of a day.

    Raises:
        UserError: the pages answer on this machine only, or the day has no seal.
        StoreError: the archive cannot be read now.
    """
    if not ops.access.needs_token:
        raise UserError(
            "CALLVAULT_OPS_TOKEN is not set, so the pages answer on this machine only; set it to share evidence"
        )
    try:
        day = parse_day(form["day"])
    except ValueError as error:
        raise UserError(str(error)) from None
    if not (await read_day(ops, day)).links:
        raise UserError(f"{day} has no seal yet, so there is no evidence to share")
    token = str(ops.access.shares.dumps([day.isoformat(), form["by"]]))
    ends = read_share(ops, token).ends_at[:16].replace("T", " ")
    text = f"Whoever has this address sees the evidence of {day} until {ends} UTC, without signing in"
    return Shared(text, f"/ops/shared/{token}")


def read_share(ops: Ops, token: str) -> Share:
    """Check the signature and the end of an address.

    Raises:
        Refused: it is not valid, or it has ended.
    """
    if not ops.access.needs_token:
        raise Refused(404, "there is nothing at this address")
    try:
        (day, by), made = ops.access.shares.loads(token, int(SHARED_FOR.total_seconds()), return_timestamp=True)
        return Share(date.fromisoformat(day), str(by), format_instant(made + SHARED_FOR))
    except SignatureExpired as error:
        made_at: datetime | None = error.date_signed
        when = "" if made_at is None else f" on {made_at + SHARED_FOR:%Y-%m-%d at %H:%M} UTC"
        raise Refused(410, f"this address ended{when}; ask for a new one") from None
    except (BadSignature, ValueError, TypeError):
        raise Refused(404, "this address is not valid: it is not whole, or it was revoked; ask for a new one") from None
