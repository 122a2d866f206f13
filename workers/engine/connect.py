"""Connections to Redis of workers and commands, by arq's client: they ride out a restart of Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from workers.queue.connect import client_of, options_of
from workers.queue.jobs import JOB_TTL_MS, deserialize, serialize

if TYPE_CHECKING:
    from arq import ArqRedis


def connect_worker(url: str, *, connections: int = 64) -> ArqRedis:
    """A client for workers: it retries for 17 seconds, which covers a restart of Redis."""
    return _workers_client(url, options_of(patience_seconds=17.0, timeout_seconds=10.0, connections=connections))


async def connect_command(url: str, *, needs_redis: bool = True, connections: int = 64) -> ArqRedis:
    """A client for a command, where a person waits: it finds out within seconds whether Redis answers.

    If Redis answers, the result is a worker's client, which rides out a later restart. If not, each later call tries for at most
    a second.

    Args:
        url: as for `connect_receiver`.
        needs_redis: whether the command cannot work without Redis.
        connections: the most connections.

    Raises:
        redis.exceptions.RedisError, OSError: the command needs Redis, and Redis does not answer.
    """
    first = _workers_client(url, options_of(patience_seconds=2.5, timeout_seconds=2.0, connections=1))
    try:
        await first.ping()
    except (RedisError, OSError):
        if needs_redis:
            raise
        return _workers_client(url, options_of(patience_seconds=0.5, timeout_seconds=0.5, connections=connections))
    finally:
        await first.aclose()
    return connect_worker(url, connections=connections)


def _workers_client(url: str, options: dict[str, Any]) -> ArqRedis:
    from workers.engine.worker import WorkersRedis  # imports arq, which receivers do without

    made_with = {"job_serializer": serialize, "job_deserializer": deserialize, "expires_extra_ms": JOB_TTL_MS}
    client: ArqRedis = client_of(url, WorkersRedis, made_with, options)
    return client
