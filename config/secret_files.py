"""Secrets from files: `TELNYX_API_KEY_FILE=/run/secrets/telnyx` stands for the content of that file as `TELNYX_API_KEY`.

Docker and Kubernetes mount secrets as files. A process reads them once, when it starts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

SUFFIX = "_FILE"
_MOST_BYTES = 64 * 1024  # a private key takes less than one


def environment() -> dict[str, str]:
    """The variables of this process that are not empty. Settings are found in any case, so all names are upper-case here."""
    return {name.upper(): value for name, value in os.environ.items() if value}


def secret_files(secrets: Iterable[str], variables: Mapping[str, str]) -> dict[str, Path]:
    """The file of each secret setting that names one, by the name of the setting.

    Raises:
        ValueError: a setting has both a value and a file; the text names both variables.
    """
    found = {name: Path(variables[name + SUFFIX]) for name in secrets if name + SUFFIX in variables}
    for name in found:
        if name in variables:
            raise ValueError(f"{name}{SUFFIX}: {name} is set too; expected one of the two, so unset the other")
    return found


def read_secret_file(name: str, path: Path) -> str:
    """The secret in a file, without the line breaks at its end.

    Args:
        name: of the setting, for errors; no error quotes the content.
        path: of the file.

    Raises:
        ValueError: the file cannot be read, is empty, too large or not text; the text names the setting and the file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(_line(name, f"cannot read {path} ({error.strerror})")) from None
    except ValueError:  # the path has a zero byte
        raise ValueError(_line(name, f"{str(path)!r} is not a path")) from None
    if len(data) > _MOST_BYTES:
        raise ValueError(_line(name, f"{path} is larger than {_MOST_BYTES // 1024} KiB"))
    try:
        text = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(_line(name, f"{path} is not text in UTF-8")) from None
    if not text:
        raise ValueError(_line(name, f"{path} is empty"))
    return text


def _line(name: str, what: str) -> str:
    return f"{name}{SUFFIX}: {what}; expected the path of a file that this process can read and that holds {name} alone"
