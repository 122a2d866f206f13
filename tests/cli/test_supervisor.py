"""The supervisor of `callvault up` and `callvault worker --processes`."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from cli.supervisor import Part, Supervisor
from lab.processes import wait_for
from workers.queue.embedded import EmbeddedServer


def test_a_part_that_keeps_dying_is_restarted_for_ever() -> None:
    ended = subprocess.Popen(["/bin/false"])
    ended.wait(10)

    class Dying(Part):
        def start(self, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
            self.process, self.started_at = ended, time.monotonic()
            return ended

    said: list[str] = []
    with Supervisor(said.append) as supervisor:
        part = supervisor.add(Dying("worker", []))
        for _ in range(2_000):  # a night
            supervisor.tend()  # finds that it ended
            part.start_again_at = 0
            supervisor.tend()  # starts it again
    waits = [line.rpartition(" ")[2] for line in said]
    assert waits[:8] == ["0.5s", "1s", "2s", "4s", "8s", "16s", "30s", "30s"]
    assert len(waits) == 2_000 and said[-1] == "worker exited with status 1; restarting it in 30s"


def test_a_server_that_is_just_ending_is_not_joined(tmp_path: Path) -> None:
    before, after = EmbeddedServer(tmp_path), EmbeddedServer(tmp_path)
    before.start()
    assert before.process is not None
    before.process.terminate()  # as the kernel does when its supervisor is killed; it answers until it notices
    said: list[str] = []
    with Supervisor(said.append, after) as supervisor:
        assert before.process.wait(20) == 0 and after.process is not None and after.is_running
        supervisor.tend()
    assert said == [] and not after.is_running


def test_a_joined_server_that_ends_is_replaced(tmp_path: Path) -> None:
    other, joined = EmbeddedServer(tmp_path), EmbeddedServer(tmp_path)
    other.start()
    said: list[str] = []
    with Supervisor(said.append, joined) as supervisor:
        supervisor.tend()
        assert not joined.has_ended and said == []
        other.stop()
        wait_for(lambda: joined.has_ended, 20)
        for _ in range(3):
            supervisor.tend()
        assert joined.process is not None and joined.is_running
    assert said == ["valkey has ended; restarting it"]
