"""Which settings are in force, where each comes from, and which variables look like settings and are not."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from datetime import timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from config.secret_files import SUFFIX, environment, secret_files
from config.setting import Secret
from config.settings import (
    SERVE_METRICS,
    SERVE_REDIS_URL,
    SETTINGS,
    Settings,
    names_of_secrets,
    names_of_settings,
    without_credentials,
)
from text.times import format_duration

_FROM_KUBERNETES = re.compile(r"_(SERVICE_HOST|SERVICE_PORT|PORT)(_|$)")
_OF_PARENTS = (SERVE_REDIS_URL, SERVE_METRICS)


Source = Literal["default", "environment", "file", "command line", "callvault up"]


class InForce(NamedTuple):
    """A setting as this process uses it.

    Attributes:
        name: the environment variable.
        value: as a person would write it, an unset archive and a relative data folder as their full address and path; None:
            unset. Of a secret, its fingerprint.
        source: where it comes from.
        file: the file that it comes from; empty if it comes from elsewhere.
        is_secret: whether `value` is a fingerprint.
    """

    name: str
    value: str | None
    source: Source
    file: str
    is_secret: bool


def written_settings(settings: Settings) -> dict[str, str | None]:
    """The values of all settings as `written_value` writes them, by name, in the order of the table."""
    resolved = {"archive_url": settings.archive_address, "data_folder": settings.data_folder.resolve()}
    return {
        row.name: written_value(row.name, resolved.get(attribute, getattr(settings, attribute)))
        for attribute, row in SETTINGS.items()
    }


def settings_in_force(
    settings: Settings, options: Collection[str] = (), from_up: Collection[str] = ()
) -> list[InForce]:
    """All settings of this process, in the order of the table.

    Args:
        settings: of this process.
        options: the fields that options of the command have set.
        from_up: the names of the settings that a running `callvault up` gave.
    """
    files = secret_files(names_of_secrets(), environment())
    written, rows = written_settings(settings), []
    for attribute, row in SETTINGS.items():
        name = row.name
        source: Source = "default"
        if attribute in options:
            source = "command line"
        elif name in from_up:
            source = "callvault up"
        elif name in files:
            source = "file"
        elif attribute in settings.given:
            source = "environment"
        rows.append(InForce(name, written[name], source, str(files.get(name, "")), row.is_secret))
    return rows


def written_value(name: str, value: Any) -> str | None:
    """The value of a setting as a person would write it, without secrets; None: unset.

    A secret is shown by a fingerprint of 24 bits, so that two processes can be compared. It reveals no random key. Of a list of
    common passwords it leaves one or two, so a password must be random.
    """
    match value:
        case None:
            return None
        case tuple() | dict() if not value:
            return None
        case Secret():
            return _fingerprint(name, value.get_secret_value())
        case (Secret(), *_):
            return _fingerprint(name, " ".join(one.get_secret_value() for one in value))
        case timedelta():
            return format_duration(value.total_seconds())
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case dict():
            return ",".join(f"{key}={one}" for key, one in value.items())
        case tuple():
            return ",".join(map(str, value))
        case _:
            return without_credentials(str(value))


@lru_cache(64)  # it is slow on purpose
def _fingerprint(name: str, secret: str) -> str:
    data = secret.encode("utf-8", "surrogatepass")
    digest = hashlib.scrypt(data, salt=f"callvault {name}".encode(), n=2**12, r=8, p=1, dklen=3)
    return f"hidden, fingerprint {digest.hex()}"


def unknown_settings() -> list[str]:
    """A sentence for each variable that looks like a setting and is not, with the setting it may be a typo of.

    They are no error: Kubernetes makes such variables for a service whose name starts with `callvault`.
    """
    known, secrets = names_of_settings(), names_of_secrets()
    files = {name + SUFFIX for name in secrets}
    found = []
    for name in sorted(environment()):
        setting = name.removesuffix(SUFFIX)
        if name in (*known, *files, *_OF_PARENTS) or _FROM_KUBERNETES.search(name):
            continue
        if name != setting and setting in known:
            found.append(f"{name} is not a setting, because {setting} is no secret; set {setting} itself")
        elif name.startswith("CALLVAULT_"):
            found.append(f"{name} is not a setting{_meant(name, (*known, *files))}")
    return found


def _meant(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, [*known], 1)
    return f"; did you mean {near[0]}?" if near else ""
