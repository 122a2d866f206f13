"""`callvault doctor`: what breaks in practice, looked at one by one, each with how to mend it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from redis.exceptions import RedisError

from cli.checks import CHECKS, NEEDS_REDIS, Check, Noted, Wrong, send_test
from cli.console import open_console
from config.settings import Settings
from workers.one_line import one_line
from workers.queue.connect import connect_receiver

_PATIENCE_SECONDS = 20
_MARKS = {
    (True, False): ("good ", "green"),
    (True, True): ("note ", "yellow"),
    (False, True): ("WRONG", "bold red"),
    (False, False): ("WRONG", "bold red"),
}


def run(settings: Settings, redis_url: str, *, test_alert: bool, as_json: bool) -> int:
    """Look at everything; returns the exit status: 1 if anything is wrong."""
    return asyncio.run(_run(settings, redis_url, test_alert, as_json))


async def _run(settings: Settings, redis_url: str, test_alert: bool, as_json: bool) -> int:
    redis = connect_receiver(redis_url)  # a person waits: seconds, not the patience of a worker
    rows: list[dict[str, Any]] = []
    try:
        for name, check in CHECKS.items():
            if name in NEEDS_REDIS and any(row["check"] == "Redis" and not row["good"] for row in rows):
                said = {"good": False, "found": "not looked at: Redis does not answer", "advice": ""}
                rows.append({"check": name} | said)
                continue
            rows.append({"check": name} | await _one(check, settings, redis))
        if test_alert:
            rows.append({"check": "test alert"} | await _one(send_test, settings, redis))
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
    except Noted as noted:
        return {"good": True, "found": str(noted), "advice": noted.advice}
    except Wrong as wrong:
        return {"good": False, "found": str(wrong), "advice": wrong.advice}
    except TimeoutError:
        return {
            "good": False,
            "found": f"no answer within {_PATIENCE_SECONDS}s",
            "advice": "is it reachable from here?",
        }
    except (RedisError, OSError) as error:
        return {
            "good": False,
            "found": one_line(error),
            "advice": "docs/redis.md and docs/stores.md say what is needed",
        }
    except Exception as error:
        return {"good": False, "found": f"{type(error).__name__}: {one_line(error)}", "advice": "see the error"}


def _print(rows: list[dict[str, Any]]) -> None:
    console = open_console()
    for row in rows:
        mark, style = _MARKS[row["good"], bool(row["advice"])]
        console.print(f"{mark}  {row['check']:<18} {row['found']}", style=style)
        if row["advice"]:
            console.print(f"       {row['advice']}")
