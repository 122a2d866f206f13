"""`callvault retention dispose`, `approve` and `certificate`: disposal by hand, its approval, and proof of it."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from cli.console import confirmed, now_and_then, print_json
from cli.interrupt import stands
from cli.new_file import new_file, refuse_folder
from cli.options import (
    By,
    DataFolder,
    Json,
    Since,
    Until,
    Why,
    Yes,
    first_day,
    last_day,
    refuse_reversed,
    service_of,
    settings_of,
)
from text.counts import many
from text.errors import UserError
from text.sizes import format_size
from text.times import parse_instant, utc_now
from text.user import user_name

if TYPE_CHECKING:
    from archive.archive import Archive
    from archive.signatures import SealKeys
    from config.settings import Settings
    from workers.disposal.certificate import Certificate
    from workers.disposal.report import Report
    from workers.runtime import Runtime

T = TypeVar("T")

_MOST_LINES = 50


def _run(data: Path | None, work: Callable[[Runtime], Awaitable[T]]) -> T:
    from workers.disposal_main import take_credentials
    from workers.runtime import runtime_at

    async def run(settings: Settings, url: str) -> T:
        async with runtime_at(settings, url, needs_telnyx=False) as runtime:
            try:
                return await work(runtime)
            finally:
                await runtime.history.flush()

    with service_of(data) as (settings, url):
        take_credentials(settings)
        return asyncio.run(run(settings, url))


def dispose(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show what would go; dispose of nothing.")
    ] = False,
    by: By = None,
    yes: Yes = False,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Dispose of the recordings whose retention rule has ended.

    It does at once what `callvault worker --dispose` does by itself, at any hour. It asks everything anew for
    each recording: rules, holds, cases, locks, clocks. Without --dry-run, the credentials must allow deletion
    (docs/disposal.md).

    Example: callvault retention dispose --dry-run
    """
    from workers.disposal.run import Disposer
    from workers.engine.lease import HeldElsewhere

    is_time = now_and_then()

    def show(report: Report) -> None:
        if is_time():
            going = {one.recording_id for one in report.gone}
            found = f"{many(report.past_term, 'recording')} past the term, of {report.of} looked at"
            sys.stderr.write(f"{found}; {many(len(going), 'recording')} {'would go' if dry_run else 'gone'} so far\n")

    async def work(runtime: Runtime) -> Report:
        try:
            return await Disposer(runtime, by=by or user_name(), is_dry=dry_run, hours=False, show=show).run()
        except HeldElsewhere:
            raise UserError("another process disposes of recordings just now; try again when it is done") from None

    question = "Dispose of all that is past the term of its retention rule, for good (--dry-run shows what)?"
    if not dry_run and not yes and not confirmed(question, err=json):
        sys.stderr.write("callvault: nothing was disposed of\n")
        return 1
    with stands("disposal may have begun; run the same command again, and it continues where it stopped"):
        report = _run(data, work)
    if json:
        print_json(_as_json(report, dry_run=dry_run))
    else:
        _write(report, dry_run=dry_run)
    return 1 if report.stop is not None or report.stopped is not None else 0


def approve(why: Why, by: By = None, yes: Yes = False, data: DataFolder = None, json: Json = False) -> int:
    """Approve what disposal stopped itself for.

    Disposal stops itself when more recordings would go in a day than CALLVAULT_DISPOSE_STOP_PERCENT of the
    archive. The approval covers so many recordings under these rules, of those that were past their terms then.

    Example: callvault retention approve --why "first run of the five-year rule, checked with legal"
    """
    from cli.accessed import logged_change
    from workers.disposal.stop import Stop, read_stop
    from workers.disposal.stop import approve as record_approval

    async def work(runtime: Runtime) -> Stop | None:
        stop = await read_stop(runtime.redis)
        if stop is None:
            raise UserError("disposal has not stopped itself; nothing waits for an approval")
        sys.stderr.write(f"{stop.sentence}, {format_size(stop.size_bytes)}\n")
        if not yes and not confirmed("Approve that all of it goes, for good?", err=json):
            return None
        async with logged_change(runtime, "approve-disposal", why=why, by=by, about=stop.id):
            await runtime.in_thread(record_approval, runtime.archive, stop, why, by or user_name())
        return stop

    stop = _run(data, work)
    if stop is None:
        sys.stderr.write("callvault: nothing was approved\n")
        return 1
    if json:
        print_json(msgspec.to_builtins(stop) | {"why": why, "by": by or user_name()})
    else:
        sys.stdout.write(f"approved: {many(stop.recordings, 'recording')}; the next run disposes of them\n")
    return 0


def _as_json(report: Report, *, dry_run: bool) -> dict[str, object]:
    stop = None if report.stop is None else msgspec.to_builtins(report.stop)
    found: dict[str, object] = {"dry_run": dry_run, "recordings": report.of, "past_term": report.past_term}
    found |= {"disposed": msgspec.to_builtins(report.gone), "kept": msgspec.to_builtins(report.left)}
    return found | {"stop": stop, "stopped": report.stopped}


