"""THE tables of the ops pages, of `/api/`, of other answers and of the changes that people and programs make: each is a row.

A row names the roles that may use it, and says how it treats one with a scope; `may.py` has both. docs/access.md shows them all.
"""

from __future__ import annotations

from service.ops import (
    access_log,
    accesses,
    audio,
    audio_address,
    bundles,
    cases,
    connections,
    decide,
    deletions,
    evidence,
    exports,
    letters,
    originals,
    overview,
    quarantine,
    recording,
    recordings,
    sharing,
    storage,
    transcript,
)
from service.ops.may import DECIDE, EVERYONE, HEAR, OPERATE, PROVE, STOP, WATCH
from service.ops.page import Change, File, Operation, Page
from workers.access.query import FIELDS as ACCESS_FIELDS
from workers.catalogue.query import FIELDS

_SEARCH = (
    ("q", "free search: an id, a number, a day, spoken words, or name:value"),
    *FIELDS.items(),
    ("after", "the `after` of the previous page"),
)
EXPORT = tuple(name for name, _ in _SEARCH if name != "after")
_GROUP = ("cause", "kind", "until")
_MESSAGES = (("connection", "id of a connection"), ("code", "code of the message"), ("since", "first UTC day"))

PAGES = (
    Page(
        "",
        "overview.html",
        "Overview",
        overview.look,
        overview.Overview,
        EVERYONE,
        True,
        for_api=lambda looked: looked.overview,
        how=("span",),
        scoped="whole",
    ),
    Page(
        "/recordings",
        "recordings.html",
        "Recordings",
        recordings.look,
        recordings.Found,
        HEAR,
        True,
        _SEARCH,
        recordings.for_api,
        shows_refusals=True,
        log=accesses.search,
        scoped="cut",
    ),
    Page(
        "/recordings/{recording_id}",
        "recording.html",
        "Recording",
        recording.look_at_one,
        recording.Detail,
        HEAR,
        query=(("text", "words to mark in its transcriptions, with about when each is said"),),
        log=accesses.look,
        needs=("archive-away",),
        scoped="one",
    ),
    Page(
        "/exports",
        "exports.html",
        "Exports",
        exports.look,
        exports.ShownExports,
        DECIDE,
        True,
        scoped="whole",
    ),
    Page(
        "/evidence",
        "evidence.html",
        "Evidence",
        evidence.look,
        evidence.Evidence,
        WATCH,
        True,
        needs=("archive-away",),
        scoped="whole",
    ),
    Page(
        "/evidence/{day}",
        "day.html",
        "Day",
        evidence.look_at_day,
        evidence.DayCounts,
        WATCH,
        needs=("archive-away",),
        scoped="whole",
    ),
    Page(
        "/connections",
        "connections.html",
        "Connections",
        connections.look,
        connections.Connections,
        OPERATE,
        True,
        _MESSAGES,
        scoped="whole",
    ),
    Page(
        "/dead-letters",
        "letters.html",
        "Dead letters",
        letters.look,
        letters.Letters,
        OPERATE,
        True,
        (*letters.FILTERS.items(), ("after", "the `after` of the previous page")),
        shows_refusals=True,
        log=accesses.letters,
        needs=("redis-away",),
        scoped="whole",
    ),
    Page(
        "/deletions",
        "deletions.html",
        "Deletions",
        deletions.look,
        deletions.Deletions,
        WATCH,
        True,
        (*originals.FILTERS.items(), ("after", "the `after` of the previous page")),
        shows_refusals=True,
        log=accesses.deletions,
        needs=("redis-away",),
        scoped="cut",
    ),
    Page(
        "/cases",
        "cases.html",
        "Cases",
        cases.look,
        cases.Cases,
        PROVE,
        True,
        how=("query",),
        needs=("archive-away",),
        scoped="whole",
    ),
    Page(
        "/cases/{case_id}",
        "case.html",
        "Case",
        cases.look_at_one,
        cases.CaseDetail,
        PROVE,
        query=(("after", "the `after` of the previous page"),),
        log=accesses.case,
        needs=("archive-away",),
        scoped="whole",
    ),
    Page(
        "/quarantine",
        "quarantine.html",
        "Quarantine",
        quarantine.look,
        quarantine.Quarantine,
        OPERATE,
        True,
        quarantine.QUERY,
        log=accesses.quarantine,
        needs=("redis-away",),
        scoped="whole",
    ),
    Page(
        "/access-log",
        "access-log.html",
        "Access log",
        access_log.look,
        access_log.Accesses,
        PROVE,
        True,
        (*ACCESS_FIELDS.items(), ("after", "the `after` of the previous page")),
        shows_refusals=True,
        scoped="cut",
    ),
)

