"""What `callvault doctor` looks at: THE table of checks. To add one: a function here, and its row at the end."""

from __future__ import annotations

import asyncio
import base64
import difflib
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
from nacl.signing import SigningKey
from redis.exceptions import RedisError

from config.counts import many
from config.errors import UserError
from config.settings import Settings, unknown_settings
from config.sizes import format_size
from config.times import format_duration, utc_now
from service.app import WEBHOOK_PATH
from service.signature import SignatureRefused, Signatures
from workers.account import Account
from workers.alerts.delivery import NotDelivered, deliver_once
from workers.alerts.kinds import KINDS
from workers.archive.archive import ArchiveConflict
from workers.archive.identity import NoArchive
from workers.archive.proof import Damaged
from workers.archive.stores.store import StoreError
from workers.conditions import known_conditions
from workers.keys import DOCTOR
from workers.one_line import one_line
from workers.queue.binding import bound_to
from workers.queue.room import used_share
from workers.queue.script import server_seconds
from workers.runtime import open_archive
from workers.telnyx.client import LARGEST_PAGE, TelnyxClient
from workers.telnyx.errors import Forbidden, TelnyxError

_SKEW_SECONDS = 30  # the replay window of webhooks is five minutes; long before that something is wrong
_OLDEST_REDIS = (7, 0)  # tried are Redis 7 and Valkey 8; older ones know no script that may run while memory is out
_FULL_SHARE = 0.8
_LEAST_FREE_BYTES = 2 * 10**9
_MOST_CONNECTIONS = 50
_MOST_DELIVERIES = 100
_PROBE = "probe/doctor"


class Wrong(Exception):
    """What a check found, and how to mend it."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what)
        self.advice = advice


class Noted(Exception):
    """What is not wrong, and worth knowing; with advice."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what)
        self.advice = advice


Check = Callable[[Settings, Any], Awaitable[str]]


@asynccontextmanager
async def _telnyx(settings: Settings) -> AsyncIterator[TelnyxClient]:
    if settings.telnyx_api_key is None:
        raise Wrong("TELNYX_API_KEY is not set", "make an API v2 key at the portal: API keys")
    try:
        async with TelnyxClient(Account.from_settings(settings), budget_seconds=10) as client:
            yield client
    except TelnyxError as error:
        advice = "check TELNYX_API_KEY and TELNYX_BASE_URL, and that this machine reaches Telnyx"
        if isinstance(error, Forbidden):
            advice = "the key lacks a permission; make one with all of them at the Telnyx portal"
        raise Wrong(str(error), advice) from None


async def _settings(settings: Settings, redis: Any) -> str:
    """Those that cannot be used have stopped the command; here: names that nobody reads."""
    if unknown := unknown_settings():
        raise Noted("; ".join(unknown), "docs/configuration.md has every name")
    return "every name in the environment is known"


async def _public_key(settings: Settings, redis: Any) -> str:
    """The keys are Ed25519 keys that refuse a signature of another's; whether they are Telnyx's, deliveries tell."""
    if not settings.telnyx_public_keys:
        raise Wrong("TELNYX_PUBLIC_KEY is not set", "copy it from the portal: API keys, Public key")
    body, now = b'{"data": {}}', time.time()
    forged = SigningKey.generate().sign(str(int(now)).encode() + b"|" + body).signature
    try:
        Signatures(settings.telnyx_public_keys).verify(str(int(now)), base64.b64encode(forged).decode(), body, now)
    except SignatureRefused:
        return f"{many(len(settings.telnyx_public_keys), 'key')}; a forged signature is refused"
    raise Wrong("a forged signature passes", "copy the key from the portal again: API keys, Public key")


async def _api_key(settings: Settings, redis: Any) -> str:
    async with _telnyx(settings) as client:
        for lists in (client.recordings, client.recording_transcriptions, client.external_connections):
            await client.first_page(lists.list, page_size=1)
    return f"recordings, transcriptions and connections can be listed at {settings.telnyx_base_url}"


