"""`callvault sandbox`: a stand-in for the Telnyx API on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import AudioFolder, Host, Json, refuse_silence
from text.errors import UserError


def command(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="Port; 0 picks a free one.", min=0, max=65535)] = 8081,
    audio: AudioFolder = None,
    api_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="API key to accept. [default: a random one]")
    ] = None,
    empty: Annotated[bool, typer.Option("--empty", help="Start without connections and recordings.")] = False,
    memory: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Start with the same calls each time this FILE is given.")
    ] = None,
    json: Json = False,
) -> int:
    """Run a local stand-in for the Telnyx API.

    It serves the API and audio, and sends signed webhooks.

    Example: callvault sandbox --port 8081
    """
    from sandbox.main import CannotStart, run

    refuse_silence(audio)
    try:
        return run(host=host, port=port, audio_folder=audio, as_json=json, api_key=api_key, empty=empty, memory=memory)
    except CannotStart as error:
        raise UserError(str(error)) from None
