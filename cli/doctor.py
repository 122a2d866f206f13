"""`callvault doctor`: check what breaks in practice, and show how to fix it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import open_console, print_json
from cli.options import DataFolder, Json, service_of

if TYPE_CHECKING:
    from cli.check import Check
    from config.settings import Settings

_PATIENCE_SECONDS = 20
_MARKS = {
    (True, False): ("good ", "green"),
    (True, True): ("note ", "yellow"),
    (False, True): ("WRONG", "bold red"),
    (False, False): ("WRONG", "bold red"),
}


def command(
    alert: Annotated[bool, typer.Option("--alert", help="Send a test alert, too.")] = False,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Check the installation and show how to fix it.

    It checks settings, keys, webhooks, Redis, the archive and alerts. Exit status 1: a check failed.

    Example: callvault doctor --alert
    """
    with service_of(data) as (settings, url):
        rows = asyncio.run(_check(settings, url, alert))
    is_good = all(row["good"] for row in rows)
    if json:
        print_json({"good": is_good, "checks": rows})
    else:
        _print(rows)
    return 0 if is_good else 1


async def _check(settings: Settings, redis_url: str, test_alert: bool) -> list[dict[str, Any]]:
    from cli.checks import CHECKS, NEEDS_REDIS, send_test
    from workers.queue.connect import connect_receiver

    redis = connect_receiver(redis_url)  # gives up within seconds, since a person waits
    rows: list[dict[str, Any]] = []
    try:
        for name, check in CHECKS.items():
            if name in NEEDS_REDIS and any(row["check"] == "Redis" and not row["good"] for row in rows):
                rows.append({"check": name, "good": False, "found": "skipped: Redis does not answer", "advice": ""})
                continue
            rows.append({"check": name} | await _one(check, settings, redis))
        if test_alert:
            rows.append({"check": "test alert"} | await _one(send_test, settings, redis))
    finally:
        await redis.aclose()
    return rows


async def _one(check: Check, settings: Settings, redis: Any) -> dict[str, Any]:
    from redis.exceptions import RedisError

    from cli.check import Noted, Wrong
    from text.one_line import one_line

    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return {"good": True, "found": await check(settings, redis), "advice": ""}
    except Noted as noted:
        return {"good": True, "found": str(noted), "advice": noted.advice}
    except Wrong as wrong:
        return {"good": False, "found": str(wrong), "advice": wrong.advice}
    except TimeoutError:
        return {
            "good": False,
            "found": f"no answer within {_PATIENCE_SECONDS}s",
            "advice": "check the network between this machine and it",
        }
    except (RedisError, OSError) as error:
        return {
            "good": False,
            "found": one_line(error),
            "advice": "see docs/redis.md and docs/stores.md for the requirements",
        }
    except Exception as error:
        return {"good": False, "found": f"{type(error).__name__}: {one_line(error)}", "advice": "report this error"}


def _print(rows: list[dict[str, Any]]) -> None:
    console = open_console()
    for row in rows:
        mark, style = _MARKS[row["good"], bool(row["advice"])]
        console.print(f"{mark}  {row['check']:<18} {row['found']}", style=style)
        if row["advice"]:
            console.print(f"       {row['advice']}")
