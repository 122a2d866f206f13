"""`callvault export`: a bundle of recordings for somebody who has no access to the archive."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import open_console, print_result
from cli.interrupt import stands
from cli.left_out import cold_of, restored
from cli.options import DataFolder, Json, OfCase, Utc, WhyRead, Words, by_option, settings_of, zone_of
from cli.restore import RestoredDays, RestoreTier, ToRestore, read_restore
from text.counts import many
from text.errors import UsedWrongly, UserError
from text.sizes import format_size

if TYPE_CHECKING:
    from archive.archive import Archive
    from workers.catalogue.search import Chosen
    from workers.export.bundle import Bundle
    from workers.export.encryption import Recipient
    from workers.export.index import About
    from workers.export.zips import Show

_AGE = ".zip.age"


def command(
    query: Words = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="New folder, or a new file that ends in .zip, or in .zip.age to encrypt it."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Export every recording; without WORDS only.")] = False,
    case: OfCase = None,
    recipient: Annotated[
        list[str] | None,
        typer.Option(
            "--recipient",
            "-r",
            metavar="KEY",
            help="Encrypt with age for this public key: age1..., ssh-ed25519 ..., ssh-rsa ..., or a file with one a line. "
            "Give it several times for several recipients.",
        ),
    ] = None,
    restore: ToRestore = False,
    days: RestoredDays = None,
    tier: RestoreTier = None,
    utc: Utc = False,
    why: WhyRead = None,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Export recordings with their proofs.

    The bundle is for somebody who has no access to the archive. It has the audio under readable names, transcripts, a page
    that plays them, a CSV index, the records and seals that prove them, and check.py, which checks all of it with Python
    alone. Run the command again to continue an export that was interrupted; one that is encrypted begins anew. Audio in cold
    storage, such as DEEP_ARCHIVE, is left out: --restore asks the store for it, and the same command adds it later to a
    folder. Exit status 1: a recording could not be exported whole.

    Examples:
    callvault export '+13125550100 since:2026-01-01' --out case-17
    callvault export --case ID --out case-18
    """
    from cli.accessed import assert_reason, log_reading
    from cli.catalogue import opened, searched, up_to_date
    from cli.progress import progress
    from workers.catalogue.query import BadQuery, join, read_box, read_query, write_box
    from workers.catalogue.search import choose_all
    from workers.export.index import about_now

    box = " ".join(query or ()).strip()
    where = _checked(out, recipient)
    wish = read_restore(is_asked=restore, days=days, tier=tier, as_json=json).wish
    if bool(box or case) == everything:
        raise UsedWrongly("give WORDS to search for, --case ID, or --all for every recording")
    try:
        words = join({"case": case}, read_box(box))
        wanted = read_query(words, zone_of(utc))
    except BadQuery as error:
        raise by_option(error) from None
    if case is not None:
        box = f"{box} {write_box({'case': case})}".strip()
    settings = settings_of(data)
    assert_reason(settings, "export", why)
    console = open_console(stderr=True)
    with opened(settings) as (catalogue, archive):
        up_to_date(settings, catalogue, archive)
        if not searched(settings, catalogue, archive, wanted):
            raise UserError(f"nothing matches {box!r}; nothing was written")
        chosen = choose_all(catalogue.path, wanted)
        size = sum(one.size_bytes for one in chosen)
        log_reading(settings, archive, "export", query=box, found=len(chosen), bytes=size, why=why)
        about = about_now(archive, box, wanted)
        with stands(lambda: _what_stands(where[0])), progress(console, recordings=len(chosen)) as show:
            bundle = _write(archive, chosen, where, about, lambda done, size: show(format_size(size), recordings=done))
        for problem in bundle.problems:
            console.print(f"{problem.key}: {problem.what}")
        left = cold_of(bundle.problems)
        if wish is not None and left.keys:
            left = restored(archive, left, wish, lambda ids: log_reading(settings, archive, "restore", ids, why=why))
            for failure in left.failures:
                console.print(failure)
    said = _sentence(bundle, left.sentence(wish, _again(where[0])), where[0])
    print_result(said, _report(bundle, where[0]) | {"left_out": left.report()}, as_json=json)
    return 1 if bundle.problems else 0


