"""Every setting: its environment variable, type, default, check and one line of help.

This table is the only place that reads the environment. `docs/configuration.md` is made from it.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from config.errors import UserError
from config.times import format_duration, parse_duration

ARCHIVE_SCHEMES = ("file", "s3", "gs", "az")
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")


class SettingsError(UserError):
    """A setting that cannot be used; its text says which, what was read, what is expected."""

    exit_status = 2


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _public_keys(value: object) -> object:
    if not isinstance(value, str):
        return value
    keys = [part.strip() for part in value.split(",") if part.strip()]
    for key in keys:
        try:
            decoded = base64.b64decode(key, validate=True)
        except binascii.Error:
            raise ValueError("not base64") from None
        if len(decoded) != 32:
            raise ValueError(f"{len(decoded)} bytes decoded, not 32")
    return tuple(keys)


def is_local_host(host: str) -> bool:
    """Whether a host name or address is this machine or a private network, where plain HTTP is accepted."""
    if host == "localhost" or host.endswith(".localhost") or ("." not in host and ":" not in host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private


def _base_url(value: object) -> object:
    parts = urlsplit(str(value))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("not an http(s) address")
    if parts.scheme == "http" and not is_local_host(parts.hostname):
        raise ValueError("plain http to a public host would show the API key to everyone on the way")
    return str(value).rstrip("/")


def _redis_url(value: object) -> object:
    scheme = urlsplit(str(value)).scheme
    if scheme not in REDIS_SCHEMES:
        raise ValueError(f"scheme {scheme!r}")
    return value


def _archive_url(value: object) -> object:
    parts = urlsplit(str(value))
    if parts.scheme not in ARCHIVE_SCHEMES:
        raise ValueError(f"scheme {parts.scheme!r}")
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ValueError("not an absolute path after file://")
    elif not parts.netloc:
        raise ValueError("no bucket")
    return str(value).rstrip("/")


@dataclass(frozen=True)
class TranscriptionPolicy:
    """`ignore`, `wait` for a while, or `require`.

    Attributes:
        wait: how long after the archiving; only for `wait`.
    """

    kind: Literal["ignore", "wait", "require"]
    wait: timedelta = timedelta(0)

    def __str__(self) -> str:
        return f"wait {format_duration(self.wait.total_seconds())}" if self.kind == "wait" else self.kind


@dataclass(frozen=True)
class QuietHours:
    """Hours of the day, UTC: from the first to before the last; over midnight if the last is smaller."""

    first: int
    last: int

    def holds(self, hour: int) -> bool:
        """Whether an hour is quiet."""
        if self.first <= self.last:
            return self.first <= hour < self.last
        return hour >= self.first or hour < self.last


def _quiet_hours(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d{1,2})-(\d{1,2})", value.strip())
    if not found or max(int(n) for n in found.groups()) > 24:
        raise ValueError("not hours")
    return QuietHours(int(found.group(1)), int(found.group(2)))


def _severities(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = dict(pair.partition("=")[::2] for pair in value.replace(",", " ").split())
    if wrong := [name for name, severity in pairs.items() if severity not in ("info", "warning", "critical", "off")]:
        raise ValueError(f"{wrong[0]} is given none of info, warning, critical, off")
    return pairs


def _transcriptions(value: object) -> object:
    if not isinstance(value, str):
        return value
    words = value.split(maxsplit=1)
    if words in (["ignore"], ["require"]):
        return TranscriptionPolicy("ignore" if words == ["ignore"] else "require")
    if len(words) == 2 and words[0] == "wait":
        return TranscriptionPolicy("wait", parse_duration(words[1]))
    raise ValueError("neither of these")


def _list(value: object) -> object:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _setting(name: str, default: Any, *, help: str, expected: str, secret: bool = False) -> Any:
    return Field(
        default=default,
        validation_alias=name,
        description=help,
        json_schema_extra={"expected": expected, "secret": secret},
    )


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class Settings(BaseSettings):
    """All settings of one process, read once from the environment by `load_settings`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True, validate_default=False
    )

    telnyx_api_key: SecretStr | None = _setting(
        "TELNYX_API_KEY", None, secret=True, help="API v2 key.", expected="an API v2 key from the Telnyx portal"
    )
    telnyx_public_keys: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_public_keys)] = _setting(
        "TELNYX_PUBLIC_KEY",
        (),
        help="Webhook public key; several separated by commas while keys rotate.",
        expected="one or more base64 Ed25519 public keys of 32 bytes, separated by commas",
    )
    telnyx_base_url: Annotated[str, BeforeValidator(_base_url)] = _setting(
        "TELNYX_BASE_URL",
        "https://api.telnyx.com/v2",
        help="Where the Telnyx API is.",
        expected="an https address (http only on this machine or a private network)",
    )
    redis_url: Annotated[SecretStr | None, BeforeValidator(_redis_url)] = _setting(
        "REDIS_URL",
        None,
        secret=True,
        help="Redis or Valkey. Unset: an embedded Valkey server with its data in the data folder.",
        expected="redis://, rediss://, unix:// or redis+sentinel://",
    )
    archive_url: Annotated[str | None, BeforeValidator(_archive_url)] = _setting(
        "CALLVAULT_ARCHIVE_URL",
        None,
        help="The archive. Unset: the folder `archive` in the data folder.",
        expected="s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///path",
    )
    data_folder: Path = _setting(
        "CALLVAULT_DATA",
        Path("callvault-data"),
        help="Folder for what stays on this machine: the embedded Valkey's data, the default archive.",
        expected="a folder",
    )
    delete_originals: Literal["never", "verified"] = _setting(
        "CALLVAULT_DELETE_ORIGINALS",
        "never",
        help="Whether originals are deleted at Telnyx once their archive is proven.",
        expected="never or verified",
    )
    delete_after: Duration = _setting(
        "CALLVAULT_DELETE_AFTER",
        timedelta(hours=24),
        help="Grace between the commit record and the deletion of the original.",
        expected="a duration such as 2s, 15m, 24h or 30d",
    )
    proof: Literal["store", "read-back"] = _setting(
        "CALLVAULT_PROOF",
        "store",
        help="What counts as proof of an object: the strongest that the store gives, or always reading it back.",
        expected="store or read-back",
    )
    delete_batch: Annotated[int, Field(ge=1, le=10_000)] = _setting(
        "CALLVAULT_DELETE_BATCH",
        100,
        help="Most originals of one bulk deletion; Telnyx documents no limit, and a refused batch is halved.",
        expected="a number from 1 to 10000",
    )
    delete_stop_percent: Annotated[float, Field(ge=0, le=100)] = _setting(
        "CALLVAULT_DELETE_STOP_PERCENT",
        10.0,
        help="Deletion pauses itself when more than this share of a batch, and at least three, fail their proof.",
        expected="a number from 0 to 100",
    )
    transcriptions: Annotated[TranscriptionPolicy, NoDecode, BeforeValidator(_transcriptions)] = _setting(
        "CALLVAULT_TRANSCRIPTIONS",
        TranscriptionPolicy("wait", timedelta(0)),
        help="Whether deletion waits for transcriptions: ignore those that Telnyx is still making; wait for those, and so "
        "long after the archiving for one that is not begun, where the connection makes them; or require one there.",
        expected="ignore, require, or wait and a duration such as wait 1h",
    )
    hold_connections: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_list)] = _setting(
        "CALLVAULT_HOLD_CONNECTIONS",
        (),
        help="Connections under legal hold: their originals are never deleted.",
        expected="connection ids, separated by commas",
    )
    reconcile_every: Duration = _setting(
        "CALLVAULT_RECONCILE_EVERY",
        timedelta(hours=1),
        help="How often the recent days are compared with Telnyx.",
        expected="a duration such as 1h",
    )
    reconcile_recent: Duration = _setting(
        "CALLVAULT_RECONCILE_RECENT",
        timedelta(days=3),
        help="Which days are recent.",
        expected="a duration such as 3d",
    )
    reconcile_open_every: Duration = _setting(
        "CALLVAULT_RECONCILE_OPEN_EVERY",
        timedelta(days=1),
        help="How often every open day is compared with Telnyx.",
        expected="a duration such as 24h",
    )
    reconcile_open: Duration = _setting(
        "CALLVAULT_RECONCILE_OPEN",
        timedelta(days=30),
        help="How far back days are open.",
        expected="a duration such as 30d",
    )
    not_found_wait: Duration = _setting(
        "CALLVAULT_NOT_FOUND_WAIT",
        timedelta(minutes=10),
        help="How long a recording that Telnyx does not know is asked for again; a webhook can outrun the API.",
        expected="a duration such as 10m",
    )
    log_messages: Literal["off", "mirror", "mirror-and-dismiss"] = _setting(
        "CALLVAULT_LOG_MESSAGES",
        "mirror",
        help="Whether log messages of external connections are archived, and dismissed at Telnyx once they are.",
        expected="off, mirror or mirror-and-dismiss",
    )
    upload_retry: Literal["never", "once"] = _setting(
        "CALLVAULT_UPLOAD_RETRY",
        "never",
        help="Whether a failed upload of numbers is tried again by itself, once for each cause.",
        expected="never or once",
    )
    operator_connect_refresh: Duration | None = _setting(
        "CALLVAULT_OPERATOR_CONNECT_REFRESH",
        None,
        help="How often Telnyx is asked to read the Operator Connect state again. Unset: never.",
        expected="a duration such as 24h",
    )
    connections_file: Path | None = _setting(
        "CALLVAULT_CONNECTIONS_FILE",
        None,
        help="Configuration as code: a file that is compared with the account every hour; a difference is an alert.",
        expected="a TOML file",
    )
    quiet_hours: Annotated[QuietHours | None, NoDecode, BeforeValidator(_quiet_hours)] = _setting(
        "CALLVAULT_QUIET_HOURS",
        None,
        help="UTC hours in which only critical alerts are delivered; the others are remembered.",
        expected="hours such as 22-06",
    )
    alert_severities: Annotated[dict[str, str], NoDecode, BeforeValidator(_severities)] = _setting(
        "CALLVAULT_ALERT_SEVERITIES",
        {},
        help="Severities of your own by kind of alert; `off` delivers none of that kind.",
        expected="pairs such as audio-finding=info,log-message=critical",
    )
    upload_pending_limit: Duration = _setting(
        "CALLVAULT_UPLOAD_PENDING_LIMIT",
        timedelta(hours=1),
        help="How long an upload of numbers may be pending before an alert says so.",
        expected="a duration such as 1h",
    )
    queue_age_limit: Duration = _setting(
        "CALLVAULT_QUEUE_AGE_LIMIT",
        timedelta(minutes=5),
        help="How long a job may wait before an alert says so and bulk work yields.",
        expected="a duration such as 5m",
    )
    alert_urls: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_list)] = _setting(
        "CALLVAULT_ALERT_URLS",
        (),
        secret=True,
        help="Where alerts go, as Apprise URLs (Slack, Teams, PagerDuty, e-mail, webhooks ...).",
        expected="Apprise URLs, separated by blanks or commas",
    )
    encryption_key: str | None = _setting(
        "CALLVAULT_ENCRYPTION_KEY",
        None,
        help="Encrypt objects with this key of yours: a KMS key id (S3), a key's resource name (GCS), a scope (Azure).",
        expected="the name of a key as the store writes it",
    )
    storage_class: str | None = _setting(
        "CALLVAULT_STORAGE_CLASS",
        None,
        help="Storage class of objects, in the store's own word.",
        expected="a word such as STANDARD_IA, NEARLINE or Cool",
    )
    retention: Duration | None = _setting(
        "CALLVAULT_RETENTION",
        None,
        help="Lock each object for so long (S3 Object Lock, GCS object retention, Azure immutability).",
        expected="a duration such as 365d",
    )
    retention_mode: Literal["governance", "compliance"] = _setting(
        "CALLVAULT_RETENTION_MODE",
        "governance",
        help="Whether a lock can be lifted by those with the right to (governance) or by nobody (compliance).",
        expected="governance or compliance",
    )
    object_labels: Literal["none", "metadata", "tags"] = _setting(
        "CALLVAULT_OBJECT_LABELS",
        "none",
        help="Whether connection, channels and day of a recording are put on its objects, and how.",
        expected="none, metadata or tags",
    )
    upload_buffer_mib: Annotated[int, Field(ge=8, le=65536)] = _setting(
        "CALLVAULT_UPLOAD_BUFFER_MIB",
        64,
        help="Memory for uploads of one worker process to a bucket, in MiB.",
        expected="a number from 8 to 65536",
    )
    concurrency: Annotated[int, Field(ge=1, le=256)] = _setting(
        "CALLVAULT_CONCURRENCY",
        16,
        help="Jobs that one worker process runs at once.",
        expected="a number from 1 to 256",
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "CALLVAULT_LOG_LEVEL", "info", help="Least severity that is logged.", expected="debug, info, warning or error"
    )

    @property
    def archive_address(self) -> str:
        """The archive's URL, the default filled in."""
        return self.archive_url or (self.data_folder.resolve() / "archive").as_uri()


def load_settings(**overrides: Any) -> Settings:
    """Read the environment.

    Args:
        overrides: values given on the command line, by field name; None means not given.

    Raises:
        SettingsError: something in it cannot be used.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    alias = str(first["loc"][0])
    for name, field in Settings.model_fields.items():
        if alias in (name, field.validation_alias):
            extra = cast(dict[str, Any], field.json_schema_extra)
            read = _hidden(first["input"]) if extra["secret"] else repr(first["input"])
            reason = re.sub(r"^Value error, ", "", first["msg"])
            return f"{field.validation_alias}: cannot use {read} ({reason}); expected {extra['expected']}"
    return f"{alias}: {first['msg']}"


def _hidden(value: object) -> str:
    return f"a value of {len(str(value))} characters (hidden)"
