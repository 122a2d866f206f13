"""`callvault repair`: audio that is gone from the archive is put back, from Telnyx or a file, if its hash is that on record."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from cli.catalogue import look_up, opened
from config.counts import many
from config.errors import UserError
from config.settings import Settings
from workers.archive import layout
from workers.archive.records import ArchivedObject
from workers.jobs.repair import repair
from workers.queue.lease import HeldElsewhere
from workers.runtime import runtime_at
from workers.telnyx.downloads import DownloadFailed
from workers.telnyx.errors import TelnyxError


def run(settings: Settings, url: str, recording_id: str, *, file: Path | None, as_json: bool) -> int:
    """Repair it; returns the exit status.

    Raises:
        UserError: it is not in the archive, or cannot be repaired from there.
    """
    with opened(settings) as (catalogue, archive):
        row = look_up(settings, catalogue, archive, recording_id).row
        folder = layout.recording_folder(row.date, recording_id)
    put_back = asyncio.run(_repair(settings, url, recording_id, folder, file))
    if as_json:
        rows = [{"key": o.key, "size": o.size, "sha256": o.sha256} for o in put_back]
        sys.stdout.write(json.dumps({"recording_id": recording_id, "put_back": rows}) + "\n")
        return 0
    for o in put_back:
        sys.stdout.write(f"{o.key}: put back, {many(o.size, 'byte')}, SHA-256 {o.sha256}, as in its commit record\n")
    if not put_back:
        sys.stdout.write(f"recording {recording_id}: no audio is missing, and nothing was written\n")
    return 0


async def _repair(
    settings: Settings, url: str, recording_id: str, folder: str, file: Path | None
) -> list[ArchivedObject]:
    async with runtime_at(settings, url, needs_telnyx=file is None) as runtime:
        try:
            return await repair(runtime, recording_id, folder, file)
        except HeldElsewhere:
            line = f"recording {recording_id} is being archived or repaired right now"
            raise UserError(f"{line}; run the command again once that is done") from None
        except (TelnyxError, DownloadFailed) as error:
            raise UserError(f"recording {recording_id} could not be fetched from Telnyx: {error}; try again") from None
