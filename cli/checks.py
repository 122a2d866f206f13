"""THE table of checks of `callvault doctor`. To add one: a function here, and its row in `CHECKS`."""

from __future__ import annotations

import asyncio
import base64
import difflib
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
from nacl.signing import SigningKey
from redis.exceptions import RedisError

from archive.archive import ArchiveConflict
from archive.identity import NoArchive
from archive.proof import Damaged
from archive.stores.store import StoreError, StoreRefused
from cli.check import Check, Noted, Wrong
from cli.check_lifecycle import check_lifecycle
from cli.check_locks import check_locks
from cli.probe import look_at_all
from config.settings import Settings, SettingsError
from config.sign_in import OpenId, read_sign_in
from config.sources import unknown_settings
from process.disks import folders_of, free_bytes
from service.app import WEBHOOK_PATH
from service.signature import SignatureRefused, Signatures
from telnyx_api.account import Account
from telnyx_api.client import TelnyxClient
from telnyx_api.errors import Forbidden, TelnyxError
from telnyx_api.pages import LARGEST_PAGE
from text.counts import many
from text.errors import UserError
from text.one_line import one_line
from text.sizes import format_size
from text.times import format_duration, format_moment, utc_now
from workers.alerts.delivery import NotDelivered, deliver_once
from workers.alerts.kinds import KINDS
from workers.conditions import CONDITIONS
from workers.keys import DOCTOR
from workers.looks import known_conditions
from workers.opening import open_archive
from workers.queue.backlog import used_share
from workers.queue.binding import bound_to
from workers.queue.script import server_seconds
from workers.retention.watch import state_of_rules
from workers.running import differences, read_running

_SKEW_SECONDS = 30  # far below the five minutes after which webhooks are refused
_OLDEST_REDIS = (7, 0)  # older versions cannot run scripts while memory is full
_FULL_SHARE = 0.8
_LEAST_FREE_BYTES = 2 * 10**9
_MOST_CONNECTIONS = 50
_MOST_DELIVERIES = 100
_PROBE = "probe/doctor"


@asynccontextmanager
async def _telnyx(settings: Settings) -> AsyncIterator[TelnyxClient]:
    if settings.telnyx_api_key is None:
        raise Wrong("TELNYX_API_KEY is not set", "create an API v2 key in the Telnyx portal, under API keys")
    try:
        async with TelnyxClient(Account.from_settings(settings), budget_seconds=10) as client:
            yield client
    except TelnyxError as error:
        advice = "check TELNYX_API_KEY, TELNYX_BASE_URL, and that this machine can reach Telnyx"
        if isinstance(error, Forbidden):
            advice = "the key lacks a permission; create one with all permissions in the Telnyx portal"
        raise Wrong(str(error), advice) from None


async def _settings(settings: Settings, redis: Any) -> str:
    """Find misspelt names; a wrong value has stopped the command already."""
    if unknown := unknown_settings():
        raise Noted("; ".join(unknown), "docs/configuration.md lists all settings")
    return "all names in the environment are known"


async def _public_key(settings: Settings, redis: Any) -> str:
    """Check that the keys refuse a forged signature; `_deliveries` shows whether they are Telnyx's keys."""
    if not settings.telnyx_public_keys:
        raise Wrong("TELNYX_PUBLIC_KEY is not set", "copy it from the Telnyx portal, under API keys")
    body, now = b'{"data": {}}', time.time()
    forged = SigningKey.generate().sign(str(int(now)).encode() + b"|" + body).signature
    try:
        Signatures(settings.telnyx_public_keys).verify(str(int(now)), base64.b64encode(forged).decode(), body, now)
    except SignatureRefused:
        return f"{many(len(settings.telnyx_public_keys), 'key')}; forged signatures are refused"
    raise Wrong("a forged signature was accepted", "copy the key from the Telnyx portal again, under API keys")


async def _api_key(settings: Settings, redis: Any) -> str:
    async with _telnyx(settings) as client:
        for lists in (client.recordings, client.recording_transcriptions, client.external_connections):
            await client.first_page(lists.list, page_size=1)
    return f"can list recordings, transcriptions and connections at {settings.telnyx_base_url}"


async def _deliveries(settings: Settings, redis: Any) -> str:
    """Check the latest deliveries that Telnyx reports; an answer of 401 means a wrong public key."""
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
        return f"the last {count} succeeded" if count else "Telnyx reports no deliveries"
    text = ", ".join(f"{n} with {answer}" for answer, n in seen.items())
    advice = "check what answers at the webhook URL; lost webhooks are recovered automatically"
    if "401" in seen:
        advice = "401: TELNYX_PUBLIC_KEY belongs to another account, or a proxy changes the request body"
    raise Wrong(f"{sum(seen.values())} of the last {count} failed: {text}", advice)


