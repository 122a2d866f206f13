"""`callvault retention`: what retention rules mean, why a recording stays or goes, and applying rules."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from cli.console import confirmed, now_and_then, print_json, warn_of
from cli.disposal import approve, certificate, dispose
from cli.interrupt import stands
from cli.options import By, DataFolder, Json, RecordingId, Yes, service_of, settings_of
from cli.usage import group
from text.counts import many
from text.errors import UsedWrongly, UserError
from text.printable import printable
from text.times import format_duration, format_moment, utc_now
from text.user import user_name

if TYPE_CHECKING:
    from archive.archive import Archive
    from archive.decision_records import AppliedRules
    from config.settings import Settings
    from workers.retention.apply import Difference
    from workers.retention.file import RulesFile
    from workers.retention.survey import Surveyed

_SOON = timedelta(days=31)  # the locks of recordings that may go by then are looked at

command = group(
    "Plan, apply and carry out retention rules.\n\n"
    "Examples:\ncallvault retention plan retention.toml\ncallvault retention apply retention.toml\n"
    "callvault retention explain ID\ncallvault retention dispose --dry-run"
)
File = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE]", help="TOML file. [default: CALLVAULT_RETENTION_FILE]", show_default=False),
]


@command.command("plan")
def show_plan(
    file: File = None,
    day: Annotated[bool, typer.Option("--day", help="A line for each day instead of each month.")] = False,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Show what would go when, by rule.

    It shows the rules of FILE as if you applied them now, or the rules in force if there is no file. It
    changes nothing and deletes nothing. It reads the catalogue, and commit records where a rule needs them.

    Example: callvault retention plan retention.toml
    """
    from archive.prices import read_prices
    from cli.catalogue import opened, up_to_date
    from cli.retention_text import Rate, plan_as_json, write_plan, write_source
    from workers.catalogue.feed import AS_OF
    from workers.retention.survey import make_plan, survey

    settings = settings_of(data)
    wanted, now = _read_file(settings, file), utc_now()
    rate = Rate(read_prices(settings.archive_address, settings.prices_file), settings.storage_class)
    with opened(settings) as (catalogue, archive):
        in_force = _in_force(archive)
        planned = _with(wanted, in_force)
        up_to_date(settings, catalogue, archive)
        has_locks = not settings.archive_address.startswith("file:")
        rows = survey(catalogue.path, archive, planned, locks_until=now + _SOON if has_locks else None)
        plan = make_plan(_watched(rows), planned, now, by_day=day)
        as_of = catalogue.state(AS_OF)
    is_in_force = planned == in_force
    if json:
        path, number = None if wanted is None else str(wanted.path), in_force[-1].number if in_force else 0
        about = {"file": path, "in_force": is_in_force, "number": number, "catalogue_as_of": as_of}
        print_json(about | plan_as_json(plan, planned, now, rate))
    else:
        write_plan(plan, planned, rate, is_in_force=is_in_force)
        write_source(plan.looked_at, plan.read, as_of)
    return 0


@command.command("explain")
def explain(recording_id: RecordingId, data: DataFolder = None, json: Json = False) -> int:
    """Explain which rule decides about a recording, and what holds it.

    It reads the archive, not the catalogue. Only applied rules count; if the file differs, it says what
    would change.

    Example: callvault retention explain ID
    """
    from cli.catalogue import look_up, opened
    from cli.ids import whole_id
    from cli.retention_text import write_explanation
    from workers.retention.explain import explained

    settings = settings_of(data)
    wanted = None
    try:
        wanted = _read_file(settings, None)
    except UsedWrongly as error:  # it is not in force anyway
        warn_of(str(error))
    with opened(settings) as (catalogue, archive):
        whole = whole_id(settings, catalogue, archive, recording_id)
        row = look_up(settings, catalogue, archive, whole).row
        in_force = _in_force(archive)
        found = explained(archive, row, in_force)
        other = (
            None if wanted is None or wanted.is_applied(in_force) else explained(archive, row, _with(wanted, in_force))
        )
    if json:
        print_json(
            msgspec.to_builtins(found) | {"with_file": None if other is None else msgspec.to_builtins(other.terms)}
        )
    else:
        write_explanation(found, other, wanted)
    return 0