# Changes, by their path under `/ops`.
CHANGES: dict[str, Change] = {
    "/acknowledge": Change(
        "note that somebody has seen a condition", overview.acknowledge, ("id",), STOP, scoped="whole"
    ),
    "/dead-letters/retry": Change("retry dead letters", letters.retry, ("id",), OPERATE, scoped="whole"),
    "/dead-letters/discard": Change(
        "discard a dead letter", letters.discard, ("id", "died_at"), OPERATE, scoped="whole"
    ),
    "/dead-letters/retry-group": Change(
        "retry the dead letters of a cause", letters.retry_group, _GROUP, OPERATE, scoped="whole"
    ),
    "/dead-letters/discard-group": Change(
        "discard those of a cause", letters.discard_group, _GROUP, OPERATE, scoped="whole"
    ),
    "/dead-letters/retry-selected": Change("retry several", letters.retry_selected, ("ids",), OPERATE, scoped="whole"),
    "/dead-letters/discard-selected": Change(
        "discard several", letters.discard_selected, ("ids",), OPERATE, scoped="whole"
    ),
    "/deletions/pause": Change("pause deletion", deletions.pause, (), STOP, scoped="whole"),
    "/deletions/resume": Change("resume deletion", deletions.resume, (), STOP, scoped="whole"),
    "/deletions/hold": Change("hold a recording", deletions.hold, ("id", "why"), DECIDE, scoped="one"),
    "/deletions/release": Change("release a recording", deletions.release, ("id", "why"), DECIDE, scoped="one"),
    "/deletions/approve": Change("approve findings", deletions.approve, ("id", "why"), DECIDE, scoped="one"),
    "/recordings/restore": Change(
        "ask for audio in cold storage", storage.restore, ("id", "tier", "days"), HEAR, scoped="one"
    ),
    "/cases/open": Change("open a case", cases.open_case, ("name", "query", "why"), DECIDE, scoped="whole"),
    "/cases/close": Change("close a case", cases.close_case, ("id", "why"), DECIDE, scoped="whole"),
    "/recordings/hold": Change("hold several recordings", deletions.hold_many, ("ids", "why"), DECIDE, scoped="one"),
    "/recordings/release": Change(
        "release several recordings", deletions.release_many, ("ids", "why"), DECIDE, scoped="one"
    ),
    "/recordings/approve": Change(
        "approve several recordings", deletions.approve_many, ("ids", "why"), DECIDE, scoped="one"
    ),
    "/evidence/share": Change("share the evidence of a day", sharing.share, ("day",), PROVE, scoped="whole"),
    "/exports/cancel": Change("cancel an export", exports.cancel, ("id",), DECIDE, scoped="whole"),
    "/exports/link": Change("make an address of an export", bundles.link, ("id",), DECIDE, scoped="full"),
    "/exports/remove": Change("remove an export", exports.remove, ("id",), DECIDE, scoped="whole"),
    "/connections/dismiss": Change("dismiss a log message", connections.dismiss, ("id",), OPERATE, scoped="whole"),
    "/connections/retry-upload": Change(
        "retry an upload", connections.retry_upload, ("id", "connection"), OPERATE, scoped="whole"
    ),
    "/connections/refresh": Change("refresh Operator Connect", connections.refresh, (), OPERATE, scoped="whole"),
}

