"""The table of settings: environment variable, type, default, check and help of each.

Nothing else reads `TELNYX_*`, `REDIS_URL` and `CALLVAULT_*`, except that `configuration = "archive"` in a connections file
(`workers/connections/document.py`) reads `CALLVAULT_ARCHIVE_URL`, and that `sources.py` beside this file tells where each
setting comes from. `make docs` makes `docs/configuration.md` from this table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal, NoReturn, Self

from config.ask_why import ACTS, read_ask_why
from config.secret_files import SUFFIX, environment, read_secret_file, secret_files
from config.setting import SameIn, Secret, Setting, at_least, flag, number, one_of, secret, secrets, setting, whole
from config.values import (
    QuietHours,
    TranscriptionPolicy,
    read_archive_url,
    read_base_url,
    read_duration,
    read_folder,
    read_header,
    read_http_url,
    read_ids,
    read_issuer,
    read_list,
    read_networks,
    read_public_keys,
    read_quiet_hours,
    read_redis_url,
    read_severities,
    read_token,
    read_transcriptions,
)
from text.counts import many
from text.errors import UsedWrongly

SERVE_REDIS_URL = "CALLVAULT_SERVE_REDIS_URL"  # set by a parent process for its receivers
SERVE_METRICS = "CALLVAULT_SERVE_METRICS"  # likewise: the folder of their metrics
_PLACE = "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///path; write a space in a path as %20"
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*(?=@)")


class SettingsError(UsedWrongly):
    """A setting cannot be used. The text names it, what was read and what is expected."""


class Settings:
    """All settings of one process, read once by `load_settings`; they do not change.

    The class has the rows of the table, by attribute; what is made of it has the values.

    Args:
        values: of settings, by attribute; the others have their defaults.

    Attributes:
        given: the attributes of the settings that were given.
    """

    given: frozenset[str]

    telnyx_api_key: Secret | None = secret(
        "TELNYX_API_KEY", help="Telnyx API v2 key.", expected="an API v2 key from the Telnyx portal"
    )
    telnyx_public_keys: tuple[str, ...] = setting(
        "TELNYX_PUBLIC_KEY",
        (),
        read_public_keys,
        same_in="nothing",
        help="Webhook public key. Separate several with commas while you rotate keys.",
        expected="one or more base64 Ed25519 public keys of 32 bytes, separated by commas",
    )
    telnyx_base_url: str = setting(
        "TELNYX_BASE_URL",
        "https://api.telnyx.com/v2",
        read_base_url,
        help="Base URL of the Telnyx API.",
        expected="an https URL (http only on this machine or a private network)",
    )
    redis_url: Secret | None = secret(
        "REDIS_URL",
        read_redis_url,
        same_in="nothing",
        help="Redis or Valkey server. If unset, Callvault runs an embedded Valkey server that keeps its data in "
        "the data folder.",
        expected="redis://, rediss://, unix:// or redis+sentinel://host,host/name; docs/redis.md lists their options",
    )
    archive_url: str | None = setting(
        "CALLVAULT_ARCHIVE_URL",
        None,
        read_archive_url,
        help="Where the archive is stored. If unset, in the folder `archive` in the data folder.",
        expected=_PLACE,
    )
    exports_url: str | None = setting(
        "CALLVAULT_EXPORTS_URL",
        None,
        read_archive_url,
        help="Where the exports of the ops pages lie until they end (docs/export.md). If unset, in the folder `exports` in "
        "the data folder, which serves where receivers and workers are on one machine. It must not be in the archive, and "
        "workers need the right to delete there.",
        expected=_PLACE,
    )
    data_folder: Path = setting(
        "CALLVAULT_DATA",
        Path("callvault-data"),
        read_folder,
        same_in="nothing",
        help="Folder for local data: the embedded Valkey's data, the search catalogue and the default archive.",
        expected="the path of a folder",
    )
    delete_originals: Literal["never", "verified"] = setting(
        "CALLVAULT_DELETE_ORIGINALS",
        "never",
        one_of("never", "verified"),
        help="Whether Callvault deletes an original at Telnyx once its archived copy is proven.",
        expected="never or verified",
    )
    delete_after: timedelta = setting(
        "CALLVAULT_DELETE_AFTER",
        timedelta(hours=24),
        read_duration,
        help="Grace period between the commit record and the deletion of the original. The original also stays "
        "until its day is sealed, unless you set this to less than a day plus `CALLVAULT_SEAL_AFTER`.",
        expected="a duration such as 2s, 15m, 24h or 30d",
    )
    proof: Literal["store", "read-back"] = setting(
        "CALLVAULT_PROOF",
        "store",
        one_of("store", "read-back"),
        help="How Callvault proves an archived object: `store` uses the strongest proof that the store offers, "
        "`read-back` always reads the object back.",
        expected="store or read-back",
    )
    delete_batch: int = setting(
        "CALLVAULT_DELETE_BATCH",
        100,
        whole(1, 10_000),
        same_in="workers",
        help="Maximum number of originals in one bulk deletion. Telnyx documents no limit; Callvault halves a "
        "batch that Telnyx refuses.",
        expected="a number from 1 to 10000",
    )
    delete_stop_percent: float = setting(
        "CALLVAULT_DELETE_STOP_PERCENT",
        10.0,
        number(0, 100),
        same_in="workers",
        help="Deletion pauses itself when more than this percentage of a batch, and at least three originals, fail "
        "their proof.",
        expected="a number from 0 to 100",
    )
    transcriptions: TranscriptionPolicy = setting(
        "CALLVAULT_TRANSCRIPTIONS",
        TranscriptionPolicy("wait", timedelta(0)),
        read_transcriptions,
        help="Whether deletion waits for transcriptions. `ignore` waits for none. `wait 1h` waits for those that "
        "Telnyx is making, and, if the connection makes them, up to an hour after archiving for one that has "
        "not begun. `require` waits until there is one.",
        expected="ignore, require, or wait and a duration such as wait 1h",
    )
    hold_connections: tuple[str, ...] = setting(
        "CALLVAULT_HOLD_CONNECTIONS",
        (),
        read_ids,
        help="Connections under legal hold. No worker of this archive deletes their originals.",
        expected="connection ids, separated by commas",
    )
    reconcile_every: timedelta = setting(
        "CALLVAULT_RECONCILE_EVERY",
        timedelta(hours=1),
        at_least("1s"),
        same_in="workers",
        help="How often Callvault reconciles the recent days with Telnyx.",
        expected="a duration such as 1h, at least 1s",
    )
    reconcile_recent: timedelta = setting(
        "CALLVAULT_RECONCILE_RECENT",
        timedelta(days=3),
        at_least("1d"),
        same_in="workers",
        help="How far back days count as recent.",
        expected="a duration such as 3d, at least 1d",
    )
    reconcile_open_every: timedelta = setting(
        "CALLVAULT_RECONCILE_OPEN_EVERY",
        timedelta(days=1),
        at_least("1s"),
        same_in="workers",
        help="How often Callvault reconciles every open day with Telnyx.",
        expected="a duration such as 24h, at least 1s",
    )
    reconcile_open: timedelta = setting(
        "CALLVAULT_RECONCILE_OPEN",
        timedelta(days=30),
        at_least("1d"),
        same_in="workers",
        help="How far back days count as open.",
        expected="a duration such as 30d, at least 1d",
    )
    seal_after: timedelta = setting(
        "CALLVAULT_SEAL_AFTER",
        timedelta(hours=48),
        read_duration,
        help="How long after a day ends Callvault seals it. Reconcile must first find nothing of that day missing.",
        expected="a duration such as 48h",
    )
    seal_without_after: timedelta = setting(
        "CALLVAULT_SEAL_WITHOUT_AFTER",
        timedelta(days=30),
        at_least("1s"),
        help="How long the seal of a day waits for a recording or transcription that Telnyx lists but does not "
        "deliver. Callvault then seals the day without it, records that and alerts. `callvault dead-letters "
        "accept ID --why ...` does it at once.",
        expected="a duration such as 30d, at least 1s",
    )
    seal_key: Secret | None = secret(
        "CALLVAULT_SEAL_KEY",
        help="OpenSSH Ed25519 key that signs seals. After it, list the public keys that signed earlier seals.",
        expected="the path or text of a private key without a passphrase, then public key files, separated by commas",
    )
    timestamp_url: str | None = setting(
        "CALLVAULT_TIMESTAMP_URL",
        None,
        read_http_url,
        same_in="workers",
        help="RFC 3161 authority that time-stamps seals.",
        expected="an http or https URL",
    )
    timestamp_ca: Path | None = setting(
        "CALLVAULT_TIMESTAMP_CA",
        None,
        Path,
        same_in="nothing",
        help="Root certificates of that authority, for `callvault verify --seals`. If unset, Callvault does not "
        "check who issued a time stamp.",
        expected="a PEM file",
    )
    not_found_wait: timedelta = setting(
        "CALLVAULT_NOT_FOUND_WAIT",
        timedelta(minutes=10),
        at_least("1s"),
        same_in="workers",
        help="How long Callvault keeps asking for a recording that Telnyx does not know. A webhook can arrive "
        "before the API has the recording.",
        expected="a duration such as 10m, at least 1s",
    )
    audio_tolerance: timedelta = setting(
        "CALLVAULT_AUDIO_TOLERANCE",
        timedelta(seconds=2),
        read_duration,
        help="How much the length of the audio may differ from the length that Telnyx reports. A larger difference "
        "is a finding, and the original is kept.",
        expected="a duration such as 2s or 500ms",
    )
    audio_tolerance_percent: float = setting(
        "CALLVAULT_AUDIO_TOLERANCE_PERCENT",
        0.5,
        number(0, 100),
        help="The same tolerance as a percentage of the reported length. The larger of the two applies.",
        expected="a number from 0 to 100",
    )
    log_messages: Literal["off", "mirror", "mirror-and-dismiss"] = setting(
        "CALLVAULT_LOG_MESSAGES",
        "mirror",
        one_of("off", "mirror", "mirror-and-dismiss"),
        same_in="workers",
        help="Whether Callvault archives the log messages of external connections, and whether it then dismisses "
        "them at Telnyx.",
        expected="off, mirror or mirror-and-dismiss",
    )
    upload_retry: Literal["never", "once"] = setting(
        "CALLVAULT_UPLOAD_RETRY",
        "never",
        one_of("never", "once"),
        same_in="workers",
        help="Whether Callvault retries a failed upload of numbers, once for each cause.",
        expected="never or once",
    )
    operator_connect_refresh: timedelta | None = setting(
        "CALLVAULT_OPERATOR_CONNECT_REFRESH",
        None,
        at_least("1s"),
        same_in="workers",
        help="How often Callvault asks Telnyx to refresh the Operator Connect state. If unset, never.",
        expected="a duration such as 24h, at least 1s",
    )
    connections_file: Path | None = setting(
        "CALLVAULT_CONNECTIONS_FILE",
        None,
        Path,
        same_in="nothing",
        help="Configuration as code. Callvault compares this file with the account every hour and alerts on a "
        "difference.",
        expected="a TOML file",
    )
    retention_file: Path | None = setting(
        "CALLVAULT_RETENTION_FILE",
        None,
        Path,
        same_in="nothing",
        help="Retention rules. They count once `callvault retention apply` has written them into the archive; until then "
        "a changed file is only reported.",
        expected="a TOML file",
    )
    quiet_hours: QuietHours | None = setting(
        "CALLVAULT_QUIET_HOURS",
        None,
        read_quiet_hours,
        same_in="workers",
        help="UTC hours in which Callvault delivers only critical alerts. It records the others.",
        expected="hours such as 22-06",
    )
    alert_severities: dict[str, str] = setting(
        "CALLVAULT_ALERT_SEVERITIES",
        {},
        read_severities,
        same_in="workers",
        help="Your own severities, by kind of alert. `off` delivers no alert of that kind.",
        expected="pairs such as audio-finding=info,log-message=critical",
    )
    upload_pending_limit: timedelta = setting(
        "CALLVAULT_UPLOAD_PENDING_LIMIT",
        timedelta(hours=1),
        at_least("1ms"),
        same_in="workers",
        help="How long an upload of numbers may stay pending before Callvault alerts.",
        expected="a duration such as 1h, at least 1ms",
    )
    queue_age_limit: timedelta = setting(
        "CALLVAULT_QUEUE_AGE_LIMIT",
        timedelta(minutes=5),
        at_least("1s"),
        help="How long a job may wait, or keep failing for a cause that Callvault never gives up on, before "
        "Callvault alerts. While a job waits that long, bulk work yields.",
        expected="a duration such as 5m, at least 1s",
    )
    alert_urls: tuple[Secret, ...] = secrets(
        "CALLVAULT_ALERT_URLS",
        same_in="workers",
        help="Where Callvault sends alerts, as Apprise URLs (Slack, Teams, PagerDuty, e-mail, webhooks and more).",
        expected="Apprise URLs, separated by spaces or commas",
    )
    witness_urls: tuple[Secret, ...] = secrets(
        "CALLVAULT_WITNESS_URLS",
        same_in="workers",
        help="Where Callvault sends the hash of the last seal once a day, as Apprise URLs. The hash reveals it "
        "when somebody removes the latest seals.",
        expected="Apprise URLs, separated by spaces or commas",
    )
    encryption_key: str | None = setting(
        "CALLVAULT_ENCRYPTION_KEY",
        None,
        str,
        help="Your own key for encrypting objects: a KMS key id (S3), a key's resource name (GCS) or an encryption "
        "scope (Azure).",
        expected="the name of a key as the store writes it",
    )
    storage_class: str | None = setting(
        "CALLVAULT_STORAGE_CLASS",
        None,
        str,
        help="Storage class of audio as it is written, as the store names it. Everything else is small and read "
        "daily, and stays in the bucket's own class.",
        expected="a storage class such as STANDARD_IA, NEARLINE or Cool, whose objects can be read at once",
    )
    prices_file: Path | None = setting(
        "CALLVAULT_PRICES_FILE",
        None,
        Path,
        same_in="nothing",
        help="Prices of storage, for `callvault cost`. If unset, Callvault uses the examples that it comes with.",
        expected="a TOML file as `callvault cost --print-prices` prints one",
    )
    retention: timedelta | None = setting(
        "CALLVAULT_RETENTION",
        None,
        at_least("1s"),
        help="How long each object is locked (S3 Object Lock, GCS object retention, Azure immutability).",
        expected="a duration such as 365d, at least 1s",
    )
    lock_by_rules: bool = setting(
        "CALLVAULT_LOCK_BY_RULES",
        False,
        flag,
        help="Whether each object of a recording is locked until the end that the retention rules in force give it, as "
        "it is written. With `CALLVAULT_RETENTION`, the later of the two ends.",
        expected="true or false",
    )
    retention_mode: Literal["governance", "compliance"] = setting(
        "CALLVAULT_RETENTION_MODE",
        "governance",
        one_of("governance", "compliance"),
        help="Who can lift a lock: users with that permission (`governance`) or nobody (`compliance`).",
        expected="governance or compliance",
    )
    dispose_credentials: Secret | None = secret(
        "CALLVAULT_DISPOSE_CREDENTIALS",
        same_in="nothing",
        help="Credentials of the store that may delete, for `callvault worker --dispose` and `callvault retention "
        "dispose` alone: the variables that its SDK reads. If unset, those of the environment.",
        expected="lines such as AWS_ACCESS_KEY_ID=...; best in a file that CALLVAULT_DISPOSE_CREDENTIALS_FILE names",
    )
    dispose_hours: QuietHours | None = setting(
        "CALLVAULT_DISPOSE_HOURS",
        None,
        read_quiet_hours,
        same_in="nothing",
        help="UTC hours in which `callvault worker --dispose` disposes of recordings. If unset, at any hour.",
        expected="hours such as 22-06",
    )
    dispose_per_hour: int = setting(
        "CALLVAULT_DISPOSE_PER_HOUR",
        10_000,
        whole(1, 1_000_000),
        same_in="nothing",
        help="Maximum number of recordings that are disposed of in an hour.",
        expected="a number from 1 to 1000000",
    )
    dispose_stop_percent: float = setting(
        "CALLVAULT_DISPOSE_STOP_PERCENT",
        5.0,
        number(0, 100),
        same_in="nothing",
        help="Disposal stops itself, until a person approves it, when more than this percentage of the archive, and "
        "more than ten recordings, would go in a day. 100 turns this off.",
        expected="a number from 0 to 100",
    )
    object_labels: Literal["none", "metadata", "tags"] = setting(
        "CALLVAULT_OBJECT_LABELS",
        "none",
        one_of("none", "metadata", "tags"),
        help="Whether Callvault labels objects with the connection, channels and day of their recording, and how.",
        expected="none, metadata or tags",
    )
    upload_buffer_mib: int = setting(
        "CALLVAULT_UPLOAD_BUFFER_MIB",
        64,
        whole(8, 65536),
        same_in="nothing",
        help="Memory of one worker process for uploads to a bucket, in MiB.",
        expected="a number from 8 to 65536",
    )
    least_download_rate: int = setting(
        "CALLVAULT_LEAST_DOWNLOAD_RATE",
        1024,
        whole(0, 1_000_000_000),
        same_in="nothing",
        help="Minimum speed of a download in bytes per second, measured over a minute of waiting for data. "
        "Callvault ends a slower download and retries it later, so that it holds up no other. 0 turns the "
        "limit off.",
        expected="a number from 0 to 1000000000",
    )
    concurrency: int = setting(
        "CALLVAULT_CONCURRENCY",
        16,
        whole(1, 256),
        same_in="nothing",
        help="Number of jobs that one worker process runs at the same time.",
        expected="a number from 1 to 256",
    )
    ops_token: Secret | None = secret(
        "CALLVAULT_OPS_TOKEN",
        read_token,
        same_in="nothing",
        help="Token for the ops pages and `/api/`. If unset, they answer on this machine only, without a sign-in.",
        expected="a secret of at least 16 characters",
    )
    oidc_issuer: str | None = setting(
        "CALLVAULT_OIDC_ISSUER",
        None,
        read_issuer,
        same_in="nothing",
        help="OpenID provider that people sign in with. Callvault reads the rest from its discovery document.",
        expected="an https URL (http only on this machine or a private network)",
    )
    oidc_client_id: str | None = setting(
        "CALLVAULT_OIDC_CLIENT_ID",
        None,
        str,
        same_in="nothing",
        help="Id of Callvault at that provider.",
        expected="the id of a confidential client for the web",
    )
    oidc_client_secret: Secret | None = secret(
        "CALLVAULT_OIDC_CLIENT_SECRET",
        same_in="nothing",
        help="Secret of Callvault at that provider.",
        expected="the secret of that client",
    )
    oidc_scopes: tuple[str, ...] = setting(
        "CALLVAULT_OIDC_SCOPES",
        ("openid", "profile", "email"),
        read_list,
        same_in="nothing",
        help="Scopes to ask for. Some providers send groups or a refresh token only with a further one.",
        expected="scopes, separated by spaces or commas; openid is always asked for",
    )
    oidc_groups_claim: str = setting(
        "CALLVAULT_OIDC_GROUPS_CLAIM",
        "groups",
        str,
        same_in="nothing",
        help="Claim with the person's groups, in the id token or in the answer of the userinfo endpoint.",
        expected="the name of a claim",
    )
    access_file: Path | None = setting(
        "CALLVAULT_ACCESS_FILE",
        None,
        Path,
        same_in="nothing",
        help="Which groups and people have which role (docs/access.md). A receiver reads it when it starts.",
        expected="a TOML file",
    )
    proxy_user_header: str | None = setting(
        "CALLVAULT_PROXY_USER_HEADER",
        None,
        read_header,
        same_in="nothing",
        help="Header in which a proxy such as oauth2-proxy names the person who has signed in there.",
        expected="the name of a header such as X-Forwarded-Email",
    )
    proxy_groups_header: str | None = setting(
        "CALLVAULT_PROXY_GROUPS_HEADER",
        None,
        read_header,
        same_in="nothing",
        help="Header in which that proxy names the person's groups, with commas between them.",
        expected="the name of a header such as X-Forwarded-Groups",
    )
    proxy_addresses: tuple[IPv4Network | IPv6Network, ...] = setting(
        "CALLVAULT_PROXY_ADDRESSES",
        (),
        read_networks,
        same_in="nothing",
        help="Addresses of that proxy. From anywhere else, Callvault ignores its headers.",
        expected="IP addresses or networks such as 10.0.0.7 or 10.0.0.0/28, separated by commas",
    )
    ops_mask_numbers: bool = setting(
        "CALLVAULT_OPS_MASK_NUMBERS",
        False,
        flag,
        same_in="nothing",
        help="Whether the ops pages, `/api/` and inventories hide the middle digits of the two parties' numbers.",
        expected="true or false",
    )
    ask_why: tuple[str, ...] = setting(
        "CALLVAULT_ASK_WHY",
        (),
        read_ask_why,
        help="For what people and programs must give a reason; the access log keeps it (docs/access-log.md).",
        expected=f"words from {', '.join(ACTS)}, separated by commas",
    )
    unusual_recordings: int | None = setting(
        "CALLVAULT_UNUSUAL_RECORDINGS",
        None,
        whole(1, 1_000_000),
        same_in="workers",
        help="Alert when one person plays, downloads or exports more recordings than this within an hour. If unset, never.",
        expected="a number from 1 to 1000000",
    )
    api_requests_per_minute: int = setting(
        "CALLVAULT_API_REQUESTS_PER_MINUTE",
        600,
        whole(0, 1_000_000),
        same_in="nothing",
        help="How many requests of one token `/api/` answers in a minute. 0 turns the limit off.",
        expected="a number from 0 to 1000000",
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "CALLVAULT_LOG_LEVEL",
        "info",
        one_of("debug", "info", "warning", "error"),
        same_in="nothing",
        help="Minimum severity of log lines.",
        expected="debug, info, warning or error",
    )

    def __init__(self, **values: Any) -> None:
        vars(self).update(_DEFAULTS | values, given=frozenset(values))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{name}: settings do not change; see `replaced`")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and vars(other) == vars(self)

    def replaced(self, **values: Any) -> Self:
        """The same with some other values."""
        return type(self)(**{name: getattr(self, name) for name in self.given} | values)

    @property
    def exports_address(self) -> str:
        """The URL of the place of exports; by default, a folder in the data folder."""
        return self.exports_url or (self.data_folder.resolve() / "exports").as_uri()

    @property
    def archive_address(self) -> str:
        """The archive's URL; by default, a folder in the data folder."""
        return self.archive_url or (self.data_folder.resolve() / "archive").as_uri()


