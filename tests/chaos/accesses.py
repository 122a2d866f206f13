"""Plays by many people while receivers and the worker are killed: each play that was answered is in the archive's log, once.

`make plays N=10000` is the long run; `test_accesses.py` a short one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx

from lab.processes import Process, Receiver, run_callvault, wait_for
from lab.redis import Server
from tests.chaos.chaos import end_with
from tests.seals.small import SmallArchive
from tests.service.test_access_log import ARCHIVE_ID, TOKEN, environment
from workers.keys import ACCESS_BATCH, ACCESS_WAITING, TURN

RECORDINGS = [f"{days}-{name}" for days in (5, 7, 9, 11) for name in ("one", "two")]
_MOVE_SECONDS = 180  # a worker moves lines once a minute, and another takes over from a killed one
_LEAST_KILLS = 2  # however fast the machine plays


@dataclass
class Report:
    """What a run found.

    Attributes:
        answered: plays of which a byte was sent.
        lines, objects: of the access log in the archive.
        kills: of receivers and of the worker.
        seconds: that the plays took.
        wrong: plays without their line, or with several; empty if all is well.
    """

    answered: int = 0
    lines: int = 0
    objects: int = 0
    kills: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class _Run:
    def __init__(self, folder: Path, plays: int, at_once: int, random: Random) -> None:
        self.small = SmallArchive(folder / "archive", {"id": ARCHIVE_ID})
        self.plays, self.at_once, self.random, self.folder = plays, at_once, random, folder
        self.answered: set[tuple[str, str]] = set()
        self.report, self.taken, self.enough = Report(), threading.Lock(), threading.Event()
        self.names = (f"person {n}" for n in itertools.count())

    def settings(self, redis_url: str) -> dict[str, str]:
        telnyx = {"TELNYX_API_KEY": "KEY", "TELNYX_BASE_URL": "http://127.0.0.1:9/v2"}
        return environment(redis_url, self.small, CALLVAULT_API_REQUESTS_PER_MINUTE="0", **telnyx)

    def people(self, urls: list[str]) -> None:
        """One person after another signs in and plays each recording in two ranges, at any receiver; until there are enough."""
        while not self.enough.is_set():
            with self.taken:
                name, url = next(self.names), self.random.choice(urls)
            with suppress(httpx.TransportError), httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
                if client.post("/ops/sign-in", data={"name": name, "token": TOKEN}).status_code != 303:
                    continue
                for recording in RECORDINGS:
                    self._play(client, name, recording)

    def _play(self, client: httpx.Client, name: str, recording: str) -> None:
        for span in ("bytes=0-3", "bytes=4-"):
            answer = client.get(f"/ops/recordings/{recording}/audio.wav", headers={"Range": span})
            assert answer.status_code in (206, 503), (answer.status_code, answer.text)
            if answer.status_code == 206:
                with self.taken:
                    self.answered.add((name, recording))
                    if len(self.answered) >= self.plays and self.report.kills >= _LEAST_KILLS:
                        self.enough.set()

    def lines(self) -> Iterator[dict[str, str]]:
        for path in sorted((self.small.root / "access-log").rglob("*.jsonl")):
            self.report.objects += 1
            yield from map(json.loads, path.read_bytes().splitlines())


def run(plays: int, at_once: int, kill_every_seconds: float, seed: int, log: Callable[[str], None]) -> Report:
    """Run once in a fresh folder, which is kept if something is wrong."""
    folder = Path(tempfile.mkdtemp(prefix="callvault-plays-"))
    one = _Run(folder, plays, at_once, Random(seed))
    with Server(folder, "--appendfsync", "always") as server:
        settings = one.settings(server.url)
        receivers = [Receiver(settings), Receiver(settings)]
        worker = Process(["callvault", "worker"], settings)
        with receivers[0], receivers[1], worker, ThreadPoolExecutor(at_once) as people:
            for process in receivers:
                process.wait_for_output("Uvicorn running")
            began = time.monotonic()
            running = [people.submit(one.people, [process.url for process in receivers]) for _ in range(at_once)]
            victims: list[Process] = [*receivers, worker]
            try:
                while not one.enough.wait(kill_every_seconds):
                    assert not any(future.done() for future in running), [future.exception(0) for future in running]
                    victim = victims[one.report.kills % 3]
                    victim.kill()
                    victim.start()
                    one.report.kills += 1
                    log(f"{len(one.answered)} plays, {one.report.kills} kills")
            finally:
                one.enough.set()
            for future in running:
                future.result(60)
            one.report.seconds = time.monotonic() - began
            receivers[0].kill()
            receivers[1].kill()
            with server.client() as client:
                worker.kill()
                client.delete(TURN + "move_access_log")  # so that the next worker moves them at once
                worker.start()
                keys = (ACCESS_WAITING + ARCHIVE_ID, ACCESS_BATCH + ARCHIVE_ID, ACCESS_WAITING)
                wait_for(lambda: not any(client.exists(key) for key in keys), _MOVE_SECONDS, "all lines in the archive")
        shown = run_callvault(["access-log", "--json"], settings)
    return _checked(one, shown.stdout, log)


def _checked(one: _Run, shown: str, log: Callable[[str], None]) -> Report:
    report, found, ids = one.report, Counter[tuple[str, str]](), set[str]()
    for line in one.lines():
        if line["id"] not in ids and line["what"] == "play":
            found[line["who"], line["recordings"][0]] += 1
        ids.add(line["id"])
    report.answered, report.lines = len(one.answered), len(ids)
    report.wrong += [f"no line: {play}" for play in one.answered - found.keys()]
    report.wrong += [f"{found[play]} lines: {play}" for play in found if found[play] > 1]
    if (listed := {json.loads(row)["id"] for row in shown.splitlines()}) != ids:
        report.wrong.append(f"`callvault access-log --json` shows {len(listed)} of {len(ids)} lines")
    if report.wrong:
        log(f"the archive: {one.folder}")
    else:
        shutil.rmtree(one.folder, ignore_errors=True)
    return report


def main() -> None:
    """The long run, with a report."""
    parser = argparse.ArgumentParser(description="Plays under kill -9, and the access log after it.")
    parser.add_argument("--plays", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=12)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    end_with(run(options.plays, options.at_once, 5.0, options.seed, lambda line: print(line, flush=True)))


if __name__ == "__main__":
    main()
