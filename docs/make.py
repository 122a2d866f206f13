"""Makes the documents that come from tables in the code: `make docs`. A test checks that they are current."""

from __future__ import annotations

import inspect
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from cli.telnyx import command_name
from config.counts import many
from config.settings import Settings
from config.times import format_duration
from service.metrics import REGISTRY
from workers.alerts.kinds import KINDS, Kind
from workers.conditions import CONDITIONS
from workers.jobs.causes import CAUSES
from workers.telnyx.operations import all_operations

_CONDITIONS = "<!-- This table is made by `make docs` from `workers/conditions.py`. -->\n\n"
_TABLE = "<!-- This table is made by `make docs` from `workers/alerts/kinds.py`. -->\n\n"
_MADE = "<!-- Made by `make docs`; change the table in the code instead. -->\n\n"


def operations() -> str:
    """`docs/telnyx-operations.md`, from `workers/telnyx/operations.py`."""
    lines = ["# The operations of the Telnyx API", "", _MADE.strip(), ""]
    count = len(all_operations())
    lines += [f"{count} operations; each is a method of `TelnyxClient` and a command of `callvault telnyx`.", ""]
    lines += ["| command | request | parameters | answer |", "| --- | --- | --- | --- |"]
    for row in all_operations():
        empty = inspect.Parameter.empty
        names = [n + ("" if row.parameters[n].default is empty else "?") for n in row.parameters]
        answer = f"pages of {row.answer_name}" if row.is_paged else row.answer_name
        parameters = ", ".join(f"`{n}`" for n in names)
        lines.append(f"| `{row.family} {command_name(row)}` | `{row.method} {row.path}` | {parameters} | {answer} |")
    lines += ["", "A `?` marks what may be left out."]
    return "\n".join(lines) + "\n"


def configuration() -> str:
    """`docs/configuration.md`, from `config/settings.py`."""
    lines = ["# Configuration", "", _MADE.strip(), "", "Callvault reads all settings from the environment.", ""]
    lines += ["| name | default | meaning | expected |", "| --- | --- | --- | --- |"]
    for field in Settings.model_fields.values():
        extra = cast(dict[str, Any], field.json_schema_extra)
        default = _default(field.default)
        lines.append(f"| `{field.validation_alias}` | {default} | {field.description} | {extra['expected']} |")
    lines += [
        "",
        "Write durations as `2s`, `15m`, `24h`, `30d` or `1h30m`.",
    ]
    return "\n".join(lines) + "\n"


def _default(value: Any) -> str:
    if value in (None, ()):
        return "unset"
    if isinstance(value, timedelta):
        return f"`{format_duration(value.total_seconds())}`"
    return f"`{value}`"


def causes() -> str:
    """`docs/dead-letters.md`, from `workers/jobs/causes.py`."""
    lines = ["# Why jobs fail, and what follows", "", _MADE.strip(), ""]
    lines += [
        "A failed attempt is remembered with its cause. Most causes are tried again after a wait that doubles; what is",
        "given up becomes a dead letter: the job, its argument, and every attempt with its time and error.",
        "",
        "A dead letter ends by itself once its work is done, by whatever way: a further event, a sweep, a backfill. Where",
        "its cause may have passed, the sweeps and backfills that find the recording missing try its job again.",
        "",
        "| cause | given up after | tried again by sweeps | what to do |",
        "| --- | --- | --- | --- |",
    ]
    for cause in CAUSES.values():
        ends = [many(cause.tries, "attempt")] if cause.tries else []
        ends += [format_duration(cause.give_up_seconds)] if cause.give_up_seconds else []
        swept = "" if cause.is_never_given_up else "no" if cause.stays else "yes"
        lines.append(f"| `{cause.name}` | {' or '.join(ends) or 'never'} | {swept} | {cause.advice} |")
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """`docs/metrics.md`, from `service/metrics.py`."""
    lines = ["# Metrics", "", _MADE.strip(), ""]
    lines += [
        "Every receiver has them at `/metrics`; those of queues are read from Redis when they are asked for, so one receiver",
        "tells them for all. With `serve --processes N` the counters are those of the process that answers: run more receivers",
        "instead where they matter. `deploy/prometheus/alerts.yml` has the alerts, `deploy/grafana/` a dashboard.",
        "",
        "| name | type | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for metric in cast(Any, REGISTRY)._collector_to_names:
        (described,) = metric.describe()
        name = described.name + ("_total" if described.type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        lines.append(f"| `{name}` | {described.type} | {labels} | {described.documentation} |")
    return "\n".join(lines) + "\n"


def runbook() -> str:
    """The tables of alerts and of conditions within `docs/runbook.md`."""
    before, _, rest = (Path(__file__).parent / "runbook.md").read_text().partition(_TABLE)
    lines = ["| alert | severity | what it means | what to do |", "| --- | --- | --- | --- |"]
    names: dict[Kind, list[str]] = {}
    for name, kind in KINDS.items():
        names.setdefault(kind, []).append(f"`{name}`")
    for kind, same in names.items():
        lines.append(f"| {', '.join(same)} | {kind.severity or 'by the fault'} | {kind.meaning} | {kind.remedy} |")
    text = before + _TABLE + "\n".join(lines) + rest[rest.index("\n\n") :]
    before, _, rest = text.partition(_CONDITIONS)
    lines = ["| kind | severity | what is so | what to do |", "| --- | --- | --- | --- |"]
    for name, row in CONDITIONS.items():
        lines.append(f"| `{name}` | {row.severity} | {row.meaning} | {row.advice} |")
    return before + _CONDITIONS + "\n".join(lines) + rest[rest.index("\n\n") :]


DOCUMENTS = {
    "telnyx-operations.md": operations,
    "configuration.md": configuration,
    "dead-letters.md": causes,
    "metrics.md": metrics,
    "runbook.md": runbook,
}


def main() -> None:
    """Write all of them; with `--check` say which are not current, and exit with 1 then."""
    is_check = "--check" in sys.argv
    status = 0
    for name, make in DOCUMENTS.items():
        path = Path(__file__).parent / name
        if not is_check:
            path.write_text(make())
        elif not path.exists() or path.read_text() != make():
            print(f"docs/{name} is not current; run `make docs`", file=sys.stderr)  # noqa: T201
            status = 1
    sys.exit(status)


if __name__ == "__main__":
    main()
