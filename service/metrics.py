"""THE table of the receiver's metrics, by the Prometheus conventions (prometheus.io/docs/practices/naming)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

WEBHOOKS = Counter(
    "callvault_webhooks_total",
    "Webhooks by outcome: accepted, duplicate, kept, and those refused by reason.",
    ["outcome"],
    registry=REGISTRY,
)
EVENTS = Counter(
    "callvault_events_total", "Accepted events by type; unknown types as 'other'.", ["type"], registry=REGISTRY
)
ACCEPT_SECONDS = Histogram(
    "callvault_webhook_seconds",
    "From the first byte of a webhook's body to its answer.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2),
    registry=REGISTRY,
)
QUEUED = Gauge("callvault_jobs_queued", "Jobs that wait or run, by queue.", ["queue"], registry=REGISTRY)
OLDEST_JOB_SECONDS = Gauge(
    "callvault_oldest_job_seconds", "How long the oldest due job has waited, by queue.", ["queue"], registry=REGISTRY
)
DELETIONS_DUE = Gauge("callvault_deletions_due", "Originals on the list to be deleted.", registry=REGISTRY)
UNSEALED_DAYS = Gauge(
    "callvault_unsealed_days", "Days whose time has come to be sealed, and are not.", registry=REGISTRY
)
OLDEST_UNSEALED_SECONDS = Gauge(
    "callvault_oldest_unsealed_day_seconds", "How long the oldest of them has been over.", registry=REGISTRY
)
JOBS_FAILING = Gauge(
    "callvault_jobs_failing",
    "Whether jobs, or deletions of originals, fail again and again and are not given up, by cause.",
    ["cause"],
    registry=REGISTRY,
)
DEAD_LETTERS = Gauge("callvault_dead_letters", "Jobs that were given up.", registry=REGISTRY)
CONDITIONS = Gauge(
    "callvault_conditions",
    "How often something is wrong now, by kind (docs/runbook.md); a kind of which nothing is known is not there.",
    ["kind", "severity"],
    registry=REGISTRY,
)
REDIS_UP = Gauge("callvault_redis_up", "Whether Redis answers this receiver.", registry=REGISTRY)
