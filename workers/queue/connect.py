"""A connection to Redis as users run it: plain, TLS, a private socket, or behind Sentinel.

`arq.connections.RedisSettings.from_dsn` takes neither TLS options nor retries, and a worker dies when Redis goes away
unless its connection also retries on OSError (the refused connect), so connections are made here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from workers.queue.jobs import JOB_TTL_MS, deserialize, serialize

if TYPE_CHECKING:
    from arq import ArqRedis

_OUTAGES: list[type[Exception]] = [RedisConnectionError, RedisTimeoutError, OSError]


def _options(*, retries: int, timeout_seconds: float, connections: int) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(ExponentialBackoff(cap=1, base=0.05), retries),
        "retry_on_error": list(_OUTAGES),
        "max_connections": connections,
        "health_check_interval": 30,
    }


def _client(url: str, kind: Any, made_with: dict[str, Any], options: dict[str, Any]) -> Any:
    parts = urlsplit(url)
    if parts.scheme != "redis+sentinel":
        pool = BlockingConnectionPool.from_url(url, timeout=options["socket_timeout"], **options)
        return kind(connection_pool=pool, **made_with)
    hosts = [(h.rpartition(":")[0], int(h.rpartition(":")[2])) for h in parts.netloc.rpartition("@")[2].split(",")]
    path = parts.path.strip("/").split("/")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    tls = query.get("tls") in ("1", "true")
    sentinel = Sentinel(
        hosts,
        sentinel_kwargs={"socket_timeout": options["socket_timeout"], "ssl": tls},
        ssl=tls,
        username=parts.username,
        password=parts.password,
        db=int(path[1]) if len(path) > 1 else 0,
        **options,
    )
    client = sentinel.master_for(path[0] or "mymaster", redis_class=kind)
    for name, value in made_with.items():
        setattr(client, name, value)
    return client


def connect_receiver(url: str) -> Redis:
    """A client for the receiver: it fails within a second, since Telnyx waits two and then tries again.

    Args:
        url: `redis://`, `rediss://`, `unix://` or `redis+sentinel://host:port,host:port/master-name/db`.
    """
    client: Redis = _client(url, Redis, {}, _options(retries=1, timeout_seconds=1.0, connections=16))
    return client


def connect_worker(url: str, *, connections: int = 64) -> ArqRedis:
    """A client for workers: it rides out a restart of Redis of some 15 seconds before it gives up."""
    from arq import ArqRedis

    made_with = {"job_serializer": serialize, "job_deserializer": deserialize, "expires_extra_ms": JOB_TTL_MS}
    client: ArqRedis = _client(
        url, ArqRedis, made_with, _options(retries=20, timeout_seconds=10.0, connections=connections)
    )
    return client
