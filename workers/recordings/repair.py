"""Restore audio that is missing from the archive while its commit record is there: from Telnyx, or from a file.

The bytes must have the SHA-256 of the commit record, so the seals that list them hold again. Where other bytes lie under a
key, nothing is done: a person must find out why, and move them away first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from archive import layout
from archive.archive import Archive
from archive.erasures import disposed_keys
from archive.problems import advice_for, restore_advice
from archive.proof import Damaged, hash_object
from archive.records import ArchivedObject, CommitRecord, UnreadableRecord
from archive.stores.store import StoreCold
from telnyx_api.errors import NotFound
from text.errors import UserError
from workers.damage.damaged import DamagedObjects
from workers.recordings.archive_recording import schedule_deletion
from workers.recordings.fetching import OtherBytes, addresses_of, fetch_audio, only_if
from workers.recordings.requests import RepairRequest
from workers.recordings.writing import Erased, sole_writer, unless_erased
from workers.runtime import Runtime

_CHUNK_BYTES = 1024 * 1024


class CannotRepair(UserError):
    """The audio cannot be restored from there.

    Attributes:
        what: what is wrong, on which object.
        advice: what a person does about it.
    """

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"{what}; {advice}")
        self.what = what
        self.advice = advice


async def repair_recording(runtime: Runtime, request: RepairRequest) -> None:
    """The job: restore what is missing of a recording, if Telnyx has the same bytes; else send an alert.

    Raises:
        Exception: Telnyx or the store is away; the job runs again.
    """
    recording_id = layout.recording_id_of(request.folder)
    try:
        await repair(runtime, recording_id, request.folder)
    except Erased:
        return
    except CannotRepair as error:
        advice = f"{error.advice[0].upper()}{error.advice[1:]}."
        await runtime.alerts.send("archive-damaged", "recordings", f"{error.what}.", advice)


async def repair(runtime: Runtime, recording_id: str, folder: str, file: Path | None = None) -> list[ArchivedObject]:
    """Restore the audio objects that are missing from a recording's folder.

    Args:
        runtime: the worker's parts.
        recording_id: Telnyx's id of it.
        folder: where it lies.
        file: where the bytes are; None: they are fetched from Telnyx.

    Returns:
        The restored objects; empty if nothing was missing.

    Raises:
        Erased: the recording was erased.
        CannotRepair: the bytes are not to be had there, or something else lies in their place. Nothing was written.
        HeldElsewhere: a job works on the recording.
        Exception: Telnyx or the store is away.
    """
    async with sole_writer(runtime.redis, recording_id):
        async with unless_erased(runtime, folder):
            record, put_back = await _put_back(runtime, recording_id, folder, file)
        if not put_back:
            return []
        await runtime.announce(layout.commit_key(folder), record)
        await schedule_deletion(runtime, folder, record)
    for known in put_back:
        await DamagedObjects(runtime.redis).look_soon(known.key)
    names = ", ".join(o.key for o in put_back)
    source = "a file" if file else "Telnyx"
    text = f"Missing from the archive and restored from {source}, with the SHA-256 of the commit record: {names}."
    await runtime.alerts.send("archive-repaired", recording_id, text, "Find out who removed it.")
    return put_back


async def _put_back(
    runtime: Runtime, recording_id: str, folder: str, file: Path | None
) -> tuple[CommitRecord, list[ArchivedObject]]:
    record, missing = await runtime.in_thread(_look, runtime, folder)
    if not missing:
        return record, []
    if file is not None:
        return record, [await runtime.in_thread(_put_file, runtime, missing, file)]
    return record, await _fetch(runtime, recording_id, missing)


def _look(runtime: Runtime, folder: str) -> tuple[CommitRecord, list[ArchivedObject]]:
    """The commit record, and the objects of it and its versions that are missing; reads those that are there."""
    archive = runtime.archive
    try:
        record, versions = archive.commit_record(folder), archive.versions(folder)
    except UnreadableRecord as error:
        raise CannotRepair(str(error), "restore it from a copy of the archive first") from None
    if record is None:
        key = layout.commit_key(folder)
        raise CannotRepair(f"{key}: gone from the archive", "restore it from a copy of the archive first")
    missing, disposed = [], disposed_keys(archive, folder)
    for known in {o.key: o for one in (record, *versions) for o in one.objects}.values():
        try:
            found = hash_object(archive.store, known.key)
        except StoreCold as error:
            if _is_proven(archive, known):
                continue
            raise CannotRepair(f"{error}, so it cannot be checked", restore_advice(known.key)) from None
        except KeyError:
            if known.key in disposed:
                continue
            if known.is_adopted:
                what = f"{known.key}: gone from the bucket of your own into which Telnyx put it"
                raise CannotRepair(what, "restore it there from a copy") from None
            missing.append(known)
            continue
        if found != known.sha256:
            what = f"{known.key}: something else lies there (SHA-256 {found}, its commit record says {known.sha256})"
            raise CannotRepair(what, advice_for(known.key, "damaged", archive.store.url))
    return record, missing


def _is_proven(archive: Archive, known: ArchivedObject) -> bool:
    """Whether the store shows by its checksum that it holds an object whose bytes cannot be read now."""
    try:
        archive.prove_again(known)
    except (StoreCold, Damaged):
        return False
    return True


async def _fetch(runtime: Runtime, recording_id: str, missing: list[ArchivedObject]) -> list[ArchivedObject]:
    try:
        recording = await runtime.telnyx.recordings.retrieve(recording_id)
    except NotFound:
        what = f"{missing[0].key}: gone from the archive, and recording {recording_id} is not at Telnyx"
        raise CannotRepair(what, _from_a_copy(recording_id)) from None
    put_back = []
    for known in missing:
        audio_format = known.key.rpartition(".")[2]
        url = addresses_of(recording).get(audio_format)
        if url is None:
            what = f"{known.key}: gone from the archive, and Telnyx does not have it as {audio_format}"
            raise CannotRepair(what, _from_a_copy(recording_id))
        try:
            fetched = await fetch_audio(runtime, recording, audio_format, url, _putter(runtime, known))
        except OtherBytes as error:
            what = f"{error}: Telnyx has other audio now, and nothing was written"
            raise CannotRepair(what, _from_a_copy(recording_id)) from None
        put_back.append(fetched.taken)
    return put_back


def _from_a_copy(recording_id: str) -> str:
    return f"repair it with --from FILE: `callvault repair {recording_id} --from FILE`, the audio from a copy of the archive"


def _putter(runtime: Runtime, known: ArchivedObject) -> Callable[[Iterator[bytes]], ArchivedObject]:
    def put(chunks: Iterator[bytes]) -> ArchivedObject:
        return runtime.archive.put(known.key, only_if(known.sha256, chunks, known.key), known.content_type)

    return put


def _put_file(runtime: Runtime, missing: list[ArchivedObject], file: Path) -> ArchivedObject:
    """Restore the one missing object whose bytes a file has."""
    try:
        found = _hash_file(file)
        known = next((o for o in missing if o.sha256 == found), None)
        if known is None:
            wanted = ", ".join(f"{o.key} with {o.sha256}" for o in missing)
            what = f"{file}: its SHA-256 is {found}, and what is gone is {wanted}; nothing was written"
            raise CannotRepair(what, "give the file from a copy of the archive that has this hash")
        return _putter(runtime, known)(_chunks_of(file))
    except OSError as error:
        raise CannotRepair(f"{file}: {error.strerror}", "give a file that can be read") from None


def _hash_file(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _chunks_of(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            yield chunk
