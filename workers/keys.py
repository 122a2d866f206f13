"""Every Redis key of Callvault, in one place. arq's own (`arq:job:*`, `arq:in-progress:*`, `arq:retry:*`) stay arq's.

Redis is not the source of truth: all of these may be lost at any time, and no recording with them. Workers restore what the
archive holds too; dead letters, `MADE` and the lines of the access log that the archive does not have yet are then gone.
"""

from __future__ import annotations

MAIN_QUEUE = "arq:queue"  # webhooks and alerts; arq's default, so that any arq worker can run what is written
BULK_QUEUE = "arq:queue:bulk"  # what backfills and reconcile find
CLOCK_QUEUE = "arq:queue:clock"  # scheduled work (reconcile, deletion), which no other work may delay
SEAL_QUEUE = "arq:queue:seals"  # seals of days: deletions wait for them, so they wait behind no download
# By the names that people read.
QUEUES = {"main": MAIN_QUEUE, "bulk": BULK_QUEUE, "clock": CLOCK_QUEUE, "seals": SEAL_QUEUE}

ARQ_JOB = "arq:job:"
ARQ_IN_PROGRESS = "arq:in-progress:"

ARCHIVE = "callvault:archive"  # the id of the archive that this Redis belongs to
INITIALISING = "callvault:initialising"  # lock of the process that creates the archive
EVENT = "callvault:event:"  # + "half day:bucket": set of integers, one for each accepted event
REPEATED = "callvault:repeated:"  # + job id: the merged request of events that came while it ran; it runs next
INSPECTION = "callvault:inspection"  # list: signed events of unknown type or shape, newest first, bounded
INSPECTION_NOTES = "callvault:inspection-notes"  # list: when each of them came and why it lies there, likewise
LEASES = "callvault:leases"  # hash: job id -> worker id
UNLEASED = "callvault:unleased"  # hash: job id -> since when (ms) it has been in progress without a lease
CLAIMED = "callvault:claimed:"  # + worker id and queue: number and answer of its last claim, in case the answer is lost
WORKER = "callvault:worker:"  # + worker id: its heartbeat
TURN = "callvault:turn:"  # + scheduled task: lease of the worker that runs it, then the wait until its next run
WRITER = "callvault:writer:"  # + recording id: lease of the job that writes it
ATTEMPTS = "callvault:attempts:"  # + job id: list of failed attempts
# + failure class: the last error of a job that fails again and again, until two waits later
FAILING = "callvault:failing:"
FAILING_JOBS = "callvault:failing-jobs:"  # + failure class: sorted set: what fails, by when (seconds) its entry expires
FAILING_SINCE = "callvault:failing-since:"  # + what: since when (seconds) it has failed
TURN_ALERTED = "callvault:turn-told:"  # + function: an alert of today reported that this scheduled task fails
DEAD_LETTERS = "callvault:dead-letters"  # hash: job id -> dead letter
DELETIONS_DUE = "callvault:deletions:due"  # sorted set: folders of recordings, by when (seconds) they are due
# Since when no worker is alive, written by the last one that stopped, or by a receiver that sees none.
NO_WORKER = "callvault:no-worker"
WORKER_ENDED = "callvault:worker-ended"  # why the last worker stopped itself, until one starts
READINESS = "callvault:ready"  # written to check that Redis takes writes
TELNYX_PAUSE = "callvault:telnyx-pause"  # while it is there, no request goes to Telnyx
DELETIONS_PAUSED = "callvault:deletions:paused"  # why deletion is paused
DELETIONS_PAUSED_BY = "callvault:deletions:paused-by"  # by whom, and since when
# Set while the store or Telnyx does not answer: workers start no deletion.
DELETIONS_BACK_OFF = "callvault:deletions:back-off"
DECIDED_EARLY = "callvault:decided-early"  # hash: recordings with a decision older than their commit record
# hash: ids of decisions about recordings that catalogues and seals learned of; "" once those of the archive are in it
DECISIONS_ANNOUNCED = "callvault:decisions-announced"
LEAVING = "callvault:deletions:leaving"  # hash: recording id -> its deletion in progress
# sorted set: "recording id folder" of the originals deleted in the last hour, by when (seconds)
LEFT = "callvault:deletions:left"
# The same for recordings of which only a transcription was deleted.
LEFT_TRANSCRIPTIONS = "callvault:deletions:left-transcriptions"
LEAVING_ALIVE = "callvault:deletions:turn:"  # + token: the turn of deletion is alive
# hash: ids of recordings that paused deletion because Telnyx no longer had them
KNOWN_GONE = "callvault:deletions:gone"
# hash: day -> under which rules it was last looked at for disposal, when its next term ends, and how many recordings it has
DISPOSAL_DAYS = "callvault:disposal:days"
DISPOSING = "callvault:disposal:running"  # lease of the process that disposes of recordings
DISPOSAL_STOPPED = (
    "callvault:disposal:stopped"  # disposal has stopped itself: what it would dispose of; a person must approve
)
DISPOSAL_LOOKED = "callvault:disposal:looked"  # when the process that disposes last looked, and what it waits for
DISPOSED_TODAY = "callvault:disposal:today:"  # + UTC day: how many recordings were disposed of on it
DISPOSAL_REPORTED = (
    "callvault:disposal:reported"  # set: "kind folder" of recordings past their term that an alert reported
)
DAMAGED = "callvault:damaged"  # hash: key of an object -> what is known to be wrong with it
# When the hash above was last compared with the list of damage in the archive, which is the source of truth.
DAMAGED_KNOWN = "callvault:damaged-known"
DAMAGED_LOOKED = "callvault:damaged-looked:"  # + key: it is not yet time to check it again
ACKNOWLEDGED = "callvault:acknowledged"  # hash: id of a condition -> who has seen it, and when
CLOCKS = "callvault:clocks"  # hash: worker id -> seconds that its clock is ahead of the server's, if that is much
RUNNING = "callvault:running"  # hash: process id -> what it runs with, as the process published it
RUNNING_ALIVE = "callvault:running-alive"  # sorted set: process ids, by when (seconds) each published last
LIVE_DUTIES = "callvault:duties"  # hash: worker id -> its duties, and when it published them
LOG_MESSAGES = "callvault:log-messages"  # hash: identity -> its state at the last polls
MEDIA_SEEN = "callvault:media"  # hash: media name -> its updated_at when it was archived
CONNECTION_STATE = "callvault:connections"  # hash: the last known state of connections, uploads, releases, numbers
CONNECTION_NAMES = "callvault:connection-names"  # hash: id of a connection -> its name, for pages
TRANSCRIBING = "callvault:transcribing"  # set: connections with at least one transcription
WRITTEN = "callvault:written"  # stream, bounded: key and bytes of the records that workers have written
WRITTEN_EPOCH = "callvault:written-epoch"  # changes when Redis was lost, and the stream with it
UNSEALED = "callvault:unsealed"  # sorted set: days with something that no seal lists, by when (seconds) to try
UNSEALED_WHY = "callvault:unsealed-why"  # hash: day -> why it could not be sealed yet
# hash: recording id or "transcription ID" -> the day whose seal waits for it, and since when (seconds)
WAITED_FOR = "callvault:waited-for"
UNSEALED_KNOWN = "callvault:unsealed-known"  # the start of Redis after which the archive was listed for unsealed days
UNSEALED_RECKONED = "callvault:unsealed-reckoned"  # it is not yet time to compute again which days must have a seal
SEALS = "callvault:seals"  # hash: sequence -> the seal and its hash, so that the chain is not read each time
SEALED_DAYS = "callvault:sealed-days"  # how many days these seals list
SEALING = "callvault:sealing"  # lease of the worker that extends the chain
MADE = "callvault:seals-made"  # hash: "sequence hash" of each seal made here that is not known to be signed yet
COMPLETED = "callvault:seals-completed"  # it is not yet time to look for missing signatures and time stamps again
WITNESSED = "callvault:witnessed"  # it is not yet time to send the head of the seals to the witnesses again
WITNESSED_HEAD = "callvault:witnessed-head"  # the head that the witnesses took last, and when
RECONCILED = "callvault:reconciled:"  # + span: it is not yet time to reconcile it again