@command.command("apply")
def apply_rules(
    file: File = None,
    by: By = None,
    yes: Yes = False,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Put the rules of a file in force.

    It shows what changes, asks, and writes the rules into the archive. Longer periods count at once, shorter
    ones after the grace of the rules. Since the grace counts from now, it applies nothing unless the clocks of
    this machine, Redis and Telnyx agree. It deletes nothing. With --json it asks nothing and needs --yes.

    Example: callvault retention apply retention.toml
    """
    with service_of(data) as (settings, url):
        wanted = _read_file(settings, file)
        if wanted is None:
            raise UsedWrongly("FILE: missing; give a TOML file, or set CALLVAULT_RETENTION_FILE")
        return asyncio.run(_apply(settings, url, wanted, by or user_name(), yes=yes, as_json=json))


async def _apply(settings: Settings, url: str, wanted: RulesFile, by: str, *, yes: bool, as_json: bool) -> int:
    from redis.exceptions import RedisError

    from archive.retention import grace_seconds_of
    from cli.accessed import logged_change
    from cli.retention_text import difference_as_json, write_changes, write_locks
    from workers.retention.apply import as_applied, assert_clocks, changes, put_applied
    from workers.retention.watch import why_missing
    from workers.runtime import runtime_at

    in_force = await asyncio.to_thread(_of_archive, settings)
    last = in_force[-1] if in_force else None
    if last is not None and wanted.is_applied(in_force):
        if as_json:
            print_json({"is_new": False, "number": last.number, "changes": []})
        else:
            sys.stdout.write(
                f"nothing to apply: rules {last.number} say the same (by {printable(last.by)}, {format_moment(last.at, None)})\n"
            )
        return 0
    if as_json and not yes:
        raise UsedWrongly("--yes: missing; --json asks nobody, and the rules of the file are not in force")
    new = as_applied(wanted, in_force, by, utc_now())
    changed = changes(last, new)
    found = await asyncio.to_thread(_difference, settings, in_force, new)
    if not as_json:
        write_changes(changed, found, new, last)
        if settings.lock_by_rules:
            write_locks(settings.retention_mode)
    if not yes and not confirmed("Apply these rules?"):
        sys.stdout.write("nothing was applied\n")
        return 1
    async with runtime_at(settings, url, needs_telnyx=False) as runtime:
        await assert_clocks(runtime)
        new = as_applied(wanted, in_force, by, runtime.clock.latest())
        with stands("the rules may be in force; run `callvault retention plan` to see"):
            async with logged_change(runtime, "apply-rules", about=f"retention rules {new.number}", by=by):
                await runtime.in_thread(put_applied, runtime.archive, new)
        with suppress(RedisError, OSError):  # a worker does it within a minute
            await why_missing(runtime.redis, new.number)  # so that they are missed if they go
    if as_json:
        print_json(
            {"is_new": True, "number": new.number, "by": new.by, "at": new.at} | difference_as_json(changed, found)
        )
    else:
        grace = grace_seconds_of(new, last)
        counts = f"longer periods count now, shorter ones after {format_duration(grace)}" if grace else "they count now"
        sys.stdout.write(f"applied as rules {new.number}; {counts}\n")
    return 0


command.command("dispose")(dispose)
command.command("approve")(approve)
command.command("certificate")(certificate)


def _read_file(settings: Settings, given: Path | None) -> RulesFile | None:
    """The rules of a file, by default of the file in the settings; None without one."""
    from workers.retention.file import read_rules_file

    path = given or settings.retention_file
    return None if path is None else read_rules_file(path)


def _in_force(archive: Archive) -> list[AppliedRules]:
    """The applied rules.

    Raises:
        UserError: they cannot be read.
    """
    from archive.records import UnreadableRecord
    from archive.retention import read_applied

    try:
        return read_applied(archive)
    except UnreadableRecord as error:
        raise UserError(
            f"{error}; nothing is disposed of until it can be read. Restore the object from a copy of the archive"
        ) from None


def _of_archive(settings: Settings) -> list[AppliedRules]:
    from workers.opening import open_archive

    return _in_force(open_archive(settings))


def _with(wanted: RulesFile | None, in_force: Sequence[AppliedRules]) -> list[AppliedRules]:
    """The history of rules if the file were applied now; as it is if there is no file, or it is applied."""
    from workers.retention.apply import as_applied

    if wanted is None or wanted.is_applied(in_force):
        return [*in_force]
    return [*in_force, as_applied(wanted, in_force, "", utc_now())]


def _difference(settings: Settings, in_force: Sequence[AppliedRules], new: AppliedRules) -> Difference:
    from cli.catalogue import opened, up_to_date
    from workers.retention.apply import difference, grace_over
    from workers.retention.survey import survey

    both = [*in_force, new]
    with opened(settings) as (catalogue, archive):
        up_to_date(settings, catalogue, archive)
        return difference(_watched(survey(catalogue.path, archive, in_force, both)), grace_over(both))


def _watched(rows: Iterable[Surveyed]) -> Iterator[Surveyed]:
    """The same rows, with a line on standard error every few seconds: a rule may need each commit record."""
    is_time = now_and_then()
    for number, one in enumerate(rows, 1):
        if is_time():
            sys.stderr.write(f"looked at {many(number, 'recording')} so far\n")
        yield one
