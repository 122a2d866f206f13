"""What the processes of the service run with: each receiver and worker publishes it in Redis while it lives.

A command has settings of its own, which may differ from those of the service. So commands and pages show what is published
here, and a command says where its own settings differ.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Literal

import msgspec
from redis.exceptions import RedisError

from config.settings import Settings, names_of_secrets, names_same_in
from config.sources import written_settings
from process.disks import Disks
from process.logs import get_logger
from process.tasks import end_tasks
from process.version import own_version
from text.counts import many
from text.times import format_instant, utc_now
from workers.keys import LIVE_DUTIES, RUNNING, RUNNING_ALIVE, WORKER
from workers.queue.script import AsyncRedis, Script, server_seconds

log = get_logger()

PUBLISH_SECONDS = 3
_LIVE_SECONDS = 12
_REMOVED_SECONDS = 60
_UNSET = "unset"
VERSION = "version"  # stands beside the names of settings where processes differ

_PUBLISH = Script(__package__, "publish_running.lua")


class Running(msgspec.Struct, frozen=True):
    """A process of the service, and what it runs with.

    Attributes:
        id: of the process; of a worker, the id of its leases.
        kind: `worker` or `receiver`.
        host: the machine or container.
        version: of Callvault.
        started_at: ISO 8601, UTC.
        archive_id: of the archive that it has opened; None: it has opened none, as most receivers.
        settings: those that are set, by name; secrets by their fingerprints.
        disk_free_bytes: by place, `data folder` or `archive`; rounded.
        exports_place: the id of the place of exports that a worker sees; None: it sees none.
    """

    id: str
    kind: Literal["worker", "receiver"]
    host: str
    version: str
    started_at: str
    archive_id: str | None
    settings: dict[str, str]
    disk_free_bytes: dict[str, int] = {}
    exports_place: str | None = None

    def value(self, name: str) -> str:
        """The value of a setting, or its version."""
        return self.version if name == VERSION else self.settings.get(name, _UNSET)


class Difference(msgspec.Struct, frozen=True):
    """A setting, or the version, that this process has otherwise than workers.

    Attributes:
        name: of the setting, or `version`.
        here: its value in this process.
        workers: how many workers have each other value.
    """

    name: str
    here: str
    workers: dict[str, int]

    @property
    def sentence(self) -> str:
        """The difference for a person at a shell."""
        others = [
            f"{many(count, 'worker runs', 'workers run')} with {_named(self.name, value)}"
            for value, count in self.workers.items()
        ]
        return f"this shell has {_named(self.name, self.here)}; {' and '.join(others)}"


def _named(name: str, value: str) -> str:
    return f"{name} {value}" if name == VERSION or value == _UNSET else f"{name}={value}"


def new_id() -> str:
    """An id for a process: machine, process id, and a random part."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


async def running_here(settings: Settings, kind: Literal["worker", "receiver"], process_id: str) -> Running:
    """What this process runs with, started now."""
    started_at = format_instant(utc_now())
    written = await asyncio.to_thread(written_settings, settings)  # a fingerprint of a secret is slow on purpose
    return Running(
        id=process_id,
        kind=kind,
        host=socket.gethostname(),
        version=own_version(),
        started_at=started_at,
        archive_id=None,
        settings={name: value for name, value in written.items() if value is not None},
    )


async def publish(redis: AsyncRedis, own: Running) -> None:
    """Publish what a process runs with, once.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    await _PUBLISH(redis, (RUNNING, RUNNING_ALIVE), (own.id, msgspec.json.encode(own), _REMOVED_SECONDS))


async def keep_published(redis: AsyncRedis, settings: Settings, own: Callable[[], Running]) -> None:
    """Publish what this process runs with until cancelled, through outages of Redis; then withdraw it.

    Args:
        redis: a client.
        settings: of this process; they name the disks that it writes to.
        own: what it runs with now, without the free bytes of its disks.
    """
    process_id, disks = own().id, Disks()
    watching = asyncio.create_task(disks.watch(settings))
    try:
        while True:
            with suppress(RedisError, OSError):  # whatever needs Redis reports an outage
                await publish(redis, msgspec.structs.replace(own(), disk_free_bytes=disks.free))
            await asyncio.sleep(PUBLISH_SECONDS)
    finally:
        await end_tasks([watching])
        with suppress(RedisError, OSError):
            await redis.hdel(RUNNING, process_id)
            await redis.zrem(RUNNING_ALIVE, process_id)


async def read_running(redis: AsyncRedis) -> list[Running]:
    """The processes that live, workers first; one that was killed disappears within 15 seconds.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    now = await server_seconds(redis)
    ids = await redis.zrangebyscore(RUNNING_ALIVE, now - _LIVE_SECONDS, now + _LIVE_SECONDS)
    rows = await redis.hmget(RUNNING, ids) if ids else []
    found = []
    for row in rows:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):  # of a version that publishes it otherwise
            if row is not None:
                found.append(msgspec.json.decode(row, type=Running))
    return sorted(found, key=lambda one: (one.kind != "worker", one.host, one.started_at))


def differing_settings(running: Iterable[Running]) -> dict[str, dict[str, int]]:
    """The settings that workers should have in common and do not: how many workers have each value."""
    workers = [one for one in running if one.kind == "worker"]
    found = {name: Counter(one.value(name) for one in workers) for name in names_same_in("service", "workers")}
    return {name: dict(counts.most_common()) for name, counts in found.items() if len(counts) > 1}


def versions(running: Iterable[Running]) -> dict[str, int]:
    """How many processes run each version."""
    return dict(Counter(one.version for one in running).most_common())


def differences(settings: Settings, running: Sequence[Running]) -> list[Difference]:
    """Where the settings of this process differ from those of the workers, as far as commands use them.

    A secret that is not set here is no difference: a command that needs it says so.
    """
    workers = [one for one in running if one.kind == "worker"]
    if not workers:
        return []
    here, secrets_of_all = written_settings(settings), names_of_secrets()
    own = {VERSION: own_version()}
    own |= {
        name: here[name] or _UNSET
        for name in names_same_in("service")
        if here[name] is not None or name not in secrets_of_all
    }
    found = []
    for name, value in own.items():
        others = Counter(one.value(name) for one in workers if one.value(name) != value)
        if others:
            found.append(Difference(name, value, dict(others.most_common())))
    return found


async def living_workers(redis: AsyncRedis) -> set[str]:
    """The ids of the workers with a heartbeat; a dead worker disappears within 15 seconds."""
    ids = [worker.decode() for worker in await redis.hkeys(LIVE_DUTIES)]
    if not ids:
        return set()
    beats = await redis.mget([WORKER + worker for worker in ids])
    return {worker for worker, beat in zip(ids, beats, strict=True) if beat is not None}