LOG_NO_ID_ALERTED = "callvault:log-no-id-told"  # an alert has reported that messages without an id cannot be dismissed
REFRESHED = "callvault:operator-connect-refreshed"  # it is not yet time for another refresh
DRIFT_LOOKED = "callvault:drift-looked"  # likewise for the comparison with the file
UPLOADS_RETRIED = "callvault:uploads-retried"  # set: "connection numbers cause" of uploads that were tried again
# + list, space, id of a row: an alert of this month reported that it cannot be read.
UNREADABLE_ALERTED = "callvault:unreadable-told:"
ALERTS = "callvault:alerts"  # list: the last alerts, newest first
ALERT_GROUP = "callvault:alert-group:"  # + "kind:group": an alert was sent within this window
ALERT_COUNTS = "callvault:alert-counts"  # hash: "kind:group" -> how many were not sent; "… first" -> since when
HISTORY = "callvault:history:"  # + "step:index": hash of counts, for charts of the last hour, day and month
COUNTS = "callvault:counts"  # hash: name -> how often it happened since Redis started to count, in all processes
COUNTED = "callvault:counted:"  # + process: hash of its counts that are in the hash above
LAST = "callvault:last"  # hash: `archived`, `reconciled` -> when that happened last (seconds)
SIGN_INS = "callvault:sign-ins:"  # + address, or code: and address: refused sign-ins of the last quarter of an hour
SESSION = "callvault:session:"  # + hash of its secret: who signed in at the OpenID provider, encrypted with that secret
SESSION_CHECK = "callvault:session-check:"  # + the same: a receiver asks the provider about it now
API_REQUESTS = "callvault:api-requests:"  # + hash of a token's id: its requests to `/api/` of the current minute
API_TOKENS_CHANGED = "callvault:api-tokens-changed"  # counts the API tokens that were made or revoked
RETENTION_UNREADABLE = "callvault:retention-unreadable"  # why the retention rules in force cannot be read
RETENTION_NUMBER = "callvault:retention-number"  # of the last retention rules that a worker has seen in force
CASES_WRONG = "callvault:cases-wrong"  # which cases cannot be read or are missing, and why
CASES_OPEN = "callvault:cases-open"  # ids of the cases that a worker has seen open, with spaces between them
RETENTION_DIFFERS = "callvault:retention-differs"  # how the file of retention rules differs from those in force
# + archive id: list: lines of the access log that no object of the archive holds yet; "": Redis belonged to no archive.
ACCESS_WAITING = "callvault:access:"
ACCESS_BATCH = "callvault:access-batch:"  # + archive id: list: key of the object that a worker writes, then its lines
ACCESS_MOVED = "callvault:access-moved:"  # + archive id: the key of the object that a worker wrote last
ACCESS_COUNTED = "callvault:access-counted:"  # + archive id: likewise, once what people took by its lines is counted
TAKEN = "callvault:taken:"  # + hash of a person: hash: minute -> how many recordings the person took in it
TAKEN_BUNDLES = "callvault:taken-bundles:"  # + the same: set: the exports of the last hours that counted
TAKEN_ALERTED = "callvault:taken-told:"  # + the same: an alert of this hour reported that it is unusual
PLAYING = "callvault:playing:"  # + hash of who plays what: the id of the line that says so
EXPORTING = "callvault:exporting:"  # + id of an export of the pages: how far a worker is with it
DOCTOR = "callvault:doctor"  # written to check that Redis takes writes
PROBE = "callvault:probe:"  # + one-time number: doctor sends a test webhook with it
PROBED = "callvault:probed:"  # + the same number: that webhook as a receiver got it

