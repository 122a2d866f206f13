"""`callvault export`: a bundle of recordings for somebody who has no access to the archive."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import open_console, print_result
from cli.interrupt import stands
from cli.options import DataFolder, Json, Utc, Words, by_option, settings_of, zone_of
from text.counts import many
from text.errors import UsedWrongly, UserError
from text.sizes import format_size

if TYPE_CHECKING:
    from workers.export.bundle import Bundle


def command(
    query: Words = None,
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="New folder, or a new file that ends in .zip.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Export every recording; without WORDS only.")] = False,
    utc: Utc = False,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Export recordings with their proofs.

    The bundle is for somebody who has no access to the archive. It has the audio under readable names, transcripts, a page
    that plays them, a CSV index, the records and seals that prove them, and check.py, which checks all of it with Python
    alone. Run the command again to continue an export that was interrupted. Exit status 1: a recording could not be
    exported whole.

    Example: callvault export '+13125550100 since:2026-01-01' --out case-17
    """
    import shutil

    from cli.accessed import log_reading
    from cli.catalogue import opened, searched, up_to_date
    from cli.progress import progress
    from workers.catalogue.query import BadQuery, read_box, read_query
    from workers.catalogue.search import MOST_COUNTED, count, search_all
    from workers.export.bundle import write_bundle

    box = " ".join(query or ()).strip()
    if out is None:
        raise UsedWrongly("--out: missing; name a new folder, or a new file that ends in .zip")
    if bool(box) == everything:
        raise UsedWrongly("give WORDS to search for, or --all for every recording")
    try:
        wanted = read_query(read_box(box), zone_of(utc))
    except BadQuery as error:
        raise by_option(error) from None
    is_zip = out.suffix.lower() == ".zip"
    if is_zip and not out.stem.strip("."):  # it names the folder in the ZIP, which must not lead out of it
        raise UsedWrongly(f"--out: cannot use the name {out.name}; give a ZIP a name before .zip, such as case.zip")
    if is_zip and out.exists():
        raise UserError(f"{out} already exists; choose another file with --out")
    folder = out.with_name(f"{out.name}.unfinished") if is_zip else out
    settings = settings_of(data)
    console = open_console(stderr=True)
    with opened(settings) as (catalogue, archive):
        up_to_date(settings, catalogue, archive)
        if not searched(settings, catalogue, archive, wanted):
            raise UserError(f"nothing matches {box!r}; nothing was written")
        total = min(count(catalogue.path, wanted), MOST_COUNTED)
        log_reading(settings, archive, "export", query=box, found=total)
        with stands(lambda: _what_stands(folder)), progress(console, recordings=total) as show:
            bundle = write_bundle(
                archive,
                search_all(catalogue.path, wanted),
                folder,
                box,
                lambda recordings, size: show(format_size(size), recordings=recordings),
            )
    if is_zip:
        with stands(lambda: f"{folder} holds the whole export; run the same command again to pack it"):
            _zip(folder, out)
        with stands(f"{out} is whole; remove {folder}"):
            shutil.rmtree(folder)
    for problem in bundle.problems:
        console.print(f"{problem.key}: {problem.what}")
    print_result(_sentence(bundle, out, is_zip=is_zip), _report(bundle, out), as_json=json)
    return 1 if bundle.problems else 0


def _what_stands(folder: Path) -> str:
    """Remove what was half written when Ctrl-C came; returns what is left."""
    from workers.export.bundle import PART

    for part in folder.rglob(f"*{PART}"):
        part.unlink(missing_ok=True)
    return f"{folder} keeps what was exported; run the same command again to continue"


def _zip(folder: Path, out: Path) -> None:
    """Pack a folder; audio is stored as it is. The file appears under its name only when it is whole."""
    part = out.with_name(f".{out.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as packed:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    how = zipfile.ZIP_STORED if path.parent.name == "audio" else zipfile.ZIP_DEFLATED
                    packed.write(path, f"{out.stem}/{path.relative_to(folder).as_posix()}", how)
        part.replace(out)
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}; {folder} holds the whole export") from None
    finally:
        part.unlink(missing_ok=True)


def _sentence(bundle: Bundle, out: Path, *, is_zip: bool) -> str:
    said = f"{out}: {many(bundle.recordings, 'recording')}, {many(bundle.files, 'file')}, {format_size(bundle.size_bytes)}."
    if bundle.unsealed:
        said += f" No seal proves {bundle.unsealed} of them yet; export them again when their days are sealed."
    if bundle.problems:
        said += f" {many(len(bundle.problems), 'problem')}; see above."
    where = "check.py in it" if is_zip else f"python3 {out / 'check.py'}"
    return f"{said} To check it: {where}."


def _report(bundle: Bundle, out: Path) -> dict[str, object]:
    return {
        "path": str(out),
        "recordings": bundle.recordings,
        "files": bundle.files,
        "bytes": bundle.size_bytes,
        "not_sealed": bundle.unsealed,
        "head": bundle.head,
        "problems": [{"key": one.key, "what": one.what} for one in bundle.problems],
    }
