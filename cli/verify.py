"""`callvault verify`: verify the archive, resume a stopped run, report the problems."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from archive.marks import ProvenMarks
from archive.verify import Disposed, Verified, count_recordings, verify
from archive.verify_seals import count_seals, verify_seals
from cli.console import open_console, print_json
from cli.interrupt import stands
from cli.options import DataFolder, Json, Since, Until, first_day, last_day, refuse_future, refuse_reversed, settings_of
from cli.resume import StateFile
from text.counts import many
from text.errors import UsedWrongly
from text.sizes import format_size
from text.times import format_duration, format_instant, format_moment, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from archive.archive import Archive
    from config.settings import Settings

_STATE_DAYS = 7
_CHECKED_BY = {
    "checksum": "by the store's checksum",
    "etag": "by the store's MD5",
    "read-back": "by reading every byte",
    "mark": "by the store's version mark, unchanged since an earlier run read every byte",
}


@dataclass(frozen=True)
class Options:
    """The options of a run; dates are inclusive, None is no limit."""

    since: date | None
    until: date | None
    deep: bool
    seals: bool
    head: str | None
    resume: bool
    fresh: bool
    as_json: bool


def command(
    since: Since = None,
    until: Until = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read and hash every byte.")] = False,
    seals: Annotated[
        bool, typer.Option("--seals", help="Verify the chain of seals and all that it lists, too.")
    ] = False,
    head: Annotated[
        str | None,
        typer.Option(metavar="SHA256", help="Require this seal in the chain; implies --seals.", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an earlier run that was stopped.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ignore the results of earlier runs.")] = False,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Verify recordings and seals in the archive.

    It compares each object with its commit record. Exit status 1: it found a problem.

    Example: callvault verify --since 7d --seals
    """
    if resume and fresh:
        raise UsedWrongly("--resume and --fresh exclude each other")
    if head is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", head):
        raise UsedWrongly("--head: expected the SHA-256 of a seal, 64 hexadecimal digits")
    options = Options(
        since=first_day(since),
        until=last_day(until),
        deep=deep,
        seals=seals or head is not None,
        head=head.lower() if head else None,
        resume=resume,
        fresh=fresh,
        as_json=json,
    )
    refuse_reversed(options.since, options.until)
    if until is None:
        refuse_future(options.since, utc_now().date())
    return _run(settings_of(data), options)


def _run(settings: Settings, options: Options) -> int:
    from cli.register import register_problems
    from workers.opening import open_archive
    from workers.seals.signing import open_seal_keys

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
        start_over="run `callvault verify --fresh` to start over",
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
        if stopped is None or state.through >= stopped.through:  # until then `--resume` would lose progress
            file.save(state)

    def what_stands() -> str:
        register_problems(settings, archive_id, state.problems, "verify")
        found = f"{many(len(state.problems), 'problem')} found so far" if state.problems else "no problem so far"
        if (saved := file.saved()) is None:
            return f"{found}; no day was verified to its end, so run the same command again"
        return f"{found}; verified through {saved.through}: add --resume to the same command to continue"

    started = time.monotonic()
    with stands(what_stands):
        _check(archive, state, options, settings, span, save)
    marks.close()
    file.forget()
    seconds = time.monotonic() - started
    if (error := register_problems(settings, archive_id, state.problems, "verify")) is not None:
        console.print(f"`callvault status` will not show this damage; it could not be recorded in Redis: {error}")
    if options.as_json:
        print_json(_report(settings, options, state, seconds))
    else:
        _print(settings, options, state, seconds)
    return 1 if state.problems else 0


def _check(
    archive: Archive,
    state: Verified,
    options: Options,
    settings: Settings,
    span: dict[str, Any],
    save: Callable[[Verified], None],
) -> None:
    """Verify the recordings, then the seals if they are asked for, with progress."""
    from cli.progress import progress

    console = open_console(stderr=True)
    with progress(console, recordings=count_recordings(archive, options.since, options.until)) as show:
        verify(archive, state, **span, show=lambda s: show(recordings=s.recordings), save=save)
    if not options.seals:
        return
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


def _begin(console: Console, stopped: Verified | None, options: Options) -> Verified:
    """The state to start with; prints a line about an earlier run that was stopped."""
    if options.resume and stopped is not None:
        state = stopped.resume()
        console.print(f"Resuming after {state.through}; {_earlier(state)}.")
        return state
    if options.resume:
        console.print("No stopped run to resume; starting over.")
    elif stopped is not None:
        console.print(
            f"An earlier run was stopped at {format_moment(stopped.saved_at, None)} after {stopped.through} "
            f"({many(stopped.recordings, 'recording')}). Starting over; use --resume to continue it, --fresh to drop it."
        )
    return Verified(begun_at=format_instant(utc_now()))


def _earlier(state: Verified) -> str:
    earlier = state.earlier
    if earlier is None:
        return ""
    span = f"between {format_moment(earlier.begun_at, None)} and {format_moment(earlier.stopped_at, None)}"
    return (
        f"an earlier run checked {many(earlier.recordings, 'recording')} up to {earlier.through}, {span}, "
        "and this run did not check them again"
    )


