"""Leases: which worker holds which job, so that a dead worker's jobs run elsewhere within 30 seconds.

arq frees a killed worker's job only when `arq:in-progress:*` expires, its timeout plus 10 s (arq issue #343): hours,
with a timeout that suits the longest recording. And arq's key does not say who holds the job. So a job start leaves a
lease with the worker's id, a worker keeps a heartbeat, and the janitor, which every worker runs, frees the jobs of
those whose heartbeat has stopped. A job in progress that never got a lease (its worker was killed between arq's write
and ours) is free after 30 s.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from config.logs import get_logger
from workers.keys import ARQ_IN_PROGRESS, BULK_QUEUE, LEASES, MAIN_QUEUE, UNLEASED, WORKER
from workers.queue.script import AsyncRedis, Script

HEARTBEAT_SECONDS = 3
_HEARTBEAT_EXPIRES_SECONDS = 15
_UNLEASED_MS = 30_000
_CRON_KEPT_MS = 60_000  # arq keeps a cron job in progress so long after its end, lest another worker run it again
_HEAD = 1_000  # jobs in progress stay in arq's queue with an old score, so they are found at its head

log = get_logger()

# KEYS: leases, unleased. ARGV: unleased ms, head, then the queues. Returns the freed job ids.
_JANITOR = Script(f"""
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local freed = {{}}
local alive = {{}}
local function is_alive(worker)
  if alive[worker] == nil then alive[worker] = redis.call('EXISTS', '{WORKER}' .. worker) end
  return alive[worker] == 1
end
local leases = redis.call('HGETALL', KEYS[1])
for i = 1, #leases, 2 do
  if not is_alive(leases[i + 1]) then
    if redis.call('DEL', '{ARQ_IN_PROGRESS}' .. leases[i]) == 1 then freed[#freed + 1] = leases[i] end
    redis.call('HDEL', KEYS[1], leases[i])
  end
end
local seen = {{}}
for q = 3, #ARGV do
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', ARGV[q], '-inf', now, 'LIMIT', 0, ARGV[2])) do
    if redis.call('EXISTS', '{ARQ_IN_PROGRESS}' .. id) == 1 and redis.call('HEXISTS', KEYS[1], id) == 0 then
      local since = redis.call('HGET', KEYS[2], id)
      if not since then
        since = now
        redis.call('HSET', KEYS[2], id, now)
      end
      local limit = tonumber(ARGV[1])
      if string.sub(id, 1, 5) == 'cron:' then limit = limit + {_CRON_KEPT_MS} end
      if now - tonumber(since) > limit then
        redis.call('DEL', '{ARQ_IN_PROGRESS}' .. id)
        freed[#freed + 1] = id
      else
        seen[id] = true
      end
    end
  end
end
for _, id in ipairs(redis.call('HKEYS', KEYS[2])) do
  if not seen[id] then redis.call('HDEL', KEYS[2], id) end
end
return freed
""")


class Leases:
    """The leases of one worker process, its heartbeat, and its share of the janitor's work."""

    def __init__(self, redis: AsyncRedis, queues: Sequence[str] = (MAIN_QUEUE, BULK_QUEUE)) -> None:
        self.worker_id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._redis = redis
        self._queues = queues

    async def take(self, ctx: dict[str, Any]) -> None:
        """arq's `on_job_start`: leave the lease."""
        await self._redis.hset(LEASES, ctx["job_id"], self.worker_id)

    async def leave(self, ctx: dict[str, Any]) -> None:
        """arq's `on_job_end`, which comes before arq frees the job: a lease never outlives it."""
        await self._redis.hdel(LEASES, ctx["job_id"])

    async def beat(self) -> None:
        """Show that this worker lives."""
        await self._redis.set(WORKER + self.worker_id, "1", ex=_HEARTBEAT_EXPIRES_SECONDS)

    async def free_dead_workers_jobs(self) -> list[str]:
        """Free every job whose worker is dead; returns their ids."""
        answer = await _JANITOR(self._redis, (LEASES, UNLEASED), (_UNLEASED_MS, _HEAD, *self._queues))
        freed = [job_id.decode() for job_id in answer]
        if freed:
            log.warning("jobs of a dead worker freed", jobs=freed[:20], count=len(freed))
        return freed

    async def run(self) -> None:
        """Beat and clean until cancelled; an outage of Redis is waited out."""
        while True:
            try:
                await self.beat()
                await self.free_dead_workers_jobs()
            except (RedisError, OSError) as error:
                log.warning("heartbeat failed", error=str(error))
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def close(self) -> None:
        """Withdraw the heartbeat: whatever this worker still holds may run elsewhere at once."""
        try:
            await self._redis.delete(WORKER + self.worker_id)
        except (RedisError, OSError):
            pass
