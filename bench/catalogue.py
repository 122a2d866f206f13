"""The catalogue at a million recordings with 100 words each: build rate, size, memory, times of searches and of pages.

python -m bench.catalogue [--recordings N]
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.machine import milliseconds_of, own_peak_mib
from config.scopes import Grant, Scope
from lab.processes import receiver
from lab.stores import make_archive
from text.times import format_instant
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.query import Query
from workers.catalogue.reach import EVERYTHING, Reach
from workers.catalogue.rows import Row
from workers.catalogue.search import search
from workers.queue.embedded import EmbeddedServer

_WORDS = 100
_VOCABULARY = 20_000
_RUNS = 21
_PAGES = {
    "overview": "/ops",
    "overview, a month": "/ops?span=month",
    "recordings": "/ops/recordings",
    "recordings, on hold": "/ops/recordings?state=held",
    "recordings, longer than two hours": "/ops/recordings?min_duration=2h",
    "recordings, the beginning of many numbers": "/ops/recordings?number=%2B493",
    "recordings, a rare phrase": "/ops/recordings?text=refund",
    "evidence": "/ops/evidence",
    "deletions": "/ops/deletions",
}
_BUILDING_SECONDS = 300
_SCOPES = {
    "a connection": Scope(("1700000000000000001",)),
    "the numbers of a country": Scope(numbers=("+49",)),
    "the numbers of a town": Scope(numbers=("+4930",)),
    "a connection and a town": Scope(("1700000000000000001",), ("+4930",)),
    "a connection without a recording": Scope(("1",)),
}


def rows(count: int) -> Iterator[Row]:
    """Recordings over a year; one in ten thousand has a rare phrase."""
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(_VOCABULARY)]
    weights = [1 / (i + 5) for i in range(_VOCABULARY)]
    pool = rng.choices(words, weights, k=1_000_000)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    for i in range(count):
        started = start + timedelta(seconds=i * 31_536_000 / count)
        at = rng.randrange(len(pool) - _WORDS)
        text = " ".join(pool[at : at + _WORDS])
        if i % 10_000 == 0:
            text += " please refund my account number today"
        yield Row(
            recording_id=f"{rng.getrandbits(128):032x}",
            day=started.date().isoformat(),
            started_at=format_instant(started),
            ended_at=format_instant(started + timedelta(seconds=60)),
            from_number=f"+1{rng.randrange(2_000_000_000, 9_999_999_999)}",
            to_number=f"+49{rng.randrange(300_000_000, 999_999_999)}",
            connection_id=str(1_700_000_000_000_000_000 + rng.randrange(20)),
            call_leg_id=f"{rng.getrandbits(128):032x}",
            call_session_id=f"{rng.getrandbits(128):032x}",
            duration_ms=rng.randrange(1_000, 600_000),
            bytes=1_000_000,
            key=f"recordings/{started:%Y/%m/%d}/{i}/audio.wav",
            sha256=f"{rng.getrandbits(256):064x}",
            proof="checksum",
            archived_at=format_instant(started),
            found_by="webhook",
            seal=1 + i * 365 // count,
            transcription_ids=[f"t{i}"],
            transcripts=[text],
        )


def batched(items: Iterator[Row], size: int) -> Iterator[list[Row]]:
    """Split items into lists of a size."""
    while batch := list(itertools.islice(items, size)):
        yield batch


def milliseconds(catalogue: Catalogue, query: Query, reach: Reach) -> tuple[float, float, int]:
    """Median and largest of several runs, and how many were found."""
    times, found = [], 0
    for _ in range(_RUNS):
        started = time.perf_counter()
        found = len(search(catalogue.path, query, reach, 50))
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times), max(times), found


def page_times(folder: Path) -> dict[str, dict[str, float]]:
    """Median and largest milliseconds of each page, as a receiver on the catalogue of a data folder answers it."""
    server = EmbeddedServer(folder / "valkey")
    server.start()
    make_archive(folder / "archive")
    times: dict[str, dict[str, float]] = {}
    try:
        with receiver({"REDIS_URL": server.url, "CALLVAULT_DATA": str(folder)}, answer_seconds=60) as (client, _):
            until = time.monotonic() + _BUILDING_SECONDS  # its first search compares the catalogue with the archive
            while "still being built" in client.get("/ops/recordings").text and time.monotonic() < until:
                time.sleep(1)
            for name, path in _PAGES.items():
                taken = milliseconds_of(client, path, _RUNS)
                times[name] = {"median": round(statistics.median(taken), 1), "max": round(max(taken), 1)}
    finally:
        server.stop()
    return times


def main() -> None:
    """Build a catalogue in a temporary folder, search it, print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recordings", type=int, default=1_000_000)
    count = parser.parse_args().recordings
    sample: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalogue.sqlite"
        catalogue = Catalogue(path)
        made, begun = 0.0, time.perf_counter()  # the time to make the rows does not count
        batches = batched(rows(count), 2_000)
        with catalogue.filling():
            while True:
                started = time.perf_counter()
                batch = next(batches, None)
                made += time.perf_counter() - started
                if batch is None:
                    break
                if len(sample) < 20:
                    sample += batch[7::100]
                with catalogue.writing():
                    catalogue.put_rows(batch)
        spent = time.perf_counter() - begun - made
        size = sum(part.stat().st_size for part in Path(folder).iterdir())
        day = datetime.fromisoformat(sample[10].day).replace(tzinfo=UTC)
        searches = {
            "number, E.164": Query(number=sample[10].from_number),
            "number, national": Query(number="0" + str(sample[10].to_number)[3:]),
            "number, its last seven digits": Query(number=str(sample[10].from_number)[-7:]),
            "number, national, without a zero": Query(number=str(sample[10].from_number)[2:]),
            "number, four digits in it": Query(number=str(sample[10].from_number)[4:8]),
            "a rare phrase": Query(text='refund "account number"'),
            "a phrase of two common words": Query(text='"{} {}"'.format(*sample[10].transcripts[0].split()[:2])),
            "first page of a day": Query(since=day, until=day + timedelta(days=1)),
            "first page of everything": Query(),
            "recording id": Query(id=sample[10].recording_id),
        }
        report = {
            "recordings": count,
            "rows_per_second": round(count / spent),
            "build_seconds": round(spent, 1),
            "bytes": size,
            "milliseconds": {},
        }
        for name, query in searches.items():
            median, most, found = milliseconds(catalogue, query, EVERYTHING)
            report["milliseconds"][name] = {"median": round(median, 2), "max": round(most, 2), "found": found}
        for name, scope in _SCOPES.items():
            median, most, found = milliseconds(catalogue, Query(), Reach((Grant("listener", scope),)))
            report["milliseconds"][f"scope: {name}"] = {
                "median": round(median, 2),
                "max": round(most, 2),
                "found": found,
            }
        report["peak_mib"] = round(own_peak_mib())
        catalogue.close()
        report["milliseconds of pages"] = page_times(Path(folder))
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
