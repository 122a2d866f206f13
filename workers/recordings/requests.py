"""THE table of jobs: the name of each, its request, and the module whose function of that name does it.

A request is the one argument of a job: small, typed and versioned. To add a job: its request, a row of `JOBS`, and the function
that makes the job.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec

from archive.layout import encode_name
from workers.keys import BULK_QUEUE, MAIN_QUEUE, SEAL_QUEUE
from workers.queue.jobs import Job, clock_job

VERSION = 1

_MIRROR_DELAY_MS = 3_000


class RecordingRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which recording to archive, as far as the event or the list names it.

    The documented `call.recording.saved` has no recording id: then leg, session or conference and the times find it.

    Attributes:
        v: version of this shape.
        locations: by format, where custom storage has put it (`gs://…`, `s3://…`, an Azure address); empty with Telnyx.
        look_again: compare a committed recording with Telnyx, and archive other content beside it.
        trace: the `traceparent` of the span that received the webhook, when traces are made.
    """

    v: int = VERSION
    event_id: str | None = None
    recording_id: str | None = None
    call_leg_id: str | None = None
    call_session_id: str | None = None
    call_control_id: str | None = None
    conference_id: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    locations: dict[str, str] = {}
    found_by: str = "webhook"
    look_again: bool = False
    trace: str | None = None


class TranscriptionRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which transcription to archive.

    Attributes:
        not_archived_key: the key of the record that Telnyx does not give it; it is requested once more.
    """

    v: int = VERSION
    event_id: str | None = None
    transcription_id: str
    recording_id: str | None = None
    not_archived_key: str | None = None
    found_by: str = "webhook"
    trace: str | None = None


class FaultReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fault that a webhook reports."""

    v: int = VERSION
    event_id: str
    event_type: str
    reason: str
    connection_id: str | None = None
    call_leg_id: str | None = None


class MirrorRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Poll the log messages now."""

    v: int = VERSION


class MediumRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which medium to archive, as Telnyx lists it."""

    v: int = VERSION
    medium: dict[str, Any]


class RepairRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Restore what is missing of a committed recording.

    Attributes:
        folder: of the recording, in the archive.
    """

    v: int = VERSION
    folder: str


class ReconcileRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Compare a span of days with Telnyx: both ISO 8601, inclusive."""

    v: int = VERSION
    since: str
    until: str


class CountRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Count the sealed days."""

    v: int = VERSION


class FindUnsealedRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Find the days that hold something no seal lists."""

    v: int = VERSION


class SealRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Seal a day, ISO 8601."""

    v: int = VERSION
    day: str


class DeletionTurn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Delete the originals that are due."""

    v: int = VERSION


class DeletionRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Schedule an original again whose deletion was given up."""

    v: int = VERSION
    folder: str


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which export to make.

    Attributes:
        export_id: its id.
        place: the id of the place in which it lies; a worker that does not see that place leaves it to another.
    """

    v: int = VERSION
    export_id: str
    place: str


@dataclass(frozen=True)
class Row:
    """A row of the table of jobs.

    Attributes:
        request: the type of its one argument.
        module: where the function is that does it; its name is the job's.
        needs_archive: whether it runs only where Redis belongs to the archive.
        begins_anew: whether it takes minutes and loses nothing by a new start, so that a worker that stops cancels it at once.
    """

    request: type[msgspec.Struct]
    module: str
    needs_archive: bool = True
    begins_anew: bool = False


JOBS: dict[str, Row] = {
    "archive_recording": Row(RecordingRequest, "workers.recordings.archive_recording"),
    "archive_transcription": Row(TranscriptionRequest, "workers.recordings.transcriptions"),
    "archive_medium": Row(MediumRequest, "workers.connections.media"),
    "repair_recording": Row(RepairRequest, "workers.recordings.repair"),
    "reconcile": Row(ReconcileRequest, "workers.reconcile.reconcile", begins_anew=True),
    "report_fault": Row(FaultReport, "workers.connections.watch", needs_archive=False),
    "mirror_log_messages": Row(MirrorRequest, "workers.connections.log_messages"),
    "find_unsealed": Row(FindUnsealedRequest, "workers.seals.unsealed", begins_anew=True),
    "seal_day": Row(SealRequest, "workers.seals.seal"),
    "count_sealed": Row(CountRequest, "workers.reconcile.reconcile", begins_anew=True),
    "delete_originals": Row(DeletionTurn, "workers.deletion.deletion"),
    "schedule_again": Row(DeletionRequest, "workers.deletion.outcomes"),
    "make_export": Row(ExportRequest, "workers.export.make", begins_anew=True),
}


