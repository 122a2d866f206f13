"""`callvault verify`: runs the verification with progress, resumes it when asked to, and says what it found."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec
from rich.console import Console

from cli.console import open_console
from cli.progress import progress
from cli.resume import StateFile
from cli.telling import tell_register
from config.counts import many
from config.settings import Settings
from config.sizes import format_size
from config.times import format_duration, format_instant, utc_now
from workers.archive.marks import ProvenMarks
from workers.archive.verify import Verified, count_recordings, verify
from workers.archive.verify_seals import count_seals, verify_seals
from workers.jobs.signing import open_seal_keys
from workers.runtime import open_archive

_STATE_DAYS = 7
_HELD_BY = {
    "checksum": "by the store's checksum",
    "etag": "by the store's MD5",
    "read-back": "by reading every byte",
    "mark": "by the store's mark, under which an earlier run read every byte",
}


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes:
        since, until: days, both inclusive; None: no end.
        deep: read every byte.
        seals: the chain of seals too.
        head: SHA-256 of a seal that must be in the chain.
        resume: go on where an earlier run was stopped.
        fresh: forget what earlier runs saw.
        as_json: one JSON document.
    """

    since: date | None
    until: date | None
    deep: bool
    seals: bool
    head: str | None
    resume: bool
    fresh: bool
    as_json: bool


def run(settings: Settings, options: Options) -> int:
    """Verify a span of days; returns the exit status: 1 if anything is wrong."""
    console = open_console(stderr=True)
    archive = open_archive(settings)
    archive_id = archive.identity.id
    trusted = None if settings.seal_key is None else open_seal_keys(settings).trusted
    signers = sorted(key.hex() for key in trusted or ())
    what = f"{settings.archive_address} {options.since} {options.until} {options.deep} {settings.proof} {signers}"
    file = StateFile(
        settings.data_folder,
        "verify",
        what,
        Verified(),
        _STATE_DAYS,
        archive_id=archive_id,
        begin_anew="`callvault verify --fresh` begins anew",
    )
    marks = ProvenMarks(settings.data_folder, f"{archive_id} {settings.archive_address}")
    if options.fresh:
        file.forget()
        marks.forget()
    stopped = file.saved()
    state = _begin(console, stopped, options)
    span: dict[str, Any] = {"since": options.since, "until": options.until, "deep": options.deep, "trusted": trusted}
    span["marks"] = marks if settings.proof == "store" else None

    def save(state: Verified) -> None:
        if stopped is None or state.through >= stopped.through:  # until then `--resume` goes on further than this run
            file.save(state)

    started = time.monotonic()
    with progress(console, recordings=count_recordings(archive, options.since, options.until)) as show:
        verify(archive, state, **span, show=lambda s: show(recordings=s.recordings), save=save)
    if options.seals:
        with progress(console, seals=count_seals(archive)) as show:
            verify_seals(
                archive,
                state,
                **span,
                authorities=settings.timestamp_ca,
                head=options.head,
                seal_after=settings.seal_after,
                show=lambda s: show(many(s.sealed_objects, "sealed object") if s.sealed_objects else "", seals=s.seals),
            )
    marks.close()
    file.forget()
    seconds = time.monotonic() - started
    if (untold := tell_register(settings, archive_id, state.problems, "verify")) is not None:
        console.print(
            f"What is damaged is not in the service's register, and `callvault status` does not show it: {untold}."
        )
    if options.as_json:
        sys.stdout.write(json.dumps(_report(settings, options, state, seconds)) + "\n")
    else:
        _tell(settings, options, state, seconds)
    return 1 if state.problems else 0


def _begin(console: Console, stopped: Verified | None, options: Options) -> Verified:
    """The state to begin with, and a line if it is not the start or need not be."""
    if options.resume and stopped is not None:
        state = stopped.resume()
        console.print(f"Resumed after {state.through}: {_earlier(state)}.")
        return state
    if options.resume:
        console.print("There is no stopped run of this verification to resume; it begins anew.")
    elif stopped is not None:
        console.print(
            f"An earlier run was stopped on {stopped.saved_at} after {stopped.through}, "
            f"{many(stopped.recordings, 'recording')} in. "
            "This one begins anew; `--resume` goes on from there, `--fresh` forgets it."
        )
    return Verified(begun_at=format_instant(utc_now()))


def _earlier(state: Verified) -> str:
    earlier = state.earlier
    if earlier is None:
        return ""
    seen = many(earlier.recordings, "recording", "recordings")
    span = f"between {earlier.begun_at} and {earlier.stopped_at}"
    return f"an earlier run looked at {seen}, to {earlier.through}, {span}; this one did not look at them again"


