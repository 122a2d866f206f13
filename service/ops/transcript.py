"""The transcriptions of one recording, as JSON and as text, read from the archive itself."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from archive import kinds, layout
from archive.archive import Archive
from archive.readers import TRANSCRIPTION
from archive.records import WrongObject
from service.ops.parts import Ops
from service.ops.person import Refused
from service.ops.recording import report_seen
from service.ops.view import view_of


class Words(msgspec.Struct, frozen=True):
    """One transcription.

    Attributes:
        id: Telnyx' id of it.
        text: its words, as Telnyx gave them; they have no times.
        created_at: when Telnyx made it, ISO 8601; None if Telnyx does not say.
    """

    id: str
    text: str
    created_at: str | None


class Transcript(msgspec.Struct, frozen=True):
    """The transcriptions of one recording, in the order of their keys in the archive; empty if it has none."""

    recording_id: str
    transcriptions: list[Words]


async def transcript(ops: Ops, request: Request, _: None) -> Transcript:
    """The transcriptions of a recording.

    Raises:
        Refused: the archive does not have the recording, or one of its transcriptions cannot be read.
        StoreError: the archive cannot be read now.
    """
    recording_id = request.path_params["recording_id"]
    hit = await view_of(request).find(recording_id)
    if hit is None or hit.state == "erased":
        raise Refused(404, f"recording {recording_id} is not in the archive")
    folder = layout.recording_folder(hit.row.date, recording_id)
    try:
        return Transcript(recording_id, await asyncio.to_thread(_read, ops.runtime.archive, folder))
    except WrongObject as wrong:
        await report_seen(ops, [wrong])
        raise Refused(409, f"a transcription of recording {recording_id} cannot be read: {wrong}") from None


async def transcript_text(ops: Ops, request: Request, _: None) -> Response:
    """The words of a recording as plain text, with an empty line between two transcriptions; raises as `transcript`."""
    found = await transcript(ops, request, None)
    if not found.transcriptions:
        raise Refused(404, f"recording {found.recording_id} has no transcription in the archive")
    return PlainTextResponse("\n\n".join(one.text for one in found.transcriptions) + "\n")


def _read(archive: Archive, folder: str) -> list[Words]:
    found = []
    for key in archive.keys_of(f"{folder}transcriptions/"):
        if kinds.kind_of(key) is kinds.TRANSCRIPTION:
            said = TRANSCRIPTION.read(archive.read_small(key), key).transcription
            at = said.get("created_at")
            found.append(
                Words(str(said.get("id")), str(said.get("transcription_text") or ""), None if at is None else str(at))
            )
    return found
