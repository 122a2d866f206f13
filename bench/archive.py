"""The worker: recordings/s, MB/s, CPU and memory of the whole job, against `rclone copy` and against a Celery task."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import redis

from bench import machine
from bench.origin import lay_out
from bench.pairs import Result, alternate, say
from bench.receiver import CELERY
from bench.webhooks import signed
from tests.contract.emulators import Emulator, azure, environ, gcs, rclone
from tests.parts import Signer, free_port, make_archive, wait_for
from workers.jobs.payloads import RecordingRequest, recording_job
from workers.keys import RECONCILED, UNSEALED_KNOWN, WORKER, WRITTEN
from workers.queue.accept import Acceptor
from workers.queue.connect import connect_worker

_MB = 1_000_000
_PATIENCE_SECONDS = 120
_FILE_GOALS = (">= 0.6", ">= 1.0")  # by one process, by two


class Yard:
    """Everything that a run of the worker needs: nginx as Telnyx, a Valkey, a store."""

    def __init__(self, folder: Path, origin: str, redis_url: str, s3: dict[str, str]) -> None:
        self.folder, self.origin, self.redis_url, self.s3 = folder, origin, redis_url, s3
        self.signer = Signer()
        self.ids: list[str] = []
        self._run = 0
        self.size_bytes = 0
        self.cpu_seconds = self.peak_mib = 0.0
        self.cloud: Emulator | None = None

    def stock(self, count: int, size_bytes: int) -> None:
        """Have the origin serve so many recordings of a size, and nothing else."""
        for name in ("v2", "audio"):
            shutil.rmtree(self.folder / "origin" / name, ignore_errors=True)
        self.ids = lay_out(self.folder / "origin", self.origin, count, size_bytes)
        self.size_bytes = size_bytes
        # What the audio is known to be, for those that check their copies.
        sha256 = hashlib.sha256((self.folder / "origin" / "audio" / f"{self.ids[0]}.wav").read_bytes()).hexdigest()
        (self.folder / "sums").write_text("".join(f"{sha256}  {one}.wav\n" for one in self.ids))

    @contextmanager
    def far_away(self, round_trip_ms: float) -> Iterator[None]:
        """Provider and store so far away; what is stocked within the block is served from there."""
        near, near_s3 = self.origin, self.s3
        with ExitStack() as lines:
            self.origin = lines.enter_context(machine.far(near, round_trip_ms))
            endpoint = lines.enter_context(machine.far(near_s3["AWS_ENDPOINT_URL_S3"], round_trip_ms))
            self.s3 = near_s3 | {"AWS_ENDPOINT_URL_S3": endpoint}
            try:
                yield
            finally:
                self.origin, self.s3 = near, near_s3

    def environment(self, store: str) -> dict[str, str]:
        """What the parts run with."""
        archive = {"CALLVAULT_ARCHIVE_URL": (self.folder / "file").as_uri()}
        if store == "s3":  # the server remembers folders, so each run has one of its own
            archive = self.s3 | {"CALLVAULT_ARCHIVE_URL": f"s3://bucket/run-{self._run}", "RUN": f"run-{self._run}"}
        elif self.cloud is not None and store != "file":
            archive = self.cloud.settings
        return archive | {
            "TELNYX_BASE_URL": f"{self.origin}/v2",
            "TELNYX_API_KEY": "KEY",
            "TELNYX_PUBLIC_KEY": self.signer.public_key,
            "REDIS_URL": self.redis_url,
            "CALLVAULT_DATA": str(self.folder / "data"),
            "CALLVAULT_LOG_MESSAGES": "off",
            "CALLVAULT_LOG_LEVEL": "error",
            "PYTHONPATH": str(machine.ROOT),
        }

    def clear(self) -> None:
        """Empty the stores and Redis; no sweep and no look for days to be sealed begins."""
        self._run += 1
        for path in (self.folder / "file", self.folder / "copies"):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
        make_archive(self.folder / "file")
        with environ(self.s3):  # its server would not see what is put straight onto its disk
            make_archive(f"s3://bucket/run-{self._run}")
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushall()
            server = client.info()
            start = f"{server['run_id']} {server['master_replid']}"
            client.mset({RECONCILED + name: "1" for name in ("recent", "open", "sealed")} | {UNSEALED_KNOWN: start})

    def callvault(self, store: str, processes: int = 1) -> float:
        """Archive all that is stocked; seconds from the first job to the last commit record."""
        self.clear()
        environment = self.environment(store)
        command = [sys.executable, "-m", "cli.main", "worker", "--processes", str(processes)]
        with machine.process(command, environment) as worker, redis.Redis.from_url(self.redis_url) as client:
            wait_for(lambda: len(client.keys(WORKER + "*")) >= processes or worker.has_ended, 30)
            time.sleep(0.5)
            before = machine.cpu_seconds(worker.pid)
            asyncio.run(self.enqueue())
            count = len(self.ids)
            seconds = machine.sleep_until(lambda: client.xlen(WRITTEN) >= count, _PATIENCE_SECONDS, "archiving")
            self.cpu_seconds = machine.cpu_seconds(worker.pid) - before
            self.peak_mib = machine.peak_mib(worker.pid)
        return seconds

    async def enqueue(self) -> None:
        """Have the worker archive all that is stocked."""
        client = connect_worker(self.redis_url)
        acceptor = Acceptor(client)
        jobs = [recording_job(RecordingRequest(recording_id=one)) for one in self.ids]
        await asyncio.gather(*(acceptor.accept(job.id, [job]) for job in jobs))
        await client.aclose()

    def rclone(self, store: str) -> float:
        """Copy all that is stocked; seconds."""
        self.clear()
        to = str(self.folder / "copies")
        if store == "s3":
            keys = f"access_key_id={self.s3['AWS_ACCESS_KEY_ID']},secret_access_key={self.s3['AWS_SECRET_ACCESS_KEY']}"
            to = f":s3,provider=Other,endpoint='{self.s3['AWS_ENDPOINT_URL_S3']}',{keys}:bucket/run-{self._run}"
        elif self.cloud is not None and store != "file":
            to = self.cloud.rclone
        options = [
            "--transfers",
            "16",
            "--config",
            "/dev/null",
            "--http-url",
            f"{self.origin}/audio/",
            "--log-level",
            "ERROR",
        ]
        started = time.perf_counter()
        subprocess.run([rclone(), "copy", ":http:", to, *options], check=True, timeout=_PATIENCE_SECONDS)
        return time.perf_counter() - started

    def shell_tools(self) -> float:
        """Copy all that is stocked to a folder, flush it, read it back past the cache, and hold it against its sums; seconds."""
        self.clear()
        copies = self.folder / "copies"
        copy = f"{rclone()} copy :http: . --transfers 16 --config /dev/null --http-url {self.origin}/audio/ --log-level ERROR"
        forget = "find . -name '*.wav' -print0 | xargs -0 -P2 -I{} dd if={} iflag=nocache count=0 status=none"
        steps = f"{copy} && sync -- *.wav . && {forget} && sha256sum --quiet -c {self.folder}/sums"
        started = time.perf_counter()
        subprocess.run(["sh", "-c", steps], cwd=copies, check=True, timeout=_PATIENCE_SECONDS)
        return time.perf_counter() - started

    def celery(self, task: str) -> tuple[float, float]:
        """The same job by a task of `bench/peers/celery_app.py`, to S3: seconds, and seconds of CPU."""
        self.clear()
        python = machine.python_with("celery", *CELERY)
        command = [python, "-m", "celery", "-A", "bench.peers.celery_app:celery", "worker", "--loglevel", "error"]
        with machine.process(command, self.environment("s3")) as worker, redis.Redis.from_url(self.redis_url) as client:
            wait_for(lambda: client.exists("_kombu.binding.celery") or worker.has_ended, 30)
            time.sleep(2)
            before = machine.cpu_seconds(worker.pid)
            code = f"import json, sys\nfrom bench.peers.celery_app import {task}\n"
            code += f"for one in json.load(sys.stdin): {task}.delay({{'recording_id': one}})"
            send = subprocess.Popen(
                [python, "-c", code], env=os.environ | self.environment("s3"), stdin=subprocess.PIPE
            )
            send.communicate(json.dumps(self.ids).encode(), timeout=60)
            folder, count = self.folder / "s3" / "bucket" / f"run-{self._run}", len(self.ids)
            seconds = machine.sleep_until(
                lambda: sum(1 for _ in folder.rglob("recording.json")) >= count, _PATIENCE_SECONDS, "the Celery tasks"
            )
            return seconds, machine.cpu_seconds(worker.pid) - before


@contextmanager
def yard() -> Iterator[Yard]:
    """Set it up."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "origin").mkdir()
        with machine.nginx(folder / "origin") as origin, machine.valkey() as url, machine.s3(folder / "s3") as s3:
            yield Yard(folder, origin, url, s3)


