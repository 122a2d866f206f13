"""Which roles may do what, and what their scopes mean there: what the rows of `tables.py` name.

A row without either cannot be made, and the pages do not start with a route that no row guards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from starlette.routing import BaseRoute, Route, compile_path

from config.roles import ROLES, Role
from service.ops.person import Person
from workers.catalogue.rows import Row

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

# How a row treats a person whose roles for it all have a scope:
#   `cut`    it shows recordings: those within the scope, and nothing that counts or names others
#   `one`    it is about the recordings that its path or form names; one outside the scope does not exist
#   `whole`  it is about the whole archive, or the service: refused
#   `full`   likewise; it gives whole records, so it is refused to whoever gets numbers masked too
#   `none`   it shows and changes nothing of recordings
Scoped = Literal["cut", "one", "whole", "full", "none"]

# Routes that anybody may ask for: they show nothing of the archive, or ask for a signed address of evidence or audio.
_SHARED = "/ops/shared/{token}"  # a signed address, which shows the evidence of one day
_BUNDLE = "/ops/bundle/{token}"  # likewise, of one export
_OPEN = (
    *("/", "/ops/", "/ops/sign-in", "/ops/sign-in/start", "/ops/sign-in/callback", "/ops/static"),
    *(_SHARED, f"{_SHARED}/recordings.csv", f"{_SHARED}/seals/{{name}}", "/api/audio/{address}"),
    *(_BUNDLE, f"{_BUNDLE}/file"),
)


class Guarded(NamedTuple):
    """What a row guards: a path with a method, who may use it, and how it treats a scope."""

    path: re.Pattern[str]
    method: str
    may: May
    scoped: Scoped

    @classmethod
    def of(cls, path: str, method: str, may: May, scoped: Scoped) -> Guarded:
        """The guard of a path as the tables write it."""
        return cls(compile_path(path)[0], method, may, scoped)


def may_use(guarded: Iterable[Guarded], path: str, method: str, person: Person, about: Row | None = None) -> bool:
    """Whether a person may use a path, with or without a query; False if no row has it.

    Args:
        guarded: the rows.
        path: with or without a query.
        method: of the request.
        person: who would use it.
        about: the recording that it would be about; None: about none that is known here.
    """
    path = path.partition("?")[0].partition("#")[0]
    row = next((row for row in guarded if row.method == method and row.path.match(path)), None)
    if row is None or not admits(person, row.may, row.scoped):
        return False
    return row.scoped != "one" or about is None or person.reach(row.may).covers(about)


def admits(person: Person, may: May, scoped: Scoped) -> bool:
    """Whether a row admits a person: by a role, and where a scope cannot be kept, by one without a scope."""
    reach = person.reach(may)
    return bool(reach.grants) and (scoped not in ("whole", "full") or reach.is_whole)


def assert_guarded(routes: Iterable[BaseRoute]) -> None:
    """Check that each route has a set of roles and treats scopes, or is one that anybody may ask for.

    Raises:
        TypeError: a route has none, so the pages do not start.
    """
    for route in routes:
        path = getattr(route, "path", "")
        door = route.endpoint if isinstance(route, Route) else None
        if path not in _OPEN and not getattr(door, "may", None):
            raise TypeError(f"{path}: no row says which roles may use it")
        if path not in _OPEN and getattr(door, "scoped", None) not in get_args(Scoped):
            raise TypeError(f"{path}: no row says how it treats a role with a scope")
