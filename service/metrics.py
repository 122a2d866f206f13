"""The table of the receiver's metrics, named as Prometheus recommends (prometheus.io/docs/practices/naming)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

WEBHOOKS = Counter(
    "callvault_webhooks_total",
    "Webhooks by outcome: accepted, duplicate, kept (in quarantine), or the reason why one was refused.",
    ["outcome"],
    registry=REGISTRY,
)
EVENTS = Counter(
    "callvault_events_total", "Accepted events by type; unknown types as 'other'.", ["type"], registry=REGISTRY
)
ACCEPT_SECONDS = Histogram(
    "callvault_webhook_seconds",
    "Seconds from the first byte of a webhook's body to its answer.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2),
    registry=REGISTRY,
)
QUEUED = Gauge("callvault_jobs_queued", "Jobs that wait or run, by queue.", ["queue"], registry=REGISTRY)
OLDEST_JOB_SECONDS = Gauge(
    "callvault_oldest_job_seconds",
    "Seconds that the oldest due job has waited, by queue.",
    ["queue"],
    registry=REGISTRY,
)
DELETIONS_DUE = Gauge("callvault_deletions_due", "Originals on the deletion schedule.", registry=REGISTRY)
UNSEALED_DAYS = Gauge("callvault_unsealed_days", "Days that should be sealed and are not.", registry=REGISTRY)
OLDEST_UNSEALED_SECONDS = Gauge(
    "callvault_oldest_unsealed_day_seconds", "Seconds since the oldest of these days ended.", registry=REGISTRY
)
JOBS_FAILING = Gauge(
    "callvault_jobs_failing",
    "1 if jobs or deletions of originals keep failing and are never given up, by failure class.",
    ["cause"],
    registry=REGISTRY,
)
DEAD_LETTERS = Gauge("callvault_dead_letters", "Jobs that Callvault has given up.", registry=REGISTRY)
CONDITIONS = Gauge(
    "callvault_conditions",
    "Number of things that are wrong now, by kind (docs/runbook.md). A kind that is unknown now has no series.",
    ["kind", "severity"],
    registry=REGISTRY,
)
REDIS_UP = Gauge("callvault_redis_up", "1 if Redis answers this receiver.", registry=REGISTRY)
