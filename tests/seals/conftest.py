"""An archive that the service has made and sealed: three days of 6 calls each, by two workers at once.

The first test process makes it, once a run; all tests only read it, and a test that damages it takes a copy.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.processes import callvault, wait_for
from lab.servers import RunningSandbox
from lab.stores import make_archive
from sandbox.world import World
from tests.seals.authority import Authority
from tests.seals.bundles import DAY, export, own
from text.times import end_of_day, utc_now
from workers.queue.embedded import EmbeddedServer

CALLS_A_DAY = 6
TRANSCRIBED_A_DAY = 2
DAYS = (5, 4, 3)


@dataclass
class Sealed:
    """What tests know of the archive.

    Attributes:
        root: the folder of everything.
        redis_url: an empty Redis, so that everything is found from the archive.
        data: the data folder.
        calls: the recordings at Telnyx, by their age in days; `sha256` is the hash of the audio.
        transcriptions: likewise.
    """

    root: Path
    redis_url: str
    data: Path
    calls: dict[int, list[dict[str, Any]]]
    transcriptions: list[dict[str, Any]]

    @property
    def archive(self) -> Path:
        return self.root / "archive"

    @property
    def authority_root(self) -> Path:
        return self.root / "authority" / "root.pem"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "TELNYX_API_KEY": "KEY",
            "TELNYX_BASE_URL": "http://127.0.0.1:1/v2",
            "REDIS_URL": self.redis_url,
            "CALLVAULT_ARCHIVE_URL": self.archive.as_uri(),
            "CALLVAULT_DATA": str(self.data),
            "CALLVAULT_SEAL_KEY": str(self.root / "key"),
            "CALLVAULT_TIMESTAMP_CA": str(self.authority_root),
        }

    def copy(self, to: Path) -> Path:
        """A copy of the archive made of hard links: a test replaces files in it and never writes into one."""
        shutil.copytree(self.archive, to, copy_function=os.link)
        return to

    def seals(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_bytes()) for path in sorted((self.archive / "seals").glob("*.json"))]


def _make(root: Path) -> None:
    (root / "authority").mkdir(parents=True)
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "seals", "-f", str(root / "key")]
    subprocess.run(keygen, check=True, timeout=30)
    server, authority, sandbox = EmbeddedServer(root / "valkey"), Authority(root / "authority"), RunningSandbox(World())
    server.start()
    make_archive(root / "archive")
    calls: dict[int, list[dict[str, Any]]] = {}
    for days in DAYS:
        noon = end_of_day((utc_now() - timedelta(days=days)).date()) - timedelta(hours=12)
        made = [
            sandbox.world.add_recording(seconds=0.1, channels=1, started_at=noon + timedelta(seconds=10 * i))
            for i in range(CALLS_A_DAY)
        ]
        calls[days] = [recording.data | {"sha256": recording.audio["wav"].sha256} for recording in made]
        for recording in made[:: CALLS_A_DAY // TRANSCRIBED_A_DAY]:
            sandbox.world.complete_transcription(sandbox.world.add_transcription(recording))
    environment = sandbox.environment | {
        "REDIS_URL": server.url,
        "CALLVAULT_ARCHIVE_URL": (root / "archive").as_uri(),
        "CALLVAULT_DATA": str(root / "data"),
        "CALLVAULT_SEAL_KEY": str(root / "key"),
        "CALLVAULT_TIMESTAMP_URL": authority.url,
        "CALLVAULT_TIMESTAMP_CA": str(authority.root),
    }
    with callvault(["worker"], environment, "worker ready"), callvault(["worker"], environment, "worker ready"):
        seals = root / "archive" / "seals"
        wait_for(lambda: len(list(seals.glob("*.tsr"))) == len(DAYS), 240, "the sealing of three days")
    (root / "made.json").write_text(json.dumps([calls, list(sandbox.world.transcriptions.values())]))
    sandbox.stop()
    authority.stop()
    server.stop()


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory, valkey: EmbeddedServer) -> Sealed:
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    root = shared / "sealed"
    with (shared / "sealed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "made.json").exists():
            shutil.rmtree(root, ignore_errors=True)
            _make(root)
    calls, transcriptions = json.loads((root / "made.json").read_bytes())
    by_day = {int(days): rows for days, rows in calls.items()}
    return Sealed(root, valkey.url, tmp_path_factory.mktemp("sealed-data"), by_day, transcriptions)


@pytest.fixture(autouse=True)
def empty_redis(redis_url: str) -> Iterator[None]:
    """Every test starts with an empty Redis."""
    yield


@pytest.fixture(scope="module")
def bundle(sealed: Sealed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    report = export(own(sealed, folder), DAY, "--out", str(folder / "case"))
    assert (report["recordings"], report["not_sealed"], report["problems"]) == (CALLS_A_DAY, 0, [])
    return folder / "case"
