"""THE table of what can be wrong with the service: one answer for every surface.

`callvault status`, the doctor, the ops pages and their API, `/readyz` and the metrics show what `known_conditions`
(`workers/looks.py`) finds, and decide nothing themselves. To add a condition: a row here and a look there; then `make docs`.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from text.times import format_moment
from workers.alerts.kinds import Severity


class Condition(msgspec.Struct, frozen=True):
    """Something that is wrong now.

    Attributes:
        kind: a row of `CONDITIONS`.
        severity: as there.
        about: the object, day, failure class or machine; empty if it is about the whole service.
        what: the details, shown after the heading of its kind.
        advice: what to do.
        since: since when, ISO 8601, UTC; None if unknown.
        seen_by: who has seen it (`acknowledged.py`); None: nobody has said so. `seen_at`: when, ISO 8601, UTC.
    """

    kind: str
    severity: Severity
    about: str
    what: str
    advice: str
    since: str | None = None
    seen_by: str | None = None
    seen_at: str | None = None

    @property
    def id(self) -> str:
        """What tells it from all others of now."""
        return f"{self.kind} {self.about}".rstrip()

    @property
    def seen(self) -> str:
        """Who has seen it and when, as a text; empty: nobody has said so."""
        return f"seen by {self.seen_by} at {format_moment(self.seen_at or '')}" if self.seen_by else ""

    @property
    def heading(self) -> str:
        """The heading of its kind."""
        return CONDITIONS[self.kind].heading

    @property
    def sentence(self) -> str:
        """The heading and the details; the meaning of its kind where there are no details."""
        meaning = CONDITIONS[self.kind].meaning
        return meaning[0].upper() + meaning[1:] if self.what == meaning else f"{self.heading}: {self.what}"


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        severity: `critical`: a promise is broken, or may be soon; `warning`: something waits for a person.
        heading: a few words; the details of a condition follow it.
        meaning: what it means for the service.
        advice: what to do, unless the condition itself has better advice.
    """

    severity: Severity
    heading: str
    meaning: str
    advice: str


CONDITIONS: dict[str, Row] = {
    "redis-away": Row(
        "critical",
        "Redis does not answer",
        "Redis does not answer: receivers refuse webhooks, no job runs, and the state of the service is unknown",
        "check that Redis runs and that REDIS_URL is right; run `callvault doctor`",
    ),
    "archive-away": Row(
        "critical",
        "The archive",
        "the archive does not answer, or this Redis belongs to another archive: nothing is archived, and its state is unknown",
        "run `callvault doctor` to check the store; waiting jobs continue by themselves",
    ),
    "redis-full": Row(
        "critical",
        "Redis is full",
        "Redis uses more than 90% of its memory: Telnyx gets a 503 for webhooks and retries; workers continue and free memory",
        "give Redis more memory (`maxmemory`) or add workers; the next reconcile finds the events that were refused",
    ),
    "no-worker": Row(
        "critical",
        "No worker runs",
        "no worker runs: receivers accept events, but nothing is archived, deleted or sealed",
        "start one with `callvault worker`; the log of the last one says why it ended",
    ),
    "damaged": Row(
        "critical",
        "Damaged",
        "an object of the archive is damaged or missing; Callvault does not delete its original at Telnyx",
        "missing audio: `callvault repair ID`, or `--from FILE` from a copy. Changed audio: move the file out of the archive, "
        "then repair it the same way. Anything else: restore it from a copy. The alert clears once the object is intact",
    ),
    "not-known": Row(
        "warning",
        "Damage unknown",
        "no worker has read the archive's list of damaged objects lately, so new damage would not show here",
        "check that a worker runs and that the archive answers; workers read the list every 30 seconds",
    ),
    "jobs-fail": Row(
        "critical",
        "Jobs fail and are retried",
        "jobs, or deletions of originals, fail repeatedly and are retried; nothing is lost",
        "fix the cause; the jobs then continue by themselves",
    ),
    "clocks": Row(
        "critical",
        "Clocks differ",
        "a worker's clock and the clock of Redis differ by more than a minute: this worker deletes and seals nothing",
        "synchronize both with NTP; the worker then continues by itself",
    ),
    "pressure": Row(
        "warning",
        "Backlog",
        "jobs wait too long, or Redis is nearly full",
        "add workers (`callvault worker --processes 4`) or memory for Redis",
    ),
    "dead-letters": Row(
        "warning",
        "Dead letters",
        "jobs failed for good and wait for a person",
        "run `callvault dead-letters list` to see why and what to do",
    ),
    "paused": Row(
        "warning",
        "Deletion is paused",
        "deletion of originals is paused, by a person or by Callvault itself",
        "settle the reason it gives, then run `callvault deletions resume`",
    ),
    "disposal-stopped": Row(
        "critical",
        "Disposal stopped itself",
        "more recordings are past their terms than may go in a day, so none goes until a person approves it",
        "check the rules and `callvault retention dispose --dry-run`; if all of it may go, run `callvault retention approve "
        "--why ...`; if not, apply other rules",
    ),
    "disposal-waits": Row(
        "warning",
        "Disposal waits",
        "the process that disposes of recordings has ended, or waits for something, so what is past its term stays",
        "run `callvault retention dispose --dry-run`, which says what it waits for, and look whether `callvault worker "
        "--dispose` runs; if nobody should dispose of recordings any more, this line ends by itself after 30 days",
    ),
    "unsealed": Row(
        "warning",
        "Days waiting for their seal",
        "days wait too long for their seal",
        "fix what each day waits for; the page Evidence says it of each",
    ),
    "cases-wrong": Row(
        "critical",
        "Cases",
        "a case cannot be read, so it holds every recording, or it is missing, so it holds none",
        "restore the object from a copy of the archive; or close the case (`callvault cases close ID --why ...`), or open "
        "it again",
    ),
    "retention-unreadable": Row(
        "warning",
        "Retention rules cannot be read",
        "the retention rules in the archive cannot be read, so nothing may be disposed of",
        "restore the object from a copy of the archive; run `callvault verify`",
    ),
    "retention-differs": Row(
        "warning",
        "Retention rules not applied",
        "the file of retention rules differs from the rules in force, which count until somebody applies the file",
        "run `callvault retention plan` to see what the file means, then `callvault retention apply`, or mend the file",
    ),
    "settings-differ": Row(
        "warning",
        "Workers have different settings",
        "workers have different settings, so what happens depends on which of them takes a job",
        "give all workers the same settings and restart them; `callvault status --json` lists what each runs with",
    ),
    "versions-differ": Row(
        "warning",
        "Versions differ",
        "receivers and workers run different versions of Callvault",
        "finish the upgrade: restart the processes that run the other version; `callvault status --json` lists them",
    ),
}


def condition(kind: str, what: str = "", about: str = "", advice: str = "", since: str | None = None) -> Condition:
    """A condition of a kind; its row gives the texts that are left out."""
    row = CONDITIONS[kind]
    return Condition(kind, row.severity, about, what or row.meaning, advice or row.advice, since)
