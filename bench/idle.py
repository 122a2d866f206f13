"""The CPU and memory of an idle worker and an idle receiver."""

from __future__ import annotations

import time

from bench import machine
from bench.pairs import Result, once
from lab.deployment import deployment
from lab.servers import RunningSandbox
from sandbox.world import World

_SETTLE_SECONDS = 15  # first turns of the clock
_SECONDS = 60


def run() -> list[Result]:
    """Measure once: nothing happens in a minute, so there is no other side."""
    sandbox = RunningSandbox(World())
    try:
        with deployment() as own:
            own.telnyx = sandbox.environment
            own.clear()
            with own.workers() as workers, own.receivers() as receivers:
                time.sleep(_SETTLE_SECONDS)
                both = [one.pid for one in (*workers, *receivers.values())]
                before = sum(map(machine.cpu_seconds, both))
                time.sleep(_SECONDS)
                share = (sum(map(machine.cpu_seconds, both)) - before) / _SECONDS * 100
                memory = sum(map(machine.pss_mib, both))
    finally:
        sandbox.stop()
    what = "an idle worker and an idle receiver"
    note = f"`callvault worker` and `callvault serve` on `file`, {_SECONDS} s; memory is PSS; one run"
    return [
        once(f"{what}, CPU", "one core", share, 100, unit="%", goal="<= 1 %", note=note),
        once(f"{what}, memory", "150 MiB", memory, 150, unit="MiB", goal="<= 150 MiB", note=note),
    ]
