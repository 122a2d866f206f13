"""The worker's rate, CPU and memory for the whole job, against `rclone copy` and a Celery task."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx

from bench import machine
from bench.pairs import Result, alternate, log, once
from bench.sender import post
from lab.deployment import Deployment, deployment
from lab.far import far
from lab.origin import lay_out, nginx
from lab.processes import CLEAN, Process, free_port, running, seconds_until, serves_http, wait_for
from lab.stores import Emulator, azure, gcs, rclone, rclone_remote, s3_weak
from lab.webhooks import signed

_MB = 1_000_000
_LIMIT_SECONDS = 120
_SETTLE_SECONDS = 3  # a worker goes on starting after its first heartbeat
_FILE_GOALS = (">= 0.6", ">= 1.0")  # with one process, with two


class _Place:
    """A deployment, the recordings that its Telnyx has, and the stores that they are archived in."""

    def __init__(self, own: Deployment, origin: str, s3: Emulator) -> None:
        self.deployment, self.folder, self.origin, self.s3 = own, own.folder, origin, s3
        own.settings = {"CALLVAULT_LOG_MESSAGES": "off"}
        self.ids: list[str] = []
        self.size_bytes = 0
        self.cpu_seconds = self.peak_mib = 0.0
        self.cloud: Emulator | None = None
        self._run = 0

    def stock(self, count: int, size_bytes: int) -> None:
        """Have the origin serve so many recordings of a size, and nothing else."""
        for name in ("v2", "audio"):
            shutil.rmtree(self.folder / "origin" / name, ignore_errors=True)
        self.deployment.play_telnyx(self.origin)
        self.ids = lay_out(self.folder / "origin", self.origin, count, size_bytes)
        self.size_bytes = size_bytes
        sha256 = hashlib.sha256((self.folder / "origin" / "audio" / f"{self.ids[0]}.wav").read_bytes()).hexdigest()
        (self.folder / "sums").write_text("".join(f"{sha256}  {one}.wav\n" for one in self.ids))

    @contextmanager
    def far_away(self, round_trip_ms: float) -> Iterator[None]:
        """Put Telnyx and S3 at a distance; what is stocked within the block is served from there."""
        near, near_s3 = self.origin, self.s3
        with ExitStack() as lines:
            self.origin = lines.enter_context(far(near, round_trip_ms))
            endpoint = lines.enter_context(far(near_s3.environment["AWS_ENDPOINT_URL_S3"], round_trip_ms))
            self.s3 = replace(near_s3, environment=near_s3.environment | {"AWS_ENDPOINT_URL_S3": endpoint})
            try:
                yield
            finally:
                self.origin, self.s3 = near, near_s3

    def clear(self, store: str) -> str:
        """Start on an empty archive in a store, with Redis empty; returns where `rclone` copies to."""
        self._run += 1
        copies = self.folder / "copies"
        for used in (copies, *(self.folder / "s3" / "bucket").glob("run-*")):  # ten runs of 2 GB could fill a disk
            shutil.rmtree(used, ignore_errors=True)
        copies.mkdir()
        remote = str(copies)
        self.deployment.archive = {"CALLVAULT_ARCHIVE_URL": (self.folder / "archive").as_uri()}
        if store == "s3":  # the server remembers folders, so each run has one of its own
            folder = f"run-{self._run}"
            self.deployment.archive = self.s3.environment | {
                "CALLVAULT_ARCHIVE_URL": f"{self.s3.url}/{folder}",
                "RUN": folder,
            }
            port = int(self.s3.environment["AWS_ENDPOINT_URL_S3"].rpartition(":")[2])
            remote = f"{rclone_remote(port, 'bucket')}/{folder}"
        elif self.cloud is not None and store != "file":
            self.deployment.archive, remote = self.cloud.make_archive(), self.cloud.rclone
        self.deployment.clear()
        return remote

    def callvault(self, store: str, processes: int = 1) -> float:
        """Archive all that is stocked; seconds from the first job to the last commit record."""
        self.clear(store)
        with self.deployment.workers(1, "--processes", str(processes)) as (worker,):
            wait_for(lambda: self.deployment.living_workers() >= processes or worker.has_ended, 30)
            time.sleep(0.5)
            before = machine.cpu_seconds(worker.pid)
            self.deployment.enqueue(self.ids)
            seconds = self._seconds_until_archived()
            self.cpu_seconds = machine.cpu_seconds(worker.pid) - before
            self.peak_mib = machine.peak_mib(worker.pid)
        return seconds

    def _seconds_until_archived(self) -> float:
        return seconds_until(lambda: self.deployment.archived() >= len(self.ids), _LIMIT_SECONDS, "archiving")

    def _rclone(self, to: str) -> list[str]:
        options = ["--transfers", "16", "--config", "/dev/null", "--log-level", "ERROR"]
        return [rclone(), "copy", ":http:", to, "--http-url", f"{self.origin}/audio/", *options]

    def rclone(self, store: str) -> float:
        """Copy all that is stocked; seconds."""
        command = self._rclone(self.clear(store))
        started = time.perf_counter()
        subprocess.run(command, check=True, timeout=_LIMIT_SECONDS)
        return time.perf_counter() - started

    def shell_tools(self) -> float:
        """Copy everything to a folder, flush it, read it back past the cache, compare checksums; seconds."""
        copies = self.clear("file")
        forget = "find . -name '*.wav' -print0 | xargs -0 -P2 -I{} dd if={} iflag=nocache count=0 status=none"
        steps = (
            f"{' '.join(self._rclone('.'))} && sync -- *.wav . && {forget} && sha256sum --quiet -c {self.folder}/sums"
        )
        started = time.perf_counter()
        subprocess.run(["sh", "-c", steps], cwd=copies, check=True, timeout=_LIMIT_SECONDS)
        return time.perf_counter() - started

    def celery_cpu_seconds(self, task: str) -> float:
        """Do the same job by a task of `bench/peers/celery_app.py`, to S3; seconds of CPU."""
        self.clear("s3")
        python, environment = machine.peer_python("celery"), self.deployment.environment
        command = [python, "-m", "celery", "-A", "bench.peers.celery_app:celery", "worker", "--loglevel", "error"]
        with Process(command, environment) as worker:
            wait_for(lambda: self.deployment.client.exists("_kombu.binding.celery") or worker.has_ended, 30)
            time.sleep(2)
            before = machine.cpu_seconds(worker.pid)
            code = f"import json, sys\nfrom bench.peers.celery_app import {task}\n"
            code += f"for one in json.load(sys.stdin): {task}.delay({{'recording_id': one}})"
            ids = json.dumps(self.ids).encode()
            subprocess.run([python, "-c", code], env=CLEAN | environment, input=ids, timeout=60, check=True)
            folder, count = self.folder / "s3" / "bucket" / f"run-{self._run}", len(self.ids)
            done = lambda: sum(1 for _ in folder.rglob("recording.json")) >= count  # noqa: E731
            seconds_until(done, _LIMIT_SECONDS, "the Celery tasks")
            return machine.cpu_seconds(worker.pid) - before


@contextmanager
def _place() -> Iterator[_Place]:
    with deployment() as own, ExitStack() as stack:
        (own.folder / "origin").mkdir()
        origin = stack.enter_context(nginx(own.folder / "origin"))
        s3 = stack.enter_context(s3_weak(own.folder / "s3", "bucket"))
        yield _Place(own, origin, s3)


def run() -> Iterator[Result]:
    """Measure, one row after the other."""
    with _place() as place:
        place.stock(400, _MB)
        for store, goals in (("file", _FILE_GOALS), ("s3", (">= 0.5", ">= 0.7"))):
            for processes, goal in enumerate(goals, 1):
                what = f"archive 1 MB recordings, `{store}`, {processes} process{'es' * (processes > 1)}, recordings/s"
                if store == "file":
                    yield _same_promises(place, what, processes, goal)
                yield _rate(place, what, store, processes, goal, "/s", 400)
        yield _cpu(place, "Celery task with requests and boto3", "archive", "<= 0.8")
        same = "the same with Callvault's checks, create-only puts and proofs"
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


def _rate(place: _Place, what: str, store: str, processes: int, goal: str, unit: str, amount: float) -> Result:
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


def _cloud(place: _Place, store: str, opened: Callable[[Path], AbstractContextManager[Emulator]]) -> Result:
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


def _same_promises(place: _Place, what: str, processes: int, goal: str) -> Result:
    amount = len(place.ids)
    return alternate(
        what,
        "`rclone copy`, then flush, read back past the cache, `sha256sum -c`",
        lambda: amount / place.callvault("file", processes),
        lambda: amount / place.shell_tools(),
        unit="/s",
        goal=goal,
        note=f"`callvault worker --processes {processes}`; `rclone copy ... --transfers 16 && sync -- *.wav . && ... dd "
        "iflag=nocache && sha256sum -c`; nginx serves both. The other side makes no request, records nothing, and has the sums",
    )


def _cpu(place: _Place, against: str, task: str, goal: str) -> Result:
    def ours() -> float:
        place.callvault("s3")
        return place.cpu_seconds * 1000 / len(place.ids)

    return alternate(
        "CPU seconds per 1,000 recordings of 1 MB, whole job, `s3`",
        against,
        ours,
        lambda: place.celery_cpu_seconds(task) * 1000 / len(place.ids),
        unit="s",
        goal=goal,
        note="`celery worker`, prefork, two processes; `callvault worker`; user and system time of all their processes",
    )


def _beside_a_worker(place: _Place) -> Result:
    """The receiver's p99 at 115 events/s (ten million recordings a day) next to a worker."""
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
            # Events of this type make no job, so the worker's load stays the same.
            events = signed(place.deployment.signer, place.ids, a_second * seconds, "call.hangup")
            for i, (headers, body) in enumerate(events):
                await asyncio.sleep(began + i / a_second - time.perf_counter())
                group.create_task(post(client, headers, body))
        return statistics.quantiles(took, n=100)[98]

    def measure(is_busy: bool) -> float:
        place.clear("file")
        with place.deployment.workers(), place.deployment.receivers() as (port,):
            _started(port)
            time.sleep(_SETTLE_SECONDS)
            if is_busy:
                place.deployment.enqueue(place.ids)
            found = asyncio.run(p99(port))
            if is_busy and place.deployment.archived() >= len(place.ids):
                raise RuntimeError("the worker finished before the measurement did")
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


