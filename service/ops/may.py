"""Which roles may do what: the sets of roles that the rows of `tables.py` name.

A row without a set cannot be made, and the pages do not start with a route that no row guards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from starlette.routing import BaseRoute, Route, compile_path

from config.roles import ROLES, Role

May = frozenset[Role]


def _roles(*roles: Role) -> May:
    return frozenset((*roles, "admin"))


EVERYONE: May = frozenset(ROLES)
HEAR = _roles("listener", "officer")  # find, read and hear recordings
DECIDE = _roles("officer")  # hold, release, approve, export
OPERATE = _roles("operator")  # dead letters, connections
STOP = _roles("operator", "officer")  # pause, resume, note that somebody has seen a condition
WATCH = _roles("operator", "officer", "auditor")  # the state of seals and deletions
PROVE = _roles("officer", "auditor")  # inventories, manifests and the access log

# Routes that anybody may ask for: they show nothing of the archive, or ask for a signed address.
_SHARED = "/ops/shared/{token}"  # a signed address, which shows the evidence of one day
_OPEN = (
    *("/", "/ops/", "/ops/sign-in", "/ops/sign-in/start", "/ops/sign-in/callback", "/ops/static"),
    *(_SHARED, f"{_SHARED}/recordings.csv", f"{_SHARED}/seals/{{name}}"),
)


class Guarded(NamedTuple):
    """What a row guards: a path with a method, and who may use it."""

    path: re.Pattern[str]
    method: str
    may: May

    @classmethod
    def of(cls, path: str, method: str, may: May) -> Guarded:
        """The guard of a path as the tables write it."""
        return cls(compile_path(path)[0], method, may)


def who_may(guarded: Iterable[Guarded], path: str, method: str) -> May:
    """The roles that may use a path, with or without a query; none if no row has it."""
    path = path.partition("?")[0].partition("#")[0]
    return next((row.may for row in guarded if row.method == method and row.path.match(path)), frozenset())


def assert_guarded(routes: Iterable[BaseRoute]) -> None:
    """Check that each route has a set of roles, or is one that anybody may ask for.

    Raises:
        TypeError: a route has none, so the pages do not start.
    """
    for route in routes:
        path = getattr(route, "path", "")
        may = getattr(route.endpoint, "may", None) if isinstance(route, Route) else None
        if not may and path not in _OPEN:
            raise TypeError(f"{path}: no row says which roles may use it")
