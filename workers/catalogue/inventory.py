"""Formats hits: as JSON objects, and as rows of a CSV inventory."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from workers.catalogue.file import COLUMNS
from workers.catalogue.search import Hit
from workers.catalogue.words import pieces

CSV_HEAD = (*COLUMNS, "state")


def described(hit: Hit) -> dict[str, Any]:
    """A hit as a JSON object."""
    row = msgspec.to_builtins(hit.row, str_keys=True)
    said = {} if hit.words is None else {"words": bracketed(hit.words)}
    return {name: row.get(name) for name in COLUMNS} | {
        "findings": hit.row.findings,
        "state": hit.state,
        "cases": hit.cases,
        **said,
    }


def bracketed(words: str | None) -> str | None:
    """The text around the words that were searched for, with those in brackets."""
    if words is None:
        return None
    return "".join(f"[{piece}]" if is_hit else piece for piece, is_hit in pieces(words))


def csv_lines(hits: Iterable[Hit]) -> Iterator[str]:
    """An inventory in CSV, with a header, line by line."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    yield line.getvalue()
    for hit in hits:
        line.seek(0)
        line.truncate()
        writer.writerow(csv_cells(hit))
        yield line.getvalue()


def csv_cells(hit: Hit) -> list[Any]:
    """The cells of a hit, in the order of `CSV_HEAD`."""
    values = described(hit)
    values["findings"] = " ".join(values["findings"] or ())
    return [safe_cell(values[name]) for name in CSV_HEAD]


def csv_warning(text: str) -> str:
    """The last line of an inventory that may lack recordings, so that neither a person nor a program takes it for whole."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([f"INCOMPLETE: {text}", *("" for _ in CSV_HEAD[1:])])
    return line.getvalue()


def safe_cell(value: Any) -> Any:
    """A cell; text that a spreadsheet reads as a formula is quoted (OWASP, CSV injection), E.164 numbers are not."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") and not value[1:].isdigit():
        return "'" + value
    return value