def _started(port: int) -> None:
    """Wait until a receiver has imported the pages, which it does last."""
    wait_for(lambda: serves_http(port, "/ops"), 30, "the pages of the receiver")


def _memory(place: _Place) -> list[Result]:
    peaks = {}
    for size, count, name in ((_MB, 200, "1 MB"), (50 * _MB, 32, "50 MB"), (1_000 * _MB, 16, "1 GB")):
        place.stock(count, size)
        place.callvault("file")
        peaks[name] = place.peak_mib
        log(f"  peak memory, 16 in flight, {name}: {place.peak_mib:.0f} MiB")
    rows = []
    for name in ("50 MB", "1 GB"):
        what = f"peak memory of a worker, 16 in flight, {name}, `file`"
        note = "VmHWM of the process; one run"
        rows.append(once(what, "itself at 1 MB", peaks[name], peaks["1 MB"], unit="MiB", goal="<= 1.5", note=note))
    return rows


def _whole_job(place: _Place, what: str, goal: str) -> Result:
    count, connections = 200, 8
    place.stock(count, _MB)

    def send(port: int) -> float:
        """Send the events, and wait for their answers; returns when the first was sent."""
        events = list(signed(place.deployment.signer, place.ids, count))
        started = time.perf_counter()
        post(port, events, connections)
        return started

    def ours() -> float:
        place.clear("s3")
        with place.deployment.workers(), place.deployment.receivers() as (port,):
            _started(port)
            started = send(port)
            wait_for(lambda: place.deployment.archived() >= count, _LIMIT_SECONDS, "archiving", every_seconds=0.02)
            return count / (time.perf_counter() - started)

    def flask() -> float:
        place.clear("s3")
        port = free_port()
        environment = place.deployment.environment | {"PORT": str(port)}
        with running(
            [machine.peer_python("flask"), "bench/peers/flask_app.py"],
            lambda: serves_http(port),
            environment=environment,
        ):
            started = send(port)
            return count / (time.perf_counter() - started)

    against = "Flask, SDK, requests, boto3, one thread"
    return alternate(
        what,
        against,
        ours,
        flask,
        unit="/s",
        goal=goal,
        note=f"{count} events over {connections} connections; the same S3",
    )
