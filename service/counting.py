"""What the receiver's metrics grow by goes into the history, every two seconds: counting a webhook twice would cost it."""

from __future__ import annotations

import asyncio

from service import metrics
from workers.queue.history import History

_SECONDS = 2


class Counting:
    """Reads the metrics of this process and tells the history how they grew."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._before: dict[str, float] = {}
        self._read()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_SECONDS)
            await self.once()

    async def once(self) -> None:
        """Tell what has grown since the last time."""
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
            if sample.name.endswith("_bucket"):  # Prometheus counts what is below each bound, all of it
                found[f"answer<{sample.labels['le']}"] = sample.value - up_to
                up_to = sample.value
        self._before = found
        return found
