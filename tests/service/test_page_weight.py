"""How much a browser loads for each page of a full house: the page, its styles and its scripts, as they go over the line.

Every list of a page is as long as the page lets it become, and its texts are as different as those of a real house.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import redis as sync_redis

from lab.processes import receiver, wait_for
from lab.servers import RunningSandbox
from lab.stores import make_archive
from sandbox import connections as family
from sandbox.main import furnish
from sandbox.world import World
from text.times import format_instant, utc_now
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.rows import Row
from workers.engine.attempts import Attempt, DeadLetter
from workers.keys import ALERTS, DEAD_LETTERS, DELETIONS_DUE, HISTORY, UNSEALED, UNSEALED_WHY
from workers.queue.embedded import EmbeddedServer
from workers.queue.history import DAY, HOUR, MONTH

_MOST_BYTES = 100_000
_PAGES = (
    "/ops",
    "/ops?span=hour",
    "/ops?span=month",
    "/ops/recordings",
    "/ops/recordings?q=the",
    "/ops/recordings?state=deleted",
    "/ops/evidence",
    "/ops/connections",
    "/ops/dead-letters",
    "/ops/deletions",
)
_RNG = random.Random(5)
_WORDS = ["".join(_RNG.choices("abcdefghijklmnopqrstuvwxyz", k=_RNG.randint(2, 9))) for _ in range(2000)]


def _id() -> str:
    text = f"{_RNG.getrandbits(128):032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _text(words: int) -> str:
    return " ".join(_RNG.choices(_WORDS, k=words))


def _number() -> str:
    return f"+1{_RNG.randrange(2_000_000_000, 9_999_999_999)}"


def _fill_catalogue(folder: Path, connection_ids: list[str]) -> None:
    catalogue = Catalogue(folder / "catalogue.sqlite")
    now = time.time()
    with catalogue.writing():
        for n in range(12_000):
            started = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(now - n * 500))
            row = Row(
                recording_id=_id(), day=started[:10], started_at=started, from_number=_number(), to_number=_number()
            )
            row.direction, row.connection_id, row.duration_ms = "inbound", connection_ids[n % 2], _RNG.randrange(10**6)
            row.key, row.transcription_ids, row.transcripts = "k", [_id()], [f"the {_text(60)}"] if n < 300 else [""]
            row.findings = ["silent", "shorter"] if n % 9 == 0 else []
            row.deleted_at = started if n % 2 else None
            row.decision = "hold" if n % 7 == 0 else None
            catalogue.put_rows([row])
    catalogue.close()


def _fill_redis(redis: Any) -> None:
    letters = {}
    for _ in range(150):
        job_id = f"archive_recording:{_id()}"
        attempts = [Attempt(format_instant(utc_now()), "download", f"DownloadFailed: {_text(12)}") for _ in range(8)]
        payload = {"v": 1, "recording_id": _id()}
        error, died_at = attempts[-1].error, format_instant(utc_now())
        letter = DeadLetter(job_id, "archive_recording", payload, "arq:queue", "download", error, died_at, attempts)
        letters[job_id] = msgspec.json.encode(letter)
    redis.hset(DEAD_LETTERS, mapping=letters)
    redis.zadd(DELETIONS_DUE, {f"recordings/2026/11/{n % 28 + 1:02d}/{_id()}/": time.time() + n for n in range(5_000)})
    for n in range(60):
        alert = {"kind": "dead-letter", "severity": "critical", "group": f"{n}", "text": _text(30), "advice": _text(12)}
        redis.lpush(ALERTS, json.dumps(alert | {"at": format_instant(utc_now())}))
    for step, steps in (HOUR, DAY, MONTH):
        for n in range(steps):
            counts = {"archived": _RNG.randrange(9999), "deleted": _RNG.randrange(9999), "answer<0.25": 5}
            counts |= {"webhook:accepted": _RNG.randrange(9999), "job:archive_recording<2.5": 7, "event:x": 3}
            redis.hset(f"{HISTORY}{step}:{int(time.time() // step) - n}", mapping=counts)
    for n in range(90):
        day = format_instant(utc_now())[:8] + f"{n % 28 + 1:02d}"
        redis.zadd(UNSEALED, {day: time.time() - 100})
        redis.hset(UNSEALED_WHY, day, _text(25))


@pytest.fixture(scope="module")
def full_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A receiver whose pages are as full as they become."""
    root = tmp_path_factory.mktemp("full")
    server, sandbox = EmbeddedServer(root / "valkey"), RunningSandbox(World(seed=7))
    server.start()
    make_archive(root / "archive")
    furnish(sandbox.world)
    ids = list(sandbox.world.connections)
    for connection_id in ids:
        for n in range(250):
            family.add_number(sandbox.world, connection_id, f"+1312666{n:04d}")
        for _ in range(60):
            sandbox.control("upload", connection_id=connection_id, status="error")
            sandbox.control("release", connection_id=connection_id, status="failed")
    with sync_redis.Redis.from_url(server.url, decode_responses=True) as redis:
        _fill_redis(redis)
    (root / "data").mkdir()
    _fill_catalogue(root / "data", ids)
    environment = sandbox.environment | {
        "REDIS_URL": server.url,
        "CALLVAULT_ARCHIVE_URL": (root / "archive").as_uri(),
        "CALLVAULT_DATA": str(root / "data"),
    }
    with receiver(environment, answer_seconds=60) as (client, _):
        client.get("/ops/connections")  # from then on, names are known
        wait_for(lambda: "More than 10000 recordings" in client.get("/ops/recordings").text, 60, "the catalogue")
        yield client
    sandbox.stop()
    server.stop()


def _loaded(client: httpx.Client, path: str) -> tuple[int, int]:
    """The bytes of a page alone, and with all that a browser loads for it for the first time."""
    page = client.get(path, headers={"Accept-Encoding": "gzip"})
    assert page.status_code == 200, page.text
    assert page.headers["content-encoding"] == "gzip"
    alone = whole = page.num_bytes_downloaded
    assets = re.findall(r'<(?:script|link rel="stylesheet")[^>]* (?:src|href)="(/[^"]+)"', page.text)
    assert len(assets) >= 4, "styles and scripts"
    for asset in assets:
        answer = client.get(asset, headers={"Accept-Encoding": "gzip"})
        assert answer.status_code == 200, asset
        whole += answer.num_bytes_downloaded
    return alone, whole


@pytest.mark.parametrize("path", _PAGES)
def test_a_browser_loads_at_most_100_kb_for_a_page(path: str, full_house: httpx.Client) -> None:
    alone, whole = _loaded(full_house, path)
    assert whole <= _MOST_BYTES, f"{path}: {whole:,} bytes, {alone:,} of them the page"