async def _deliveries(settings: Settings, redis: Any) -> str:
    """What Telnyx itself says of its last deliveries: an answer of 401 is a wrong public key."""
    seen: dict[str, int] = {}
    count = 0
    async with _telnyx(settings) as client:
        page = await client.first_page(client.webhook_deliveries.list, page_size=_MOST_DELIVERIES)
        for delivery in page.items[:_MOST_DELIVERIES]:
            count += 1
            last = (delivery.attempts or [{}])[-1]
            answer = ((last.get("http") or {}).get("response") or {}).get("status")
            if delivery.status == "failed":
                seen[str(answer or "no answer")] = seen.get(str(answer or "no answer"), 0) + 1
    if not seen:
        return f"none of the last {count} failed" if count else "Telnyx remembers none"
    text = ", ".join(f"{n} with {answer}" for answer, n in seen.items())
    advice = "see what answers at the webhook URL; the comparison with Telnyx makes good what was lost"
    if "401" in seen:
        advice = "401: TELNYX_PUBLIC_KEY is not the key of this account, or a proxy changes the body"
    raise Wrong(f"{sum(seen.values())} of the last {count} failed: {text}", advice)


async def _webhook_urls(settings: Settings, redis: Any) -> str:
    """Every external connection sends its events to a receiver of ours that answers."""
    urls: set[str] = set()
    without = count = 0
    async with _telnyx(settings) as client:
        page = await client.first_page(client.external_connections.list, page_size=LARGEST_PAGE)
        for connection in page.items[:_MOST_CONNECTIONS]:
            count += 1
            without += not connection.webhook_event_url
            urls |= {url for url in (connection.webhook_event_url, connection.webhook_event_failover_url) if url}
    async with httpx.AsyncClient(timeout=5, follow_redirects=False) as http:
        found = {url: await _why_not_ours(http, url) for url in sorted(urls)}
    wrong = [f"{url}: {what}" for url, what in found.items() if what is not None]
    if wrong:
        raise Wrong("; ".join(wrong), f"set https://your.host{WEBHOOK_PATH} as webhook URL of the connections")
    if without:
        raise Noted(
            f"{many(without, 'external connection has', 'external connections have')} no webhook URL, of {count}",
            f"set https://your.host{WEBHOOK_PATH} there; until then only the comparison with Telnyx finds their calls",
        )
    answer = many(len(urls), "address answers", "addresses answer")
    return f"{answer} as a receiver does, for {many(count, 'external connection')}"


async def _why_not_ours(http: httpx.AsyncClient, url: str) -> str | None:
    if urlsplit(url).path != WEBHOOK_PATH:
        return f"its path is not {WEBHOOK_PATH}"
    try:
        answer = await http.post(url, content=b"{}", headers={"content-type": "application/json"})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"not reachable from here ({one_line(error)})"
    if answer.status_code != 401:
        return f"answers {answer.status_code} to an unsigned webhook, where a receiver answers 401"
    return None


async def _clock(settings: Settings, redis: Any) -> str:
    """Webhooks are refused when their time is five minutes from ours."""
    skews = {"Redis": time.time() - await server_seconds(redis)}
    try:
        async with httpx.AsyncClient(timeout=5) as http:
            told = (await http.head(settings.telnyx_base_url)).headers.get("date")
        if told:
            skews["Telnyx"] = time.time() - parsedate_to_datetime(told).timestamp()
    except (httpx.HTTPError, ValueError):
        pass  # whether Telnyx is reachable is another check
    for whose, skew in skews.items():
        if abs(skew) > _SKEW_SECONDS:
            raise Wrong(
                f"this machine's clock is {format_duration(abs(skew))} {'ahead of' if skew > 0 else 'behind'} {whose}'s",
                "set it by NTP; webhooks are refused at five minutes",
            )
    return "agrees with " + " and ".join(skews)


async def _redis(settings: Settings, redis: Any) -> str:
    try:
        await redis.set(DOCTOR, secrets.token_hex(4), ex=5)
    except (RedisError, OSError) as error:
        raise Wrong(f"does not take a write: {one_line(error)}", "docs/redis.md says what is needed") from None
    server = await redis.info("server")
    version = str(server.get("redis_version", "0"))  # Valkey tells the version of Redis that it stands for, too
    name = f"Valkey {server['valkey_version']}" if "valkey_version" in server else f"Redis {version}"
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < _OLDEST_REDIS:
        raise Wrong(name, "use Redis 7.0 or newer, or Valkey")
    return f"{name}, takes writes"


