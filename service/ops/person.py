"""Who asks, and a refusal to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request

from config.roles import Role
from config.scopes import Grant, roles_of
from workers.catalogue.reach import Reach

How = Literal["token", "local", "api token", "oidc", "proxy", "audio address", "shared address"]


@dataclass(frozen=True)
class Person:
    """Who is signed in.

    Attributes:
        name: as given at sign-in, or of the API token; it is recorded with changes and grants nothing.
        csrf: the token that each of this person's changes must carry; empty for a program that sends its token each time.
        how: how the person signed in: with the ops `token`, with an `api token`, at an OpenID provider (`oidc`),
            at a `proxy`, or not at all: as a `local` user of this machine, with the `audio address` that a token made, or with
            the `shared address` that a person made.
        grants: what the person may do, and with which recordings.
        id: of the API token; the provider's or proxy's of the person; empty for others.
    """

    name: str
    csrf: str
    how: How
    grants: tuple[Grant, ...]
    id: str = ""

    @property
    def roles(self) -> frozenset[Role]:
        """The roles of the grants."""
        return frozenset(grant.role for grant in self.grants)

    @property
    def role(self) -> str:
        """The names of the roles, in the order of the table, with commas between them."""
        return ", ".join(roles_of(self.grants))

    def reach(self, may: Collection[Role]) -> Reach:
        """Which recordings the person reaches by the grants whose role is one of these, such as those of a row."""
        return Reach(tuple(grant for grant in self.grants if grant.role in may))


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else "unknown"


def text_of_header(header: str) -> str:
    """The text of a header; clients and proxies write UTF-8, where Starlette reads Latin-1."""
    try:
        return header.encode("latin-1").decode().strip()
    except UnicodeError:
        return header.strip()


def bearer_of(request: Request) -> str:
    """The token that a request sends; empty without one. Its scheme may be in any case (RFC 9110, section 11.1)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class Refused(Exception):
    """A request is refused; the text says why.

    Attributes:
        status: of the answer.
        headers: of the answer, such as `Retry-After`.
    """

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or {}
