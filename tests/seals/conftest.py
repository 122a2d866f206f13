"""An archive that the service has made and sealed: three days of 500 calls each, by two workers at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis as sync_redis

from config.times import end_of_day, utc_now
from sandbox.world import Recording, World
from tests.parts import RunningSandbox, callvault, wait_for
from tests.seals.authority import Authority
from workers.queue.embedded import EmbeddedServer

CALLS_A_DAY = 500
DAYS = (5, 4, 3)


@dataclass
class Sealed:
    """What tests need to know of it."""

    root: Path
    sandbox: RunningSandbox
    redis_url: str
    authority: Authority
    recordings: dict[int, list[Recording]] = field(default_factory=dict)

    @property
    def archive(self) -> Path:
        return self.root / "archive"

    @property
    def environment(self) -> dict[str, str]:
        return self.sandbox.environment | {
            "REDIS_URL": self.redis_url,
            "CALLVAULT_ARCHIVE_URL": self.archive.as_uri(),
            "CALLVAULT_DATA": str(self.root / "data"),
            "CALLVAULT_SEAL_KEY": str(self.root / "key"),
            "CALLVAULT_TIMESTAMP_URL": self.authority.url,
            "CALLVAULT_TIMESTAMP_CA": str(self.authority.root),
        }

    def copy(self, to: Path) -> Path:
        """A copy of the archive, of hard links: a test replaces files in it, and never writes into one."""
        shutil.copytree(self.archive, to, copy_function=os.link)
        return to

    def seals(self, archive: Path | None = None) -> list[dict[str, Any]]:
        paths = sorted(((archive or self.archive) / "seals").glob("*.json"))
        return [json.loads(path.read_bytes()) for path in paths]


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    root = tmp_path_factory.mktemp("sealed")
    (root / "authority").mkdir()
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "seals", "-f", str(root / "key")]
    subprocess.run(keygen, check=True, timeout=30)
    server, authority = EmbeddedServer(root / "valkey"), Authority(root / "authority")
    server.start()
    made = Sealed(root, RunningSandbox(World()), server.url, authority)
    world = made.sandbox.world
    for days in DAYS:
        noon = end_of_day((utc_now() - timedelta(days=days)).date()) - timedelta(hours=12)
        made.recordings[days] = [
            world.add_recording(seconds=0.1, channels=1, started_at=noon + timedelta(seconds=10 * i))
            for i in range(CALLS_A_DAY)
        ]
        for recording in made.recordings[days][::20]:
            world.complete_transcription(world.add_transcription(recording))
    with (
        callvault(["worker"], made.environment, "worker ready"),
        callvault(["worker"], made.environment, "worker ready"),
    ):
        stamps = made.archive / "seals"
        wait_for(lambda: len(list(stamps.glob("*.tsr"))) == len(DAYS), 110, "the sealing of three days")
    yield made
    made.sandbox.stop()
    authority.stop()
    server.stop()


@pytest.fixture
def own_redis(sealed: Sealed) -> Iterator[Any]:
    with sync_redis.Redis.from_url(sealed.redis_url, decode_responses=True) as client:
        yield client
