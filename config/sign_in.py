"""How people sign in besides tokens: by OpenID Connect or at a proxy; and the file that says who has which role."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any

from config.roles import ROLES, role_of
from config.scopes import Grant, scoped_grant
from config.setting import Secret
from config.settings import SETTINGS, Settings, SettingsError

_TABLES = ("groups", "people")
_OF_OPENID = ("oidc_issuer", "oidc_client_id", "oidc_client_secret")
_OF_PROXY = ("proxy_user_header", "proxy_groups_header", "proxy_addresses")


@dataclass(frozen=True)
class AccessFile:
    """Which groups and people have which roles, and with which recordings.

    Attributes:
        path: of the file.
        groups: the grants of each group, as the provider writes its name.
        people: the grants of each person, by e-mail address in lower case (`_folded`) or by subject.
    """

    path: Path
    groups: Mapping[str, tuple[Grant, ...]]
    people: Mapping[str, tuple[Grant, ...]]

    def entries(self, names: Iterable[str], groups: Iterable[str]) -> list[tuple[str, tuple[Grant, ...]]]:
        """Each entry of the file that fits a person, and its grants.

        Args:
            names: the verified names of the person: an e-mail address, a subject.
            groups: the person's groups.
        """
        found = [(f"group {group}", self.groups[group]) for group in groups if group in self.groups]
        keys = dict.fromkeys(map(_folded, names))
        return [*found, *((f"person {key}", self.people[key]) for key in keys if key in self.people)]

    def grants(self, names: Iterable[str], groups: Iterable[str]) -> tuple[Grant, ...]:
        """What a person gets, from all entries that fit; nothing if no entry does."""
        return tuple(dict.fromkeys(grant for _, grants in self.entries(names, groups) for grant in grants))


@dataclass(frozen=True)
class OpenId:
    """The client of an OpenID provider; see the settings of the same names."""

    issuer: str
    client_id: str
    client_secret: Secret = field(repr=False)
    scopes: tuple[str, ...]
    groups_claim: str


@dataclass(frozen=True)
class Proxy:
    """A proxy at which people sign in.

    Attributes:
        user_header: names the person.
        groups_header: names the groups, with commas between them; None: there are no groups.
        addresses: from which these headers are believed.
    """

    user_header: str
    groups_header: str | None
    addresses: tuple[IPv4Network | IPv6Network, ...]

    def is_at(self, address: str | None) -> bool:
        """Whether a connection comes from the proxy.

        Args:
            address: of the other end of the connection, whatever its headers say; None if it is not known.
        """
        try:
            there = ip_address(address or "")
        except ValueError:
            return False
        if isinstance(there, IPv6Address):
            there = there.ipv4_mapped or there
        return any(there in network for network in self.addresses)


@dataclass(frozen=True)
class SignIn:
    """How people sign in besides tokens.

    Attributes:
        openid: the provider; None without one.
        proxy: the proxy; None without one.
        access: the roles; None with neither.
    """

    openid: OpenId | None = None
    proxy: Proxy | None = None
    access: AccessFile | None = None


NO_PROVIDER = SignIn()


def read_sign_in(settings: Settings) -> SignIn:
    """How people sign in, from the settings and the access file.

    Raises:
        SettingsError: a setting that belongs to the others is missing, both ways are set, or the file cannot be used.
    """
    openid, proxy = _given(settings, _OF_OPENID), _given(settings, _OF_PROXY)
    if openid and proxy:
        raise SettingsError(
            f"{_variable(proxy[0])}: {_variable(openid[0])} is set too; people sign in in one way, so unset one of the two"
        )
    if not openid and not proxy:
        return NO_PROVIDER
    for name in (*(_OF_OPENID if openid else _OF_PROXY), "access_file"):
        if not getattr(settings, name) and name != "proxy_groups_header":
            given = _variable((openid or proxy)[0])
            raise SettingsError(f"{_variable(name)}: is not set, and {given} is; set all of them, or none")
    access = read_access_file(Path(str(settings.access_file)))
    if proxy:
        user_header = str(settings.proxy_user_header)
        return SignIn(proxy=Proxy(user_header, settings.proxy_groups_header, settings.proxy_addresses), access=access)
    _assert_installed()
    assert settings.oidc_issuer and settings.oidc_client_id and settings.oidc_client_secret  # noqa: S101 see above
    client = settings.oidc_issuer, settings.oidc_client_id, settings.oidc_client_secret
    scopes = tuple(dict.fromkeys(("openid", *settings.oidc_scopes)))
    return SignIn(OpenId(*client, scopes, settings.oidc_groups_claim), access=access)


def read_access_file(path: Path) -> AccessFile:
    """Read `CALLVAULT_ACCESS_FILE`.

    Raises:
        SettingsError: it cannot be read, names an unknown table or role, has a scope that cannot be used, or gives a
            role to nobody.
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
    people = {_folded(name): grants for name, grants in people.items()}
    return AccessFile(path, groups, people)


def _entries(where: str, table: str, entries: Any) -> dict[str, tuple[Grant, ...]]:
    if not isinstance(entries, dict):
        raise SettingsError(f'{where}: {table}: expected a table with lines such as "a name" = "listener"')
    found = {}
    for name, value in entries.items():
        try:
            found[name] = tuple(map(_grant, value if isinstance(value, list) and value else [value]))
        except ValueError as error:
            raise SettingsError(f"{where}: [{table}] {name!r}: {error}") from None
    return found


def _grant(value: Any) -> Grant:
    """A grant as the file writes it: a role, or a table with a role and its scope.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, str):
        return Grant(role_of(value))
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        raise ValueError(
            f'expected one or several of {", ".join(ROLES)}, such as "listener", ["listener", "operator"] or '
            '{ role = "listener", connections = ["123"] }'
        )
    role = role_of(value["role"])
    if unknown := sorted(set(value) - set(_GRANT)):
        raise ValueError(f"unknown name {unknown[0][:40]!r}; expected {', '.join(_GRANT)}")
    for name, expected in _GRANT.items():
        if name in value and not _is_of(value[name], expected):
            raise ValueError(f"{name}: expected {expected}")
    return scoped_grant(role, value.get("connections"), value.get("numbers"), mask=value.get("mask", False))


_TEXTS, _YES_OR_NO = 'texts, such as ["123"]', "true or false"
_GRANT = {"role": "a role", "connections": _TEXTS, "numbers": _TEXTS, "mask": _YES_OR_NO}


def _is_of(value: Any, expected: str) -> bool:
    if expected == _TEXTS:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return isinstance(value, bool if expected == _YES_OR_NO else str)


def _folded(name: str) -> str:
    """A name as two are compared: an e-mail address in any case of its ASCII letters, anything else as it is.

    Folding more would give the roles of strasse@example.com to straße@example.com, and subjects that differ in case are
    two people (OpenID Connect Core 1.0, section 2).
    """
    return "".join(c.lower() if c.isascii() else c for c in name) if "@" in name else name


def _given(settings: Settings, names: Iterable[str]) -> list[str]:
    return [name for name in names if getattr(settings, name)]


def _assert_installed() -> None:
    from importlib.util import find_spec

    if find_spec("cryptography") is None:
        raise SettingsError("CALLVAULT_OIDC_ISSUER: needs another package; run `pip install 'callvault[oidc]'`")


def _variable(attribute: str) -> str:
    return SETTINGS[attribute].name