SETTINGS: dict[str, Setting] = {name: row for name, row in vars(Settings).items() if isinstance(row, Setting)}
_DEFAULTS = {attribute: row.default for attribute, row in SETTINGS.items()}


def load_settings(**overrides: Any) -> Settings:
    """Read the environment, and the files that it names for secrets.

    An empty variable counts as not set, and the case of its name does not matter.

    Args:
        overrides: values from the command line, by attribute; None means not given.

    Raises:
        SettingsError: a setting cannot be used.
    """
    variables = environment()
    try:
        files = secret_files(names_of_secrets(), variables)
        found: dict[str, Any] = variables | {name: read_secret_file(name, path) for name, path in files.items()}
    except ValueError as error:
        raise SettingsError(str(error)) from None
    found |= {SETTINGS[attribute].name: value for attribute, value in overrides.items() if value is not None}
    values = {}
    for attribute, row in SETTINGS.items():
        if row.name in found:
            try:
                values[attribute] = row.read(found[row.name])
            except ValueError as error:
                raise SettingsError(_explain(row, found[row.name], str(error), files)) from None
    return Settings(**values)


def names_same_in(*groups: SameIn) -> tuple[str, ...]:
    """The environment variables of the settings that should be the same in these processes."""
    return tuple(row.name for row in SETTINGS.values() if row.same_in in groups)


def names_of_settings() -> tuple[str, ...]:
    """The environment variables of all settings."""
    return tuple(row.name for row in SETTINGS.values())


def names_of_secrets() -> tuple[str, ...]:
    """The environment variables of the settings that are secrets."""
    return tuple(row.name for row in SETTINGS.values() if row.is_secret)


def _explain(row: Setting, value: object, reason: str, files: Mapping[str, Path]) -> str:
    """Why a value cannot be used; a reason that quotes the value only repeats the rest of the line."""
    read = _hidden(value) if row.is_secret else repr(value)
    why = f" ({reason})" if reason and not reason.startswith(repr(value)) else ""
    variable = row.name
    if variable in files:
        variable, read = variable + SUFFIX, f"{read} in {files[variable]}"
    return f"{variable}: cannot use {without_credentials(read + why)}; expected {row.expected}"


def without_credentials(text: str) -> str:
    """A text in which the user and the password of a URL are hidden. A password may hold an `@`: hosts follow the last."""
    return _CREDENTIALS.sub("hidden", text)


def _hidden(value: object) -> str:
    return f"a value of {many(len(str(value)), 'character')} (hidden)"