async def _webhook_urls(settings: Settings, redis: Any) -> str:
    """Check that what every external connection sends arrives at a receiver, unchanged."""
    urls: set[str] = set()
    without = count = 0
    async with _telnyx(settings) as client:
        page = await client.first_page(client.external_connections.list, page_size=LARGEST_PAGE)
        for connection in page.items[:_MOST_CONNECTIONS]:
            count += 1
            without += not connection.webhook_event_url
            urls |= {url for url in (connection.webhook_event_url, connection.webhook_event_failover_url) if url}
    found = await look_at_all(redis, sorted(urls))
    if wrong := [f"{url}: {one.what}" for url, one in found.items() if one.is_wrong]:
        raise Wrong("; ".join(wrong), next(one.advice for one in found.values() if one.is_wrong))
    if found:
        raise Noted("; ".join(f"{url}: {one.what}" for url, one in found.items()), next(iter(found.values())).advice)
    if without:
        raise Noted(
            f"{without} of {many(count, 'external connection')} without a webhook URL",
            f"set https://your.host{WEBHOOK_PATH} there; until then only the hourly reconcile finds their calls",
        )
    urls_get = many(len(urls), "receiver URL gets webhooks unchanged", "receiver URLs get webhooks unchanged")
    return f"{urls_get}, for {many(count, 'external connection')}"


async def _clock(settings: Settings, redis: Any) -> str:
    """Compare clocks: webhooks are refused if their time is five minutes off."""
    skews = {"Redis": time.time() - await server_seconds(redis)}
    try:
        async with httpx.AsyncClient(timeout=5) as http:
            date = (await http.head(settings.telnyx_base_url)).headers.get("date")
        if date:
            skews["Telnyx"] = time.time() - parsedate_to_datetime(date).timestamp()
    except (httpx.HTTPError, ValueError):
        pass  # `_api_key` checks whether Telnyx answers
    for whose, skew in skews.items():
        if abs(skew) > _SKEW_SECONDS:
            raise Wrong(
                f"this machine's clock is {format_duration(abs(skew))} {'ahead of' if skew > 0 else 'behind'} {whose}'s",
                "set up NTP; a receiver refuses webhooks at a difference of five minutes",
            )
    return "agrees with " + " and ".join(skews)


async def _redis(settings: Settings, redis: Any) -> str:
    try:
        await redis.set(DOCTOR, secrets.token_hex(4), ex=5)
    except (RedisError, OSError) as error:
        raise Wrong(f"a write failed: {one_line(error)}", "see docs/redis.md for the requirements") from None
    server = await redis.info("server")
    version = str(server.get("redis_version", "0"))  # Valkey also reports a Redis version, for compatibility
    name = f"Valkey {server['valkey_version']}" if "valkey_version" in server else f"Redis {version}"
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < _OLDEST_REDIS:
        raise Wrong(f"{name} is too old", "use Redis 7.0 or newer, or Valkey")
    return f"{name}, accepts writes"


async def _known(settings: Settings, redis: Any) -> str:
    """Report what the service knows to be wrong; the worst first."""
    found = await known_conditions(redis, settings)
    if not found:
        return "none"
    first = found[0]
    more = f" ({first.seen})" if first.seen else ""
    more += f"; {len(found) - 1} more in `callvault status`" if len(found) > 1 else ""
    if any(one.severity == "critical" for one in found):
        raise Wrong(f"{first.sentence}{more}", first.advice)
    raise Noted(f"{first.sentence}{more}", first.advice)


async def _service_settings(settings: Settings, redis: Any) -> str:
    """Compare the settings here with those of the workers, which do the work."""
    running = await read_running(redis)
    workers = sum(one.kind == "worker" for one in running)
    if found := differences(settings, running):
        raise Noted(
            "; ".join(one.sentence for one in found),
            "the workers' settings count for their work. To act as they do, run commands in their environment, such as "
            "`docker compose exec worker callvault ...`",
        )
    return f"the same as {many(workers, 'worker has', 'workers have')}" if workers else "no worker runs to compare with"


async def _persistence(settings: Settings, redis: Any) -> str:
    info = await redis.info("persistence")
    if not info.get("aof_enabled"):
        raise Wrong("the append-only file is off", "set `appendonly yes`, or a restart of Redis loses accepted events")
    if info.get("aof_last_write_status", "ok") != "ok":
        raise Wrong("Redis cannot write its append-only file", "check the log of Redis; its disk may be full")
    return "the append-only file is on"