def run() -> Iterator[Result]:
    """Measure, one row after the other."""
    with yard() as place:
        place.stock(400, _MB)
        for store, goals in (("file", _FILE_GOALS), ("s3", (">= 0.5", ">= 0.7"))):
            for processes, goal in enumerate(goals, 1):
                what = f"archive 1 MB recordings, `{store}`, {processes} process{'es' * (processes > 1)}, recordings/s"
                if store == "file":
                    yield _same_promises(place, what, processes, goal)
                yield _rate(place, what, store, processes, goal, "/s", 400)
        yield _cpu(place, "Celery task with requests and boto3", "archive", "<= 0.8")
        same = "the same that asks, puts create-only and proves as Callvault does"
        yield _cpu(place, same, "archive_with_promises", "<= 0.6")
        for size, count, name in ((50 * _MB, 12, "50 MB"), (1_000 * _MB, 2, "1 GB")):
            place.stock(count, size)
            for store in ("file", "s3"):
                what = f"archive {name} recordings, `{store}`, one process, MB/s"
                yield _rate(place, what, store, 1, ">= 0.9", "MB/s", count * size / _MB)
        place.stock(6, 50 * _MB)
        for store, opened in (("gs", gcs), ("az", lambda _: azure())):
            yield _cloud(place, store, opened)
        yield _whole_job(place, "the whole job, webhook to archive, 1 MB, recordings/s", ">= 1.5")
        with place.far_away(20):
            what = "the whole job, provider and store 20 ms away, 1 MB, recordings/s"
            yield _whole_job(place, what, ">= 10")
        yield _beside_a_worker(place)
        yield from _memory(place)


