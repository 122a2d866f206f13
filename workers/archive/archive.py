"""The archive: put an object, prove it, and commit a recording by the record that is written last.

All of this blocks and runs in worker threads; nothing in it is overwritten or deleted, and everything may be done
twice with the same result.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from typing import Any

from workers.archive import layout
from workers.archive.identity import assert_same, open_identity
from workers.archive.proof import Damaged, ProofMode, prove, prove_again
from workers.archive.readers import COMMIT_RECORD, NOT_ARCHIVED, TRANSCRIPTION, TRANSCRIPTION_NOT_ARCHIVED
from workers.archive.records import (
    ArchivedObject,
    CommitRecord,
    DeletionReceipt,
    Erasure,
    Gone,
    Identity,
    LogMessageRecord,
    MediaRecord,
    NotArchived,
    Proof,
    Record,
    Transcribing,
    TranscriptionNotArchived,
    TranscriptionRecord,
    UnreadableRecord,
    encode_record,
)
from workers.archive.source import Source
from workers.archive.stores.store import KeyExists, Store, Written

_LARGEST_RECORD_BYTES = 16 * 1024 * 1024
_LARGEST_KEPT_BYTES, _MOST_KEPT = 8 * 1024, 4096
_LOOK_AGAIN_SECONDS = 0.2


class ArchiveConflict(Exception):
    """The key already holds other content. Nothing was overwritten; a person must decide."""


class Archive:
    """One archive in one store.

    Args:
        store: where it is kept.
        proof_mode: see `CALLVAULT_PROOF`.
        needs_identity: whether nothing may be written before it is known which archive this is; so it is in every process.
    """

    def __init__(self, store: Store, proof_mode: ProofMode = "store", *, needs_identity: bool = False) -> None:
        self.store = store
        self._proof_mode: ProofMode = proof_mode
        self._read_once: dict[str, bytes] = {}
        self._transcribing: set[str] = set()  # those that are known to be written down
        self._needs_identity = needs_identity
        self._identity: Identity | None = None
        self._opening = threading.Lock()

    @property
    def is_known(self) -> bool:
        """Whether its identity has been read; not yet where the store has not answered since this process started."""
        return self._identity is not None

    @property
    def identity(self) -> Identity:
        """Which archive this process has opened; read when it is first asked for, and never again.

        Raises:
            NoArchive: it has no identity.
            StoreError: the store does not answer.
        """
        return self._identity or self._keep(open_identity(self.store))

    def _keep(self, found: Identity) -> Identity:
        with self._opening:  # of several threads that have read it, the first counts for all
            self._identity = self._identity or found
            return self._identity

    def assert_identity(self) -> None:
        """See that the archive that this process opened lies there still: one small read of the store itself.

        Raises:
            StoreError: it does not, or cannot be seen now. Nothing may be written or deleted.
        """
        assert_same(self.store, self.identity)

    def put(
        self,
        key: str,
        chunks: Iterator[bytes] | bytes,
        content_type: str,
        observers: tuple[Callable[[bytes], object], ...] = (),
        attributes: Mapping[str, str] | None = None,
    ) -> ArchivedObject:
        """Stream an object into the store and prove it there.

        An object that is there already with the same content (an earlier run was stopped before its commit) is
        success, and is proven all the same.

        Raises:
            ArchiveConflict: it is there with other content.
            Damaged: the store does not hold what was sent.
            StoreError: the store did not take it now, or is no archive.
        """
        if self._needs_identity and not self.is_known:
            _ = self.identity
        source = Source(chunks, observers)
        try:
            written = self.store.put(key, source, content_type, attributes or {})
        except KeyExists:
            return self._taken_up(key, source, content_type)
        try:
            proof = prove(self.store, written, source.sha256, source.size, self._proof_mode)
        except Damaged:
            proof = self._read_again(key, source)
        return ArchivedObject(key, source.size, source.sha256, content_type, proof)

    def _taken_up(self, key: str, source: Source, content_type: str) -> ArchivedObject:
        """An object that is there already: ours if it has the same content."""
        source.drain()
        try:
            try:
                stored = self.store.stat(key)
                if stored is None:
                    raise Damaged(key, "it disappeared while it was checked")
                proof = prove(self.store, Written(stored), source.sha256, source.size, self._proof_mode)
            except Damaged:
                proof = self._read_again(key, source)
        except Damaged as error:
            raise ArchiveConflict(
                f"{error}; the key was already in use and Callvault does not overwrite it. Compare it with the original"
            ) from None
        return ArchivedObject(key, source.size, source.sha256, content_type, proof)

    def _read_again(self, key: str, source: Source) -> Proof:
        """Look once more at what failed its proof, by reading it: what was seen may have been another writer half-way.

        Raises:
            Damaged: the store does not hold what was sent.
        """
        time.sleep(_LOOK_AGAIN_SECONDS)
        stored = self.store.stat(key)
        if stored is None:
            raise Damaged(key, "written, and then not there")
        return prove(self.store, Written(stored), source.sha256, source.size, "read-back")

    def adopt(self, key: str, content_type: str, observers: tuple[Callable[[bytes], object], ...]) -> ArchivedObject:
        """Take up an object that custom storage has put into the archive's own bucket: hash it where it lies.

        Raises:
            KeyError: it is not there.
            Damaged: it changed while it was read.
        """
        before = self.store.stat(key)
        if before is None:
            raise KeyError(key)
        source = Source(self.store.read(key), observers)
        source.drain()
        after = self.store.stat(key)
        if after is None or (after.version, after.size) != (before.version, source.size):
            raise Damaged(key, "it changed while it was read")
        proof = Proof("read-back", "sha256", source.sha256, after.version)
        return ArchivedObject(key, source.size, source.sha256, content_type, proof)

    def commit(self, folder: str, record: CommitRecord) -> CommitRecord:
        """Write the commit record, last and once; after a look whether this is the archive still that was opened.

        Returns:
            The record that stands: this one, or the one of another run that has the same objects.

        Raises:
            ArchiveConflict: there is one that tells of other objects.
        """
        key = layout.commit_key(folder)
        if self._needs_identity:
            self.assert_identity()
        try:
            self.put_record(key, record)
        except ArchiveConflict:
            standing = self.commit_record(folder)
            ours = {(o.key, o.sha256) for o in record.objects}
            if standing is None or {(o.key, o.sha256) for o in standing.objects} != ours:
                raise
            return standing
        return record

    def commit_record(self, folder: str) -> CommitRecord | None:
        """The commit record of a recording's folder; None if it is not committed.

        Raises:
            UnreadableRecord: there is something else under its key.
            StoreError: the store cannot be read now.
        """
        key = layout.commit_key(folder)
        data = self.read_small(key)
        return None if data is None else COMMIT_RECORD.read(data, key)

    def versions(self, folder: str) -> list[CommitRecord]:
        """The commit records of other contents that Telnyx has shown under a recording's id, in the order of their keys.

        Raises:
            UnreadableRecord: one cannot be read.
            StoreError: the store cannot be read now.
        """
        keys = [found.key for found in self.store.list(f"{folder}versions/")]
        return [COMMIT_RECORD.read(self.read_small(k), k) for k in keys if layout.is_version(k.removeprefix(folder))]

    def is_erased(self, folder: str) -> bool:
        """Whether its owner had a recording erased: nothing of it is to be written any more."""
        return self.store.stat(layout.erasure_key(folder)) is not None

    def put_transcription(self, folder: str, transcription_id: str, record: TranscriptionRecord) -> TranscriptionRecord:
        """Archive a transcription and prove it. One that stands already with the same words is left as it is.

        Returns:
            The record that stands: this one, or the earlier one.

        Raises:
            ArchiveConflict: it is there with other words.
        """
        key = layout.transcription_key(folder, transcription_id)
        try:
            self.put_record(key, record)
        except ArchiveConflict as conflict:
            try:
                there = TRANSCRIPTION.read(self.read_small(key), key)
            except UnreadableRecord:
                raise conflict from None
            if not _same_words(there, record):
                raise
            return there  # Telnyx touches a transcription, such as its `updated_at`, without another word in it
        return record

    def put_receipt(self, folder: str, receipt: DeletionReceipt) -> None:
        """Write the receipt of a deletion; one that stands already is left as it is."""
        try:
            self.put_record(layout.receipt_key(folder), receipt)
        except ArchiveConflict:
            pass  # another run confirmed the same deletion at another moment

    def put_transcribing(self, connection_id: str) -> None:
        """Write down that transcriptions of a connection's recordings are awaited; once for each process at most."""
        if connection_id not in self._transcribing:
            self.put_record(layout.transcribing_key(connection_id), Transcribing(connection_id=connection_id))
            self._transcribing.add(connection_id)

    def put_gone(self, folder: str, record: Gone) -> None:
        """Write down that an original was gone before we asked; what says so already is left as it is."""
        try:
            self.put_record(layout.gone_key(folder), record)
        except ArchiveConflict:
            pass  # found at another moment

    def is_set_aside(self, folder: str) -> bool:
        """Whether it is on record that Telnyx gives no audio of a recording, so that no day waits for it."""
        return self.store.stat(layout.not_archived_key(folder)) is not None

    def not_archived(self, folder: str) -> NotArchived | None:
        """What is on record of a recording that is not archived; None if nothing is.

        Raises:
            UnreadableRecord: there is something else under its key.
            StoreError: the store cannot be read now.
        """
        key = layout.not_archived_key(folder)
        data = self.read_small(key)
        return None if data is None else NOT_ARCHIVED.read(data, key)

    def put_not_archived(self, folder: str, record: NotArchived) -> None:
        """Write down that a recording is not archived, and why; what says so already is left as it is."""
        try:
            self.put_record(layout.not_archived_key(folder), record)
        except ArchiveConflict:
            pass  # said at another moment, or by somebody else

    def transcription_not_archived(self, key: str) -> TranscriptionNotArchived | None:
        """What is on record under a key of a transcription that is not archived; None if nothing is.

        Raises:
            UnreadableRecord: there is something else under it, or it is about another transcription.
            StoreError: the store cannot be read now.
        """
        if (data := self.read_small(key)) is None:
            return None
        record = TRANSCRIPTION_NOT_ARCHIVED.read(data, key)
        if not layout.is_of_transcription(key, record.recording_id, record.transcription_id):
            what = f"names another transcription, {record.transcription_id} of recording {record.recording_id}"
            raise UnreadableRecord(key, what)
        return record

    def put_transcription_not_archived(self, key: str, record: TranscriptionNotArchived) -> None:
        """Write down that a transcription is not archived, and why; what says so already is left as it is."""
        try:
            self.put_record(key, record)
        except ArchiveConflict:
            pass  # said at another moment, or by somebody else

    def prove_again(self, known: ArchivedObject, mode: ProofMode | None = None) -> ArchivedObject:
        """Prove an archived object anew, by the archive's own mode or another; see `proof.prove_again`."""
        return prove_again(self.store, known, mode or self._proof_mode)

    def find_folder(self, recording_id: str, near: date, days: int = 2) -> str | None:
        """The folder of a committed or erased recording whose day is only roughly known, near days first."""
        for distance in sorted(range(-days, days + 1), key=abs):
            folder = layout.recording_folder(near + timedelta(days=distance), recording_id)
            for key in (layout.commit_key(folder), layout.erasure_key(folder)):
                if self.store.stat(key) is not None:
                    return folder
        return None

    def put_log_message(self, key: str, record: LogMessageRecord) -> None:
        """Archive a log message; one that another worker has just archived is left as it is."""
        try:
            self.put_record(key, record)
        except ArchiveConflict:
            pass  # seen by both within moments: the same message, another instant

    def put_media(self, folder: str, content: bytes, media: dict[str, Any], content_type: str) -> MediaRecord:
        """Archive one version of a medium: its bytes, then what Telnyx says of it.

        Raises:
            ArchiveConflict: something else lies under its hash.
        """
        archived = self.put(f"{folder}content", content, content_type)
        record = MediaRecord(media=media, object=archived)
        try:
            self.put_record(layout.media_key(folder), record)
        except ArchiveConflict:
            pass  # the same bytes, archived before under another expiry
        return record

    def put_erasure(self, folder: str, record: Erasure) -> None:
        """Write down what is about to be erased; one that stands already is left as it is."""
        try:
            self.put_record(layout.erasure_key(folder), record)
        except ArchiveConflict:
            pass  # somebody else has just begun

    def keys_of(self, folder: str) -> list[str]:
        """All keys of a recording's folder; one listing."""
        return [stored.key for stored in self.store.list(folder)]

    def read_once(self, key: str) -> bytes | None:
        """A small object, written once: read from the store the first time only; None if it is not there."""
        if (known := self._read_once.get(key)) is not None:
            return known
        data = self.read_small(key)
        if data is not None and len(data) <= _LARGEST_KEPT_BYTES:
            if len(self._read_once) >= _MOST_KEPT:
                self._read_once.clear()
            self._read_once[key] = data
        return data

    def read_small(self, key: str) -> bytes | None:
        """A record's bytes; None if nothing lies there. Reads 16 MiB at most, whatever lies there."""
        try:
            return b"".join(self.store.read(key, 0, _LARGEST_RECORD_BYTES))
        except KeyError:
            return None

    def put_record(self, key: str, record: Record) -> ArchivedObject:
        """Put a record and prove it; raises as `put`."""
        return self.put(key, encode_record(record), "application/json")


def _same_words(one: TranscriptionRecord, other: TranscriptionRecord) -> bool:
    """Whether two records are of one transcription and have the same text in it."""
    names = ("id", "transcription_text")
    return all(one.transcription.get(name) == other.transcription.get(name) for name in names)
