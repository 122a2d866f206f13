"""Every Redis key of Callvault, in one place. arq's own (`arq:job:*`, `arq:in-progress:*`, `arq:retry:*`) stay arq's.

Redis is not the source of truth: all of these may be lost at any time, and workers restore them from the archive.
"""

from __future__ import annotations

MAIN_QUEUE = "arq:queue"  # webhooks and alerts; arq's default, so that any arq worker can run what is written
BULK_QUEUE = "arq:queue:bulk"  # what backfills and sweeps find
CLOCK_QUEUE = "arq:queue:clock"  # what is begun by the clock (sweeps, deletion), which no other work must delay
SEAL_QUEUE = "arq:queue:seals"  # seals of days: deletions wait for them, and they wait behind no download
QUEUES = {
    "main": MAIN_QUEUE,
    "bulk": BULK_QUEUE,
    "clock": CLOCK_QUEUE,
    "seals": SEAL_QUEUE,
}  # by the names that people read

ARQ_JOB = "arq:job:"
ARQ_IN_PROGRESS = "arq:in-progress:"

ARCHIVE = "callvault:archive"  # the id of the archive that all of this is about
INITIALISING = "callvault:initialising"  # lock: who makes the archive
EVENT = "callvault:event:"  # + "half day:bucket": set of integers, one an event that has been accepted
REPEATED = "callvault:repeated:"  # + job id: what an event told while this job ran, with all it knew; it follows when that ends
INSPECTION = "callvault:inspection"  # list: signed events of unknown type or shape, newest first, bounded
LEASES = "callvault:leases"  # hash: job id -> worker id
UNLEASED = "callvault:unleased"  # hash: job id -> since when (ms) it is in progress without a lease
CLAIMED = "callvault:claimed:"  # + worker id and queue: number and answer of its last claim, should the answer be lost
WORKER = "callvault:worker:"  # + worker id: its heartbeat
TURN = "callvault:turn:"  # + what runs by the clock: lease of who does it now; then it is not yet time for it again
WRITER = "callvault:writer:"  # + recording id: lease of the one that writes it now
ATTEMPTS = "callvault:attempts:"  # + job id: list of failed attempts
FAILING = "callvault:failing:"  # + cause: the last error of a job that fails again and again, until two waits later
FAILING_JOBS = "callvault:failing-jobs:"  # + cause: sorted set: what fails so, by until when (seconds) that counts
FAILING_SINCE = "callvault:failing-since:"  # + what: since when (seconds) it fails, until it has not for a while
TURN_ALERTED = "callvault:turn-told:"  # + function: a person has been told today that it fails by the clock
DEAD_LETTERS = "callvault:dead-letters"  # hash: job id -> dead letter
DELETIONS_DUE = "callvault:deletions:due"  # sorted set: "day/recording id" by the instant (seconds) it is due
# Since when no worker is alive, written by the last one that stopped, or by a receiver that sees none.
NO_WORKER = "callvault:no-worker"
WORKER_ENDED = "callvault:worker-ended"  # why the last worker stopped itself, until one starts
READINESS = "callvault:ready"  # written to see that Redis takes writes
TELNYX_PAUSE = "callvault:telnyx-pause"  # while it is there, no request goes to Telnyx
DELETIONS_PAUSED = "callvault:deletions:paused"  # why deletion is paused
DELETIONS_PAUSED_BY = "callvault:deletions:paused-by"  # by whom, and since when
# Set while the store or Telnyx does not answer: workers start no deletion.
DELETIONS_BACK_OFF = "callvault:deletions:back-off"
DECIDED_EARLY = "callvault:decided-early"  # hash: recordings that were decided about before they were committed
LEAVING = "callvault:deletions:leaving"  # hash: recording id -> whose deletion is under way
LEFT = "callvault:deletions:left"  # sorted set: "recording id, folder" of the originals that left in the last hour, by when
# The same for recordings of which only a transcription was deleted.
LEFT_TRANSCRIPTIONS = "callvault:deletions:left-transcriptions"
LEAVING_ALIVE = "callvault:deletions:turn:"  # + token: the turn that deletes it lives
KNOWN_GONE = "callvault:deletions:gone"  # hash: recording ids that stopped deletion, since Telnyx had them no more
DAMAGED = "callvault:damaged"  # hash: key of an object -> what is known to be wrong with it
# When the hash above was last compared with the list of damage in the archive, which is the source of truth.
DAMAGED_KNOWN = "callvault:damaged-known"
DAMAGED_LOOKED = "callvault:damaged-looked:"  # + key: it is not yet time to look at it again
CLOCKS = "callvault:clocks"  # hash: worker id -> by how many seconds its clock is ahead, of those that are far from the server's
LIVE_DUTIES = "callvault:duties"  # hash: worker id -> when, and the duties that it is set to
LOG_MESSAGES = "callvault:log-messages"  # hash: identity -> what the last polls saw of it
LOG_COUNTS = "callvault:log-counts"  # hash: "code connection" -> how many have been seen
MEDIA_SEEN = "callvault:media"  # hash: media name -> its updated_at when it was archived
CONNECTION_STATE = "callvault:connections"  # hash: what was last seen of connections, uploads, releases, numbers
TRANSCRIBING = "callvault:transcribing"  # set: connections of which a transcription has been seen
WRITTEN = "callvault:written"  # stream, bounded: key and bytes of the records that workers have written
WRITTEN_EPOCH = "callvault:written-epoch"  # changes when Redis was lost, and the stream with it
UNSEALED = "callvault:unsealed"  # sorted set: days with something that no seal lists, by when (seconds) to try
UNSEALED_WHY = "callvault:unsealed-why"  # hash: day -> why it could not be sealed yet
WAITED_FOR = "callvault:waited-for"  # hash: recording id -> the day whose seal waits for it, and since when (seconds)
UNSEALED_KNOWN = "callvault:unsealed-known"  # the start of Redis behind which the two above were found from the archive
UNSEALED_RECKONED = "callvault:unsealed-reckoned"  # it is not yet time to reckon again which days must have a seal
SEALS = "callvault:seals"  # hash: sequence -> the seal and its hash, so that the chain is not read each time
SEALING = "callvault:sealing"  # lease: who adds to the chain
MADE = "callvault:seals-made"  # hash: "sequence hash" of each seal that was made here and is not known to be signed yet
COMPLETED = "callvault:seals-completed"  # it is not yet time to look for missing signatures and time stamps again
WITNESSED = "callvault:witnessed"  # it is not yet time to send the head of the seals to the witnesses again
RECONCILED = "callvault:reconciled:"  # + span: it is not yet time for this sweep again