def _rate(place: Yard, what: str, store: str, processes: int, goal: str, unit: str, amount: float) -> Result:
    note = f"`callvault worker --processes {processes}`; `rclone copy :http: ... --transfers 16`; nginx serves both"
    return alternate(
        what,
        "`rclone copy`, 16 transfers, unverified",
        lambda: amount / place.callvault(store, processes),
        lambda: amount / place.rclone(store),
        unit=unit,
        goal=goal,
        note=note,
    )


def _cloud(place: Yard, store: str, opened: Callable[[Path], AbstractContextManager[Emulator]]) -> Result:
    """On an emulator that keeps all in memory, so each run has one of its own."""
    amount = len(place.ids) * place.size_bytes / _MB

    def in_a_new_one(seconds: Callable[[str], float]) -> float:
        with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as place.cloud:
            return amount / seconds(store)

    return alternate(
        f"archive {place.size_bytes // _MB} MB recordings, `{store}`, one process, MB/s",
        "`rclone copy`, 16 transfers, unverified, same emulator",
        lambda: in_a_new_one(place.callvault),
        lambda: in_a_new_one(place.rclone),
        unit="MB/s",
        goal=">= 0.8",
        note="fake-gcs-server, Azurite; `callvault worker`; `rclone copy :http: ... --transfers 16`",
        pairs=3,
    )


def _same_promises(place: Yard, what: str, processes: int, goal: str) -> Result:
    amount = len(place.ids)
    return alternate(
        what,
        "`rclone copy`, then flush, read back past the cache, `sha256sum -c`",
        lambda: amount / place.callvault("file", processes),
        lambda: amount / place.shell_tools(),
        unit="/s",
        goal=goal,
        note=f"`callvault worker --processes {processes}`; `rclone copy ... --transfers 16 && sync -- *.wav . && ... dd "
        "iflag=nocache && sha256sum -c`; nginx serves both. The other side asks for nothing, records nothing, and has the sums",
    )


def _cpu(place: Yard, against: str, task: str, goal: str) -> Result:
    def ours() -> float:
        place.callvault("s3")
        return place.cpu_seconds * 1000 / len(place.ids)

    return alternate(
        "CPU seconds per 1,000 recordings of 1 MB, whole job, `s3`",
        against,
        ours,
        lambda: place.celery(task)[1] * 1000 / len(place.ids),
        unit="s",
        goal=goal,
        note="`celery worker`, prefork, two processes; `callvault worker`; user and system time of all their processes",
    )


