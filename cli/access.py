"""`callvault access`: which roles the access file gives to whom, and which recordings they reach."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import print_result
from cli.options import DataFolder, Json, settings_of
from cli.usage import group
from text.counts import many
from text.errors import UsedWrongly, UserError

if TYPE_CHECKING:
    from config.scopes import Grant
    from workers.catalogue.rows import Row

command = group("Check which roles a person gets.")


@command.callback()
def _about() -> None:
    pass


@command.command("check")
def check(
    who: Annotated[
        list[str] | None,
        typer.Option("--who", metavar="NAME", help="Verified e-mail address, or the provider's subject."),
    ] = None,
    groups: Annotated[
        list[str] | None, typer.Option("--group", metavar="NAME", help="Group of the person. Repeat it for several.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Access file. [default: CALLVAULT_ACCESS_FILE]")
    ] = None,
    recording: Annotated[
        str | None, typer.Option(metavar="ID", help="Say whether the person may hear this recording, and why.")
    ] = None,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Check the access file, and show which roles a person gets and why.

    With --recording, read what the archive says of that recording, and show whether the person may hear it.

    Exit status 1: the person gets no role, or may not hear the recording.

    Example: callvault access check --who ada@example.com --group "voice team" --file access.toml
    """
    from config.scopes import roles_of
    from config.sign_in import read_access_file

    path = file or settings_of(data).access_file
    if path is None:
        raise UsedWrongly("--file: missing, and CALLVAULT_ACCESS_FILE is not set; give the path of an access file")
    found = read_access_file(path)
    if not who and not groups:
        if recording is not None:
            raise UsedWrongly("--recording: who? Give --who or --group too")
        line = (
            f"{path}: {many(len(found.groups), 'group')} and {many(len(found.people), 'person', 'people')}; no mistake"
        )
        print_result(line, {"groups": len(found.groups), "people": len(found.people)}, as_json=json)
        return 0
    entries = found.entries(who or (), groups or ())
    if recording is not None:
        return _explain(entries, _recorded(recording, data), path, as_json=json)
    grants = dict.fromkeys(grant for _, of in entries for grant in of)
    lines = [f"{grant}: {_because(grant, entries)}" for grant in _sorted(grants)]
    report = {"roles": roles_of([*grants]), "because": [_entry(why, of) for why, of in entries]}
    print_result("\n".join(lines) or f"no role: no entry of {path} fits", report, as_json=json)
    return 0 if grants else 1


def _sorted(grants: Iterable[Grant]) -> list[Grant]:
    from config.roles import ROLES

    return sorted(grants, key=lambda grant: list(ROLES).index(grant.role))


def _because(grant: Grant, entries: Sequence[tuple[str, tuple[Grant, ...]]]) -> str:
    return ", ".join(why for why, of in entries if grant in of)


def _entry(why: str, grants: Sequence[Grant]) -> dict[str, Any]:
    """An entry of the file for --json."""
    limits = [
        {
            "role": grant.role,
            "connections": list(grant.scope.connections) if grant.scope else [],
            "numbers": list(grant.scope.numbers) if grant.scope else [],
            "mask": grant.mask,
        }
        for grant in grants
    ]
    return {"entry": why, "roles": sorted({grant.role for grant in grants}), "grants": limits}


def _recorded(typed: str, data: Path | None) -> Row:
    """A recording as its commit record in the archive says.

    Raises:
        UserError: it is not in the archive, or was erased, or its commit record is missing or cannot be read.
    """
    from archive import layout
    from cli.catalogue import look_up, opened, searched
    from cli.ids import whole_id
    from workers.catalogue.query import Query
    from workers.catalogue.rows import row_of_commit

    settings = settings_of(data)
    with opened(settings) as (catalogue, archive):
        recording_id = whole_id(settings, catalogue, archive, typed)
        hits = searched(settings, catalogue, archive, Query(id=recording_id))
        hit = hits[0] if hits else look_up(settings, catalogue, archive, recording_id)
        folder = layout.recording_folder(hit.row.date, recording_id)
        if archive.is_erased(folder):
            raise UserError(f"recording {recording_id} was erased, so nobody can hear it")
        record = archive.commit_record(folder)
        if record is None:
            raise UserError(f"{layout.commit_key(folder)}: gone from the archive; run `callvault verify`")
        return row_of_commit(recording_id, hit.row.day, record)


def _explain(entries: Sequence[tuple[str, tuple[Grant, ...]]], row: Row, path: Path, *, as_json: bool) -> int:
    """Print whether a person may hear a recording, and why or why not."""
    from service.ops.may import HEAR
    from workers.catalogue.reach import Reach, why_outside

    grants = _sorted(dict.fromkeys(grant for _, of in entries for grant in of))
    reach = Reach(tuple(grant for grant in grants if grant.role in HEAR))
    lines, because = [], []
    for grant in grants:
        why = "this role hears no recording" if grant.role not in HEAR else why_outside(grant.scope, row)
        said = why or ("it is within the scope" if grant.scope else "all recordings")
        lines.append(f"{'no ' if why else 'yes'}  {grant} ({_because(grant, entries)}): {said}")
        because.append({"grant": str(grant), "entry": _because(grant, entries), "reaches": why is None, "why": said})
    may_hear = reach.covers(row)
    masked = may_hear and reach.masks(row)
    answer = f"{'may' if may_hear else 'may not'} hear recording {row.recording_id}{', numbers masked' * masked}"
    report = {"recording_id": row.recording_id, "may_hear": may_hear, "masked": masked, "because": because}
    print_result("\n".join([answer, *(lines or [f"no role: no entry of {path} fits"])]), report, as_json=as_json)
    return 0 if may_hear else 1
