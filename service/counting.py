"""Copy the growth of the receiver's metrics into the history every two seconds, so a webhook is counted only once."""

from __future__ import annotations

import asyncio

from service import metrics
from workers.queue.history import History

_SECONDS = 2


class Counting:
    """Reads the metrics of this process and adds their growth to the history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._before: dict[str, float] = {}
        self._read()

    async def run(self) -> None:
        """Copy every two seconds until cancelled."""
        while True:
            await asyncio.sleep(_SECONDS)
            await self.once()

    async def once(self) -> None:
        """Add the growth since the last time."""
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
