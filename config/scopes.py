"""Grants: a role, the scope that limits it to some recordings, and whether it shows numbers in full."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from config.roles import ROLES, Role
from config.values import is_id

# What the others do concerns the whole archive or the service: a manifest lists all keys, a dead letter may be about anything.
SCOPED_ROLES: tuple[Role, ...] = ("listener", "officer")

_PREFIX = re.compile(r"\+[1-9]\d{0,14}", re.ASCII)  # of an E.164 number


@dataclass(frozen=True)
class Scope:
    """Which recordings a grant reaches: those that meet both conditions. An empty one does not limit.

    Attributes:
        connections: the ids of connections.
        numbers: beginnings of E.164 numbers, such as `+49`; a recording has one if either party begins with it.
    """

    connections: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.shown({})

    def shown(self, names: Mapping[str, str]) -> str:
        """The scope in words, with the names of those connections that have one."""
        parts = (("connection", [names.get(id_, id_) for id_ in self.connections]), ("number", self.numbers))
        return " and ".join(f"{noun if len(of) == 1 else noun + 's'} {', '.join(of)}" for noun, of in parts if of)


@dataclass(frozen=True)
class Grant:
    """What somebody may do.

    Attributes:
        role: what it is.
        scope: with which recordings; None: with all.
        mask: whether numbers are masked.
    """

    role: Role
    scope: Scope | None = None
    mask: bool = False

    def __str__(self) -> str:
        scope = "" if self.scope is None else f" for {self.scope}"
        return f"{self.role}{scope}{', numbers masked' * self.mask}"


def scoped_grant(
    role: Role, connections: Sequence[str] | None = None, numbers: Sequence[str] | None = None, *, mask: bool = False
) -> Grant:
    """A grant with a scope of these.

    Args:
        role: of the grant.
        connections: the ids of connections; None: the scope names none.
        numbers: beginnings of numbers; likewise.
        mask: whether numbers are masked.

    Raises:
        ValueError: one of them is empty or not valid, or the role cannot have a scope; the text says which.
    """
    checks = (
        ("connections", connections, is_id, "the id of a connection"),
        ("numbers", numbers, _is_prefix, _EXPECTED),
    )
    for name, given, is_valid, expected in checks:
        if given is None:
            continue
        if not given:
            raise ValueError(f"{name}: is empty; leave it out if it does not limit the role")
        if wrong := [one for one in given if not is_valid(one)]:
            raise ValueError(f"{name}: {wrong[0][:40]!r} is not {expected}")
    if connections is None and numbers is None:
        return Grant(role, None, mask)
    if role not in SCOPED_ROLES:
        why = "it concerns the whole archive or the service" if role != "admin" else "it may do everything"
        raise ValueError(f"the role {role} cannot have a scope, because {why}; only {' and '.join(SCOPED_ROLES)} can")
    return Grant(role, Scope(_once(connections), _once(numbers)), mask)


_EXPECTED = "the beginning of a number, such as +49"


def _is_prefix(text: str) -> bool:
    return _PREFIX.fullmatch(text) is not None


def _once(texts: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts or ()))


def roles_of(grants: Sequence[Grant]) -> list[Role]:
    """The roles of some grants, each once, in the order of the table."""
    held = {grant.role for grant in grants}
    return [role for role in ROLES if role in held]