# Answers that are not pages; `site.py` adds those that it gives itself.
_ONE = "/ops/recordings/{recording_id}"
FILES = (
    File(f"{_ONE}/audio.{{audio_format}}", "audio", audio.audio, HEAR, ("download",), log=accesses.audio, scoped="one"),
    File(
        f"{_ONE}/levels.json",
        "levels of the channels",
        audio.levels,
        HEAR,
        ("look",),
        log=accesses.levels,
        scoped="one",
    ),
    File(
        "/ops/recordings.csv",
        "export of a search",
        recordings.export,
        DECIDE,
        EXPORT,
        log=accesses.export,
        scoped="cut",
    ),
    File(
        "/ops/recordings/export",
        "export of recordings",
        recordings.export_selected,
        DECIDE,
        (),
        "POST",
        accesses.export_selected,
        scoped="cut",
    ),
    File(
        "/ops/evidence/{day}/recordings.csv",
        "inventory of a day",
        recordings.inventory,
        PROVE,
        log=accesses.inventory,
        scoped="cut",
    ),
    File("/ops/exports/ask", "ask for an export", exports.ask, DECIDE, (), "POST", scoped="full"),
    File(
        "/ops/exports/{export_id}/bundle",
        "bundle of an export",
        bundles.download,
        DECIDE,
        log=accesses.bundle,
        scoped="full",
    ),
    File("/ops/evidence/{day}/manifest/{sequence:int}", "manifest of a seal", evidence.manifest, PROVE, scoped="whole"),
    File("/ops/evidence/{day}/seals/{name}", "files of a seal", evidence.seal_file, PROVE, scoped="whole"),
)

# What programs ask of `/api/`, beside the data of the pages.
_RECORDING = "/api/recordings/{recording_id}"
OPERATIONS = (
    Operation(
        f"{_RECORDING}/audio-address",
        "POST",
        "createAudioAddress",
        "make an address of audio for a browser",
        audio_address.make_address,
        HEAR,
        audio_address.AudioAddress,
        audio_address.AddressWanted,
        scoped="one",
        refusals=(404, 413, 415, 428),
    ),
    Operation(
        f"{_RECORDING}/audio.{{audio_format}}",
        "GET",
        "downloadAudio",
        "download audio",
        audio.download,
        HEAR,
        "audio/*",
        log=accesses.download,
        scoped="one",
        refusals=(404, 409, 416),
    ),
    Operation(
        f"{_RECORDING}/transcript",
        "GET",
        "getTranscript",
        "read the transcriptions of a recording",
        transcript.transcript,
        HEAR,
        transcript.Transcript,
        log=accesses.transcript,
        scoped="one",
        refusals=(404, 409),
    ),
    Operation(
        f"{_RECORDING}/transcript.txt",
        "GET",
        "getTranscriptText",
        "read them as plain text",
        transcript.transcript_text,
        HEAR,
        "text/plain",
        log=accesses.transcript,
        scoped="one",
        refusals=(404, 409),
    ),
    Operation(
        f"{_RECORDING}/restore",
        "POST",
        "restoreAudio",
        "ask for the restore of audio in cold storage",
        storage.restore_by_api,
        HEAR,
        storage.Restored,
        storage.RestoreWanted,
        scoped="one",
        refusals=(404, 409, 413, 415),
    ),
    Operation(
        f"{_RECORDING}/hold",
        "POST",
        "holdRecording",
        "hold a recording",
        decide.hold,
        DECIDE,
        decide.Outcome,
        decide.Reason,
        scoped="one",
        refusals=(404, 413, 415),
    ),
    Operation(
        f"{_RECORDING}/release",
        "POST",
        "releaseRecording",
        "release a recording",
        decide.release,
        DECIDE,
        decide.Outcome,
        decide.Reason,
        scoped="one",
        refusals=(404, 413, 415),
    ),
    Operation(
        f"{_RECORDING}/approve",
        "POST",
        "approveFindings",
        "approve the findings of a recording",
        decide.approve,
        DECIDE,
        decide.Outcome,
        decide.Reason,
        scoped="one",
        refusals=(404, 409, 413, 415),
    ),
)
