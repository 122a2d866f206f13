"""The supervisor of `callvault up` and `callvault worker --processes`."""

from __future__ import annotations

import subprocess
import time

from cli.supervisor import Part, Supervisor


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
