"""Reconcile of a million recordings, one in a thousand missing: memory, and pages a second."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import timedelta
from pathlib import Path

from archive import layout
from bench import machine
from bench.listing import A_DAY, DAYS, LAST_DAY, recording_id
from bench.pairs import Result, log, once
from config.settings import load_settings
from lab.deployment import deployment
from lab.processes import free_port, running, serves_http
from process.logs import configure_logs
from workers.reconcile.comparison import Tally
from workers.reconcile.reconcile import Days, reconcile_days
from workers.runtime import runtime_at

_MISSING = 1_000  # one in so many
_PAGE = 250


def _lay_out(root: Path) -> None:
    """Lay out what reconcile sees of the archive: the names of commit records."""
    for back in range(DAYS):
        day = LAST_DAY - timedelta(days=back)
        for n in range(A_DAY):
            if n % _MISSING:
                folder = root / layout.recording_folder(day, recording_id(day, n))
                folder.mkdir(parents=True)
                (folder / "recording.json").touch()


async def _reconcile(days: int) -> None:
    """Reconcile in a process of its own; prints seconds, peak memory and what was found."""
    settings = load_settings()
    tally = Tally()
    async with runtime_at(settings, settings.redis_url.get_secret_value() if settings.redis_url else "") as runtime:
        started = time.perf_counter()
        await reconcile_days(runtime, Days(LAST_DAY - timedelta(days=days - 1), LAST_DAY, "reconcile"), tally)
        seconds = time.perf_counter() - started
    print(
        json.dumps(
            {"seconds": seconds, "peak_mib": machine.own_peak_mib(), "found": tally.found, "missing": tally.missing}
        )
    )


def reconcile_once(days: int) -> None:
    """The same from a command line."""
    configure_logs("error", program="bench")
    asyncio.run(_reconcile(days))


def run() -> list[Result]:
    """Measure."""
    port = free_port()
    listing = ["-m", "uvicorn", "bench.listing:app", "--port", str(port), "--no-access-log", "--log-level", "warning"]
    with deployment() as own:
        own.play_telnyx(f"http://127.0.0.1:{port}")
        own.clear()
        _lay_out(own.folder / "archive")
        with running([sys.executable, *listing], lambda: serves_http(port)):
            results = {}
            for days in (1, DAYS):
                code = f"from bench.reconcile import reconcile_once; reconcile_once({days})"
                results[days] = machine.in_a_process(code, own.environment)
                log(f"  reconcile of {days} days: {results[days]}")
    one, all_ = results[1], results[DAYS]
    if (all_["found"], all_["missing"]) != (DAYS * A_DAY, DAYS * A_DAY // _MISSING):
        raise RuntimeError(f"reconcile found {all_}")
    pages = DAYS * A_DAY / _PAGE / all_["seconds"]
    note = f"goal: flat, under 150 MiB; one run: {all_['seconds']:.0f} s, {pages:.0f} pages of 250 a second, each asked for while"
    note += (
        " the one before is compared; the listing server shares the machine. Telnyx documents no figure for its limit"
    )
    what = f"memory of a reconcile of {DAYS * A_DAY:,} recordings, 0.1 % missing, `file`"
    against = f"itself at {A_DAY:,} recordings"
    return [once(what, against, all_["peak_mib"], one["peak_mib"], unit="MiB", goal="<= 1.2", note=note)]
