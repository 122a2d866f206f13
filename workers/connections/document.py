"""The file: TOML with one table per object. Secrets come from the environment and are never shown.

[external_connections.office]            # matched by `id`, else by the tag `callvault:office`
id = "1700000000000000001"
active = true
tags = ["office"]
webhook_event_url = "https://calls.example.com/webhooks/telnyx"
outbound = { channel_limit = 10, outbound_voice_profile_id = "1911630617284445511" }

[custom_storage_credentials.1700000000000000001]
backend = "s3"
configuration = { bucket = "calls", region = "us-east-1", aws_access_key_id = "$KEY", aws_secret_access_key = "$SECRET" }

[uploads.1700000000000000001]            # numbers that should be assigned
number_ids = ["1234567890"]
usage = "calling_user_assignment"

[dialogflow_connections.1700000000000000001]
service_account = "$DIALOGFLOW_ACCOUNT"  # JSON

[siprec_connectors.recorder]
host = "siprec.example.com"
port = 5060

[media."greeting.mp3"]
media_url = "https://example.com/greeting.mp3"
ttl_secs = 86400
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from text.errors import UsedWrongly
from workers.connections.families import FAMILIES

_REFERENCE = re.compile(r"\$([A-Z][A-Z0-9_]*)")


class BadDocument(UsedWrongly):
    """An invalid file; the text says where and why."""


class Secret(str):
    """A value from the environment; its repr hides it."""

    def __repr__(self) -> str:
        return "(secret)"


Document = dict[str, dict[str, dict[str, Any]]]


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Document:
    """Read a file.

    Raises:
        BadDocument: it cannot be read, or a table or field is unknown, missing, or of the wrong type.
    """
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise BadDocument(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadDocument(f"{path}: invalid TOML: {error}") from None
    for name, things in document.items():
        family = FAMILIES.get(name)
        if family is None:
            raise BadDocument(f"{path}: unknown table [{name}]; expected one of {', '.join(FAMILIES)}")
        for key, fields in _tables(path, name, things).items():
            where = f"{path}: [{name}.{key}]"
            if unknown := sorted(set(fields) - set(family.fields)):
                raise BadDocument(f"{where}: unknown field {', '.join(unknown)}; expected {', '.join(family.fields)}")
            if missing := [field for field in family.required if field not in fields]:
                raise BadDocument(f"{where}: required field {missing[0]} is missing")
            if fields.get("configuration") == "archive":
                fields["configuration"] = _of_the_archive(where, environment)
            things[key] = _resolve(fields, where, environment)
    return document


def _tables(path: Path, name: str, things: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(things, dict) or not all(isinstance(fields, dict) for fields in things.values()):
        raise BadDocument(f"{path}: [{name}] must contain tables such as [{name}.office]")
    return things


def _of_the_archive(where: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The archive's own bucket as custom storage, so that Telnyx writes into it."""
    parts = urlsplit(environment.get("CALLVAULT_ARCHIVE_URL", ""))
    if parts.scheme != "s3":
        raise BadDocument(f'{where}: configuration = "archive" requires CALLVAULT_ARCHIVE_URL=s3://...')
    names = {"region": "$AWS_REGION", "aws_access_key_id": "$AWS_ACCESS_KEY_ID"}
    names |= {"aws_secret_access_key": "$AWS_SECRET_ACCESS_KEY"}
    if "AWS_ENDPOINT_URL_S3" in environment:
        names["endpoint"] = "$AWS_ENDPOINT_URL_S3"
    return {"bucket": parts.netloc} | names


def _resolve(value: Any, where: str, environment: Mapping[str, str]) -> Any:
    """Replace `$NAME` by the environment variable."""
    if isinstance(value, dict):
        return {key: _resolve(item, where, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, where, environment) for item in value]
    if isinstance(value, str) and (reference := _REFERENCE.fullmatch(value)):
        name = reference.group(1)
        if name not in environment:
            raise BadDocument(f"{where}: environment variable {name} is not set")
        return Secret(environment[name])
    return value