def _beside_a_worker(place: Yard) -> Result:
    """The receiver's p99 at ten million recordings a day, which are 115 events a second, with a worker beside it."""
    a_second, seconds = 115, 5
    place.stock(1_500, _MB)

    async def p99(port: int) -> float:
        took: list[float] = []

        async def post(client: httpx.AsyncClient, headers: dict[str, str], body: bytes) -> None:
            started = time.perf_counter()
            answer = await client.post(f"http://127.0.0.1:{port}/webhooks/telnyx", content=body, headers=headers)
            took.append((time.perf_counter() - started) * 1000)
            assert answer.status_code == 200

        async with httpx.AsyncClient(timeout=30, trust_env=False) as client, asyncio.TaskGroup() as group:
            began = time.perf_counter()
            # Events of a type that makes no job: what the worker has to do is the same all the while.
            events = signed(place.signer, place.ids, a_second * seconds, "call.hangup")
            for i, (headers, body) in enumerate(events):
                await asyncio.sleep(began + i / a_second - time.perf_counter())
                group.create_task(post(client, headers, body))
        return statistics.quantiles(took, n=100)[98]

    def measure(is_busy: bool) -> float:
        with _both_parts(place, "file") as (port, client):
            if is_busy:
                asyncio.run(place.enqueue())
            found = asyncio.run(p99(port))
            if is_busy and client.xlen(WRITTEN) >= len(place.ids):
                raise RuntimeError("the worker was done before the measurement")
            return found

    return alternate(
        "receiver: p99 at 115 events/s while a worker archives 1 MB recordings",
        "the same with the worker idle",
        lambda: measure(True),
        lambda: measure(False),
        unit="ms",
        goal="<= 2",
        note="receiver, worker, Valkey, nginx, disk and the sender share two cores; 575 events a run",
    )


def _memory(place: Yard) -> list[Result]:
    peaks = {}
    for size, count, name in ((_MB, 200, "1 MB"), (50 * _MB, 32, "50 MB"), (1_000 * _MB, 16, "1 GB")):
        place.stock(count, size)
        place.callvault("file")
        peaks[name] = place.peak_mib
        say(f"  peak memory, 16 in flight, {name}: {place.peak_mib:.0f} MiB")
    rows = []
    for name in ("50 MB", "1 GB"):
        ratio = peaks[name] / peaks["1 MB"]
        what = f"peak memory of a worker, 16 in flight, {name}, `file`"
        note = "VmHWM of the process; one run"
        rows.append(
            Result(what, "itself at 1 MB", peaks[name], peaks["1 MB"], "MiB", ratio, (ratio, ratio), "<= 1.5", note)
        )
    return rows


def _whole_job(place: Yard, what: str, goal: str) -> Result:
    count = 100
    place.stock(count, _MB)

    def post(port: int, threads: int) -> None:
        events: list[Any] = list(signed(place.signer, place.ids, count))
        limits = httpx.Limits(max_connections=threads)

        async def all_of_them() -> None:
            async with httpx.AsyncClient(limits=limits, timeout=120, trust_env=False) as client:
                url = f"http://127.0.0.1:{port}/webhooks/telnyx"
                answers = await asyncio.gather(*(client.post(url, content=b, headers=h) for h, b in events))
                assert all(answer.status_code == 200 for answer in answers)

        asyncio.run(all_of_them())

    def ours() -> float:
        with _both_parts(place, "s3") as (port, client):
            started = time.perf_counter()
            post(port, 8)
            machine.sleep_until(lambda: client.xlen(WRITTEN) >= count, _PATIENCE_SECONDS, "archiving")
            return count / (time.perf_counter() - started)

    def flask() -> float:
        place.clear()
        port = free_port()
        python = machine.python_with("flask", "flask", "telnyx[webhooks]==4.189.0", "requests", "boto3")
        environment = place.environment("s3") | {"PORT": str(port)}
        with machine.process([python, "bench/peers/flask_app.py"], environment):
            wait_for(lambda: machine.answers(port), 30)
            started = time.perf_counter()
            post(port, 8)
            return count / (time.perf_counter() - started)

    against = "Flask, SDK, requests, boto3, one thread"
    return alternate(
        what, against, ours, flask, unit="/s", goal=goal, note="100 events over 8 connections; the same S3"
    )


@contextmanager
def _both_parts(place: Yard, store: str) -> Iterator[tuple[int, Any]]:
    """A worker and a receiver on an empty store: the receiver's port, and a client of their Redis."""
    place.clear()
    port, environment = free_port(), place.environment(store)
    worker = [sys.executable, "-m", "cli.main", "worker"]
    serve = [sys.executable, "-m", "cli.main", "serve", "--port", str(port)]
    with machine.process(worker, environment), machine.process(serve, environment), _client(place) as client:
        wait_for(lambda: client.keys(WORKER + "*") and machine.answers(port), 30)
        yield port, client


def _client(place: Yard) -> redis.Redis:
    return redis.Redis.from_url(place.redis_url)
