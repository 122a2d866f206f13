"""The proof: real processes under a seeded schedule of faults, checked from the sandbox's own books.

    make chaos N=10000 SEED=7        the long run; a failing seed replays the same schedule

Two receivers, three workers (one with a clock a minute off), a Valkey and a store are killed at any moment; Valkey
is also wiped. The sandbox answers with storms of 429 and 5xx, cuts, stalls and expires downloads, and loses,
doubles, delays and disorders webhooks. People place and lift holds and pauses; content changes at Telnyx; the key
is another account's, the archive's disk is away, Redis's clock is an hour ahead (`scenes.py`). The sandbox's books
decide, and no fault touches them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import httpx
import redis

from lab.clock import Clock, SkewedServer
from lab.processes import free_port, listens, run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.stores import BUCKET, S3_ENVIRONMENT, make_archive, rclone_s3
from sandbox.world import World
from tests.chaos.books import Books
from tests.chaos.parts import Part, Watcher
from tests.chaos.scenes import Scenes
from tests.chaos.surfaces import conditions_on_surfaces
from workers.keys import QUEUES

FAULTS: tuple[dict[str, float], ...] = (
    {"api_429": 0.5, "retry_after_seconds": 0.3},
    {"api_500": 0.4},
    {"api_503": 0.4},
    {"api_cut": 0.3},
    {"download_cut": 0.5},
    {"download_500": 0.4},
    {"download_page": 0.3},
    {"download_stall": 0.3, "stall_seconds": 3},
    {"download_expired": 0.5},
    {"webhook_lost": 0.5},
    {"webhook_duplicate": 0.8},
    {"webhook_delay_seconds": 3},
    {"webhook_without_id": 1},
    {"bulk_delete_ignores": 0.5},
    {"bulk_delete_limit": 3},
)
CALM: dict[str, float] = {name: 0.0 for fault in FAULTS for name in fault if not name.endswith("_seconds")} | {
    "webhook_delay_seconds": 0.0
}

_GRACE_SECONDS = 4
_SURFACES_SECONDS = 30
_WORKER_AHEAD_SECONDS = 65  # more than clocks may differ: this worker archives and deletes nothing


@dataclass
class Report:
    """The result of a run."""

    seed: int
    recordings: int = 0
    archived: int = 0
    deleted: int = 0
    due_later: int = 0
    kills: int = 0
    wipes: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    retried_letters: int = 0
    scenes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Chaos:
    """One run."""

    def __init__(
        self,
        folder: Path,
        recordings: int,
        seed: int,
        per_second: float,
        scene_seconds: float,
        limit_seconds: float,
        log: Callable[[str], None],
    ) -> None:
        self._limit_seconds = limit_seconds
        self.rng = random.Random(seed)
        self.report = Report(seed, recordings)
        self.folder, self.log, self._per_second = folder, log, per_second
        self.store_folder = folder / "store" / BUCKET
        self.store_folder.mkdir(parents=True)
        self.archive_folder = self.store_folder / "archive"
        make_archive(self.archive_folder)
        world = World(seed=seed)
        world.step_seconds = 1
        self.sandbox = RunningSandbox(world)
        self.valkey = SkewedServer(folder / "data", Clock(folder, "redis"))
        self.valkey.start()
        self.redis: Any = redis.Redis.from_url(self.valkey.url, decode_responses=True)
        environment = self._make_processes(free_port())
        self.scenes = Scenes(
            self.archive_folder,
            self.sandbox,
            self.valkey,
            environment,
            [f"http://127.0.0.1:{port}/webhooks/telnyx" for port in self.ports],
            rng=self.rng,
            seconds=scene_seconds,
            log=log,
        )
        self.books = Books(world, self.scenes, self.archive_folder, _GRACE_SECONDS, self.report.wrong)
        self._letters: set[str] = set()

    def _make_processes(self, store_port: int) -> dict[str, str]:
        """Make the parts and start the store; returns the environment of commands."""
        environment = self.sandbox.environment | S3_ENVIRONMENT
        environment |= {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{store_port}",
            "REDIS_URL": self.valkey.url,
            "CALLVAULT_DATA": str(self.folder / "data"),
            "CALLVAULT_ARCHIVE_URL": f"s3://{BUCKET}/archive",
            "CALLVAULT_DELETE_ORIGINALS": "verified",
            "CALLVAULT_DELETE_AFTER": f"{_GRACE_SECONDS}s",
            "CALLVAULT_TRANSCRIPTIONS": "wait 3s",
            "CALLVAULT_RECONCILE_EVERY": "8s",
            "CALLVAULT_RECONCILE_RECENT": "1d",
            "CALLVAULT_RECONCILE_OPEN_EVERY": "20s",
            "CALLVAULT_RECONCILE_OPEN": "2d",
            "CALLVAULT_CONCURRENCY": "8",
        }
        skewed = environment | Clock(self.folder, "worker", _WORKER_AHEAD_SECONDS).environment
        self.ports = [free_port(), free_port()]
        store = rclone_s3(self.folder / "store", store_port, "--dir-cache-time", "100ms")
        self.store = self._part("store", store, {})
        self.parts = [self.store]
        for n, port in enumerate(self.ports):
            self.parts.append(self._part(f"receiver {n}", ["callvault", "serve", "--port", str(port)], environment))
        for n in range(3):
            self.parts.append(self._part(f"worker {n}", ["callvault", "worker"], skewed if n == 2 else environment))
        self.store.tend()
        wait_for(lambda: listens(store_port), 60, "the store")
        return environment

    def _part(self, name: str, command: list[str], environment: dict[str, str]) -> Part:
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        return Part(name, command, environment, logs / f"{name.replace(' ', '-')}.log", self._limit_seconds)

    def run(self, patience_seconds: float) -> Report:
        """Make the calls under faults, end the faults, wait until everything is done, and check."""
        started = time.monotonic()
        watcher = Watcher(self.archive_folder)
        try:
            self._suffer()
            self._settle(patience_seconds)
            self.report.wrong += watcher.stop()
            self._check()
            self._verify()
            if wrong := self._surfaces("in the end") - {"clocks"}:  # one worker's clock is ahead on purpose
                self.report.wrong.append(f"everything is done, but surfaces show problems: {wrong}")
        finally:
            self.scenes.close()
            for part in reversed(self.parts):
                if not part.has_ended:
                    part.stop()
            self.redis.close()
            self.valkey.stop()
            self.sandbox.stop()
        self.report.seconds = round(time.monotonic() - started, 1)
        self.report.faults = dict(self.sandbox.world.faults.counts)
        self.report.scenes = dict(self.scenes.counts)
        return self.report

    def _suffer(self) -> None:
        """Make calls at a steady pace, and a fault every second or so."""
        for part in self.parts:
            part.tend()
        wait_for(lambda: all(listens(port) for port in self.ports), 30, "the receivers")
        calls = {
            "count": self.report.recordings,
            "webhook_url": f"http://127.0.0.1:{self.ports[0]}/webhooks/telnyx",
            "failover_url": f"http://127.0.0.1:{self.ports[1]}/webhooks/telnyx",
            "per_second": self._per_second,
            "seconds": 4,
            "mp3": 7,
            "transcribed": 5,
            "both_formats": 11,
            "conference": 13,
        }
        done = threading.Event()

        def make() -> None:
            url = f"{self.sandbox.world.base_url}/_sandbox/calls"
            httpx.post(url, json=calls, timeout=3600, trust_env=False).raise_for_status()
            done.set()

        threading.Thread(target=make, daemon=True).start()
        lasting = 0
        while not (done.is_set() and self.scenes.are_over):
            self.rng.choice((self._one_fault, self.scenes.happen))()
            if self.scenes.lasting < lasting:
                self._surfaces("behind a scene")
            lasting = self.scenes.lasting
            until = time.monotonic() + self.rng.uniform(0.5, 2.0)
            while time.monotonic() < until:
                self._tend()
                time.sleep(0.1)

    def _tend(self) -> None:
        self.scenes.tend()
        for part in self.parts:
            part.tend()
        if not self.valkey.is_running:
            self.valkey.start()

    def _one_fault(self) -> None:
        kind = self.rng.choice(("kill", "kill", "kill", "valkey", "faults", "faults", "faults", "calm", "wipe"))
        if kind == "kill":
            part = self.rng.choice(self.parts)
            part.kill_for(self.rng.uniform(0, 2))
            self.report.kills += 1
            self.log(f"killed {part.name}")
        elif kind == "valkey" and self.valkey.process is not None:
            self.valkey.process.kill()
            self.valkey.process.wait()
            self.report.kills += 1
            self.log("killed valkey")
        elif kind == "wipe" and self.rng.random() < 0.5:
            try:
                self.redis.flushall()
            except redis.RedisError:
                return
            self.report.wipes += 1
            self.log("wiped valkey")
        elif kind == "faults":
            fault = self.rng.choice(FAULTS)
            self.sandbox.world.faults.change(dict(fault))
            self.log(f"fault {fault}")
        elif kind == "calm":
            self.sandbox.world.faults.change(dict(CALM))

    def _settle(self, patience_seconds: float) -> None:
        """End the faults, retry dead letters as a person would, wait until all is archived and deleted."""
        self.sandbox.world.faults.change(dict(CALM))
        self.scenes.calm_down()
        self.log("calm")
        deadline = time.monotonic() + patience_seconds
        let_go_at = 0.0
        while time.monotonic() < deadline:
            self._tend()
            self._retry_letters()
            if time.monotonic() >= let_go_at:  # repeatedly: a safety stop or changed content may show only now
                self.scenes.let_go()
                let_go_at = time.monotonic() + 10
            if self.books.are_settled:
                break
            time.sleep(0.5)
        time.sleep(1)
        self._tend()

    def _retry_letters(self) -> None:
        try:
            letters = self.redis.hgetall("callvault:dead-letters")
        except redis.RedisError:
            return
        for job_id, text in letters.items():
            letter = json.loads(text)
            if letter["cause"] in ("conflict", "damaged", "rejected") and job_id in self._letters:
                self.report.wrong.append(f"{job_id}: {letter['cause']}: {letter['error']}")
                self.redis.hdel("callvault:dead-letters", job_id)
                continue
            self._letters.add(job_id)  # the first time the missing disk may be the reason
            run_callvault(["dead-letters", "retry", job_id], {"REDIS_URL": self.valkey.url})
            self.report.retried_letters += 1

    def _check(self) -> None:
        self.books.check()
        self.report.archived, self.report.deleted = self.books.archived, self.books.deleted
        self.report.due_later = self.books.due_later
        self.report.wrong += self.scenes.wrong
        self._check_redis()

    def _verify(self) -> None:
        """`verify` must agree with the books, which by now show no problem."""
        for arguments in (("--deep",), ("--seals",)):
            done = self.scenes.callvault("verify", *arguments, "--json")
            if done.returncode != 0:
                what = f"{done.stdout[-3000:]} {done.stderr[-1000:]}".strip()
                self.report.wrong.append(f"`verify {' '.join(arguments)}` fails: {what}")

    def _surfaces(self, when: str) -> set[str]:
        """Check that all surfaces show the same problems once they have settled; returns those."""
        shown: dict[str, set[str]] = {}
        deadline = time.monotonic() + _SURFACES_SECONDS
        while time.monotonic() < deadline:
            self._tend()
            shown = conditions_on_surfaces(self.scenes.callvault, self.ports)
            if len({frozenset(kinds) for kinds in shown.values()}) == 1:
                return shown["status"]
            time.sleep(0.5)
        self.report.wrong.append(f"{when} surfaces differ: {shown}")
        return shown.get("status", set())

    def _check_redis(self) -> None:
        """Check that Redis holds no job data without a queue entry, no entry without data, no lease without a job."""

        def orphans() -> list[str]:
            queued = {job for queue in QUEUES.values() for job in self.redis.zrange(queue, 0, -1)}
            data = {key.removeprefix("arq:job:") for key in self.redis.scan_iter("arq:job:*")}
            leased = set(self.redis.hkeys("callvault:leases"))
            found = [f"job data without a queue entry: {job}" for job in data - queued]
            found += [f"queue entry without job data: {job}" for job in queued - data]
            return found + [f"lease of a job that is not there: {job}" for job in leased - queued]

        deadline = time.monotonic() + 45
        while (found := orphans()) and time.monotonic() < deadline:
            self._tend()
            time.sleep(0.5)
        self.report.wrong += found


def run(
    recordings: int,
    seed: int,
    *,
    per_second: float,
    patience_seconds: float,
    scene_seconds: float,
    log: Callable[[str], None],
) -> Report:
    """Run once in a fresh folder, which is kept if something is wrong."""
    folder = Path(tempfile.mkdtemp(prefix="callvault-chaos-"))
    limit_seconds = 2 * recordings / per_second + 2 * patience_seconds + 3600
    report = Chaos(folder, recordings, seed, per_second, scene_seconds, limit_seconds, log).run(patience_seconds)
    if report.wrong:
        log(f"the logs: {folder / 'logs'}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def end_with(report: Any) -> NoReturn:
    """Print what a run found, and end this process; with status 1 if something is wrong."""
    for name, value in vars(report).items():
        if name != "wrong":
            print(f"{name:<16} {value}")
    for line in report.wrong:
        print("WRONG", line)
    sys.stdout.flush()  # which what follows does not
    os._exit(1 if report.wrong else 0)


def main() -> None:
    """The long run, with a report."""
    parser = argparse.ArgumentParser(description="Faults at random, checked from the sandbox's books.")
    parser.add_argument("--recordings", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--per-second", type=float, default=10)
    parser.add_argument("--scene-seconds", type=float, default=60)
    options = parser.parse_args()

    def log(line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)

    log(f"seed {options.seed}")
    pace = {"per_second": options.per_second, "patience_seconds": 600, "scene_seconds": options.scene_seconds}
    end_with(run(options.recordings, options.seed, **pace, log=log))


if __name__ == "__main__":
    main()
