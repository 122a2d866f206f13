"""THE table of metrics, named as Prometheus recommends (prometheus.io/docs/practices/naming).

Those of webhooks are counted in each receiver process, and summed over the processes of one `callvault serve`
(`shared_counts.py`). All others are of the unit: `unit_metrics.py` reads them from Redis, so each receiver gives the same.
To add one of the unit: a row of `_UNIT`, and its value in `unit_metrics.py`; then `make docs`, and a panel of the dashboard.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram


class Row(NamedTuple):
    """A metric.

    Attributes:
        name: as Prometheus shows it; of a histogram, without `_bucket`.
        type: of Prometheus.
        labels: their names.
        meaning: one sentence.
        of: whose it is: of one receiver, or of the unit, so that every receiver shows the same.
    """

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    of: Literal["receiver", "unit"] = "unit"


_OF_RECEIVER = (
    Row(
        "callvault_webhooks_total",
        "counter",
        ("outcome",),
        "Webhooks by outcome: accepted, duplicate, kept (in quarantine), or the reason why one was refused.",
        "receiver",
    ),
    Row(
        "callvault_events_total", "counter", ("type",), "Accepted events by type; unknown types as 'other'.", "receiver"
    ),
    Row(
        "callvault_webhook_seconds",
        "histogram",
        (),
        "Seconds from the first byte of a webhook's body to its answer.",
        "receiver",
    ),
    Row("callvault_redis_up", "gauge", (), "1 if Redis answers this receiver.", "receiver"),
    Row("callvault_build_info", "gauge", ("version",), "Always 1; the version of this receiver.", "receiver"),
    Row(
        "callvault_start_time_seconds",
        "gauge",
        (),
        "When this receiver started, in seconds since the epoch.",
        "receiver",
    ),
)
_UNIT = (
    Row("callvault_recordings_archived_total", "counter", (), "Recordings that workers have archived."),
    Row("callvault_archived_bytes_total", "counter", (), "Bytes of audio that workers have archived."),
    Row("callvault_originals_deleted_total", "counter", (), "Originals that workers have deleted at Telnyx."),
    Row("callvault_deleted_bytes_total", "counter", (), "Bytes of audio that workers have deleted at Telnyx."),
    Row("callvault_recordings_disposed_total", "counter", (), "Recordings of which retention rules disposed, by part."),
    Row("callvault_disposed_bytes_total", "counter", (), "Bytes that were disposed of under retention rules."),
    Row(
        "callvault_job_failures_total",
        "counter",
        ("cause",),
        "Failed attempts of jobs, by failure class (docs/dead-letters.md).",
    ),
    Row(
        "callvault_alerts_total",
        "counter",
        ("outcome",),
        "Alerts that were sent, or that an address did not accept after several tries.",
    ),
    Row("callvault_jobs_queued", "gauge", ("queue",), "Jobs that wait or run, by queue."),
    Row("callvault_oldest_job_seconds", "gauge", ("queue",), "Seconds that the oldest due job has waited, by queue."),
    Row("callvault_claims_held", "gauge", (), "Jobs that workers have claimed."),
    Row("callvault_deletions_due", "gauge", (), "Originals on the deletion schedule."),
    Row("callvault_unsealed_days", "gauge", (), "Days that should be sealed and are not."),
    Row("callvault_oldest_unsealed_day_seconds", "gauge", (), "Seconds since the oldest of these days ended."),
    Row("callvault_seals", "gauge", (), "Seals in the chain."),
    Row("callvault_sealed_days", "gauge", (), "Days that have a seal."),
    Row("callvault_last_seal_age_seconds", "gauge", (), "Seconds since the last seal was made."),
    Row(
        "callvault_last_archived_age_seconds",
        "gauge",
        (),
        "Seconds since a worker last archived a recording.",
    ),
    Row(
        "callvault_last_reconcile_age_seconds",
        "gauge",
        (),
        "Seconds since a reconcile last compared all of its days.",
    ),
    Row(
        "callvault_jobs_failing",
        "gauge",
        ("cause",),
        "1 if jobs or deletions of originals keep failing and are never given up, by failure class.",
    ),
    Row("callvault_dead_letters", "gauge", (), "Jobs that Callvault has given up."),
    Row(
        "callvault_damaged_objects",
        "gauge",
        ("of",),
        "Damaged or missing objects of the archive: of `recordings`, of `seals` (the chain is broken or forked), or `other`.",
    ),
    Row("callvault_processes", "gauge", ("kind", "version"), "Receivers and workers that live."),
    Row(
        "callvault_disk_free_bytes",
        "gauge",
        ("host", "place"),
        "Free bytes on the disks of each machine that runs a receiver or worker.",
    ),
    Row(
        "callvault_conditions",
        "gauge",
        ("kind", "severity"),
        "Number of things that are wrong now, by kind (docs/runbook.md). A kind that is unknown now has no series.",
    ),
)
TABLE: dict[str, Row] = {row.name: row for row in (*_OF_RECEIVER, *_UNIT)}


REGISTRY = CollectorRegistry()


def _counter(name: str) -> Counter:
    return Counter(name, TABLE[name].meaning, TABLE[name].labels, registry=REGISTRY)


WEBHOOKS = _counter("callvault_webhooks_total")
EVENTS = _counter("callvault_events_total")
ACCEPT_SECONDS = Histogram(
    "callvault_webhook_seconds",
    TABLE["callvault_webhook_seconds"].meaning,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2),
    registry=REGISTRY,
)
