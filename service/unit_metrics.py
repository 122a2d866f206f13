"""The metrics of the unit, as Redis has them now. A value that is not known has no series, and is never zero."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import isfinite

import msgspec
from prometheus_client import Metric

from archive.seals import Link
from config.settings import Settings
from service.metrics import TABLE
from text.times import end_of_day, parse_instant
from workers.alerts.alerts import DELIVERIES
from workers.conditions import CONDITIONS, Condition
from workers.engine.attempts import Attempts
from workers.engine.failure_classes import FAILURE_CLASSES
from workers.keys import COUNTS, DAMAGED, DEAD_LETTERS, DELETIONS_DUE, LAST, LEASES, QUEUES, SEALED_DAYS, SEALS
from workers.looks import known_conditions
from workers.queue.backlog import oldest_waiting_seconds
from workers.queue.history import ARCHIVED, FAILED
from workers.queue.script import AsyncRedis, server_seconds
from workers.running import Running, read_running
from workers.seals.waiting import UnsealedDays

_COUNTERS = {
    "callvault_recordings_archived_total": ARCHIVED,
    "callvault_archived_bytes_total": "archived_bytes",
    "callvault_originals_deleted_total": "deleted",
    "callvault_deleted_bytes_total": "deleted_bytes",
    "callvault_recordings_disposed_total": "disposed",
    "callvault_disposed_bytes_total": "disposed_bytes",
}
_AGES = {"callvault_last_archived_age_seconds": ARCHIVED, "callvault_last_reconcile_age_seconds": "reconciled"}
_OTHER = "other"


class Collected:
    """Metrics of one scrape."""

    def __init__(self) -> None:
        self._found: dict[str, Metric] = {}

    def set(self, name: str, value: float, *labels: str) -> None:
        """Add a value of a metric of the table, with the values of its labels."""
        row = TABLE[name]
        family = self._found.setdefault(name, Metric(name.removesuffix("_total"), row.meaning, row.type))
        family.add_sample(name, dict(zip(row.labels, labels, strict=True)), value)

    def collect(self) -> Iterable[Metric]:
        """For `generate_latest`."""
        return self._found.values()


async def collect_unit(redis: AsyncRedis, settings: Settings, into: Collected) -> None:
    """Collect the metrics of the unit.

    Raises:
        redis.exceptions.RedisError: Redis is away; what was collected before is true.
    """
    now = await server_seconds(redis)
    counts, claims, due, seals, letters, damaged, last = await _sizes(redis)
    _set_counters(counts, into)
    into.set("callvault_claims_held", claims)
    into.set("callvault_deletions_due", due)
    into.set("callvault_dead_letters", letters)
    _set_damaged(damaged, into)
    for name, key in QUEUES.items():
        into.set("callvault_jobs_queued", await redis.zcard(key), name)
        into.set("callvault_oldest_job_seconds", await oldest_waiting_seconds(redis, key), name)
    overdue = await UnsealedDays(redis).overdue(now)
    into.set("callvault_unsealed_days", len(overdue))
    oldest = now - end_of_day(min(overdue)).timestamp() if overdue else 0
    into.set("callvault_oldest_unsealed_day_seconds", oldest)
    into.set("callvault_seals", seals)
    if (days := _number(await redis.get(SEALED_DAYS))) is not None:
        into.set("callvault_sealed_days", days)
    if (sealed_at := await _last_sealed_at(redis, seals)) is not None:
        into.set("callvault_last_seal_age_seconds", max(0.0, now - sealed_at))
    for name, field in _AGES.items():
        if (at := _number(last.get(field.encode()))) is not None:
            into.set(name, max(0.0, now - at))
    failing = await Attempts(redis).failing(FAILURE_CLASSES)
    for cause in FAILURE_CLASSES:
        into.set("callvault_jobs_failing", cause in failing, cause)
    _set_processes(await read_running(redis), into)
    set_conditions(await known_conditions(redis, settings), into)


async def _sizes(redis: AsyncRedis) -> tuple[dict[bytes, bytes], int, int, int, int, list[bytes], dict[bytes, bytes]]:
    async with redis.pipeline(transaction=False) as pipe:
        pipe.hgetall(COUNTS)
        pipe.hlen(LEASES)
        pipe.zcard(DELETIONS_DUE)
        pipe.hlen(SEALS)
        pipe.hlen(DEAD_LETTERS)
        pipe.hkeys(DAMAGED)
        pipe.hgetall(LAST)
        counts, claims, due, seals, letters, damaged, last = await pipe.execute()
    return counts, claims, due, seals, letters, damaged, last


def _set_counters(counts: Mapping[bytes, bytes], into: Collected) -> None:
    """Set the counters; one that nothing was counted for is zero, since Prometheus needs a value to see it grow."""
    rows: list[tuple[str, str, tuple[str, ...]]] = [(name, field, ()) for name, field in _COUNTERS.items()]
    rows += [("callvault_job_failures_total", FAILED + cause, (cause,)) for cause in FAILURE_CLASSES]
    rows += [("callvault_alerts_total", DELIVERIES + outcome, (outcome,)) for outcome in ("sent", "failed")]
    for name, field, labels in rows:
        if (count := _number(counts.get(field.encode(), b"0"))) is not None:
            into.set(name, count, *labels)


def _number(value: bytes | None) -> float | None:
    """A number that Redis holds; None: it holds none, or something else."""
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and isfinite(number) else None


def _set_damaged(keys: Iterable[bytes], into: Collected) -> None:
    counts = Counter(key.partition(b"/")[0].decode("utf-8", "replace") for key in keys)
    named = {name: counts.pop(name, 0) for name in ("recordings", "seals")}
    for name, count in {**named, _OTHER: counts.total()}.items():
        into.set("callvault_damaged_objects", count, name)


async def _last_sealed_at(redis: AsyncRedis, seals: int) -> float | None:
    row = await redis.hget(SEALS, str(seals)) if seals else None
    try:
        return None if row is None else parse_instant(msgspec.json.decode(row, type=Link).seal.sealed_at).timestamp()
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        return None


def _set_processes(running: Iterable[Running], into: Collected) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    free: dict[tuple[str, str], int] = {}
    for one in running:
        counts[one.kind, one.version] += 1
        for place, size in one.disk_free_bytes.items():
            free[one.host, place] = min(free.get((one.host, place), size), size)
    for (kind, version), count in counts.items():
        into.set("callvault_processes", count, kind, version)
    for (host, place), size in free.items():
        into.set("callvault_disk_free_bytes", size, host, place)


def set_conditions(found: Iterable[Condition], into: Collected) -> None:
    """Set how many conditions of each kind there are; a receiver does not read the archive, so `archive-away` has no series."""
    counts = Counter(one.kind for one in found)
    for kind, row in CONDITIONS.items():
        if kind != "archive-away":
            into.set("callvault_conditions", counts[kind], kind, row.severity)
