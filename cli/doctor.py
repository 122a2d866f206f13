"""`callvault doctor`: what breaks in practice, looked at one by one, each with how to mend it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from rich.console import Console

from config.errors import UserError
from config.settings import Settings
from workers.account import Account
from workers.archive.stores.store import StoreError
from workers.keys import DOCTOR
from workers.queue.connect import connect_worker
from workers.runtime import open_alerts, open_archive
from workers.telnyx.client import TelnyxClient
from workers.telnyx.errors import TelnyxError

_PATIENCE_SECONDS = 20


class _Wrong(Exception):
    """What a check found, and how to mend it."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what)
        self.advice = advice


Check = Callable[[Settings, Any], Awaitable[str]]


async def _public_key(settings: Settings, redis: Any) -> str:
    if not settings.telnyx_public_keys:
        raise _Wrong("TELNYX_PUBLIC_KEY is not set", "copy it from the portal: API keys, Public key")
    return f"{len(settings.telnyx_public_keys)} key(s)"


async def _api_key(settings: Settings, redis: Any) -> str:
    try:
        async with TelnyxClient(Account.from_settings(settings), budget_seconds=10) as client:
            async for _ in client.recordings.list(page_size=1):
                break
    except TelnyxError as error:
        raise _Wrong(
            str(error), "check TELNYX_API_KEY and TELNYX_BASE_URL, and that this machine reaches Telnyx"
        ) from None
    return f"recordings can be listed at {settings.telnyx_base_url}"


async def _redis(settings: Settings, redis: Any) -> str:
    await redis.set(DOCTOR, secrets.token_hex(4), ex=5)
    info = await redis.info()
    return f"version {info.get('redis_version')}, takes writes"


async def _persistence(settings: Settings, redis: Any) -> str:
    info = await redis.info("persistence")
    if not info.get("aof_enabled"):
        raise _Wrong("no append-only file", "set `appendonly yes`, else accepted events are lost with the server")
    return "append-only file on"


async def _eviction(settings: Settings, redis: Any) -> str:
    info = await redis.info("memory")
    policy = info.get("maxmemory_policy")
    if info.get("maxmemory") and policy != "noeviction":
        raise _Wrong(f"maxmemory-policy is {policy}", "set `maxmemory-policy noeviction`, else Redis throws jobs away")
    return "nothing is evicted"


async def _archive(settings: Settings, redis: Any) -> str:
    def look() -> str:
        archive = open_archive(settings)
        archive.store.stat("probe/checksum")
        next(iter(archive.store.list("recordings/")), None)
        return f"{settings.archive_address} can be read and listed"

    try:
        return await asyncio.to_thread(look)
    except (StoreError, UserError) as error:
        raise _Wrong(str(error), "see docs/stores.md for the rights and settings of each store") from None


async def _company(settings: Settings, redis: Any) -> str:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3", "")
    if settings.archive_address.startswith("s3://") and "telnyxcloudstorage.com" in endpoint:
        raise _Wrong("the archive is at Telnyx, like the originals", "an account closed or compromised takes both")
    return "the archive is not where the originals are"


CHECKS: dict[str, Check] = {
    "webhook key": _public_key,
    "Telnyx API": _api_key,
    "Redis": _redis,
    "Redis persistence": _persistence,
    "Redis eviction": _eviction,
    "archive": _archive,
    "archive's place": _company,
}


def run(settings: Settings, redis_url: str, *, test_alert: bool, as_json: bool) -> int:
    """Look at everything; returns the exit status: 1 if anything is wrong."""
    return asyncio.run(_run(settings, redis_url, test_alert, as_json))


async def _run(settings: Settings, redis_url: str, test_alert: bool, as_json: bool) -> int:
    redis = connect_worker(redis_url, connections=4)
    rows: list[dict[str, Any]] = []
    try:
        for name, check in CHECKS.items():
            rows.append({"check": name} | await _one(check, settings, redis))
        if test_alert:
            rows.append({"check": "test alert"} | await _one(_test_alert, settings, redis))
    finally:
        await redis.aclose()
    is_good = all(row["good"] for row in rows)
    if as_json:
        sys.stdout.write(json.dumps({"good": is_good, "checks": rows}) + "\n")
    else:
        _print(rows)
    return 0 if is_good else 1


async def _one(check: Check, settings: Settings, redis: Any) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return {"good": True, "found": await check(settings, redis), "advice": ""}
    except _Wrong as wrong:
        return {"good": False, "found": str(wrong), "advice": wrong.advice}
    except TimeoutError:
        return {
            "good": False,
            "found": f"no answer within {_PATIENCE_SECONDS}s",
            "advice": "is it reachable from here?",
        }
    except Exception as error:
        return {"good": False, "found": f"{type(error).__name__}: {error}", "advice": "see the error"}


async def _test_alert(settings: Settings, redis: Any) -> str:
    if not settings.alert_urls:
        raise _Wrong("CALLVAULT_ALERT_URLS is not set", "set it to Apprise URLs; github.com/caronc/apprise lists them")
    alerts = open_alerts(settings, redis)
    await alerts.send(
        "test", "critical", secrets.token_hex(4), "This is a test of Callvault's alerts.", "Nothing is to be done."
    )
    await alerts.close()
    return f"sent to {len(settings.alert_urls)} address(es); see whether it arrived"


def _print(rows: list[dict[str, Any]]) -> None:
    console = Console()
    for row in rows:
        mark, style = ("good ", "green") if row["good"] else ("WRONG", "bold red")
        console.print(
            f"{mark}  {row['check']:<18} {row['found']}", style=style, highlight=False, soft_wrap=True, markup=False
        )
        if row["advice"]:
            console.print(f"       {row['advice']}", highlight=False, soft_wrap=True, markup=False)
