"""How people sign in besides tokens: by OpenID Connect; and the file that says which of them has which role."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from config.roles import ROLES, Role, role_of
from config.settings import Settings, SettingsError, name_of

_TABLES = ("groups", "people")


@dataclass(frozen=True)
class AccessFile:
    """Which groups and people have which roles.

    Attributes:
        path: of the file.
        groups: the roles of each group, as the provider writes its name.
        people: the roles of each person, by e-mail address in lower case or by subject.
    """

    path: Path
    groups: Mapping[str, frozenset[Role]]
    people: Mapping[str, frozenset[Role]]

    def grants(self, names: Iterable[str], groups: Iterable[str]) -> list[tuple[str, frozenset[Role]]]:
        """What a person gets: each entry of the file that fits, and its roles.

        Args:
            names: the verified names of the person: an e-mail address, a subject.
            groups: the person's groups.
        """
        found = [(f"group {group}", self.groups[group]) for group in groups if group in self.groups]
        keys = dict.fromkeys(key for name in names for key in (name, name.casefold()))
        return [*found, *((f"person {key}", self.people[key]) for key in keys if key in self.people)]

    def roles(self, names: Iterable[str], groups: Iterable[str]) -> frozenset[Role]:
        """The roles of a person, from all entries that fit; none if no entry does."""
        return frozenset(role for _, roles in self.grants(names, groups) for role in roles)


@dataclass(frozen=True)
class OpenId:
    """The client of an OpenID provider; see the settings of the same names."""

    issuer: str
    client_id: str
    client_secret: SecretStr = field(repr=False)
    scopes: tuple[str, ...]
    groups_claim: str


@dataclass(frozen=True)
class SignIn:
    """How people sign in besides tokens.

    Attributes:
        openid: the provider; None without one.
        access: the roles; None without a provider.
    """

    openid: OpenId | None = None
    access: AccessFile | None = None


NO_PROVIDER = SignIn()


def read_sign_in(settings: Settings) -> SignIn:
    """How people sign in, from the settings and the access file.

    Raises:
        SettingsError: a setting that belongs to the others is missing, or the file cannot be used.
    """
    fields = {name: getattr(settings, name) for name in ("oidc_issuer", "oidc_client_id", "oidc_client_secret")}
    given = [name for name, value in fields.items() if value is not None]
    if not given:
        return NO_PROVIDER
    for name, value in (*fields.items(), ("access_file", settings.access_file)):
        if value is None:
            raise SettingsError(
                f"{_variable(name)}: is not set, and {_variable(given[0])} is; set all of them, or none"
            )
    _assert_installed()
    scopes = tuple(dict.fromkeys(("openid", *settings.oidc_scopes)))
    openid = OpenId(
        fields["oidc_issuer"],
        fields["oidc_client_id"],
        fields["oidc_client_secret"],
        scopes,
        settings.oidc_groups_claim,
    )
    assert settings.access_file is not None  # noqa: S101 it was checked with the others
    return SignIn(openid, read_access_file(settings.access_file))


def read_access_file(path: Path) -> AccessFile:
    """Read `CALLVAULT_ACCESS_FILE`.

    Raises:
        SettingsError: it cannot be read, names an unknown table or role, or gives a role to nobody.
    """
    where = f"CALLVAULT_ACCESS_FILE: {path}"
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"{where}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{where}: invalid TOML: {error}") from None
    if unknown := sorted(set(document) - set(_TABLES)):
        raise SettingsError(f"{where}: unknown table [{unknown[0]}]; expected [groups] or [people]")
    groups, people = (_entries(where, name, document.get(name, {})) for name in _TABLES)
    if not groups and not people:
        raise SettingsError(f'{where}: gives nobody a role; expected lines such as "name of a group" = "listener"')
    people = {name.casefold() if "@" in name else name: roles for name, roles in people.items()}
    return AccessFile(path, groups, people)


def _entries(where: str, table: str, entries: Any) -> dict[str, frozenset[Role]]:
    if not isinstance(entries, dict):
        raise SettingsError(f'{where}: {table}: expected a table with lines such as "a name" = "listener"')
    found = {}
    for name, value in entries.items():
        roles = [value] if isinstance(value, str) else value
        if not isinstance(roles, list) or not roles or not all(isinstance(role, str) for role in roles):
            raise SettingsError(
                f"{where}: [{table}] {name!r}: expected one or several of {', '.join(ROLES)}, such as "
                '"listener" or ["listener", "operator"]'
            )
        try:
            found[name] = frozenset(map(role_of, roles))
        except ValueError as error:
            raise SettingsError(f"{where}: [{table}] {name!r}: {error}") from None
    return found


def _assert_installed() -> None:
    from importlib.util import find_spec

    if find_spec("cryptography") is None:
        raise SettingsError("CALLVAULT_OIDC_ISSUER: needs another package; run `pip install 'callvault[oidc]'`")


def _variable(attribute: str) -> str:
    return name_of(Settings.model_fields[attribute])
