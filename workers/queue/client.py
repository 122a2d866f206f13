"""arq's client of Redis, as a worker needs it while Redis is full.

arq counts the tries of a job by a plain INCR when it begins it. A full Redis refuses that, and the refusal would end the worker
that is there to make room.
"""

from __future__ import annotations

from typing import Any

from arq import ArqRedis
from redis.asyncio.client import Pipeline

_INCR = "#!lua flags=allow-oom\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])"


class _WorkersPipeline(Pipeline):
    def incrby(self, name: Any, amount: int = 1) -> Any:
        """INCRBY, also while Redis is full; `incr` is the same."""
        return self.eval(_INCR, 1, name, str(amount))

    incr = incrby


class WorkersRedis(ArqRedis):
    """A client whose pipelines count also while Redis is full."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> _WorkersPipeline:
        """A pipeline of commands, as of any client."""
        return _WorkersPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
