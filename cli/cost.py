"""`callvault cost`: what the archive costs a month, and what it would cost in a cheaper storage class."""

from __future__ import annotations

import json as json_module
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import in_columns, now_and_then, print_json
from cli.options import DataFolder, Json, settings_of
from text.counts import many
from text.errors import UsedWrongly
from text.money import format_money
from text.sizes import format_size
from text.times import format_instant, format_moment, parse_duration, utc_now

if TYPE_CHECKING:
    from pathlib import Path

    from archive.cost import Cost, Move
    from archive.prices import Prices
    from config.settings import Settings

_NOT_COUNTED = (
    "requests, reads, restores and transfer; the rest of a minimum duration; older versions and unfinished uploads; "
    "custom storage outside the archive's prefix; taxes and discounts"
)
_DAY = timedelta(days=1)


def command(
    older_than: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Show what moving the audio of older calls would save, such as 90d."),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="CLASS", help="The storage class to move it to, such as GLACIER_IR.")
    ] = None,
    rule: Annotated[
        bool, typer.Option("--rule", help="Print the lifecycle rule of this move for the bucket, and nothing else.")
    ] = False,
    print_prices: Annotated[
        bool, typer.Option("--print-prices", help="Print the price table, and nothing else.")
    ] = False,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Show what the archive costs a month, by class.

    It lists the whole archive now and applies a price table. The table that comes with Callvault has example
    prices; name your own in CALLVAULT_PRICES_FILE. See docs/cost.md.

    Examples:
    callvault cost
    callvault cost --older-than 90d --to GLACIER_IR
    callvault cost --older-than 90d --to GLACIER_IR --rule
    callvault cost --print-prices
    """
    if print_prices and (older_than is not None or to is not None or rule or json):
        raise UsedWrongly("--print-prices prints a file as it is; give it no other option but --data")
    if (older_than is None) != (to is None):
        raise UsedWrongly("--older-than and --to need each other, such as --older-than 90d --to GLACIER_IR")
    if rule and older_than is None:
        raise UsedWrongly("--rule needs --older-than and --to")
    if rule and json:
        raise UsedWrongly("--rule and --json exclude each other; a rule is JSON already")
    settings = settings_of(data)
    if print_prices:
        from archive.prices import EXAMPLES

        return _print_prices(settings.prices_file or EXAMPLES)
    if older_than is not None and to is not None:
        from archive.stores.audio_rule import target_of

        days, storage_class = _days(older_than), target_of(settings.archive_address, to)
        if rule:
            return _print_rule(settings, storage_class, days)
        return _cost(settings, (storage_class, timedelta(days)), json)
    return _cost(settings, None, json)


def _days(text: str) -> int:
    try:
        age = parse_duration(text)
    except ValueError as error:
        raise UsedWrongly(f"--older-than: {error}") from None
    if age < _DAY or age % _DAY:
        raise UsedWrongly(f"--older-than: cannot use {text!r}; expected whole days, such as 90d")
    if age.days > 36_500:
        raise UsedWrongly(f"--older-than: cannot use {text!r}; the longest age is 36500d")
    return age.days


def _print_prices(file: Path) -> int:
    from archive.prices import read_prices

    read_prices("s3://any", file)  # a table that cannot be read is worth an error, not a copy
    sys.stdout.write(file.read_text(encoding="utf-8"))
    return 0


def _print_rule(settings: Settings, storage_class: str, days: int) -> int:
    from archive.stores.audio_rule import audio_rule

    made = audio_rule(settings.archive_address, storage_class, days)
    sys.stdout.write(json_module.dumps(made, indent=2) + "\n")
    return 0


def _cost(settings: Settings, wanted: tuple[str, timedelta] | None, as_json: bool) -> int:
    from archive.cost import Move, cost_of
    from archive.prices import read_prices
    from archive.stores.audio_rule import least_bytes_of
    from workers.opening import open_archive

    prices = read_prices(settings.archive_address, settings.prices_file)
    archive = open_archive(settings)
    archive.assert_identity()
    at = utc_now()
    move = None
    if wanted is not None:
        move = Move(wanted[0], at.date() - wanted[1], least_bytes_of(settings.archive_address))
    is_time = now_and_then()

    def show(objects: int, size_bytes: int) -> None:
        if is_time():
            sys.stderr.write(f"{many(objects, 'object')}, {format_size(size_bytes)} so far\n")

    found = cost_of(archive.store, prices, move, show)
    listed_at = format_instant(at)
    if as_json:
        print_json(_report(settings, found, prices, move, listed_at))
    else:
        sys.stdout.write("\n".join(_lines(settings, found, prices, move, listed_at)) + "\n")
    return 0


def _lines(settings: Settings, found: Cost, prices: Prices, move: Move | None, listed_at: str) -> list[str]:
    money = prices.currency
    rows = [("storage class", "objects", "size", "of it audio", "a month")]
    for name, lying in sorted(found.classes.items()):
        month = format_money(lying.month, money) if lying.month is not None else "no price in the table"
        sizes = (format_size(lying.size_bytes), format_size(lying.audio_bytes))
        rows.append((name or "(none)", str(lying.objects), *sizes, month))
    total = format_money(found.month, money)
    if found.month is None:
        total = f"unknown; at least {format_money(found.known_month, money)}" if found.known_month else "unknown"
    lines = [
        f"{settings.archive_address}, listed at {format_moment(listed_at, None)}",
        *in_columns(rows),
        f"all of it: {total} a month",
    ]
    if move is not None:
        lines += _moved_lines(found, prices, move)
    kind = "example prices" if prices.is_example else "prices"
    correct = "; correct them in a table of your own (CALLVAULT_PRICES_FILE)" if prices.is_example else ""
    return [
        *lines,
        f"{kind} of {prices.date}, {prices.place}{correct}",
        f"not counted: {_NOT_COUNTED}",
    ]


def _moved_lines(found: Cost, prices: Prices, move: Move) -> list[str]:
    moved, money = found.moved, prices.currency
    if moved is None or not moved.objects:
        return [f"no audio of calls before {move.before} would move to {move.storage_class}: none is there, large enough, "
                "and in a class that costs at least as much"]  # fmt: skip
    at_least = f" of at least {format_size(move.least_bytes)}" if move.least_bytes else ""
    before, after = format_money(moved.month_before, money), format_money(moved.month_after, money)
    lines = [
        f"moving audio{at_least} of calls before {move.before} to {move.storage_class}: {many(moved.objects, 'object')}, "
        f"{format_size(moved.size_bytes)}",
        f"  a month: {after} instead of {before}",
        f"  once: {format_money(moved.once, money)} for the requests that move it",
        f"  to read or restore all of it once: {format_money(moved.read_once, money)}",
    ]
    if move.storage_class == "INTELLIGENT_TIERING":
        lines.append(
            "  at the price of its frequent tier; what nobody reads for 30 days moves to a cheaper one by itself"
        )
    price = prices.classes.get(move.storage_class)
    if price is not None and price.minimum_days:
        lines.append(f"  {move.storage_class} bills each object for at least {many(price.minimum_days, 'day')}")
    return lines


def _report(settings: Settings, found: Cost, prices: Prices, move: Move | None, listed_at: str) -> dict[str, Any]:
    from dataclasses import asdict

    would = None
    if move is not None and found.moved is not None:
        asked = {"storage_class": move.storage_class, "calls_before": move.before.isoformat()}
        would = asked | {"least_bytes": move.least_bytes} | asdict(found.moved)
    return {
        "archive_url": settings.archive_address,
        "listed_at": listed_at,
        "currency": prices.currency,
        "prices": {
            "date": prices.date,
            "place": prices.place,
            "are_examples": prices.is_example,
            "file": prices.source,
        },
        "classes": [{"storage_class": name or None, **asdict(one)} for name, one in sorted(found.classes.items())],
        "month": found.month,
        "known_month": found.known_month,
        "move": would,
        "not_counted": _NOT_COUNTED,
    }
