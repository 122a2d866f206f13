"""The index of a bundle, made one recording at a time and kept compressed, so that ten thousand recordings fit into memory."""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

import jinja2
import msgspec
from markupsafe import Markup

from archive.archive import Archive
from archive.cases import read_cases
from archive.problems import Problem
from text.counts import many
from text.times import format_duration, format_instant, utc_now
from workers.catalogue.in_cases import case_of
from workers.catalogue.inventory import CSV_HEAD, csv_cells, safe_cell
from workers.catalogue.query import Query
from workers.export.exported import Exported

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {
    "address": quote,
    "many": many,
    "length_of": lambda ms: "" if ms is None else format_duration(ms / 1000),
}


class About(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a bundle is an export of.

    Attributes:
        query: the search, or the ids of what a person selected; empty: everything.
        made_at: ISO 8601, UTC.
        archive_id: of the archive.
        case: the id of the case that was searched for; empty: none was. `case_name`: what people call it.
    """

    query: str
    made_at: str
    archive_id: str
    case: str = ""
    case_name: str = ""


def about_now(archive: Archive, box: str, query: Query | None) -> About:
    """What a bundle that is made now is an export of; blocks.

    Args:
        archive: the archive.
        box: the search as a person wrote it; query: the same, as Callvault understood it; None: a selection.

    Raises:
        BadQuery: the archive has no such case.
        StoreError: the archive does not answer.
    """
    about = About(query=box, made_at=format_instant(utc_now()), archive_id=archive.identity.id)
    if query is None or query.case is None:
        return about
    case = case_of(read_cases(archive), query.case)
    return msgspec.structs.replace(about, case=case.id, case_name=case.name)


class Growing:
    """A text that grows and is kept compressed."""

    def __init__(self) -> None:
        self._compress = zlib.compressobj(3)
        self._pieces: list[bytes] = []

    def add(self, text: str) -> None:
        """Add some text."""
        self._pieces.append(self._compress.compress(text.encode()))

    def end(self) -> bytes:
        """The whole text, in UTF-8; nothing can be added any more."""
        pieces, self._pieces = [*self._pieces, self._compress.flush()], []
        return zlib.decompress(b"".join(pieces))


class Index:
    """What the recordings of a bundle are, as a page, as a table and as `proof/bundle.json`.

    Attributes:
        recordings: that were added.
        unsealed: those whose commit record no seal lists.
        problems: what the bundle lacks.
        lacking: recordings with a problem.
    """

    def __init__(self) -> None:
        self._rows, self._articles, self._files = Growing(), Growing(), Growing()
        self._article = _TEMPLATES.get_template("recording.html")
        self._row(("audio", "transcript", "left_out", *CSV_HEAD))
        self.recordings = self.unsealed = self.lacking = self.files = self.size_bytes = 0
        self.problems: list[Problem] = []

    def add(self, one: Exported) -> None:
        """Add a recording."""
        self.recordings += 1
        self.unsealed += one.is_committed and one.hit.row.seal is None
        self.lacking += bool(one.problems)
        self.problems += one.problems
        audio = " | ".join(piece.file.path for piece in one.audio)
        transcript = one.transcript.file.path if one.transcript else ""
        left_out = " | ".join([*one.removed, *(f"{problem.key}: {problem.what}" for problem in one.problems)])
        self._row((safe_cell(audio), safe_cell(transcript), safe_cell(left_out), *csv_cells(one.hit)))
        self._articles.add(self._article.render(one=one))
        for file in one.files:
            self._files.add(("" if self.files == 0 else ",\n") + json.dumps(msgspec.to_builtins(file)))
            self.files += 1
            self.size_bytes += file.size

    def _row(self, cells: Iterable[object]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(cells)
        self._rows.add(line.getvalue())

    def bundle_json(self, about: About, head: tuple[int, str] | None, problems: Sequence[Problem]) -> bytes:
        """`proof/bundle.json`: which file is which object, and what is missing.

        Args:
            about: what the bundle is an export of.
            head: the number and SHA-256 of the last seal; None without one.
            problems: of the seals, beside those of the recordings.
        """
        fields = {
            "schema": "callvault.bundle/1",
            **msgspec.to_builtins(about),
            "head": dict(zip(("sequence", "sha256"), head, strict=True)) if head else None,
            "problems": msgspec.to_builtins([*self.problems, *problems]),
        }
        return json.dumps(fields, indent=1).encode()[:-2] + b',\n "files": [\n' + self._files.end() + b"\n]}\n"

    def csv(self) -> bytes:
        """`index.csv`: a line for each recording: its files, then what `callvault find --csv` has of it."""
        return self._rows.end()

    def page(self, about: About, problems: Sequence[Problem]) -> bytes:
        """`index.html`; `problems` are those of the seals."""
        page = _TEMPLATES.get_template("index.html")
        articles = Markup(self._articles.end().decode())  # noqa: S704, rendered by a template that escapes
        return page.render(index=self, about=about, problems=problems, articles=articles).encode()
