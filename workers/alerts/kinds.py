"""THE table of alerts: each kind, its severity, what it means and what to do. `docs/runbook.md` shows it.

To add one: add a row here, call `alerts.send` where the fault is found, then run `make docs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["info", "warning", "critical"]


@dataclass(frozen=True)
class Kind:
    """A row of the table.

    Attributes:
        severity: the default; the user can override it (`CALLVAULT_ALERT_SEVERITIES`). None: each alert sets its own.
        meaning: what happened.
        remedy: what a person does.
    """

    severity: Severity | None
    meaning: str
    remedy: str


_CONNECTION = Kind(
    None,
    "An external connection, an upload, a release or a number has a fault",
    "The alert explains the fault and names the command that shows it. `...-recovered` follows when the fault is over",
)
_RECOVERED = Kind("info", "A fault of a connection, an upload, a release or a number is over", "Nothing")
_UNREACHABLE = "Check the address, and that Telnyx can reach it"

KINDS: dict[str, Kind] = {
    "dead-letter": Kind(
        "critical",
        "A job failed its last attempt and will not be retried",
        "Run `callvault dead-letters list` to see why and what to do; [dead-letters.md](dead-letters.md) lists every failure "
        "class. After the fix, run `callvault dead-letters retry --all`",
    ),
    "archive-damaged": Kind(
        "critical",
        "An object failed its check just before its original was to be deleted; the original is kept. Or a day is incomplete "
        "and cannot be sealed. Or a seal cannot be read",
        "Run `callvault verify` to list the problems. While Telnyx has the original, the worker fetches missing audio again. "
        "Otherwise run `callvault repair ID`, or `callvault repair ID --from FILE` with a copy of the archive. The next "
        "reconcile puts repaired recordings back on the deletion schedule",
    ),
    "archive-repaired": Kind(
        "info",
        "An audio object was missing from the archive. The worker fetched it from Telnyx again and restored it; its hash "
        "matches the commit record",
        "Find out who removed it",
    ),
    "erasure-incomplete": Kind(
        "critical",
        "A recording was erased while a job was writing to it. The job left an object behind, and the worker has no right to "
        "delete it",
        "Run `callvault erase ID --reason ...` again, with credentials that can delete",
    ),
    "deletion-stopped": Kind(
        "critical",
        "Too many recordings of one batch failed their check, so the worker paused deletion",
        "Find out what happened to the bucket, run `callvault verify`, repair the damage, then run `callvault deletions resume`",
    ),
    "disposal-stopped": Kind(
        "critical",
        "Disposal stopped itself: more recordings are past their terms than may go in a day, or the store refuses to delete",
        "Check the rules and `callvault retention dispose --dry-run`. If all of it may go, run `callvault retention approve "
        "--why ...`. If the store refuses, give the process credentials that may delete",
    ),
    "disposal-kept": Kind(
        "warning",
        "Recordings are past their terms and stay: a lock of the store is longer, their originals are still at Telnyx, their "
        "audio lies in custom storage, or they are damaged. The alert comes once for each recording",
        "`callvault retention dispose --dry-run` lists them. Each goes as soon as nothing keeps it",
    ),
    "deletion-refused": Kind(
        "warning",
        "Callvault asked Telnyx to delete an original more than once, and Telnyx still has it. The waits between attempts grow; "
        "after the last attempt the job becomes a dead letter",
        "Run `callvault telnyx recordings delete ID` to see Telnyx's answer, and ask Telnyx support. The recording is archived "
        "either way",
    ),
    "content-changed": Kind(
        "critical",
        "Telnyx has different audio under the id of an archived recording. Both are archived, and the original stays until a "
        "person approves its deletion. A change of times alone raises no alert: Callvault records it and keeps nothing back",
        "Listen to both; the later version is in `versions/` of the recording's folder. `callvault deletions approve ID --why "
        "...` allows the deletion of the original",
    ),
    "clocks-differ": Kind(
        "critical",
        "The clock of a machine and the clock of the Redis server differ by more than a minute. Until they agree, the worker on "
        "that machine deletes and seals nothing, and a receiver there answers 503 to webhooks whose time it cannot verify",
        "Synchronise both clocks by NTP; work then resumes automatically",
    ),
    "another-archive": Kind(
        "critical",
        "A worker's Redis belongs to a different archive. The worker archives, deletes and seals nothing",
        "Check `REDIS_URL` and `CALLVAULT_ARCHIVE_URL`, and restart the worker with the right values. If this Redis is meant to "
        "serve this archive from now on, run `callvault init --adopt`",
    ),
    "no-worker": Kind(
        "critical",
        "No worker runs. Receivers accept events, and the jobs wait. A receiver notices within about half a minute",
        "Start one: `callvault worker`. Its log says why the last one stopped",
    ),
    "jobs-fail": Kind(
        "critical",
        "Jobs or deletions have failed for more than five minutes (`CALLVAULT_QUEUE_AGE_LIMIT`), and Callvault retries them "
        "without end: Telnyx or the store is away (`outage`), a key or a right is missing (`refused`), or Telnyx limits the "
        "account's rate (`throttled`). Or Telnyx has listed a recording for a day without its audio (`not-yet`). Nothing is lost",
        "The message has the last error. `callvault doctor` checks Telnyx and the archive; `callvault status` shows whether jobs "
        "still fail. Jobs resume automatically after the fix",
    ),
    "turn-fails": Kind(
        "warning",
        "A periodic task (media, log messages, external connections, drift) has failed for more than five minutes "
        "(`CALLVAULT_QUEUE_AGE_LIMIT`), for one thing or for all. All other work continues. The alert comes once a day",
        "The message has the last error. If the API key lacks a right, grant it in the Telnyx portal, or ignore the alert",
    ),
    "unreadable-rows": Kind(
        "warning",
        "A Telnyx list has rows that this version cannot read. The alert names each row once, by its id. Callvault reads all "
        "other rows, and fetches a recording by its id. The day of such a recording or transcription gets no seal until the row "
        "can be read",
        "Run `callvault telnyx recordings list` (or the list that the message names) to see the same error. Report it, and "
        "install a version that reads the row",
    ),
    "not-compared": Kind(
        "warning",
        "Telnyx refuses to list the recordings, transcriptions or failed webhooks of some days. Callvault reconciled the other "
        "days. The next reconcile tries again; a day that is not reconciled gets no seal",
        "The message has Telnyx's answer. If the API key lacks a right, grant it in the Telnyx portal; otherwise ask Telnyx "
        "support",
    ),
    "pressure": Kind(
        "warning",
        "Jobs wait too long, or Redis uses more than 80% of its memory. Receivers still accept events, and bulk jobs wait. Above "
        "90% receivers answer 503, and workers continue",
        "Add workers, or give Redis more memory. `callvault_oldest_job_seconds` and `/readyz` show the backlog",
    ),
    "no-replica": Kind(
        "warning",
        "Redis behind Sentinel has had no replica for 15 seconds. The primary alone accepts events; if it loses any, the next "
        "reconcile finds them",
        "Bring a replica back; `INFO replication` on the primary lists the connected ones",
    ),
    "audio-finding": Kind(
        "warning",
        "The audio differs from what Telnyx reports: it does not parse, its length differs, or a channel is missing or silent. "
        "It is archived, and its original is kept",
        "Listen to it; `callvault deletions approve ID --why ...` allows the deletion of the original",
    ),
    "log-message": Kind(
        "warning",
        "Telnyx wrote a log message about an external connection",
        "Run `callvault logs list --connection ID`; the code and title describe the problem",
    ),
    "connection-fault": _CONNECTION,
    "upload-fault": _CONNECTION,
    "release-fault": _CONNECTION,
    "number-fault": _CONNECTION,
    "connection-recovered": _RECOVERED,
    "upload-recovered": _RECOVERED,
    "release-recovered": _RECOVERED,
    "number-recovered": _RECOVERED,
    "call.recording.error": Kind(
        "critical",
        "Telnyx could not store a recording. With custom storage, its credentials fail",
        "Run `callvault telnyx custom-storage-credentials retrieve ID`, correct the credentials, and make a test call",
    ),
    "siprec.failed": Kind("warning", "Telnyx could not start a SIPREC session", _UNREACHABLE),
    "streaming.failed": Kind("warning", "Telnyx could not start a media stream", _UNREACHABLE),
    "media-lost": Kind(
        "warning", "A media file expired before Callvault could archive it", "Upload it again if it is still needed"
    ),
    "unusual-access": Kind(
        "warning",
        "One person has played, downloaded or exported more recordings within an hour than `CALLVAULT_UNUSUAL_RECORDINGS`. The "
        "alert comes within a minute or two, and once an hour for each person",
        "Run the command that the alert names to see what, and ask the person. To stop somebody, revoke the API token, or take "
        "the role away: at the provider, or in the access file, which receivers read when they start",
    ),
    "drift": Kind(
        "warning",
        "Something at Telnyx differs from `CALLVAULT_CONNECTIONS_FILE`",
        "Run `callvault connections drift FILE`, then `apply`, or change the file",
    ),
    "sealed-without": Kind(
        "critical",
        "A day has waited `CALLVAULT_SEAL_WITHOUT_AFTER` for a recording that Telnyx lists without its audio (the download is "
        "refused, empty, or not audio), or for a transcription that Telnyx lists and does not deliver. Callvault sealed the day "
        "without it, and the seal records that",
        "Ask Telnyx support for it. Callvault asks for it again each week; if it arrives, Callvault archives it and seals it as "
        "a late arrival",
    ),
    "seal-unsigned": Kind(
        "critical",
        "A seal has no signature, and Callvault has no record of making it, so Callvault does not sign it. Either Redis lost the "
        "record, or the signing key is newer than the seal, or somebody changed the bucket",
        "Check the chain against a head that you trust, from an older alert or a witness: `callvault verify --seals --head "
        "HASH`. If it matches, sign: `callvault seal --sign 7` signs seal 7, `callvault seal --sign 1-7` the first seven. "
        "Otherwise restore the seal",
    ),
    "witness": Kind(
        "warning",
        "An address of `CALLVAULT_WITNESS_URLS` did not accept the head of the seals",
        "Correct the address. Callvault sends the head again in an hour, and includes it in every alert",
    ),
    "time-stamp": Kind(
        "warning",
        "The authority of `CALLVAULT_TIMESTAMP_URL` does not answer. Callvault makes seals without time stamps meanwhile",
        "Nothing if it comes back: Callvault requests missing time stamps every ten minutes",
    ),
}
