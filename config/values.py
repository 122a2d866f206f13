"""Parse the text of a setting into its value. A ValueError says why it cannot be parsed; a secret is never quoted."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from text.counts import many
from text.times import format_duration, parse_duration

ARCHIVE_SCHEMES = ("file", "s3", "gs", "az")
SHORTEST_TOKEN = 16  # characters
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")
REDIS_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
SENTINEL_OPTIONS = ("tls", "sentinel_username", "sentinel_password")
_REDIS_WORDS = {
    "tls": ("true", "false"),
    "ssl_check_hostname": ("true", "false"),
    "ssl_cert_reqs": ("required", "optional", "none"),
}
SENTINEL_PORT = 26379


def read_duration(value: str | timedelta) -> timedelta:
    """A duration. Here and below, a value that is not text passes unchanged."""
    return parse_duration(value) if isinstance(value, str) else value


def read_public_keys(value: object) -> object:
    """Base64 Ed25519 public keys, separated by commas."""
    if not isinstance(value, str):
        return value
    keys = [part.strip() for part in value.split(",") if part.strip()]
    for key in keys:
        try:
            decoded = base64.b64decode(key, validate=True)
        except binascii.Error:
            raise ValueError("not base64") from None
        if len(decoded) != 32:
            raise ValueError(f"it decodes to {many(len(decoded), 'byte')}, not 32")
    return tuple(keys)


def is_local_host(host: str) -> bool:
    """Whether a host is this machine or in a private network, where plain HTTP is accepted."""
    if host == "localhost" or host.endswith(".localhost") or ("." not in host and ":" not in host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private


def read_base_url(value: object) -> object:
    """An https URL; http only for this machine or a private network."""
    parts = urlsplit(str(value))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("not an http or https base URL")
    if parts.scheme == "http" and not is_local_host(parts.hostname):
        raise ValueError("plain http to a public host exposes the API key")
    return str(value).rstrip("/")


def read_issuer(value: object) -> object:
    """The address of an OpenID provider as it writes it: https, or http on this machine or a private network."""
    parts = urlsplit(str(value))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("not an https URL")
    if parts.scheme == "http" and not is_local_host(parts.hostname):
        raise ValueError("plain http to a public host exposes the client's secret")
    return str(value)


def read_networks(value: object) -> object:
    """IP addresses and networks, separated by commas or spaces."""
    if not isinstance(value, str):
        return value
    return tuple(ipaddress.ip_network(one) for one in value.replace(",", " ").split())


def read_header(value: object) -> object:
    """The name of an HTTP header. Some proxies name theirs with underscores, such as `OIDC_CLAIM_email` of mod_auth_openidc."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", str(value)):
        raise ValueError("not the name of a header")
    return str(value)


def read_http_url(value: object) -> object:
    """An http or https URL."""
    parts = urlsplit(str(value))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http or https URL")
    return str(value)


def read_redis_url(value: object) -> object:
    """A Redis URL with known options only. No error quotes a part that may hold the password."""
    try:
        parts = urlsplit(str(value))
    except ValueError:
        raise ValueError("not a URL; percent-encode special characters in a password") from None
    if parts.fragment:
        raise ValueError("it has a # part, which Redis ignores; in a password, percent-encode : / ? # and @")
    if parts.scheme not in REDIS_SCHEMES:
        raise ValueError(f"unknown scheme {parts.scheme!r}")
    known: tuple[str, ...] = ("db", *(REDIS_TLS_OPTIONS if parts.scheme == "rediss" else ()))
    query = parse_qs(parts.query, keep_blank_values=True)
    database = query.get("db", [""])[-1]
    if parts.scheme == "redis+sentinel":
        known = REDIS_TLS_OPTIONS + SENTINEL_OPTIONS
        sentinel_hosts(parts.netloc)
        database = parts.path.strip("/").partition("/")[2]
    elif parts.scheme != "unix":
        database = database or parts.path.strip("/")
        _port(parts)
    for name, values in query.items():
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, 1)
            raise ValueError("unknown option" + (f"; did you mean {near[0]}?" if near else ""))
        if name in _REDIS_WORDS and values[-1] not in _REDIS_WORDS[name]:
            raise ValueError(f"{name} must be {' or '.join(_REDIS_WORDS[name])}")
    if database and not re.fullmatch(r"\d{1,5}", database, re.ASCII):
        raise ValueError("the database must be a number")
    return value


def _port(parts: SplitResult) -> int | None:
    """The port. Python's own error would quote the text, which may be part of a password."""
    try:
        return parts.port
    except ValueError:
        raise ValueError("invalid port; in a password, percent-encode : / ? # and @") from None


def sentinel_hosts(netloc: str) -> list[tuple[str, int]]:
    """The hosts and ports of the Sentinels in a `redis+sentinel://` URL.

    Raises:
        ValueError: a Sentinel has no host, or a port is invalid.
    """
    found = []
    for one in netloc.rpartition("@")[2].split(","):
        parts = urlsplit(f"//{one}")
        if not parts.hostname:
            raise ValueError("a Sentinel has no host")
        found.append((parts.hostname, _port(parts) or SENTINEL_PORT))
    return found


