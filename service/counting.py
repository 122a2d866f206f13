"""Copy the receiver's metrics every two seconds: their growth into the history, and all to the other processes.

So a webhook is counted only once, in memory.
"""

from __future__ import annotations

import asyncio

from service import metrics
from service.shared_counts import SharedCounts
from workers.queue.history import History

_SECONDS = 2


class Counting:
    """Reads the metrics of this process.

    Args:
        history: gets their growth.
        shared: gets all of them.
    """

    def __init__(self, history: History, shared: SharedCounts) -> None:
        self._history = history
        self._shared = shared
        self._before: dict[str, float] = {}
        self._read()

    async def run(self) -> None:
        """Copy every two seconds until cancelled, and share what was counted until then."""
        try:
            while True:
                await asyncio.sleep(_SECONDS)
                await self.once()
        finally:
            self._shared.write()

    async def once(self) -> None:
        """Add the growth since the last time."""
        self._shared.write()
        before = self._before
        for name, value in self._read().items():
            if grown := int(value - before.get(name, 0)):
                self._history.add(name, grown)
        await self._history.flush()

    def _read(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for metric, label, prefix in ((metrics.WEBHOOKS, "outcome", "webhook:"), (metrics.EVENTS, "type", "event:")):
            for sample in next(iter(metric.collect())).samples:
                if sample.name.endswith("_total"):
                    found[prefix + sample.labels[label]] = sample.value
        up_to = 0.0
        for sample in next(iter(metrics.ACCEPT_SECONDS.collect())).samples:
            if sample.name.endswith("_bucket"):  # Prometheus buckets are cumulative
                found[f"answer<{sample.labels['le']}"] = sample.value - up_to
                up_to = sample.value
        self._before = found
        return found