def _write(report: Report, *, dry_run: bool) -> None:
    verb, gone, stay = "would go" if dry_run else "gone", report.gone[:_MOST_LINES], report.left[:_MOST_LINES]
    for one in gone:
        stays = "commit record stays" if one.keeps_record else "only hashes stay"
        rule = f"rule {one.rule} of applied rules {one.rules_number}"
        sys.stdout.write(f"{verb}  {one.recording_id}  {' and '.join(one.goes)}; {stays} ({rule})\n")
    for left in stay:
        sys.stdout.write(f"stays  {left.recording_id}  {left.why}\n")
    if more := len(report.gone) + len(report.left) - len(gone) - len(stay):
        sys.stdout.write(f"and {many(more, 'more line', 'more lines')}; --json shows all\n")
    if report.stop is not None:
        sys.stdout.write(f"disposal has stopped itself: {report.stop.sentence}\n")
        sys.stdout.write('if all of it may go, run `callvault retention approve --why "..."`\n')
    if report.stopped is not None:
        sys.stdout.write(f"disposal waits: {report.stopped}\n")
    recordings = len({one.recording_id for one in report.gone})
    size = format_size(sum(one.size_bytes for one in report.gone))
    done = "would be disposed of" if dry_run else "disposed of"
    sys.stdout.write(f"{many(recordings, 'recording')} {done}, {size}; {many(len(report.left), 'stays', 'stay')}\n")


def certificate(
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="PDF to write; its JSON and signatures lie beside it.")
    ],
    since: Since = None,
    until: Until = None,
    by: By = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE if it exists.")] = False,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Certify what retention rules destroyed in a period.

    It sums up the records of disposals in the archive, checks each, and writes FILE and the same facts as JSON.
    With CALLVAULT_SEAL_KEY set, it signs both as seals are signed. Exit status 1: something is wrong with a
    record, which the certificate then names instead.

    Example: callvault retention certificate --since 2026-10 --until 2026-12 --out q4.pdf
    """
    from archive.records import UnreadableRecord
    from cli.accessed import log_reading
    from workers.opening import open_archive
    from workers.seals.signing import open_seal_keys

    first, last = first_day(since), last_day(until) or utc_now().date()
    refuse_reversed(first, last)
    settings = settings_of(data)
    keys = None if settings.seal_key is None else open_seal_keys(settings)
    paths = _Paths.of(out)
    paths.refuse_existing(force=force)
    archive = open_archive(settings)
    try:
        made = _certify(
            archive,
            first or parse_instant(archive.identity.created_at).date(),
            last,
            by or user_name(),
            None if keys is None else keys.trusted,
        )
    except UnreadableRecord as error:
        raise UserError(f"{error}; run `callvault verify --seals`") from None
    log_reading(settings, archive, "certificate", [one.recording_id for one in made.destroyed], about=paths.pdf.name)
    paths.write(made, keys, force=force)
    if json:
        summary = {name: value for name, value in msgspec.to_builtins(made).items() if name != "destroyed"}
        files = {"pdf": str(paths.pdf), "json": str(paths.json), "signed": keys is not None}
        print_json(summary | files)
    else:
        _write_summary(made, paths, signed=keys is not None)
    return 1 if made.problems else 0


def _certify(archive: Archive, since: date, until: date, by: str, trusted: Collection[bytes] | None) -> Certificate:
    """Make the certificate, with progress."""
    from archive.seals import Chain
    from workers.disposal.certificate import certify

    chain = Chain(archive)
    chain.refresh()
    is_time = now_and_then()

    def show(count: int) -> None:
        if is_time():
            sys.stderr.write(f"{many(count, 'recording')} so far\n")

    return certify(archive, chain, since, until, by, trusted, show)


@dataclass(frozen=True)
class _Paths:
    """The files of a certificate."""

    pdf: Path
    json: Path

    @classmethod
    def of(cls, out: Path) -> _Paths:
        pdf = out if out.suffix.lower() == ".pdf" else out.with_name(f"{out.name}.pdf")
        return cls(pdf, pdf.with_suffix(".json"))

    def refuse_existing(self, *, force: bool) -> None:
        for path in (self.pdf, self.json, _signature(self.pdf), _signature(self.json)):
            refuse_folder(path)
            if path.exists() and not force:
                raise UserError(f"{path}: already exists; add --force to overwrite it")

    def write(self, made: Certificate, keys: SealKeys | None, *, force: bool) -> None:
        """Write the JSON, the PDF and their signatures."""
        from workers.disposal.certificate import encode_certificate
        from workers.disposal.paper import draw

        data = encode_certificate(made)
        signer = None
        if keys is not None:
            from archive.signatures import fingerprint

            signer = fingerprint(keys.public)
        paper = draw(made, self.json.name, hashlib.sha256(data).hexdigest(), signer)
        for path, content in ((self.json, data), (self.pdf, paper)):
            with new_file(path, force=force) as file:
                file.write(content)
            if keys is None:
                _signature(path).unlink(missing_ok=True)  # of what was there before
            else:
                with new_file(_signature(path), force=force) as file:
                    file.write(keys.sign(content))


def _signature(path: Path) -> Path:
    return path.with_name(f"{path.name}.sig")


def _write_summary(made: Certificate, paths: _Paths, *, signed: bool) -> None:
    for one in made.sums:
        counts = f"{many(one.recordings, 'recording')}, {many(one.objects, 'object')}, {format_size(one.bytes)}"
        sys.stdout.write(f"rule {one.rule} of applied rules {one.rules_number}: {counts}\n")
    for problem in made.problems:
        sys.stdout.write(f"not counted: {problem}\n")
    total = f"{many(made.recordings, 'recording')}, {many(made.objects, 'object')}, {format_size(made.bytes)}"
    sys.stdout.write(f"destroyed from {made.since} to {made.until}: {total}\n")
    unsealed = sum(one.seal is None for one in made.destroyed)
    if unsealed:
        which = many(unsealed, "record is in no seal yet", "records are in no seal yet")
        sys.stdout.write(f"{which}; make the certificate again in two days for the numbers of their seals\n")
    sys.stdout.write(f"written: {paths.pdf}, {paths.json}{', each with a .sig' if signed else '; not signed'}\n")