def read_token(value: object) -> object:
    """A secret of at least `SHORTEST_TOKEN` characters."""
    if len(str(value).strip()) < SHORTEST_TOKEN:
        raise ValueError("too short")
    return str(value).strip()


def read_archive_url(value: object) -> object:
    """An archive URL without its final slash. It must name exactly one archive, and the same one on every store."""
    text = str(value)
    scheme, _, place = text.partition("://")
    if scheme not in ARCHIVE_SCHEMES:
        raise ValueError(f"unknown scheme {urlsplit(text).scheme!r}")
    if odd := _AMBIGUOUS_IN_URL.search(place):
        raise ValueError(f"stores read {odd.group()!r} differently or not at all")
    netloc, slash, path = place.partition("/")
    path = path[:-1] if path.endswith("/") else path
    if scheme == "file":
        if netloc not in ("", "localhost") or not slash:
            raise ValueError("the path after file:// is not absolute")
        path = _decoded(path)
        if not path:
            raise ValueError("the folder is missing")
    elif not re.fullmatch(r"[A-Za-z0-9$][A-Za-z0-9._-]*", netloc):
        raise ValueError("the bucket is not a valid name" if netloc else "the bucket is missing")
    elif "%" in path:
        raise ValueError("the prefix contains '%'; a prefix is not percent-encoded")
    segments = path.split("/") if path else []
    if any(not segment or not segment.strip(".") for segment in segments):
        raise ValueError("it contains a double slash, or a part of dots such as `..`")
    return text[:-1] if text.endswith("/") else text


# The path of a folder may contain a space as %20; the prefix of a bucket cannot contain one.
_AMBIGUOUS_IN_URL = re.compile(r"[\s#?\\\x00-\x1f\x7f]")


def _decoded(path: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", path):
        raise ValueError("write a percent sign in a name as %25")
    if re.search(r"%(2f|00)", path, re.IGNORECASE):
        raise ValueError("a name cannot contain an encoded slash or a zero byte")
    return unquote(path)


def read_folder(value: object) -> Path:
    """The path of a folder."""
    if str(value).startswith("~"):
        raise ValueError("Callvault does not expand ~; write the whole path")
    if "://" in str(value):
        raise ValueError("a URL, not a path")
    return Path(str(value))


def is_id(text: str) -> bool:
    """Whether a text can be a Telnyx id."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]*", text, re.ASCII) is not None


def read_ids(value: object) -> object:
    """Ids, separated by commas or spaces. A text that cannot be an id is refused: it would silently never match."""
    if not isinstance(value, str):
        return value
    ids = tuple(value.replace(",", " ").split())
    if wrong := [one for one in ids if not is_id(one)]:
        raise ValueError(f"{wrong[0]!r} is not an id")
    return ids


@dataclass(frozen=True)
class TranscriptionPolicy:
    """`ignore`, `wait` for a while, or `require`.

    Attributes:
        wait: how long after archiving; only for `wait`.
    """

    kind: Literal["ignore", "wait", "require"]
    wait: timedelta = timedelta(0)

    def __str__(self) -> str:
        return f"wait {format_duration(self.wait.total_seconds())}" if self.kind == "wait" else self.kind


@dataclass(frozen=True)
class QuietHours:
    """UTC hours from `first` to before `last`; over midnight if `last` is smaller."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first:02}-{self.last:02}"

    def holds(self, hour: int) -> bool:
        """Whether an hour is quiet."""
        if self.first <= self.last:
            return self.first <= hour < self.last
        return hour >= self.first or hour < self.last


def read_quiet_hours(value: object) -> object:
    """Hours such as `22-06`."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d{1,2})-(\d{1,2})", value.strip())
    if not found or max(int(n) for n in found.groups()) > 24:
        raise ValueError("not hours")
    first, last = map(int, found.groups())
    if first % 24 == last % 24 and (first, last) != (0, 24):  # 24-0 would be an hour that never comes
        raise ValueError("both hours are the same")
    return QuietHours(first, last)


def read_severities(value: object) -> object:
    """Pairs such as `drift=off`."""
    if not isinstance(value, str):
        return value
    pairs = dict(pair.partition("=")[::2] for pair in value.replace(",", " ").split())
    if wrong := [name for name, severity in pairs.items() if severity not in ("info", "warning", "critical", "off")]:
        raise ValueError(f"the severity of {wrong[0]} must be info, warning, critical or off")
    return pairs


def read_transcriptions(value: object) -> object:
    """`ignore`, `require`, or `wait` and a duration."""
    if not isinstance(value, str):
        return value
    words = value.split(maxsplit=1)
    if words in (["ignore"], ["require"]):
        return TranscriptionPolicy("ignore" if words == ["ignore"] else "require")
    if len(words) == 2 and words[0] == "wait":
        return TranscriptionPolicy("wait", parse_duration(words[1]))
    raise ValueError("unknown policy")


def read_list(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """Words, separated by commas or spaces."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def variables_of(text: str) -> dict[str, str]:
    """The variables of some lines.

    Raises:
        ValueError: a line is not one; the text does not show it, since it may be a secret.
    """
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, content = line.partition("=")
        if not equals or not re.fullmatch(r"[A-Z][A-Z0-9_]*", name.strip()):
            raise ValueError(f"line {number} is not NAME=value")
        found[name.strip()] = content.strip()
    return found
