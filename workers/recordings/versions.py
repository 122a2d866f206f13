"""Archive content that changes at Telnyx under the id of an archived recording, beside the first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import cast

from archive import layout
from archive.archive import ArchiveConflict
from archive.audio import merge_summaries
from archive.decisions import findings_of
from archive.records import ArchivedObject, CommitRecord, FoundBy
from archive.sameness import difference, name_of_version
from process.logs import get_logger
from telnyx_api.models import Recording
from text.counts import many
from text.times import format_instant
from workers.engine.failure_classes import NotFinished
from workers.recordings.fetching import CONTENT_TYPES, addresses_of, as_archived, fetch_audio, only_if
from workers.recordings.requests import RecordingRequest
from workers.recordings.writing import unless_erased
from workers.runtime import Runtime

log = get_logger()

_MOST_VERSIONS = 20  # a server that answers differently each time must not fill the archive


async def look_again(
    runtime: Runtime, request: RecordingRequest, recording: Recording, folder: str, record: CommitRecord
) -> None:
    """Compare a committed recording with Telnyx, and archive what differs as a version.

    The caller holds the recording's lease. Audio in custom storage is not compared: users may change their own bucket.

    Raises:
        ArchiveConflict: Telnyx has shown so many contents that a person must check.
        NotFinished: Telnyx has not finished the recording, or gives no audio of it.
    """
    if request.locations or record.is_in_custom_storage:
        return
    if recording.status not in (None, "completed"):
        raise NotFinished(f"recording {recording.id} is {recording.status}")
    returned, addresses = as_archived(recording), addresses_of(recording)
    sources = {f: await runtime.in_thread(runtime.downloads.look, url) for f, url in addresses.items()}
    known = [record, *await runtime.in_thread(runtime.archive.versions, folder)]
    differences = [difference(one, returned, sources) for one in known]
    if None in differences:
        return
    if not addresses:
        raise NotFinished(
            f"recording {recording.id} has changed at Telnyx, which gives no address for its audio ({differences[0]})"
        )
    if len(known) > _MOST_VERSIONS:
        raise ArchiveConflict(f"{folder}versions/: Telnyx has shown {many(len(known), 'content')} of one recording")
    await _archive_version(runtime, request, recording, folder, known, str(differences[0]))


async def _archive_version(
    runtime: Runtime,
    request: RecordingRequest,
    recording: Recording,
    folder: str,
    known: Sequence[CommitRecord],
    what: str,
) -> None:
    """Download the audio once for its hash, which the key holds, and new audio again to write it: it needs no disk."""
    fetched = {
        audio_format: await fetch_audio(runtime, recording, audio_format, url, _hash)
        for audio_format, url in addresses_of(recording).items()
    }
    returned, sources = as_archived(recording), {audio_format: one.source for audio_format, one in fetched.items()}
    sha256s = {audio_format: one.taken for audio_format, one in fetched.items()}
    version = layout.version_folder(folder, name_of_version(returned, sources, sha256s))
    archived = {(o.key.rpartition(".")[2], o.sha256): o for o in known[0].objects}
    objects: list[ArchivedObject] = []
    async with unless_erased(runtime, folder):
        for audio_format, sha256 in sha256s.items():
            there = archived.get((audio_format, sha256))
            objects.append(there or await _put(runtime, recording, version, audio_format, sha256))
        record = CommitRecord(
            recording=returned,
            objects=objects,
            audio=merge_summaries([one.summary for one in fetched.values()]),
            archived_at=format_instant(runtime.clock.now()),
            event_id=request.event_id,
            found_by=cast(FoundBy, request.found_by),
            sources=sources,
        )
        record = await runtime.in_thread(runtime.archive.commit, version, record)
    is_new = not set(sha256s.values()) <= {o.sha256 for one in known for o in one.objects}
    await runtime.announce(layout.commit_key(version), record)
    log.warning("changed at Telnyx", recording_id=recording.id, what=what, is_audio_new=is_new)
    found = [finding for finding in record.audio.findings if finding not in findings_of(known[1:], known[0])]
    if is_new:  # other metadata of known audio is recorded, and a person need not check it unless the audio disagrees
        text = f"Telnyx has other audio under the id of recording {recording.id}: {what}. Both are archived; the original stays."
        advice = (
            f"Listen to both. To allow the deletion, run `callvault deletions approve {recording.id} --why REASON`."
        )
        await runtime.alerts.send("content-changed", str(recording.id), text, advice)
    elif found:
        text = f"Telnyx describes recording {recording.id} differently now ({what}), and its audio disagrees: {', '.join(found)}."
        advice = f"Listen to it. To allow its deletion, run `callvault deletions approve {recording.id} --why REASON`."
        await runtime.alerts.send("audio-finding", str(recording.id), text, advice)


async def _put(runtime: Runtime, recording: Recording, version: str, audio_format: str, sha256: str) -> ArchivedObject:
    """Download the audio with this hash again, straight to its key."""
    key, content_type = layout.audio_key(version, audio_format), CONTENT_TYPES[audio_format]

    def put(chunks: Iterator[bytes]) -> ArchivedObject:
        return runtime.archive.put(key, only_if(sha256, chunks, key), content_type)

    url = addresses_of(recording)[audio_format]
    return (await fetch_audio(runtime, recording, audio_format, url, put)).taken


def _hash(chunks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