async def _eviction(settings: Settings, redis: Any) -> str:
    info = await redis.info("memory")
    policy, share = info.get("maxmemory_policy"), used_share(info)
    if info.get("maxmemory") and policy != "noeviction":
        raise Wrong(f"maxmemory-policy is {policy}", "set `maxmemory-policy noeviction`, or Redis drops jobs")
    if share > _FULL_SHARE:
        raise Wrong(
            f"{share:.0%} of the memory is used",
            "raise `maxmemory`, or add workers",
        )
    return f"off; {format_size(info.get('used_memory') or 0)} of memory used"


async def _binding(settings: Settings, redis: Any) -> str:
    """Check that this Redis belongs to the archive."""
    try:
        archive = await asyncio.to_thread(open_archive, settings)
        identity = await asyncio.to_thread(lambda: archive.identity)
    except (StoreError, UserError):
        raise Noted("skipped: the archive cannot be opened", "fix the archive first") from None
    bound = await bound_to(redis)
    if bound is None:
        raise Noted(
            f"this Redis belongs to no archive yet; the archive here is {identity.id}",
            "start a worker; it binds this Redis to the archive",
        )
    if bound != identity.id:
        raise Wrong(
            f"this Redis belongs to archive {bound}, but the archive here is {identity.id}",
            "check REDIS_URL and CALLVAULT_ARCHIVE_URL; if both are right, run `callvault init --adopt`",
        )
    return f"this Redis belongs to the archive ({identity.id})"


async def _archive(settings: Settings, redis: Any) -> str:
    """Write an object under `probe/`, try to overwrite it, and prove it; the object stays."""

    def look() -> str:
        archive = open_archive(settings)
        made_at = format_moment(archive.identity.created_at, None)
        archive.store.stat("probe/checksum")
        next(iter(archive.store.list("recordings/")), None)
        archived = archive.put(_PROBE, iter((b"callvault doctor\n",)), "text/plain")
        try:
            archive.put(_PROBE, iter((b"something else\n",)), "text/plain")
        except ArchiveConflict:
            pass
        else:
            raise Wrong(
                "an object was overwritten", "use a store that supports `If-None-Match: *`, or turn on versioning"
            )
        return (
            f"{settings.archive_address}, created {made_at}: can list, cannot overwrite, "
            f"objects proven by {archived.proof.by}"
        )

    try:
        return await asyncio.to_thread(look)
    except NoArchive as error:
        raise Wrong(str(error), "mount its disk, correct the address, or run `callvault init`") from None
    except Damaged as error:
        raise Wrong(str(error), "the store returns other bytes than were sent; use another store") from None
    except (StoreError, UserError) as error:
        raise Wrong(str(error), "see docs/stores.md for the permissions and settings of each store") from None


async def _delete_denied(settings: Settings, redis: Any) -> str:
    """Check that the credentials cannot delete, by trying it on the probe; the service needs no such permission."""
    if settings.archive_address.startswith("file:"):
        return "the archive is a folder; the user of the service can delete files in it"

    def try_it() -> bool:
        store = open_archive(settings).store
        try:
            store.erase(_PROBE)
        except StoreRefused:
            return False
        return True

    try:
        can_delete = await asyncio.to_thread(try_it)
    except (StoreError, UserError) as error:
        raise Noted(f"cannot be checked: {error}", "fix the archive first") from None
    if can_delete and settings.retention is not None:
        raise Wrong(
            "an object under retention could be deleted", "turn on object lock for the bucket; see docs/stores.md"
        )
    if can_delete:
        raise Noted(
            "these credentials can delete objects",
            "remove the permission; the service does not need it (docs/stores.md)",
        )
    return "these credentials cannot delete objects"


async def _place(settings: Settings, redis: Any) -> str:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3", "")
    if settings.archive_address.startswith("s3://") and "telnyxcloudstorage.com" in endpoint:
        raise Wrong(
            "the archive is at Telnyx, like the originals", "use another provider; losing the account would lose both"
        )
    return "the archive and the originals are at different providers"


async def _retention(settings: Settings, redis: Any) -> str:
    """Compare the retention rules in force with the file."""
    try:
        archive = await asyncio.to_thread(open_archive, settings)
        state = await asyncio.to_thread(state_of_rules, archive, settings.retention_file)
    except (StoreError, UserError):
        raise Noted("skipped: the archive cannot be opened", "fix the archive first") from None
    if state.unreadable is not None:
        raise Wrong(state.unreadable, CONDITIONS["retention-unreadable"].advice)
    if state.differs is not None:
        raise Noted(state.differs, CONDITIONS["retention-differs"].advice)
    return f"rules {state.number} are in force" if state.number else "none; everything is kept for ever"


