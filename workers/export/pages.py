"""The index of a bundle: a page that plays the recordings from the disk, without a server, and a table for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jinja2

from text.times import format_duration
from workers.catalogue.inventory import CSV_HEAD, csv_cells, safe_cell

if TYPE_CHECKING:
    from workers.export.bundle import Exported

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {"address": quote, "length_of": lambda ms: "" if ms is None else format_duration(ms / 1000)}


def index_csv(done: Sequence[Exported]) -> bytes:
    """A line for each recording: its files, then what `callvault find --csv` has of it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("audio", "transcript", *CSV_HEAD))
    for one in done:
        audio = " | ".join(file.path for file in one.audio)
        writer.writerow((safe_cell(audio), safe_cell(one.transcript or ""), *csv_cells(one.hit)))
    return text.getvalue().encode()


def index_page(done: Sequence[Exported], summary: dict[str, Any], unsealed: int) -> bytes:
    """The page; `summary` is what `proof/bundle.json` holds."""
    page = _TEMPLATES.get_template("index.html")
    return page.render(done=done, summary=summary, unsealed=unsealed).encode()
