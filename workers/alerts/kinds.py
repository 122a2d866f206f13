"""THE table of alerts: each kind, how severe it is, what it means, and what a person does. `docs/runbook.md` shows it.

To add one: a row here, `alerts.send` where it is found; then `make docs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["info", "warning", "critical"]


@dataclass(frozen=True)
class Kind:
    """A row of the table.

    Attributes:
        severity: unless the user sets another (`CALLVAULT_ALERT_SEVERITIES`); None: each alert has its own.
        meaning: what has happened.
        remedy: what a person does.
    """

    severity: Severity | None
    meaning: str
    remedy: str


_CONNECTION = Kind(
    None,
    "an external connection, an upload, a release or a number is not as it should be",
    "the alert says what it means and which command shows it; `...-recovered` tells its end",
)
_RECOVERED = Kind("info", "a fault of a connection, an upload, a release or a number is over", "nothing")
_UNREACHABLE = "check its address and that Telnyx can reach it"

KINDS: dict[str, Kind] = {
    "dead-letter": Kind(
        "critical",
        "a job was given up after its last attempt",
        "`callvault dead-letters list` says why and what to do; [dead-letters.md](dead-letters.md) has every cause; after "
        "mending, `callvault dead-letters retry --all`",
    ),
    "archive-damaged": Kind(
        "critical",
        "an object failed its proof just before the deletion of its original, which is kept; or a day is not whole and cannot "
        "be sealed; or a seal cannot be read",
        "`callvault verify` lists what is wrong. Audio that is gone is fetched again by itself while Telnyx has the original; "
        "otherwise `callvault repair ID` puts it back, or `callvault repair ID --from FILE` from a copy of the archive. What is "
        "mended is put back on the list of deletions by the next comparison",
    ),
    "archive-repaired": Kind(
        "info",
        "an audio object that was gone from the archive was fetched from Telnyx again and put back, with the hash that its "
        "commit record names",
        "find out who removed it",
    ),
    "erasure-incomplete": Kind(
        "critical",
        "a job wrote something of a recording that was erased while the job ran, and the worker may not delete it",
        "run `callvault erase ID --reason ...` again, with credentials that may delete",
    ),
    "deletion-stopped": Kind(
        "critical",
        "so many of a batch failed their proof that deletion has paused itself",
        "find out what happened to the bucket, `callvault verify`, mend it, then `callvault deletions resume`",
    ),
    "deletion-refused": Kind(
        "warning",
        "Telnyx was asked to delete an original more than once and still has it; the next attempts come later and later, and the "
        "last one leaves a dead letter",
        "`callvault telnyx recordings delete ID` shows the answer; ask their support. The recording is archived either way",
    ),
    "content-changed": Kind(
        "critical",
        "Telnyx has other audio under the id of an archived recording; both are archived, and the original stays until a person "
        "approves. Where Telnyx only tells other times of the same audio there is no alert: that is on record, and keeps nothing",
        "listen to both (`versions/` in the recording's folder has what came later); `callvault deletions approve ID --why ...` "
        "lets the original go",
    ),
    "clocks-differ": Kind(
        "critical",
        "the clock of a machine and the clock of the Redis server differ by more than a minute; while they do, a worker there "
        "deletes and seals nothing, and a receiver answers webhooks 503 whose time it cannot judge",
        "set both by NTP; it goes on by itself",
    ),
    "another-archive": Kind(
        "critical",
        "the Redis of a worker belongs to another archive than its own: nothing is archived, deleted or sealed",
        "see which of `REDIS_URL` and `CALLVAULT_ARCHIVE_URL` is wrong, and restart with the right one; `callvault init "
        "--adopt` has this Redis serve this archive from now on, if that is meant",
    ),
    "no-worker": Kind(
        "critical",
        "no worker is alive: events are accepted and wait; a receiver says it within half a minute or so",
        "start one (`callvault worker`); its log says why the last one ended",
    ),
    "jobs-fail": Kind(
        "critical",
        "jobs, or the deletion of originals, have failed for more than five minutes (`CALLVAULT_QUEUE_AGE_LIMIT`) for something "
        "that none is given up for: "
        "Telnyx or the store is away (`outage`), a key or a right is missing (`refused`), or the account is slowed down "
        "(`throttled`); or Telnyx has listed a recording for a day and has no audio of it (`not-yet`); nothing is lost, and it "
        "goes on by itself once it is mended",
        "the message has the last error; `callvault doctor` says whether Telnyx and the archive answer, `callvault status` "
        "whether jobs still fail",
    ),
    "turn-fails": Kind(
        "warning",
        "what runs by the clock (media, log messages, external connections, drift) has failed for more than five minutes "
        "(`CALLVAULT_QUEUE_AGE_LIMIT`), for one thing or for all; everything else goes on. The alert comes once a day",
        "the message has the last error. If the API key lacks a right, give it that right in the Telnyx portal, or ignore the "
        "alert",
    ),
    "unreadable-rows": Kind(
        "warning",
        "a Telnyx list has rows that this version cannot read. The alert names each row once, by its id. Callvault reads all "
        "other rows, and fetches a recording by its id. The day of such a recording or transcription gets no seal until the row "
        "can be read",
        "run `callvault telnyx recordings list` (or the list that the message names) to see the same error; report it, and "
        "install a version that reads the row",
    ),
    "not-compared": Kind(
        "warning",
        "Telnyx does not list the recordings, the transcriptions or the failed webhooks of some days, while it lists others; "
        "those were compared. The next comparison tries again, and a day that is not compared gets no seal",
        "the message has Telnyx's answer: a right that the key lacks is given in the portal; for anything else ask their support",
    ),
    "pressure": Kind(
        "warning",
        "jobs wait too long, or Redis uses more than 80% of its memory; events are still accepted, bulk work yields. Above 90% "
        "webhooks are answered 503, and workers go on",
        "more workers, or more memory for Redis; `callvault_oldest_job_seconds` and `/readyz` show it",
    ),
    "no-replica": Kind(
        "warning",
        "behind Sentinel, Redis has had no replica for 15 seconds; events are accepted by the one server that is left, and what "
        "it loses is found by the next comparison only",
        "bring a replica back; `INFO replication` on the primary lists those that are connected",
    ),
    "audio-finding": Kind(
        "warning",
        "the audio is not what Telnyx says: it does not parse, its length differs, or a channel is missing or silent; it is "
        "archived, its original kept",
        "listen to it; `callvault deletions approve ID --why ...` lets the original go",
    ),
    "log-message": Kind(
        "warning",
        "Telnyx wrote a log message about an external connection",
        "`callvault logs list --connection ID`; the code and title say what",
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
        "Telnyx could not keep a recording; with custom storage its credentials fail",
        "`callvault telnyx custom-storage-credentials retrieve ID`, mend them, make a test call",
    ),
    "siprec.failed": Kind("warning", "a SIPREC session did not come about", _UNREACHABLE),
    "streaming.failed": Kind("warning", "a media stream did not come about", _UNREACHABLE),
    "media-lost": Kind(
        "warning", "a medium expired before it could be archived", "upload it again if it is still needed"
    ),
    "drift": Kind(
        "warning",
        "a managed thing is not as `CALLVAULT_CONNECTIONS_FILE` says",
        "`callvault connections drift FILE`, then `apply`, or change the file",
    ),
    "sealed-without": Kind(
        "critical",
        "a day has waited for a recording for `CALLVAULT_SEAL_WITHOUT_AFTER`, which Telnyx lists and gives no audio of: the "
        "download address says no, or there is not a byte, or no audio behind it; or for a transcription that Telnyx lists and "
        "does not give. The day is sealed without it, on record",
        "ask Telnyx's support for it. It is asked for again each week; should it come, it is archived and sealed as "
        "what came late",
    ),
    "seal-unsigned": Kind(
        "critical",
        "a seal has no signature, and this service does not remember having made it: Redis was lost behind it, the key is newer "
        "than it, or somebody has changed the bucket. It is not signed",
        "hold the chain against a head that you trust, from an older alert or a witness: `callvault verify --seals --head HASH`. "
        "If it holds, `callvault seal --sign 7` signs seal 7 and `callvault seal --sign 1-7` the first seven; else restore it",
    ),
    "witness": Kind(
        "warning",
        "an address of `CALLVAULT_WITNESS_URLS` did not take the head of the seals",
        "mend the address; the head is sent again in an hour, and is in every alert too",
    ),
    "time-stamp": Kind(
        "warning",
        "the authority of `CALLVAULT_TIMESTAMP_URL` does not answer; seals are made all the same",
        "nothing, if it comes back: missing stamps are asked for every ten minutes",
    ),
}