def fault_job(report: FaultReport) -> Job:
    """The job that alerts of a fault."""
    return Job("report_fault", report, f"report_fault:{report.event_id}")


def mirror_job(connection_id: str) -> Job:
    """The poll after an event on an external connection: seconds later, so that a burst of events is one poll."""
    job_id = f"mirror_log_messages:{connection_id}"
    return Job(
        "mirror_log_messages", MirrorRequest(), job_id, delay_ms=_MIRROR_DELAY_MS, only_if_external=connection_id
    )


def medium_job(name: str, changed_at: str, request: MediumRequest) -> Job:
    """The job that archives one version of a medium, whatever its name is made of."""
    return Job("archive_medium", request, f"archive_medium:{encode_name(name)}:{encode_name(changed_at)}")


def repair_job(folder: str) -> Job:
    """The job that restores what is missing of a recording, while Telnyx has it."""
    return Job("repair_recording", RepairRequest(folder=folder), f"repair_recording:{folder}", BULK_QUEUE)


def reconcile_job(name: str, since: date, until: date) -> Job:
    """A reconcile of some days, by its name: one of them at a time."""
    return clock_job("reconcile", ReconcileRequest(since=since.isoformat(), until=until.isoformat()), name)


def count_job() -> Job:
    """The job that counts the sealed days."""
    return clock_job("count_sealed", CountRequest())


def find_unsealed_job() -> Job:
    """The job that finds the days that hold something no seal lists."""
    return clock_job("find_unsealed", FindUnsealedRequest())


def seal_job(day: date) -> Job:
    """The job that seals a day. Versions without a queue for seals have another id for it, so it waits for none of them."""
    return Job("seal_day", SealRequest(day=day.isoformat()), f"seal_day:seals:{day}", SEAL_QUEUE)


def deletion_job(turn: int) -> Job:
    """One of the jobs that delete what is due side by side, by its number."""
    return clock_job("delete_originals", DeletionTurn(), str(turn))


def export_job(export_id: str, place: str) -> Job:
    """The job that makes an export."""
    return Job("make_export", ExportRequest(export_id=export_id, place=place), f"make_export:{export_id}", BULK_QUEUE)


def recording_job_id(identity: str) -> str:
    """What the job of a recording is called, by its id or by what else is known of it."""
    return f"archive_recording:{identity}"


def recording_job(request: RecordingRequest) -> Job:
    """The job that archives a recording; every event of one recording has the same job.

    A second event is merged into a waiting job, and runs after a running one. A comparison with Telnyx is a separate job, so
    that it is not lost behind a running one.
    """
    identity = request.recording_id or f"event:{request.event_id}"
    if request.look_again:
        identity += ":again"
    queue = _queue(request.found_by)
    return Job("archive_recording", request, recording_job_id(identity), queue, merges=True)


def transcription_job(request: TranscriptionRequest, delay_ms: int = 0) -> Job:
    """The job that archives a transcription."""
    job_id = f"archive_transcription:{request.transcription_id}"
    return Job("archive_transcription", request, job_id, _queue(request.found_by), delay_ms, merges=True)


def _queue(found_by: str) -> str:
    return MAIN_QUEUE if found_by == "webhook" else BULK_QUEUE


def payload_version(payload: Any) -> int:
    """The version of a payload as it came from Redis; 0 if it is not one of ours."""
    version = payload.get("v", VERSION) if isinstance(payload, dict) else 0
    return version if isinstance(version, int) else 0
