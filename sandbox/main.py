"""Run the sandbox as a process: create its world, serve it and print its address."""

from __future__ import annotations

import json
import logging
import signal
import socket
import sys
from datetime import datetime, timedelta
from pathlib import Path

import uvicorn

from sandbox import connections as family
from sandbox import tickets
from sandbox.app import create_app
from sandbox.world import World

_STANDING_RECORDINGS = 6


class CannotStart(Exception):
    """The sandbox cannot start; the text is one line for a person."""


def furnish(world: World) -> None:
    """Fill a world: connections, addresses, numbers, releases, log messages and recordings."""
    for kind, name in (("zoom", "zoom-office"), ("operator_connect", "teams-office")):
        connection = family.add_connection(world, kind, tags=[name])
        family.add_address(world, connection["id"])
        numbers = [family.add_number(world, connection["id"], f"+1312555{i:04d}") for i in range(100, 104)]
        tickets.add_release(world, connection["id"], "complete", numbers[0])
        world.log(
            connection["id"],
            "10015",
            "Invalid attribute",
            "The emergency address could not be validated.",
            telephone_number=numbers[1]["telephone_number"],
        )
        first = numbers[2]
        tickets.add_upload(
            world,
            connection["id"],
            [first["number_id"]],
            tickets.USAGES[:1],
            first["civic_address_id"],
            first["location_id"],
        )
    connection_ids = list(world.connections)
    for i in range(_STANDING_RECORDINGS):
        started = world.began_at - timedelta(minutes=10 * (_STANDING_RECORDINGS - i))
        recording = world.add_recording(
            seconds=6 + i,
            channels=1 + i % 2,
            formats=("mp3",) if i == 4 else ("wav",),
            started_at=started,
            connection_id=connection_ids[i % len(connection_ids)],
        )
        if i % 2 == 0:
            world.complete_transcription(world.add_transcription(recording), world.began_at)


def began(world: World, memory: Path) -> int:
    """Give a world the start time that a file remembers, or remember this one; returns the number of this start, from 1.

    Raises:
        CannotStart: the file cannot be read or written, or is not a memory file.
    """
    starts = 1
    try:
        if memory.exists():
            known = json.loads(memory.read_text())
            world.began_at, starts = datetime.fromisoformat(known["began_at"]), int(known["starts"]) + 1
        memory.write_text(json.dumps({"began_at": world.began_at.isoformat(), "starts": starts}) + "\n")
    except OSError as error:
        raise CannotStart(f"--memory: {memory}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise CannotStart(f"--memory: {memory} is not a memory file of a sandbox; remove it to start anew") from None
    return starts


def run(
    *,
    host: str,
    port: int,
    audio_folder: Path | None,
    as_json: bool,
    api_key: str | None,
    empty: bool,
    memory: Path | None = None,
) -> int:
    """Serve a sandbox until SIGTERM or SIGINT; returns the exit status.

    Args:
        host: to listen on.
        port: to listen on; 0: a free one.
        audio_folder: files to serve as recordings; None: generate them.
        as_json: print one line of JSON when it is ready.
        api_key: to accept; None: generate one.
        empty: start without connections and recordings.
        memory: file that remembers the first start, so that later starts have the same calls; None: remember nothing.

    Raises:
        CannotStart: the port is not available, or the memory file cannot be used.
    """
    world = World(audio_folder=audio_folder, api_key=api_key)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        raise CannotStart(f"cannot listen on {host}:{port}: {error.strerror}") from None
    world.base_url = f"http://{host}:{listener.getsockname()[1]}"
    starts = began(world, memory) if memory is not None else 1
    if not empty:
        furnish(world)
    if starts > 1:
        world.rng.seed(f"start {starts}")  # later objects get ids that no earlier start used

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(_ready(world, as_json), flush=True)  # noqa: T201

    for ending in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again once it has stopped
        signal.signal(ending, lambda *_: sys.exit(0))
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # the sandbox cuts connections on purpose
    config = uvicorn.Config(
        create_app(world), loop="uvloop", http="httptools", ws="none", log_config=None, access_log=False
    )
    config.timeout_graceful_shutdown = 2
    Server(config).run([listener])
    return 0


def _ready(world: World, as_json: bool) -> str:
    facts = {
        "base_url": f"{world.base_url}/v2",
        "api_key": world.api_key,
        "public_key": world.public_keys()["public_key"],
        "control_url": f"{world.base_url}/_sandbox",
        "sample_media_url": f"{world.base_url}/_sandbox/sample.mp3",
    }
    if as_json:
        return json.dumps(facts)
    lines = [f"The sandbox listens at {facts['base_url']}. Point Callvault at it:", ""]
    lines += [f"  export TELNYX_BASE_URL={facts['base_url']}"]
    lines += [f"  export TELNYX_API_KEY={facts['api_key']}", f"  export TELNYX_PUBLIC_KEY={facts['public_key']}", ""]
    example = '{"count": 3, "webhook_url": "http://127.0.0.1:8080/webhooks/telnyx"}'
    lines += ["Make calls:", f"  curl -d '{example}' {facts['control_url']}/calls", "", "Press Ctrl-C to stop."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(host="127.0.0.1", port=0, audio_folder=None, as_json=True, api_key=None, empty=False))