def _checked(out: Path | None, recipients: list[str] | None) -> tuple[Path, list[Recipient]]:
    """Where to write, and for whom to encrypt; nobody: as it is.

    Raises:
        UsedWrongly: the name does not fit, or a recipient cannot be used.
        UserError: the file exists.
    """
    from workers.export.encryption import read_recipients, recipients_in

    if out is None:
        raise UsedWrongly("--out: missing; name a new folder, or a new file that ends in .zip or .zip.age")
    name = out.name.lower()
    if recipients and not name.endswith(_AGE):
        raise UsedWrongly(f"--out: an encrypted export is one file; give it a name that ends in {_AGE}")
    if name.endswith(".age") and not (recipients and name.endswith(_AGE)):
        raise UsedWrongly(f"--recipient: missing; {out.name} is the name of an encrypted export")
    if _is_file(out) and not _root_of(out).strip("."):  # it names the folder in the ZIP, which must not lead out of it
        raise UsedWrongly(f"--out: cannot use the name {out.name}; give a ZIP a name before .zip, such as case.zip")
    keys = read_recipients(recipients_in(recipients)) if recipients else []
    if _is_file(out) and out.exists():
        raise UserError(f"{out} already exists; choose another file with --out")
    return out, keys


def _is_file(out: Path) -> bool:
    return out.name.lower().endswith((".zip", _AGE))


def _root_of(out: Path) -> str:
    """The name of the folder in a ZIP."""
    name = out.name
    for ending in (".age", ".zip"):
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return name


def _write(
    archive: Archive, chosen: list[Chosen], where: tuple[Path, list[Recipient]], about: About, show: Show
) -> Bundle:
    """Write the bundle.

    Raises:
        UserError: it cannot be written; the text says how to go on.
    """
    from workers.export.bundle import write_bundle
    from workers.export.folder import Folder, begun
    from workers.export.zips import write_zip

    out, keys = where
    try:
        if keys:
            return _write_encrypted(archive, chosen, where, about, show)
        if _is_file(out):
            return write_zip(archive, chosen, out, about, show)
        with begun(out, about), Folder(archive.store, out) as folder:
            return write_bundle(archive, chosen, folder, about, show)
    except OSError as error:
        again = "" if keys else " to continue"
        raise UserError(f"{error.filename or out}: {error.strerror}; run the same command again{again}") from None


def _write_encrypted(
    archive: Archive, chosen: list[Chosen], where: tuple[Path, list[Recipient]], about: About, show: Show
) -> Bundle:
    """Write a ZIP encrypted with age. No part of it is on this disk as it is, at no time; an unfinished file goes."""
    from workers.export.encryption import encrypted
    from workers.export.folder import open_locked
    from workers.export.zips import ZipStream

    out, keys = where
    packed = ZipStream(archive, chosen, _root_of(out), about, show)
    part = out.with_name(f".{out.name}.part")
    with open_locked(part) as file:
        try:
            file.truncate()
            with closing(encrypted(packed.chunks(), keys)) as chunks:
                for chunk in chunks:
                    file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            part.rename(out)
        finally:
            part.unlink(missing_ok=True)
    assert packed.bundle is not None, "the stream has ended"  # noqa: S101
    return packed.bundle


def _what_stands(out: Path) -> str:
    """What is left when Ctrl-C came."""
    from workers.export.zips import unfinished

    if out.name.lower().endswith(_AGE):
        return "nothing was written; run the same command again"
    folder = unfinished(out) if _is_file(out) else out
    return f"{folder} keeps what was exported; run the same command again to continue"


def _again(out: Path) -> str:
    if _is_file(out):
        return "Export again then, into another file."
    return "Run the same command again then: it adds what is left out."


def _sentence(bundle: Bundle, left_out: str, out: Path) -> str:
    said = f"{out}: {many(bundle.recordings, 'recording')}, {many(bundle.files, 'file')}, {format_size(bundle.size_bytes)}."
    if bundle.unsealed:
        is_all = bundle.unsealed == bundle.recordings
        those = "it" if bundle.recordings == 1 else "any of them" if is_all else f"{bundle.unsealed} of them"
        said += f" No seal proves {those} yet; export again when the days are sealed."
    if wrong := sum(one.kind != "cold" for one in bundle.problems):
        said += f" {many(wrong, 'problem')}; see above."
    said += left_out
    if not _is_file(out):
        return f"{said} To check it: python3 {out / 'check.py'}."
    opened = "" if not out.name.lower().endswith(_AGE) else f"To decrypt it: age -d -i KEY {out.name} > {out.stem}. "
    return f"{said} {opened}To check it, unpack it and run: python3 check.py."


def _report(bundle: Bundle, out: Path) -> dict[str, object]:
    return {
        "path": str(out),
        "recordings": bundle.recordings,
        "files": bundle.files,
        "bytes": bundle.size_bytes,
        "not_sealed": bundle.unsealed,
        "head": bundle.head,
        "problems": [{"kind": one.kind, "key": one.key, "what": one.what} for one in bundle.problems],
    }
