"""`callvault repair`: restore missing audio from Telnyx or a file, if its hash matches the commit record."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archive import layout
from archive.records import ArchivedObject, UnreadableRecord
from cli.console import print_json
from cli.options import DataFolder, Json, RecordingId, service_of
from text.counts import many
from text.errors import UserError

if TYPE_CHECKING:
    from archive.archive import Archive
    from config.settings import Settings


def command(
    recording_id: RecordingId,
    file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Audio from a copy. [default: download from Telnyx]",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Restore missing audio from Telnyx or a copy.

    The audio must have the SHA-256 of the commit record, so seals stay valid.

    Example: callvault repair ID --from /mnt/copy/audio.wav
    """
    from cli.catalogue import look_up, opened
    from cli.ids import whole_id

    with service_of(data) as (settings, url):
        with opened(settings) as (catalogue, archive):
            recording_id = whole_id(settings, catalogue, archive, recording_id)
            row = look_up(settings, catalogue, archive, recording_id).row
            folder = layout.recording_folder(row.date, recording_id)
            removed = _why_no_audio(archive, folder)
        put_back = asyncio.run(_repair(settings, url, recording_id, folder, file))
    if json:
        rows = [{"key": o.key, "size": o.size, "sha256": o.sha256} for o in put_back]
        print_json({"recording_id": recording_id, "put_back": rows, "removed": removed})
        return 0
    for o in put_back:
        sys.stdout.write(f"{o.key}: restored, {many(o.size, 'byte')}, SHA-256 {o.sha256}, matches the commit record\n")
    if not put_back:
        why = "no audio is missing" if removed is None else f"{removed}, so it is not put back"
        sys.stdout.write(f"recording {recording_id}: {why}; nothing was written\n")
    return 0


def _why_no_audio(archive: Archive, folder: str) -> str | None:
    """The erasure or disposal that removed the audio of a recording, in one line; None without one.

    Raises:
        UserError: its record cannot be read.
    """
    from archive.erasures import disposed_keys
    from workers.deletion.whereabouts import erasure_of

    try:
        removed = erasure_of(archive, folder)
        is_whole = archive.read_small(layout.erasure_key(folder)) is None
        disposed = disposed_keys(archive, folder) if is_whole else {}
    except UnreadableRecord as error:
        raise UserError(f"{error}; nothing was written; run `callvault verify`") from None
    return removed if not is_whole or any(key.startswith(f"{folder}audio") for key in disposed) else None


async def _repair(
    settings: Settings, url: str, recording_id: str, folder: str, file: Path | None
) -> list[ArchivedObject]:
    from cli.accessed import logged_change
    from telnyx_api.downloads import DownloadFailed
    from telnyx_api.errors import TelnyxError
    from workers.engine.lease import HeldElsewhere
    from workers.recordings.repair import repair
    from workers.runtime import runtime_at

    about = "from Telnyx" if file is None else f"from {file}"
    async with runtime_at(settings, url, needs_telnyx=file is None) as runtime:
        try:
            async with logged_change(runtime, "repair", [recording_id], about=about):
                return await repair(runtime, recording_id, folder, file)
        except HeldElsewhere:
            line = f"recording {recording_id} is being archived or repaired by another process"
            raise UserError(f"{line}; try again in a moment") from None
        except (TelnyxError, DownloadFailed) as error:
            raise UserError(f"cannot download recording {recording_id} from Telnyx: {error}; try again") from None
