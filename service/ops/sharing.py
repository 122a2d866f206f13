"""Signed addresses for people without an account, and those of the evidence of one day: made by a person, read by `shared.py`.

They are signed as sessions are, so a new `CALLVAULT_OPS_TOKEN`, or without one a new secret of the OpenID client, ends all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from itsdangerous import BadSignature, SignatureExpired
from starlette.requests import Request

from service.ops.bulk import Shared
from service.ops.evidence import read_day
from service.ops.parts import Ops
from service.ops.person import Refused
from text.errors import UserError
from text.times import format_instant, parse_day, utc_now

SHARED_FOR = timedelta(days=7)


@dataclass(frozen=True)
class SharedAddress:
    """What a signed address shows.

    Attributes:
        of: the UTC day of the evidence, or the id of the export.
        by: who shared it.
        ends_at: when it ends, ISO 8601, UTC.
    """

    of: str
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
    assert_can_share(ops, "evidence")
    try:
        day = parse_day(form["day"])
    except ValueError as error:
        raise UserError(str(error)) from None
    if not (await read_day(ops, day)).links:
        raise UserError(f"{day} has no seal yet, so there is no evidence to share")
    token = ops.access.shares.dumps([day.isoformat(), form["by"]])
    ends_at = utc_now() + SHARED_FOR
    text = f"Whoever has this address sees the evidence of {day} until {ends_at:%Y-%m-%d %H:%M} UTC, without signing in"
    return Shared(text, f"/ops/shared/{token}")


def read_share(ops: Ops, token: str) -> SharedAddress:
    """Check the signature and the end of an address.

    Raises:
        Refused: it is not valid, or it has ended.
    """
    with reading(ops):
        try:
            (day, by), made = ops.access.shares.loads(token, int(SHARED_FOR.total_seconds()))
        except SignatureExpired as error:
            raise ended(error.date_signed and error.date_signed + SHARED_FOR) from None
        return SharedAddress(date.fromisoformat(day).isoformat(), str(by), format_instant(made + SHARED_FOR))


def assert_can_share(ops: Ops, what: str) -> None:
    """Check that somebody on another machine can open an address.

    Raises:
        UserError: nobody can.
    """
    if not ops.access.needs_token:
        raise UserError(
            f"CALLVAULT_OPS_TOKEN is not set, so the pages answer on this machine only; set it to share {what}"
        )


@contextmanager
def reading(ops: Ops) -> Iterator[None]:
    """Refuse whatever is no address that a receiver has signed, while the block reads one."""
    if not ops.access.needs_token:
        raise Refused(404, "there is nothing at this address")
    try:
        yield
    except (BadSignature, ValueError, TypeError, OverflowError):
        raise Refused(404, "this address is not valid: it is not whole, or it was revoked; ask for a new one") from None


def ended(at: datetime | None) -> Refused:
    """The refusal of an address that has ended."""
    return Refused(410, f"this address ended{f' on {at:%Y-%m-%d at %H:%M} UTC' if at else ''}; ask for a new one")