# What belongs to one archive, and is deleted when Redis is bound to another; workers rebuild all but `MADE` from the archive.
# TRANSCRIBING stays: only an earlier version wrote it, nothing else holds it, and a wrong entry only delays a deletion.
OF_AN_ARCHIVE = (
    SEALS,
    SEALED_DAYS,
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
    DECISIONS_ANNOUNCED,
    KNOWN_GONE,
    LIVE_DUTIES,
    DISPOSAL_DAYS,
    DISPOSAL_STOPPED,
    DISPOSAL_REPORTED,
    DISPOSAL_LOOKED,
    DAMAGED,
    DAMAGED_KNOWN,
    ACKNOWLEDGED,
    MEDIA_SEEN,
    LOG_MESSAGES,
    LAST,
    WITNESSED_HEAD,
    RETENTION_UNREADABLE,
    RETENTION_NUMBER,
    RETENTION_DIFFERS,
    CASES_WRONG,
    CASES_OPEN,
)
# When a task runs next: at once, with another archive.
TIMES_OF_AN_ARCHIVE = (
    COMPLETED,
    UNSEALED_RECKONED,
    WITNESSED,
    *(RECONCILED + span for span in ("recent", "open", "sealed")),
)


def connection_field(connection_id: str) -> str:
    """The field of `CONNECTION_STATE` that is there for every external connection."""
    return f"connection:{connection_id}:{connection_id}"