async def _known(settings: Settings, redis: Any) -> str:
    """What the service itself knows to be wrong; the worst first."""
    found = await known_conditions(redis, settings)
    if not found:
        return "the service knows of nothing wrong"
    first = found[0]
    more = f"; and {len(found) - 1} more, see `callvault status`" if len(found) > 1 else ""
    if any(one.severity == "critical" for one in found):
        raise Wrong(f"{first.sentence}{more}", first.advice)
    raise Noted(f"{first.sentence}{more}", first.advice)


async def _persistence(settings: Settings, redis: Any) -> str:
    info = await redis.info("persistence")
    if not info.get("aof_enabled"):
        raise Wrong("no append-only file", "set `appendonly yes`, else accepted events are lost with the server")
    if info.get("aof_last_write_status", "ok") != "ok":
        raise Wrong("the append-only file cannot be written", "see the server's log; its disk may be full")
    return "append-only file on"


async def _eviction(settings: Settings, redis: Any) -> str:
    info = await redis.info("memory")
    policy, share = info.get("maxmemory_policy"), used_share(info)
    if info.get("maxmemory") and policy != "noeviction":
        raise Wrong(f"maxmemory-policy is {policy}", "set `maxmemory-policy noeviction`, else Redis throws jobs away")
    if share > _FULL_SHARE:
        raise Wrong(
            f"{share:.0%} of its memory is used",
            "raise `maxmemory`, or add workers to shorten the queue",
        )
    return f"nothing is evicted; {format_size(info.get('used_memory') or 0)} used"


async def _binding(settings: Settings, redis: Any) -> str:
    """Whether this Redis belongs to the archive; a doctor binds none."""
    try:
        archive = await asyncio.to_thread(open_archive, settings)
        identity = await asyncio.to_thread(lambda: archive.identity)
    except (StoreError, UserError):
        raise Noted("not looked at: the archive cannot be opened", "see the row of the archive") from None
    bound = await bound_to(redis)
    if bound is None:
        raise Noted(
            f"this Redis belongs to no archive yet, {identity.id} lies here",
            "the first worker has it belong to this one",
        )
    if bound != identity.id:
        raise Wrong(
            f"this Redis belongs to archive {bound}, and the archive here is {identity.id}",
            "check REDIS_URL and CALLVAULT_ARCHIVE_URL; `callvault init --adopt` has this Redis serve this archive",
        )
    return f"this Redis belongs to archive {identity.id}, which lies here"


async def _archive(settings: Settings, redis: Any) -> str:
    """Written, written once, proven: with an object under `probe/` that stays there."""

    def look() -> str:
        archive = open_archive(settings)
        made_at = archive.identity.created_at
        archive.store.stat("probe/checksum")
        next(iter(archive.store.list("recordings/")), None)
        archived = archive.put(_PROBE, iter((b"callvault doctor\n",)), "text/plain")
        try:
            archive.put(_PROBE, iter((b"something else\n",)), "text/plain")
        except ArchiveConflict:
            pass
        else:
            raise Wrong("an object was overwritten", "use a store that keeps `If-None-Match: *`, or turn versions on")
        return (
            f"{settings.archive_address}, made at {made_at}, is listed, written once, and proven by {archived.proof.by}"
        )

    try:
        return await asyncio.to_thread(look)
    except NoArchive as error:
        raise Wrong(str(error), "mount its disk, mend the address, or run `callvault init`") from None
    except Damaged as error:
        raise Wrong(str(error), "the store does not give back what was sent; use another") from None
    except (StoreError, UserError) as error:
        raise Wrong(str(error), "see docs/stores.md for the rights and settings of each store") from None


async def _delete_denied(settings: Settings, redis: Any) -> str:
    """The service never deletes what is archived, so its credentials need no right to; tried on the probe alone."""
    if settings.archive_address.startswith("file:"):
        return "a folder: whoever runs the service can delete files in it"

    def try_it() -> bool:
        try:
            open_archive(settings).store.erase(_PROBE)
        except StoreError:
            return False
        return True

    try:
        can_delete = await asyncio.to_thread(try_it)
    except UserError as error:
        raise Wrong(str(error), "see docs/stores.md for the rights and settings of each store") from None
    if can_delete and settings.retention is not None:
        raise Wrong("an object under retention could be deleted", "see docs/stores.md: the bucket keeps no lock")
    if can_delete:
        raise Noted("these credentials may delete objects", "the service needs no such right; see docs/stores.md")
    return "these credentials cannot delete objects"


