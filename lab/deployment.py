"""A deployment on this machine: a Redis, an archive, something that plays Telnyx, receivers and workers."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

from lab.processes import CALLVAULT, ROOT, Process, free_port, serves_http, wait_for
from lab.redis import Server
from lab.stores import environ, make_archive
from lab.webhooks import Signer
from workers.engine.connect import connect_worker
from workers.keys import RECONCILED, UNSEALED_KNOWN, WORKER, WRITTEN
from workers.queue.accept import Acceptor
from workers.recordings.requests import RecordingRequest, recording_job

_ENQUEUED_AT_ONCE = 5_000


class Deployment:
    """The parts and what they share. Its Redis flushes always, as the embedded one does.

    Attributes:
        archive: the settings that point at the archive; by default a folder.
        telnyx: the settings that point at Telnyx; by default with the key of `signer` for webhooks.
        settings: further settings of every part.
    """

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server, self.signer = folder, server, Signer()
        self.client: Any = redis.Redis.from_url(server.url)
        self.archive: Mapping[str, str] = {"CALLVAULT_ARCHIVE_URL": (folder / "archive").as_uri()}
        self.telnyx: Mapping[str, str] = {"TELNYX_API_KEY": "KEY", "TELNYX_PUBLIC_KEY": self.signer.public_key}
        self.settings: dict[str, str] = {}

    def play_telnyx(self, address: str) -> None:
        """Point the parts at a server that plays Telnyx."""
        self.telnyx = {**self.telnyx, "TELNYX_BASE_URL": f"{address}/v2"}

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every part."""
        shared = {
            "REDIS_URL": self.server.url,
            "CALLVAULT_DATA": str(self.folder / "data"),
            "CALLVAULT_LOG_LEVEL": "error",
            "PYTHONPATH": str(ROOT),
        }
        return {**self.archive, **self.telnyx, **shared, **self.settings}

    def clear(self) -> None:
        """Empty Redis and the folder of the archive; no reconcile and no search for unsealed days starts."""
        shutil.rmtree(self.folder / "archive", ignore_errors=True)
        with environ(dict(self.archive)):
            make_archive(self.archive["CALLVAULT_ARCHIVE_URL"])
        self.client.flushall()
        info = self.client.info()
        start = f"{info['run_id']} {info['master_replid']}"
        self.client.mset({RECONCILED + name: "1" for name in ("recent", "open", "sealed")} | {UNSEALED_KNOWN: start})

    @contextmanager
    def receivers(self, count: int = 1) -> Iterator[dict[int, Process]]:
        """Run receivers for the length of the block; gives them by their ports."""
        with ExitStack() as stack:
            started = {}
            for port in (free_port() for _ in range(count)):
                started[port] = stack.enter_context(
                    Process([*CALLVAULT, "serve", "--port", str(port)], self.environment)
                )
            wait_for(lambda: all(serves_http(port, "/healthz") for port in started), 60, "the start of receivers")
            yield started

    @contextmanager
    def workers(self, count: int = 1, *options: str) -> Iterator[list[Process]]:
        """Run worker commands for the length of the block."""
        with ExitStack() as stack:
            command = [*CALLVAULT, "worker", *options]
            started = [stack.enter_context(Process(command, self.environment)) for _ in range(count)]
            wait_for(lambda: self.living_workers() >= count, 60, "the start of workers")
            yield started

    def living_workers(self) -> int:
        """How many worker processes have a heartbeat."""
        return len(self.client.keys(WORKER + "*"))

    async def _enqueue(self, recording_ids: Iterable[str]) -> None:
        client = connect_worker(self.server.url)
        acceptor = Acceptor(client)
        jobs = [recording_job(RecordingRequest(event_id=f"event-{one}", recording_id=one)) for one in recording_ids]
        for at in range(0, len(jobs), _ENQUEUED_AT_ONCE):
            await asyncio.gather(*(acceptor.accept(job.id, [job]) for job in jobs[at : at + _ENQUEUED_AT_ONCE]))
        await client.aclose()

    def enqueue(self, recording_ids: Iterable[str]) -> None:
        """Have the workers archive recordings, as receivers would."""
        asyncio.run(self._enqueue(recording_ids))

    def archived(self) -> int:
        """How many recordings workers have archived since Redis was emptied."""
        feed = self.client.xinfo_stream(WRITTEN) if self.client.exists(WRITTEN) else None
        return int(feed["entries-added"]) if feed else 0


@contextmanager
def deployment(core: int | None = None) -> Iterator[Deployment]:
    """Run a Valkey, and make a deployment around it in a temporary folder on the disk.

    Args:
        core: the processor that the Valkey is pinned to.
    """
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Server(folder, "--appendfsync", "always", core=core) as server:
            yield Deployment(folder, server)
