"""Every setting: its environment variable, type, default, check and one line of help.

This table is the only place that reads `TELNYX_*`, `REDIS_URL` and `CALLVAULT_*`. `docs/configuration.md` is made from it.
"""

from __future__ import annotations

import difflib
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from config.counts import many
from config.errors import UsedWrongly
from config.values import (
    QuietHours,
    TranscriptionPolicy,
    at_least,
    read_archive_url,
    read_base_url,
    read_duration,
    read_folder,
    read_http_url,
    read_ids,
    read_list,
    read_public_keys,
    read_quiet_hours,
    read_redis_url,
    read_severities,
    read_token,
    read_transcriptions,
)

SERVE_REDIS_URL = "CALLVAULT_SERVE_REDIS_URL"  # how a parent process tells its receivers which Redis was found
_FROM_KUBERNETES = re.compile(r"_(SERVICE_HOST|SERVICE_PORT|PORT)(_|$)")


class SettingsError(UsedWrongly):
    """A setting that cannot be used; its text says which, what was read, what is expected."""


def _setting(name: str, default: Any, *, help: str, expected: str, secret: bool = False) -> Any:
    return Field(
        default=default,
        validation_alias=name,
        description=help,
        json_schema_extra={"expected": expected, "secret": secret},
    )


Duration = Annotated[timedelta, BeforeValidator(read_duration)]
Interval = Annotated[Duration, AfterValidator(at_least("1s"))]  # how often something is done, or how long at least
Days = Annotated[Duration, AfterValidator(at_least("1d"))]  # how far back