def _report(settings: Settings, options: Options, state: Verified, seconds: float) -> dict[str, Any]:
    problems = [{"kind": p.kind, "key": p.key, "what": p.what, "advice": p.advice} for p in state.problems]
    report: dict[str, Any] = {
        "archive_url": settings.archive_address,
        "recordings": state.recordings,
        "erased_recordings": state.erased_recordings,
        "disposed_recordings": state.disposed_recordings,
        "disposed": [_disposed(one) for one in _in_order(state)],
        "not_archived": state.not_archived,
        "objects": state.objects,
        "bytes": state.bytes,
        "seconds": round(seconds, 2),
        "problems": problems,
        "checked_by": state.checked_by,
        "cold": state.cold,
        "earlier": None if state.earlier is None else msgspec.structs.asdict(state.earlier),
        "not_checked": _not_checked(settings, options, state),
    }
    if options.seals:
        names = (
            "seals",
            "sealed_objects",
            "erased",
            "sealed_disposed",
            "waiting",
            "void",
            "unsealed_objects",
            "signed_by",
            "unsigned",
        )
        report |= {name: getattr(state, name) for name in names}
        report |= {"signed": sum(state.signed_by.values()), "stamped": state.stamped}
        if options.head is not None:
            found = {"sequence": state.head, "seals_after": None if state.head is None else state.seals_after_head}
            report["head"] = {"sha256": options.head} | found
    return report


def _print(settings: Settings, options: Options, state: Verified, seconds: float) -> None:
    lines = [f"{p.kind:<12} {p.key}\n             {p.what}\n             {p.advice}" for p in state.problems]
    checked = [f"{state.checked_by[how]} {words}" for how, words in _CHECKED_BY.items() if how in state.checked_by]
    lines += [f"objects checked: {', '.join(checked)}"] if checked else []
    lines += [f"resumed: {_earlier(state)}"] if state.earlier is not None else []
    if options.seals:
        signed = ", ".join(f"{count} by {signer}" for signer, count in sorted(state.signed_by.items()))
        lines.append(f"seals signed: {signed or 'none'}; unsigned: {state.unsigned}; time-stamped: {state.stamped}")
        lines += [f"void seals: {state.void}; the archive records why their numbers are skipped"] if state.void else []
    if options.head is not None and state.head is not None:
        lines.append(f"head found: seal {state.head}, followed by {many(state.seals_after_head, 'later seal')}")
    lines += [f"not checked: {line}" for line in _not_checked(settings, options, state)]
    verdict = f"{many(len(state.problems), 'problem')} found" if state.problems else "no problems found"
    lines += [_not_archived(state.not_archived)] if state.not_archived else []
    lines += [_disposed_line(one) for one in _in_order(state)]
    erased = _on_record(state.erased_recordings, state.disposed_recordings)
    counts = (
        f"{many(state.recordings, 'recording')}{erased}, {many(state.objects, 'object')}, {format_size(state.bytes)}"
    )
    if options.seals:
        counts += f", {many(state.seals, 'seal')} of {many(state.sealed_objects, 'object')}"
        counts += _on_record(state.erased, state.sealed_disposed)
        counts += f", {many(state.waiting, 'object')} not sealed yet" if state.waiting else ""
    sys.stdout.write("\n".join([*lines, f"{counts}, {format_duration(seconds)}: {verdict}"]) + "\n")


def _on_record(erased: int, disposed: int) -> str:
    named = [f"{erased} erased"] if erased else []
    named += [f"{disposed} disposed of"] if disposed else []
    return f" ({', '.join(named)}, as recorded)" if named else ""


def _in_order(state: Verified) -> list[Disposed]:
    return sorted(state.disposed, key=lambda one: (one.under.day, one.under.rules_number, one.under.rule))


def _disposed(one: Disposed) -> dict[str, Any]:
    return {**msgspec.structs.asdict(one.under), "recordings": one.recordings, "objects": one.objects}


def _disposed_line(one: Disposed) -> str:
    rule = f"rule {one.under.rule} of applied rules {one.under.rules_number}"
    counts = f"{many(one.recordings, 'recording')}, {many(one.objects, 'object')}"
    return f"disposed of under {rule} on {one.under.day}: {counts}, as recorded"


def _not_archived(count: int) -> str:
    which = many(count, "recording", "recordings")
    return f"{which} accepted as not archived, because Telnyx gave no audio (see not-archived.json in the folder)"


def _not_checked(settings: Settings, options: Options, state: Verified) -> list[str]:
    """What this run did not check, a line each."""
    lines = []
    if options.since or options.until:
        outside = [f"before {options.since}"] if options.since else []
        outside += [f"after {options.until}"] if options.until else []
        lines.append(f"days {' and '.join(outside)}")
    if not options.seals:
        lines.append("seals, media, log messages, and whether whole recordings are missing (use --seals)")
    if not (options.deep or settings.proof == "read-back") and set(state.checked_by) - {"read-back"}:
        lines.append("the bytes of objects that the store vouches for by checksum, MD5 or mark (use --deep)")
    if state.cold:
        lines.append(
            f"the bytes of {many(state.cold, 'object')} in cold storage, of which the store shows at least the size "
            "(restore a recording with `callvault get ID --restore`)"
        )
    if settings.seal_key is None and (state.signed_by or options.seals):
        lines.append("signatures of seals and erasures, and whether one is missing (set CALLVAULT_SEAL_KEY)")
    if settings.timestamp_ca is None and state.stamped:
        lines.append("which authority time-stamped the seals (set CALLVAULT_TIMESTAMP_CA)")
    if options.seals and state.unsealed_objects:
        lines.append(
            "whether whole recordings are missing from days that are not sealed yet "
            f"({many(state.unsealed_objects, 'object')} there)"
        )
    return lines
