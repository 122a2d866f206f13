"""`callvault verify`: runs the verification with progress, resumes it, and tells what is wrong."""

from __future__ import annotations

import json
import sys
import time
from datetime import date
from typing import Any

from cli.console import open_console
from cli.progress import progress
from cli.resume import StateFile
from config.settings import Settings
from config.sizes import format_size
from config.times import format_duration
from workers.archive.verify import Verified, count_recordings, verify
from workers.archive.verify_seals import count_seals, verify_seals
from workers.jobs.signing import open_seal_keys
from workers.runtime import open_archive

_STATE_DAYS = 7


def run(settings: Settings, *, since: date | None, until: date | None, deep: bool, seals: bool, as_json: bool) -> int:
    """Verify a span of days; returns the exit status: 1 if anything is wrong."""
    console = open_console(stderr=True)
    archive = open_archive(settings)
    identity = f"{settings.archive_address} {since} {until} {deep}"
    file = StateFile(
        settings.data_folder,
        "verify",
        identity,
        Verified(),
        _STATE_DAYS,
        archive_id=archive.identity.id,
        begin_anew="`callvault verify --fresh` begins anew",
    )
    state = file.load()
    if state.through:
        console.print(f"Resumed after {state.through}, {state.recordings} recordings in.")
    started = time.monotonic()
    total = count_recordings(archive, since, until)
    span: dict[str, Any] = {"since": since, "until": until, "deep": deep}
    with progress(console, recordings=total) as show:
        verify(archive, state, **span, show=lambda s: show(recordings=s.recordings), save=file.save)
    if seals:
        trusted = None if settings.seal_key is None else open_seal_keys(settings).trusted
        with progress(console, seals=count_seals(archive)) as show:
            verify_seals(
                archive,
                state,
                **span,
                trusted=trusted,
                authorities=settings.timestamp_ca,
                show=lambda s: show(f"{s.sealed_objects} sealed objects", seals=s.seals),
            )
    file.forget()
    seconds = time.monotonic() - started
    _tell(settings, state, seconds, seals, as_json)
    return 1 if state.problems else 0


def _tell(settings: Settings, state: Verified, seconds: float, seals: bool, as_json: bool) -> None:
    if as_json:
        problems = [{"kind": p.kind, "key": p.key, "what": p.what, "advice": p.advice} for p in state.problems]
        report = {
            "archive_url": settings.archive_address,
            "recordings": state.recordings,
            "objects": state.objects,
            "bytes": state.bytes,
            "seconds": round(seconds, 2),
            "problems": problems,
        }
        if seals:
            names = ("seals", "sealed_objects", "erased", "waiting")
            report |= {name: getattr(state, name) for name in names}
        sys.stdout.write(json.dumps(report) + "\n")
        return
    for problem in state.problems:
        sys.stdout.write(
            f"{problem.kind:<12} {problem.key}\n             {problem.what}\n             {problem.advice}\n"
        )
    verdict = f"{len(state.problems)} problems" if state.problems else "all as it must be"
    counts = f"{state.recordings} recordings, {state.objects} objects, {format_size(state.bytes)}"
    if seals:
        counts += f", {state.seals} seals of {state.sealed_objects} objects"
        counts += f" ({state.erased} erased, on record)" if state.erased else ""
        counts += f", {state.waiting} objects wait for the next seal of their day" if state.waiting else ""
    sys.stdout.write(f"{counts}, {format_duration(seconds)}: {verdict}\n")