class Settings(BaseSettings):
    """All settings of one process, read once from the environment by `load_settings`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True, validate_default=False
    )

    telnyx_api_key: SecretStr | None = _setting(
        "TELNYX_API_KEY", None, secret=True, help="API v2 key.", expected="an API v2 key from the Telnyx portal"
    )
    telnyx_public_keys: Annotated[tuple[str, ...], NoDecode, BeforeValidator(read_public_keys)] = _setting(
        "TELNYX_PUBLIC_KEY",
        (),
        help="Webhook public key; several separated by commas while keys rotate.",
        expected="one or more base64 Ed25519 public keys of 32 bytes, separated by commas",
    )
    telnyx_base_url: Annotated[str, BeforeValidator(read_base_url)] = _setting(
        "TELNYX_BASE_URL",
        "https://api.telnyx.com/v2",
        help="Where the Telnyx API is.",
        expected="an https address (http only on this machine or a private network)",
    )
    redis_url: Annotated[SecretStr | None, BeforeValidator(read_redis_url)] = _setting(
        "REDIS_URL",
        None,
        secret=True,
        help="Redis or Valkey. Unset: an embedded Valkey server with its data in the data folder.",
        expected="redis://, rediss://, unix:// or redis+sentinel://host,host/name; docs/redis.md has their options",
    )
    archive_url: Annotated[str | None, BeforeValidator(read_archive_url)] = _setting(
        "CALLVAULT_ARCHIVE_URL",
        None,
        help="The archive. Unset: the folder `archive` in the data folder.",
        expected="s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///path; a blank in a path is %20",
    )
    data_folder: Annotated[Path, BeforeValidator(read_folder)] = _setting(
        "CALLVAULT_DATA",
        Path("callvault-data"),
        help="Folder for what stays on this machine: the embedded Valkey's data, the default archive.",
        expected="the path of a folder",
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
        help="Grace between the commit record and the deletion of the original. An original also stays until its day is sealed, "
        "unless this is set and shorter than that takes (a day and `CALLVAULT_SEAL_AFTER`).",
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
    transcriptions: Annotated[TranscriptionPolicy, NoDecode, BeforeValidator(read_transcriptions)] = _setting(
        "CALLVAULT_TRANSCRIPTIONS",
        TranscriptionPolicy("wait", timedelta(0)),
        help="Whether deletion waits for transcriptions: ignore those that Telnyx is still making; wait for those, and so "
        "long after the archiving for one that is not begun, where the connection makes them; or require one there.",
        expected="ignore, require, or wait and a duration such as wait 1h",
    )
    hold_connections: Annotated[tuple[str, ...], NoDecode, BeforeValidator(read_ids)] = _setting(
        "CALLVAULT_HOLD_CONNECTIONS",
        (),
        help="Connections under legal hold: no worker of this archive deletes their originals.",
        expected="connection ids, separated by commas",
    )
    reconcile_every: Interval = _setting(
        "CALLVAULT_RECONCILE_EVERY",
        timedelta(hours=1),
        help="How often the recent days are compared with Telnyx.",
        expected="a duration such as 1h, 1s at least",
    )
    reconcile_recent: Days = _setting(
        "CALLVAULT_RECONCILE_RECENT",
        timedelta(days=3),
        help="Which days are recent.",
        expected="a duration such as 3d, 1d at least",
    )
    reconcile_open_every: Interval = _setting(
        "CALLVAULT_RECONCILE_OPEN_EVERY",
        timedelta(days=1),
        help="How often every open day is compared with Telnyx.",
        expected="a duration such as 24h, 1s at least",
    )
    reconcile_open: Days = _setting(
        "CALLVAULT_RECONCILE_OPEN",
        timedelta(days=30),
        help="How far back days are open.",
        expected="a duration such as 30d, 1d at least",
    )
    seal_after: Duration = _setting(
        "CALLVAULT_SEAL_AFTER",
        timedelta(hours=48),
        help="How long a day is over before it is sealed, once a comparison with Telnyx finds nothing of it missing.",
        expected="a duration such as 48h",
    )
    seal_without_after: Interval = _setting(
        "CALLVAULT_SEAL_WITHOUT_AFTER",
        timedelta(days=30),
        help="How long the seal of a day waits for a recording that Telnyx lists and gives no audio of, or for a transcription "
        "that it lists and does not give. Then the day is sealed without it, on record, with an alert; "
        "`callvault dead-letters accept ID --why ...` does it at once.",
        expected="a duration such as 30d, 1s at least",
    )
    seal_key: SecretStr | None = _setting(
        "CALLVAULT_SEAL_KEY",
        None,
        secret=True,
        help="Sign seals with this OpenSSH Ed25519 key; public keys behind it are those that signed before.",
        expected="the path of a private key without a passphrase or its text; then public key files, separated by commas",
    )
    timestamp_url: Annotated[str | None, BeforeValidator(read_http_url)] = _setting(
        "CALLVAULT_TIMESTAMP_URL",
        None,
        help="Have seals stamped by this RFC 3161 authority.",
        expected="an http or https address",
    )
    timestamp_ca: Path | None = _setting(
        "CALLVAULT_TIMESTAMP_CA",
        None,
        help="The authority's root certificates, for `callvault verify --seals`. Unset: a stamp is held to itself alone.",
        expected="a PEM file",
    )
    not_found_wait: Interval = _setting(
        "CALLVAULT_NOT_FOUND_WAIT",
        timedelta(minutes=10),
        help="How long a recording that Telnyx does not know is asked for again; a webhook can outrun the API.",
        expected="a duration such as 10m, 1s at least",
    )
    audio_tolerance: Duration = _setting(
        "CALLVAULT_AUDIO_TOLERANCE",
        timedelta(seconds=2),
        help="By how much the length of audio may differ from what Telnyx says; more is a finding, and the original is kept.",
        expected="a duration such as 2s or 500ms",
    )
    audio_tolerance_percent: Annotated[float, Field(ge=0, le=100)] = _setting(
        "CALLVAULT_AUDIO_TOLERANCE_PERCENT",
        0.5,
        help="The same as a share of what Telnyx says; the larger of the two counts.",
        expected="a number from 0 to 100",
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
    operator_connect_refresh: Interval | None = _setting(
        "CALLVAULT_OPERATOR_CONNECT_REFRESH",
        None,
        help="How often Telnyx is asked to read the Operator Connect state again. Unset: never.",
        expected="a duration such as 24h, 1s at least",
    )
    connections_file: Path | None = _setting(
        "CALLVAULT_CONNECTIONS_FILE",
        None,
        help="Configuration as code: a file that is compared with the account every hour; a difference is an alert.",
        expected="a TOML file",
    )
    quiet_hours: Annotated[QuietHours | None, NoDecode, BeforeValidator(read_quiet_hours)] = _setting(
        "CALLVAULT_QUIET_HOURS",
        None,
        help="UTC hours in which only critical alerts are delivered; the others are remembered.",
        expected="hours such as 22-06",
    )
    alert_severities: Annotated[dict[str, str], NoDecode, BeforeValidator(read_severities)] = _setting(
        "CALLVAULT_ALERT_SEVERITIES",
        {},
        help="Severities of your own by kind of alert; `off` delivers none of that kind.",
        expected="pairs such as audio-finding=info,log-message=critical",
    )
    upload_pending_limit: Annotated[Duration, AfterValidator(at_least("1ms"))] = _setting(
        "CALLVAULT_UPLOAD_PENDING_LIMIT",
        timedelta(hours=1),
        help="How long an upload of numbers may be pending before an alert says so.",
        expected="a duration such as 1h, 1ms at least",
    )
    queue_age_limit: Interval = _setting(
        "CALLVAULT_QUEUE_AGE_LIMIT",
        timedelta(minutes=5),
        help="How long a job may wait, or fail for what none is given up for, before an alert says so; while one waits so long, "
        "bulk work yields.",
        expected="a duration such as 5m, 1s at least",
    )
    alert_urls: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(read_list)] = _setting(
        "CALLVAULT_ALERT_URLS",
        (),
        secret=True,
        help="Where alerts go, as Apprise URLs (Slack, Teams, PagerDuty, e-mail, webhooks ...).",
        expected="Apprise URLs, separated by blanks or commas",
    )
    witness_urls: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(read_list)] = _setting(
        "CALLVAULT_WITNESS_URLS",
        (),
        secret=True,
        help="Where the hash of the last seal goes once a day, as Apprise URLs, so that seals cut off are noticed.",
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
    retention: Interval | None = _setting(
        "CALLVAULT_RETENTION",
        None,
        help="Lock each object for so long (S3 Object Lock, GCS object retention, Azure immutability).",
        expected="a duration such as 365d, 1s at least",
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
    least_download_rate: Annotated[int, Field(ge=0, le=1_000_000_000)] = _setting(
        "CALLVAULT_LEAST_DOWNLOAD_RATE",
        1024,
        help="Bytes a second that a download must bring, over a minute of waiting for them; a slower one ends and is tried "
        "again later, so that it keeps no other waiting. 0: none is too slow.",
        expected="a number from 0 to 1000000000",
    )
    concurrency: Annotated[int, Field(ge=1, le=256)] = _setting(
        "CALLVAULT_CONCURRENCY",
        16,
        help="Jobs that one worker process runs at once.",
        expected="a number from 1 to 256",
    )
    ops_token: Annotated[SecretStr | None, BeforeValidator(read_token)] = _setting(
        "CALLVAULT_OPS_TOKEN",
        None,
        secret=True,
        help="Opens the ops pages and `/api/`. Unset: they answer on this machine only, to whoever is on it.",
        expected="a secret of at least 16 characters",
    )
    ops_mask_numbers: bool = _setting(
        "CALLVAULT_OPS_MASK_NUMBERS",
        False,
        help="Whether the ops pages, `/api/` and inventories show the parties of recordings with their middle digits hidden.",
        expected="true or false",
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


def unknown_settings() -> list[str]:
    """What begins with `CALLVAULT_` in the environment and is no setting: a sentence each, with what may be meant.

    They stop nothing: Kubernetes itself makes such names where a service of ours has the word in its name.
    """
    known = [str(field.validation_alias) for field in Settings.model_fields.values()]
    found = []
    for name in sorted(os.environ):
        if not name.startswith("CALLVAULT_") or name in (*known, SERVE_REDIS_URL) or _FROM_KUBERNETES.search(name):
            continue
        near = difflib.get_close_matches(name, known, 1)
        found.append(f"{name} is no setting" + (f"; is {near[0]} meant?" if near else ""))
    return found


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    alias = str(first["loc"][0])
    for name, field in Settings.model_fields.items():
        if alias in (name, field.validation_alias):
            extra = cast(dict[str, Any], field.json_schema_extra)
            read = _hidden(first["input"]) if extra["secret"] else repr(first["input"])
            reason = re.sub(r"^Value error, ", "", first["msg"])
            # The library's own reasons, and ours that name the value, say again what is read and what is expected.
            is_said = first["type"] != "value_error" or reason.startswith(repr(first["input"]))
            why = "" if is_said else f" ({reason})"
            return f"{field.validation_alias}: cannot use {read}{why}; expected {extra['expected']}"
    return f"{alias}: {first['msg']}"


def _hidden(value: object) -> str:
    return f"a value of {many(len(str(value)), 'character')} (hidden)"