async def _disk(settings: Settings, redis: Any) -> str:
    free = {name: await asyncio.to_thread(free_bytes, path) for name, path in folders_of(settings).items()}
    for name, count in free.items():
        if count < _LEAST_FREE_BYTES:
            raise Wrong(f"{format_size(count)} free for the {name}", "free space; a full disk stops archiving")
    return ", ".join(f"{format_size(count)} free for the {name}" for name, count in free.items())


async def _alerts(settings: Settings, redis: Any) -> str:
    import apprise

    if unknown := sorted(set(settings.alert_severities) - set(KINDS)):
        near = difflib.get_close_matches(unknown[0], KINDS, 1)
        hint = f"did you mean {near[0]}?" if near else "docs/runbook.md lists all kinds"
        raise Wrong(f"CALLVAULT_ALERT_SEVERITIES: unknown kind of alert {unknown[0]!r}", hint)
    if any(not apprise.Apprise().add(url.get_secret_value()) for url in settings.witness_urls):
        raise Wrong(
            "CALLVAULT_WITNESS_URLS has an address that Apprise cannot use", "see github.com/caronc/apprise/wiki"
        )
    bad = sum(not apprise.Apprise().add(url.get_secret_value()) for url in settings.alert_urls)
    if bad:
        raise Wrong(
            f"Apprise cannot use {bad} of {many(len(settings.alert_urls), 'address')} in CALLVAULT_ALERT_URLS",
            "see github.com/caronc/apprise for the forms of addresses",
        )
    if not settings.alert_urls:
        raise Noted(
            "CALLVAULT_ALERT_URLS is not set", "set it to receive alerts; `callvault doctor --alert` sends a test"
        )
    return f"{many(len(settings.alert_urls), 'address')}; `callvault doctor --alert` sends a test"


async def _ops(settings: Settings, redis: Any) -> str:
    by = [] if settings.ops_token is None else ["CALLVAULT_OPS_TOKEN"]
    try:
        ways = read_sign_in(settings)
    except SettingsError as error:
        raise Wrong(str(error), "docs/access.md has the settings; no receiver starts with this") from None
    if ways.openid is not None:
        by.append(f"a sign-in at {await _provider(ways.openid)}")
    if ways.proxy is not None:
        by.append(f"a sign-in at a proxy that sends {ways.proxy.user_header}")
    if not by:
        return "with the settings of this shell, open from this machine only: CALLVAULT_OPS_TOKEN is not set"
    return f"open with {' or '.join(by)}"


async def _provider(openid: OpenId) -> str:
    """The host of an OpenID provider that answers."""
    from service.ops.oidc import Provider, ProviderAway, ProviderRefused

    provider = Provider(openid)
    try:
        await provider.check()
    except (ProviderAway, ProviderRefused) as error:
        raise Wrong(f"CALLVAULT_OIDC_ISSUER: {error}", "until it answers, nobody can sign in there") from None
    finally:
        await provider.close()
    return provider.host


async def send_test(settings: Settings, redis: Any) -> str:
    """Send a test alert."""
    if not settings.alert_urls:
        raise Wrong("CALLVAULT_ALERT_URLS is not set", "set it to Apprise URLs; see github.com/caronc/apprise")
    text = "This is a test of Callvault's alerts. You do not need to do anything."
    refused = []
    for number, url in enumerate(settings.alert_urls, 1):
        try:
            await deliver_once([url.get_secret_value()], "Callvault: test", text, "failure")
        except NotDelivered:
            refused.append(f"number {number} ({urlsplit(url.get_secret_value()).scheme})")
    if refused:
        what = f"{len(refused)} of {many(len(settings.alert_urls), 'address')} refused it: {', '.join(refused)}"
        raise Wrong(what, "check that the server answers and accepts the token or password in the address")
    return f"sent to {many(len(settings.alert_urls), 'address')} at {utc_now():%H:%M:%S} UTC; check that it arrived"


CHECKS: dict[str, Check] = {
    "settings": _settings,
    "webhook key": _public_key,
    "Telnyx API": _api_key,
    "webhook deliveries": _deliveries,
    "webhook URLs": _webhook_urls,
    "Redis": _redis,
    "service's settings": _service_settings,
    "clock": _clock,
    "known problems": _known,
    "Redis persistence": _persistence,
    "Redis eviction": _eviction,
    "archive": _archive,
    "archive's rights": _delete_denied,
    "archive's place": _place,
    "lifecycle rules": check_lifecycle,
    "locks": check_locks,
    "Redis' archive": _binding,
    "retention rules": _retention,
    "disk": _disk,
    "alerts": _alerts,
    "ops pages": _ops,
}
NEEDS_REDIS = ("service's settings", "clock", "known problems", "Redis persistence", "Redis eviction", "Redis' archive")
