"""Plan the changes that make the account match the file, and apply them in order, stopping at the first error.

Only objects in the file are compared, and of those only fields that Telnyx returns: others (such as the source of a media
file) cannot show drift. Objects that the file does not name stay, unless `prune` is set.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal

from telnyx_api.client import TelnyxClient
from telnyx_api.errors import TelnyxError
from telnyx_api.pages import read_all
from workers.connections.document import Document
from workers.connections.families import FAMILIES, Fields, Live

_MOST_IN_A_ROW = 3
_SECRET_WORDS = ("secret", "key", "credentials", "service_account", "password", "token")


@dataclass(frozen=True)
class Difference:
    """A field that differs; `path` is its name, with dots for nested fields."""

    path: str
    before: Any
    after: Any

    def shown(self) -> tuple[str, str]:
        """Both sides as text; secrets are hidden."""
        if any(word in self.path.lower() for word in _SECRET_WORDS):
            return "(secret)", "(secret)"
        return json.dumps(self.before), json.dumps(self.after)


@dataclass(frozen=True)
class Change:
    """An object that differs from the file."""

    action: Literal["create", "update", "delete"]
    family: str
    key: str
    wanted: Fields = field(repr=False)
    live: Live | None = field(default=None, repr=False)
    differences: tuple[Difference, ...] = ()


async def plan(
    client: TelnyxClient, document: Document, *, prune: bool = False, set_unreturned: bool = False
) -> list[Change]:
    """The changes, in the order of application; deletions come last.

    Args:
        client: the Telnyx client.
        document: the wanted state.
        prune: delete what Telnyx lists and the document does not name.
        set_unreturned: set the fields that Telnyx does not return, since they cannot be compared.

    Raises:
        TelnyxError: the account cannot be read.
    """
    changes: list[Change] = []
    removals: list[Change] = []
    for name, family in FAMILIES.items():
        things = document.get(name, {})
        kept: set[str] = set()
        for key, wanted in things.items():
            live = await family.read(client, key, wanted)
            if live is not None:
                kept.add(live.id)
            if (change := _change(name, key, wanted, live, set_unreturned=set_unreturned)) is not None:
                changes.append(change)
        if prune and family.list_all is not None:
            async for live in family.list_all(client):
                if live.id not in kept:
                    removals.insert(0, Change("delete", name, live.key, {}, live))
    return changes + removals


@dataclass(frozen=True)
class Unread:
    """An object that cannot be compared with the file, and why."""

    family: str
    key: str
    error: TelnyxError


async def drift(client: TelnyxClient, document: Document) -> tuple[list[Change], list[Unread]]:
    """What differs from the file, and what cannot be read; all other objects are compared.

    Raises:
        TelnyxError: three objects in a row cannot be read, so the account or Telnyx is at fault.
    """
    changes: list[Change] = []
    unread: list[Unread] = []
    in_a_row = 0
    things = [(name, key, wanted) for name in FAMILIES for key, wanted in document.get(name, {}).items()]
    for name, key, wanted in things:
        try:
            live = await FAMILIES[name].read(client, key, wanted)
        except TelnyxError as error:
            unread.append(Unread(name, key, error))
            in_a_row += 1
            if in_a_row == _MOST_IN_A_ROW:
                raise
            continue
        in_a_row = 0
        if (change := _change(name, key, wanted, live)) is not None:
            changes.append(change)
    return changes, unread


def _change(name: str, key: str, wanted: Fields, live: Live | None, *, set_unreturned: bool = False) -> Change | None:
    """The change of one object; None if it matches the file."""
    if live is None:
        return Change("create", name, key, wanted)
    differences = tuple(_differences(wanted, live.fields))
    if not FAMILIES[name].is_returned and set_unreturned:
        differences = tuple(Difference(field, "not readable", after) for field, after in wanted.items())
    return Change("update", name, key, wanted, live, differences) if differences else None


def _differences(wanted: Fields, live: Fields, path: str = "") -> list[Difference]:
    found: list[Difference] = []
    for name, after in wanted.items():
        if name not in live:
            continue
        before, where = live[name], f"{path}{name}"
        if isinstance(after, dict) and isinstance(before, dict):
            found += _differences(after, before, where + ".")
        elif not _is_same(before, after):
            found.append(Difference(where, before, after))
    return found


def _is_same(before: Any, after: Any) -> bool:
    if before == after:
        return True
    if isinstance(before, str) and isinstance(after, (str, dict)) and before[:1] in "{[":  # JSON in a text
        try:
            return bool(json.loads(before) == (json.loads(after) if isinstance(after, str) else after))
        except ValueError:
            return False
    return isinstance(before, str) and bool(before) and set(before) <= set("*•")  # masked: cannot be compared


async def apply(client: TelnyxClient, changes: list[Change]) -> AsyncIterator[Change]:
    """Apply the changes one by one, yielding each. After an error, a new plan continues from there.

    Raises:
        TelnyxError: a change failed; the ones after it were not tried.
    """
    for change in changes:
        family = FAMILIES[change.family]
        if change.action == "create":
            await family.create(client, change.key, change.wanted)
        elif change.live is not None and change.action == "update":
            await family.update(client, change.live, change.wanted)
        elif change.live is not None:
            await family.delete(client, change.live)
        yield change


async def export(client: TelnyxClient) -> str:
    """The account as a file, as far as Telnyx lists it; secrets become environment variables.

    Raises:
        TelnyxError: the account cannot be listed. A single unreadable object becomes a comment.
    """
    lines = ["# The Telnyx account as of now. Secrets are environment variables; set them before you run `plan`.", ""]
    connection_ids: list[str] = []
    for name, family in FAMILIES.items():
        if not family.is_exported:
            continue
        if family.list_all is not None:
            found, unreadable = await read_all(family.list_all(client))
            for live in found:
                connection_ids.append(live.id)
                lines += [f"[{name}.{_quoted(live.key)}]", f"id = {json.dumps(live.id)}"]
                lines += _assignments({n: live.fields.get(n) for n in family.fields if n != "id"}, live.id)
            lines += [f"# [{name}] cannot be read: {row}" for row in (unreadable.rows if unreadable else ())]
        else:
            for connection_id in connection_ids:
                try:
                    one = await family.read(client, connection_id, {})
                except TelnyxError as error:
                    lines.append(f"# [{name}.{_quoted(connection_id)}] cannot be read: {' '.join(str(error).split())}")
                    continue
                if one is not None:
                    lines.append(f"[{name}.{_quoted(connection_id)}]")
                    lines += _assignments({n: one.fields.get(n) for n in family.fields}, connection_id)
    return "\n".join(lines)


def _assignments(fields: Fields, owner: str) -> list[str]:
    lines = [f"{name} = {_toml(value, name, owner)}" for name, value in fields.items() if value is not None]
    return [*lines, ""]


def _toml(value: Any, name: str, owner: str) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{_quoted(k)} = {_toml(v, k, owner)}" for k, v in value.items() if v is not None)
        return f"{{ {inner} }}"
    if isinstance(value, str) and any(word in name.lower() for word in _SECRET_WORDS):
        return json.dumps(f"${name.upper()}_{owner}")
    return json.dumps(value)


def _quoted(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)