LOG_NO_ID_ALERTED = "callvault:log-no-id-told"  # that messages without an id cannot be dismissed has been said
REFRESHED = "callvault:operator-connect-refreshed"  # it is not yet time for another refresh
DRIFT_LOOKED = "callvault:drift-looked"  # likewise for the comparison with the file
UPLOADS_RETRIED = "callvault:uploads-retried"  # set: "connection numbers cause" of uploads that were tried again
# + list, space, id of a row: an alert of this month reported that it cannot be read.
UNREADABLE_ALERTED = "callvault:unreadable-told:"
ALERTS = "callvault:alerts"  # list: the last alerts, newest first
ALERT_GROUP = "callvault:alert-group:"  # + "kind:group": told within this window
ALERT_COUNTS = "callvault:alert-counts"  # hash: "kind:group" -> how many were not told; "… first" -> since when
HISTORY = "callvault:history:"  # + "step:index": hash of counts, for charts of the last hour and day
SIGN_INS = "callvault:sign-ins:"  # + address: refused sign-ins of the last quarter of an hour
DOCTOR = "callvault:doctor"  # written to see that Redis takes writes

# What is true of one archive only, and is forgotten with it; all of it is found again from the archive. TRANSCRIBING stays: only
# an earlier version wrote it, it lies nowhere else, and too much in it only lets an original wait.
OF_AN_ARCHIVE = (
    SEALS,
    MADE,
    UNSEALED,
    UNSEALED_WHY,
    UNSEALED_KNOWN,
    WAITED_FOR,
    WRITTEN,
    WRITTEN_EPOCH,
    DELETIONS_DUE,
    DELETIONS_PAUSED,
    DELETIONS_PAUSED_BY,
    LEAVING,
    LEFT,
    LEFT_TRANSCRIPTIONS,
    DECIDED_EARLY,
    KNOWN_GONE,
    LIVE_DUTIES,
    DAMAGED,
    DAMAGED_KNOWN,
    MEDIA_SEEN,
    LOG_MESSAGES,
)
# When something is done again: at once, with another archive.
TIMES_OF_AN_ARCHIVE = (
    COMPLETED,
    UNSEALED_RECKONED,
    WITNESSED,
    *(RECONCILED + sweep for sweep in ("recent", "open", "sealed")),
)


def connection_field(connection_id: str) -> str:
    """The field of `CONNECTION_STATE` that is there for every external connection."""
    return f"connection:{connection_id}:{connection_id}"
