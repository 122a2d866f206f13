"""How far this machine's clock and the Redis server's are apart."""

from __future__ import annotations

from config.times import utc_now
from workers.queue.script import AsyncRedis, server_seconds

MOST_APART_SECONDS = 60.0


async def seconds_apart(redis: AsyncRedis) -> float:
    """How far the two clocks differ at least, whatever time the question took; 0 if they need not differ at all.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    before = utc_now().timestamp()
    server = await server_seconds(redis)
    after = utc_now().timestamp()
    return before - server if server < before else max(0.0, server - after)
