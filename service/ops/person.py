"""Who asks, and a refusal to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request

from config.roles import ROLES, Role

How = Literal["token", "local", "api token", "oidc", "proxy"]


@dataclass(frozen=True)
class Person:
    """Who is signed in.

    Attributes:
        name: as given at sign-in, or of the API token; it is recorded with changes and grants nothing.
        csrf: the token that each of this person's changes must carry; empty for a program that sends its token each time.
        how: how the person signed in: with the ops `token`, with an `api token`, at an OpenID provider (`oidc`),
            at a `proxy`, or not at all, as a `local` user of this machine.
        roles: what the person may do.
        id: of the API token; the provider's or proxy's of the person; empty for others.
    """

    name: str
    csrf: str
    how: How
    roles: frozenset[Role] = frozenset({"admin"})
    id: str = ""

    @property
    def role(self) -> str:
        """The names of the roles, in the order of the table, with commas between them."""
        return ", ".join(role for role in ROLES if role in self.roles)


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else "unknown"


class Refused(Exception):
    """A request is refused; the text says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