def _report(settings: Settings, options: Options, state: Verified, seconds: float) -> dict[str, Any]:
    problems = [{"kind": p.kind, "key": p.key, "what": p.what, "advice": p.advice} for p in state.problems]
    report: dict[str, Any] = {
        "archive_url": settings.archive_address,
        "recordings": state.recordings,
        "erased_recordings": state.erased_recordings,
        "not_archived": state.not_archived,
        "objects": state.objects,
        "bytes": state.bytes,
        "seconds": round(seconds, 2),
        "problems": problems,
        "checked_by": state.checked_by,
        "earlier": None if state.earlier is None else msgspec.structs.asdict(state.earlier),
        "not_checked": _not_checked(settings, options, state),
    }
    if options.seals:
        names = ("seals", "sealed_objects", "erased", "waiting", "void", "unsealed_objects", "signed_by", "unsigned")
        report |= {name: getattr(state, name) for name in names}
        report |= {"signed": sum(state.signed_by.values()), "stamped": state.stamped}
        if options.head is not None:
            found = {"sequence": state.head, "seals_after": None if state.head is None else state.seals_after_head}
            report["head"] = {"sha256": options.head} | found
    return report


def _tell(settings: Settings, options: Options, state: Verified, seconds: float) -> None:
    lines = [f"{p.kind:<12} {p.key}\n             {p.what}\n             {p.advice}" for p in state.problems]
    held = [f"{state.checked_by[how]} {words}" for how, words in _HELD_BY.items() if how in state.checked_by]
    lines += [f"objects checked: {', '.join(held)}"] if held else []
    lines += [f"resumed: {_earlier(state)}"] if state.earlier is not None else []
    if options.seals:
        signed = ", ".join(f"{count} by {signer}" for signer, count in sorted(state.signed_by.items()))
        lines.append(f"seals signed: {signed or 'none'}; unsigned: {state.unsigned}; time-stamped: {state.stamped}")
        lines += [f"seals void: {state.void}, their numbers are passed over on record"] if state.void else []
    if options.head is not None and state.head is not None:
        lines.append(f"head found: it is seal {state.head}; {many(state.seals_after_head, 'seal')} came after it")
    lines += [f"not checked: {line}" for line in _not_checked(settings, options, state)]
    verdict = many(len(state.problems), "problem") if state.problems else "no problems"
    lines += [_not_archived(state.not_archived)] if state.not_archived else []
    erased = f" ({state.erased_recordings} erased, on record)" if state.erased_recordings else ""
    counts = (
        f"{many(state.recordings, 'recording')}{erased}, {many(state.objects, 'object')}, {format_size(state.bytes)}"
    )
    if options.seals:
        counts += f", {many(state.seals, 'seal')} of {many(state.sealed_objects, 'object')}"
        counts += f" ({state.erased} erased, on record)" if state.erased else ""
        waits = many(state.waiting, "object waits", "objects wait")
        counts += f", {waits} for the next seal of their day" if state.waiting else ""
    sys.stdout.write("\n".join([*lines, f"{counts}, {format_duration(seconds)}: {verdict}"]) + "\n")


def _not_archived(count: int) -> str:
    which = many(count, "recording is", "recordings are")
    return f"{which} not archived, on record (not-archived.json in its folder says why): Telnyx gave no audio"


def _not_checked(settings: Settings, options: Options, state: Verified) -> list[str]:
    """What this run did not look at, one line each."""
    lines = []
    if options.since or options.until:
        lines.append(f"days before {options.since or 'the first'} and after {options.until or 'the last'}")
    if not options.seals:
        lines.append("seals, media and log messages, and whether a whole recording is gone (`--seals`)")
    if not (options.deep or settings.proof == "read-back") and set(state.checked_by) - {"read-back"}:
        lines.append("the bytes of objects that the store's checksum, MD5 or mark holds (`--deep` reads them)")
    if settings.seal_key is None and (state.signed_by or options.seals):
        lines.append(
            "who signed seals and erasures, and whether one that lacks a signature should have one (CALLVAULT_SEAL_KEY)"
        )
    if settings.timestamp_ca is None and state.stamped:
        lines.append("which authority stamped the seals (CALLVAULT_TIMESTAMP_CA)")
    if options.seals and state.unsealed_objects:
        lines.append(
            "whether a whole recording is gone from a day without a seal yet: "
            f"{many(state.unsealed_objects, 'object lies', 'objects lie')} there"
        )
    return lines
