"""`callvault up`: everything under one supervisor, on one machine; and the parts of a deployment that `demo` shares."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from cli.init import init
from cli.supervisor import Part, Supervisor
from config.errors import UserError
from config.private import private_file, private_folder
from config.settings import Settings, SettingsError
from workers.queue.embedded import EmbeddedServer
from workers.runtime import runtime_at

_TEND_SECONDS = 0.1
_READY_SECONDS = 30.0


def say(line: str) -> None:
    """Tell the person at the terminal, beside the logs."""
    print(f"callvault: {line}", file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def locked(data_folder: Path) -> Iterator[None]:
    """Hold a data folder for this process.

    Raises:
        UserError: another process holds it, or it cannot be made.
    """
    try:
        private_folder(data_folder)
        private_file(data_folder / "lock")
        file = (data_folder / "lock").open("a+")
    except OSError as error:
        raise UserError(f"data folder {data_folder}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            line = f"data folder {data_folder} is in use by another callvault (process {owner}); stop it, or use --data"
            raise UserError(line) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def free_port(host: str = "127.0.0.1") -> int:
    """Find a port that is free now; the system picks none of this range for outgoing connections."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
                return port
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise


def start_sandbox(arguments: list[str], log: Path | None) -> tuple[Part, dict[str, Any]]:
    """Start a sandbox and wait for the line that says where it is.

    Raises:
        UserError: it did not start.
    """
    part = Part("sandbox", ["sandbox", "--json", *arguments], log=log)
    process = part.start(stdout=subprocess.PIPE)
    output = cast(IO[bytes], process.stdout)
    ready, _, _ = select.select([output], [], [], _READY_SECONDS)
    line = output.readline() if ready else b""
    if not line:
        process.kill()
        raise UserError("the sandbox did not start" + (f"; see {log}" if log else ""))
    return part, json.loads(line)


def sandbox_environment(facts: dict[str, Any]) -> dict[str, str]:
    """The settings that point the parts at a sandbox."""
    return {
        "TELNYX_BASE_URL": facts["base_url"],
        "TELNYX_API_KEY": facts["api_key"],
        "TELNYX_PUBLIC_KEY": facts["public_key"],
    }


def wait_until(is_true: Callable[[], bool], supervisor: Supervisor, seconds: float, what: str) -> None:
    """Wait for something to become true while tending the parts.

    Raises:
        UserError: it did not, in time.
    """
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise UserError(f"{what} did not happen within {seconds:g}s")
        supervisor.tend()
        time.sleep(0.05)


def answers(host: str, port: int) -> bool:
    """Whether something listens."""
    try:
        with socket.create_connection((host, port), 1):
            return True
    except OSError:
        return False


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Catch SIGTERM and SIGINT; gives a function that says whether one came."""
    came: list[int] = []
    before = {s: signal.signal(s, lambda number, _: came.append(number)) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(settings: Settings, *, with_sandbox: bool, host: str, port: int) -> int:
    """Run everything until SIGTERM or Ctrl-C, then drain and stop; returns the exit status."""
    if not with_sandbox:
        for name, value in (
            ("TELNYX_API_KEY", settings.telnyx_api_key),
            ("TELNYX_PUBLIC_KEY", settings.telnyx_public_keys),
        ):
            if not value:
                raise SettingsError(f"{name}: not set; find it in the Telnyx portal, or try `callvault up --sandbox`")
    port = port or free_port(host)
    if answers(host, port):
        raise UserError(f"port {port} is in use; give another with --port")
    with locked(settings.data_folder), stop_signals() as asked_to_stop:
        server = None if settings.redis_url else EmbeddedServer(settings.data_folder)
        supervisor = Supervisor(say, server)
        try:
            environment = {"CALLVAULT_DATA": str(settings.data_folder.resolve())}
            if server is not None:
                environment["REDIS_URL"] = server.url
            asyncio.run(_see_to_the_archive(settings, server))
            if with_sandbox:
                part, facts = start_sandbox(
                    ["--port", "0", "--memory", str(settings.data_folder / "sandbox.json")], None
                )
                supervisor.add(part)
                environment |= sandbox_environment(facts)
                calls = json.dumps({"count": 3, "webhook_url": f"http://{host}:{port}/webhooks/telnyx"})
                say(f"sandbox   {facts['base_url']}; have it make calls:")
                say(f"          curl -d '{calls}' {facts['control_url']}/calls")
                told = " ".join(f"{name}={value}" for name, value in sandbox_environment(facts).items())
                say(f"          for other commands: export {told}")
            supervisor.add(Part("worker", ["worker"], environment))
            supervisor.add(Part("receiver", ["serve", "--host", host, "--port", str(port)], environment))
            wait_until(
                lambda: asked_to_stop() or answers(host, port), supervisor, _READY_SECONDS, "the receiver's start"
            )
            say(f"receiver  http://{host}:{port}/webhooks/telnyx")
            say(f"ops pages http://{host}:{port}/ops")
            if settings.ops_token is None:
                say("          on this machine only; CALLVAULT_OPS_TOKEN opens them elsewhere")
            say(f"archive   {settings.archive_address}")
            say(f"redis     {'embedded, in ' + str(server.folder) if server else 'as REDIS_URL says'}")
            while not asked_to_stop():
                supervisor.tend()
                time.sleep(_TEND_SECONDS)
            say("stopping: running jobs are finished first")
        finally:
            supervisor.stop()
    return 0


async def _see_to_the_archive(settings: Settings, server: EmbeddedServer | None) -> None:
    """Make the default archive, together with a fresh Redis; see that one which the settings name is there.

    Raises:
        UserError: it is not, or belongs to another Redis; a person has to say what is meant.
    """
    url = server.url if server is not None else cast(Any, settings.redis_url).get_secret_value()
    if settings.archive_url is None:
        await init(settings, url)
    else:
        async with runtime_at(settings, url, needs_telnyx=False):
            pass


def run_workers(settings: Settings, redis_url: str, processes: int) -> int:
    """Run several worker processes until SIGTERM or Ctrl-C; returns the exit status."""
    with stop_signals() as asked_to_stop:
        supervisor = Supervisor(say)
        environment = {"REDIS_URL": redis_url, "CALLVAULT_DATA": str(settings.data_folder)}
        try:
            for number in range(1, processes + 1):
                supervisor.add(Part(f"worker {number}", ["worker"], environment))
            while not asked_to_stop():
                supervisor.tend()
                time.sleep(_TEND_SECONDS)
        finally:
            supervisor.stop()
    return 0
