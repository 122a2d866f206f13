"""The token of a person's changes, as pages carry it."""

from __future__ import annotations

import secrets

from starlette.requests import Request

from service.ops.person import Person, Refused


def assert_of_these_pages(request: Request) -> None:
    """Check that no page of another site had the browser send a form (Fetch Metadata, `Sec-Fetch-Site`).

    A browser says so over TLS, and on this machine; whatever else sends a form need not.

    Raises:
        Refused: one had.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refused(403, "the request comes from another site")


def masked_csrf(request: Request, person: Person) -> str:
    """The token of a person's changes as one answer carries it: another text each time.

    Pages are compressed and repeat what an address asks for, so the length of a page could reveal a text that stays the
    same (BREACH).
    """
    if person.csrf and not hasattr(request.state, "csrf"):
        token = person.csrf.encode()
        mask = secrets.token_bytes(len(token))
        request.state.csrf = (mask + bytes(a ^ b for a, b in zip(mask, token, strict=True))).hex()
    return str(request.state.csrf) if person.csrf else ""


def unmasked(text: str) -> str:
    """The token in what `masked_csrf` made; anything else gives a text that is no token."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return ""
    half = len(data) // 2
    return bytes(a ^ b for a, b in zip(data[:half], data[half:], strict=False)).decode("utf-8", "replace")
