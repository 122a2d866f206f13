"""A million lines of the access log: writing, moving into the archive, the first index, and the page.

`python -m bench.accesses [--lines N]` writes its section of `bench/SCALE.md`; a minute or two.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from archive.access import new_line
from archive.archive import Archive
from bench.machine import in_a_process, milliseconds_of, own_peak_mib
from bench.scale import ACCESSES, RESULTS
from lab.processes import receiver
from lab.stores import make_archive
from lab.worker import own_runtime
from text.times import utc_now
from workers.access.log import AccessLog
from workers.access.move import move_access_log
from workers.queue.embedded import EmbeddedServer
from workers.runtime import Runtime

_AT_ONCE = 200  # people whose lines wait at the same time
_BETWEEN_MOVES = 100_000
_RUNS = 15
_PEOPLE, _RECORDINGS = 500, 200_000
_PAGES = {
    "page": "/ops/access-log",
    "page of a person": "/ops/access-log?who=person-7",
    "page of a recording": "/ops/access-log?recording=rec-000007",
}
_INDEX = """
import json, resource, time
from pathlib import Path
from archive.archive import Archive
from archive.stores.store import open_store
from bench.machine import own_peak_mib
from workers.access.index import AccessIndex
index, archive = AccessIndex(Path({folder!r})), Archive(open_store({url!r}))
took = []
for _ in range(2):
    started, cpu = time.perf_counter(), time.process_time()
    index.refresh(archive)
    took.append([round(time.perf_counter() - started, 2), round(time.process_time() - cpu, 2)])
print(json.dumps(dict(first=took[0], again=took[1], peak_mib=own_peak_mib(), bytes=index.path.stat().st_size)))
"""


@contextmanager
def _timed(times: list[tuple[float, float]]) -> Iterator[None]:
    """Add the seconds of the block, and the CPU seconds of this process."""
    started, cpu = time.perf_counter(), time.process_time()
    yield
    times.append((time.perf_counter() - started, time.process_time() - cpu))


async def _write(runtime: Runtime, lines: int, rng: random.Random) -> None:
    """Write lines as that many people would, each waiting for the answer to the line before."""

    async def archive() -> Archive:
        return runtime.archive  # never asked for: Redis takes the lines

    log = AccessLog(runtime.redis, archive, lambda: runtime.archive.identity.id)
    left = iter(range(lines))

    async def person() -> None:
        for _ in left:
            who, recording = f"person-{rng.randrange(_PEOPLE)}", f"rec-{rng.randrange(_RECORDINGS):06d}"
            await log.write(
                new_line("play", who, "oidc", "10.0.0.7", [recording], role="listener", why="quality check")
            )

    await asyncio.gather(*(person() for _ in range(_AT_ONCE)))


async def _fill(folder: Path, redis_url: str, lines: int) -> dict[str, object]:
    """Write and move lines, a part at a time, as after a while without a worker."""
    settings = {"REDIS_URL": redis_url, "CALLVAULT_ARCHIVE_URL": (folder / "archive").as_uri()}
    settings |= {"CALLVAULT_DATA": str(folder), "TELNYX_API_KEY": "KEY", "TELNYX_BASE_URL": "http://127.0.0.1:9/v2"}
    parts: dict[str, list[tuple[float, float]]] = {"written": [], "moved": []}
    in_redis = 0
    async with own_runtime(settings) as runtime:
        for begun in range(0, lines, _BETWEEN_MOVES):
            with _timed(parts["written"]):
                await _write(runtime, min(_BETWEEN_MOVES, lines - begun), random.Random(begun))
            in_redis = max(in_redis, (await runtime.redis.info("memory"))["used_memory"])
            with _timed(parts["moved"]):
                await move_access_log(runtime)
    found: dict[str, object] = {"mib_of_redis": in_redis >> 20, "peak_mib": round(own_peak_mib())}
    for name, times in parts.items():
        wall, cpu = (sum(column) for column in zip(*times, strict=True))
        found[name] = {"a_second": round(lines / wall), "cpu_us_a_line": round(cpu / lines * 1e6)}
    objects = [path.stat().st_size for path in (folder / "archive" / "access-log").rglob("*.jsonl")]
    return found | {"objects": len(objects), "mb_of_objects": sum(objects) // 1_000_000}


def _page_times(folder: Path, redis_url: str) -> dict[str, object]:
    """Milliseconds of each page: the first answer of all, then median and largest."""
    found: dict[str, object] = {}
    settings = {"REDIS_URL": redis_url, "CALLVAULT_ARCHIVE_URL": (folder / "archive").as_uri()}
    with receiver(settings | {"CALLVAULT_DATA": str(folder)}, answer_seconds=900) as (client, _):
        for name, path in _PAGES.items():
            taken = milliseconds_of(client, path, _RUNS)
            found[name] = {
                "first": round(taken[0]),
                "median": round(statistics.median(taken)),
                "max": round(max(taken[1:])),
            }
    return found


def _section(found: dict[str, Any]) -> Iterator[str]:
    """The lines of the section."""
    index, pages = found["index"], found["pages"]
    rows = {
        f"lines written, {_AT_ONCE} people at once": f"{found['written']['a_second']:,} /s",
        "CPU of the writer, a line": f"{found['written']['cpu_us_a_line']} µs",
        "lines moved into the archive, one worker": f"{found['moved']['a_second']:,} /s",
        "memory of Valkey, 100,000 lines that wait": f"{found['mib_of_redis']} MiB",
        "memory of the process that writes and moves": f"{found['peak_mib']} MiB",
        "objects, of up to 2,000 lines each": f"{found['objects']:,}, {found['mb_of_objects']:,} MB",
        "the first index, on a machine that has none": f"{index['first'][0]:.0f} s, {index['first'][1]:.0f} s of CPU",
        "its size, and the memory for it": f"{index['bytes'] // 1_000_000:,} MB, {index['peak_mib']:.0f} MiB",
        "the index again": f"{index['again'][0] * 1000:.0f} ms",
    }
    rows |= {
        f"the {name}, first answer and median": f"{one['first']} ms, {one['median']} ms" for name, one in pages.items()
    }
    yield f"{ACCESSES}: {found['lines']:,} lines"
    yield f"\nMade by `python -m bench.accesses` on {utc_now():%Y-%m-%d}; the archive is a folder. With fewer than 2,000 lines a"
    yield "minute, a running worker makes an object a minute, 1,440 a day.\n"
    yield "| what | measured |\n| --- | --- |"
    yield from (f"| {name} | {value} |" for name, value in rows.items())


def main() -> None:
    """Write, move, index and show lines in a temporary folder; writes and prints the section."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=1_000_000)
    lines = parser.parse_args().lines
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_archive(folder / "archive")
        server = EmbeddedServer(folder / "valkey")
        server.start()
        try:
            found: dict[str, Any] = {"lines": lines, **asyncio.run(_fill(folder, server.url, lines))}
            url = (folder / "archive").as_uri()
            found["index"] = in_a_process(_INDEX.format(folder=name, url=url))
            found["pages"] = _page_times(folder, server.url)
        finally:
            server.stop()
    section = "\n".join(_section(found)) + "\n"
    RESULTS.write_text(RESULTS.read_text().partition(f"\n{ACCESSES}")[0] + f"\n{section}")
    print(section)


if __name__ == "__main__":
    main()