async def _place(settings: Settings, redis: Any) -> str:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3", "")
    if settings.archive_address.startswith("s3://") and "telnyxcloudstorage.com" in endpoint:
        raise Wrong("the archive is at Telnyx, like the originals", "an account closed or compromised takes both")
    return "the archive is not where the originals are"


async def _disk(settings: Settings, redis: Any) -> str:
    places = {"data folder": settings.data_folder}
    if settings.archive_address.startswith("file:"):
        places["archive"] = Path(unquote(urlsplit(settings.archive_address).path))
    free = {}
    for name, path in places.items():
        there = next((p for p in (path, *path.resolve().parents) if p.exists()), Path("/"))
        free[name] = shutil.disk_usage(there).free
        if free[name] < _LEAST_FREE_BYTES:
            raise Wrong(f"{format_size(free[name])} free for the {name}", "make room: a full disk stops the archiving")
    return ", ".join(f"{format_size(count)} free for the {name}" for name, count in free.items())


async def _alerts(settings: Settings, redis: Any) -> str:
    import apprise

    if not settings.alert_urls:
        raise Noted(
            "CALLVAULT_ALERT_URLS is not set", "set it, so that a person hears of a fault; `--alert` sends a test"
        )
    if unknown := sorted(set(settings.alert_severities) - set(KINDS)):
        near = difflib.get_close_matches(unknown[0], KINDS, 1)
        hint = f"is {near[0]} meant?" if near else "docs/runbook.md has every kind"
        raise Wrong(f"CALLVAULT_ALERT_SEVERITIES: there is no kind of alert {unknown[0]!r}", hint)
    if any(not apprise.Apprise().add(url.get_secret_value()) for url in settings.witness_urls):
        raise Wrong(
            "CALLVAULT_WITNESS_URLS holds an address that Apprise does not know", "see github.com/caronc/apprise/wiki"
        )
    bad = sum(not apprise.Apprise().add(url.get_secret_value()) for url in settings.alert_urls)
    if bad:
        raise Wrong(
            f"Apprise does not know {bad} of {many(len(settings.alert_urls), 'address')}",
            "github.com/caronc/apprise lists them",
        )
    return f"{many(len(settings.alert_urls), 'address')}; `--alert` sends a test"


async def _ops(settings: Settings, redis: Any) -> str:
    if settings.ops_token is None:
        return "no CALLVAULT_OPS_TOKEN: they answer on this machine only"
    return "a token opens them"


async def send_test(settings: Settings, redis: Any) -> str:
    """Send an alert that says it is a test."""
    if not settings.alert_urls:
        raise Wrong("CALLVAULT_ALERT_URLS is not set", "set it to Apprise URLs; github.com/caronc/apprise lists them")
    text = "This is a test of Callvault's alerts. Nothing is to be done."
    refused = []
    for number, url in enumerate(settings.alert_urls, 1):
        try:
            await deliver_once([url.get_secret_value()], "Callvault: test", text, "failure")
        except NotDelivered:
            refused.append(f"number {number} ({urlsplit(url.get_secret_value()).scheme})")
    if refused:
        what = f"not taken by {len(refused)} of {many(len(settings.alert_urls), 'address')}: {', '.join(refused)}"
        raise Wrong(what, "see whether its server answers and takes the token or password in the address")
    return f"taken by {many(len(settings.alert_urls), 'address')} at {utc_now():%H:%M:%S} UTC; see whether it arrived"


CHECKS: dict[str, Check] = {
    "settings": _settings,
    "webhook key": _public_key,
    "Telnyx API": _api_key,
    "webhook deliveries": _deliveries,
    "webhook URLs": _webhook_urls,
    "Redis": _redis,
    "clock": _clock,
    "what is known": _known,
    "Redis persistence": _persistence,
    "Redis eviction": _eviction,
    "archive": _archive,
    "archive's rights": _delete_denied,
    "archive's place": _place,
    "Redis' archive": _binding,
    "disk": _disk,
    "alerts": _alerts,
    "ops pages": _ops,
}
NEEDS_REDIS = ("clock", "what is known", "Redis persistence", "Redis eviction", "Redis' archive")
