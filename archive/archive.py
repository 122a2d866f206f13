"""The archive: writes objects, proves them, and commits a recording by the record that is written last.

Everything here blocks and runs in worker threads. It overwrites and deletes nothing, and may run twice with the same
result.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from archive import kinds, layout
from archive.identity import assert_same, open_identity
from archive.proof import Damaged, ProofMode, prove, prove_again
from archive.readers import (
    COMMIT_RECORD,
    NOT_ARCHIVED,
    TRANSCRIPTION,
    TRANSCRIPTION_NOT_ARCHIVED,
    RecordReader,
)
from archive.records import (
    ArchivedObject,
    CommitRecord,
    DeletionReceipt,
    Gone,
    Identity,
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
from archive.removal_records import Erasure
from archive.source import Source
from archive.stores.store import KeyExists, Store, Written

_LARGEST_RECORD_BYTES = 16 * 1024 * 1024
_LARGEST_KEPT_BYTES, _MOST_KEPT = 8 * 1024, 4096
_LOOK_AGAIN_SECONDS = 0.2

R = TypeVar("R")


class ArchiveConflict(Exception):
    """The key already holds other content. Nothing was overwritten; a person must decide."""


class Archive:
    """One archive in one store.

    Args:
        store: the store that holds it.
        proof_mode: see `CALLVAULT_PROOF`.
        needs_identity: refuse to write before the identity is known, as every process of the service does.

    Attributes:
        lock_end: until when the object of a key should be locked as it is written; None: the options of the store decide.
    """

    def __init__(self, store: Store, proof_mode: ProofMode = "store", *, needs_identity: bool = False) -> None:
        self.store = store
        self._proof_mode: ProofMode = proof_mode
        self._read_once: dict[str, bytes] = {}
        self._transcribing: set[str] = set()  # connections whose mark exists
        self._needs_identity = needs_identity
        self._identity: Identity | None = None
        self._opening = threading.Lock()
        self.lock_end: Callable[[str], datetime | None] = lambda key: None

    @property
    def is_known(self) -> bool:
        """Whether its identity has been read; False until the store answers for the first time."""
        return self._identity is not None

    @property
    def identity(self) -> Identity:
        """The identity of the archive that this process opened, read once.

        Raises:
            NoArchive: the archive has no identity.
            StoreError: the store does not answer.
        """
        return self._identity or self._keep(open_identity(self.store))

    def _keep(self, found: Identity) -> Identity:
        with self._opening:  # the first of several threads decides for all
            self._identity = self._identity or found
            return self._identity

    def assert_identity(self) -> None:
        """Check by one small read that the store still holds the archive that this process opened.

        Raises:
            StoreError: it does not, or does not answer. Nothing may be written or deleted.
        """
        assert_same(self.store, self.identity)

    def check_identity(self) -> None:
        """The same, where the identity must be known before anything is written.

        Raises:
            StoreError: as `assert_identity`.
        """
        if self._needs_identity:
            self.assert_identity()

    def put(
        self,
        key: str,
        chunks: Iterator[bytes] | bytes,
        content_type: str,
        observers: tuple[Callable[[bytes], object], ...] = (),
        attributes: Mapping[str, str] | None = None,
    ) -> ArchivedObject:
        """Stream an object into the store and prove it there.

        If the key already holds the same content, as after a run that stopped before its commit, that object is proven.

        Raises:
            ArchiveConflict: the key holds other content.
            Damaged: the stored object differs from what was sent.
            StoreError: the store did not take the object now, or holds no archive.
        """
        return self.put_source(key, self.source_of(key, chunks, observers), content_type, attributes)

    def source_of(
        self, key: str, chunks: Iterator[bytes] | bytes, observers: tuple[Callable[[bytes], object], ...] = ()
    ) -> Source:
        """The source of an object that is to be put."""
        return Source(chunks, observers, self.lock_end(key))

    def put_source(
        self, key: str, source: Source, content_type: str, attributes: Mapping[str, str] | None = None
    ) -> ArchivedObject:
        """See `put`."""
        if self._needs_identity and not self.is_known:
            _ = self.identity
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
        """Prove the object that already has the key; it is ours if it has the same content."""
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
        """Read an object that failed its proof once more: another writer may have been in the middle of it.

        Raises:
            Damaged: the stored object differs from what was sent.
        """
        time.sleep(_LOOK_AGAIN_SECONDS)
        stored = self.store.stat(key)
        if stored is None:
            raise Damaged(key, "written, and then not there")
        return prove(self.store, Written(stored), source.sha256, source.size, "read-back")

    def adopt(self, key: str, content_type: str, observers: tuple[Callable[[bytes], object], ...]) -> ArchivedObject:
        """Adopt an object that custom storage put into the archive's bucket: hash it in place.

        Raises:
            KeyError: the key is not in use.
            Damaged: the object changed while it was read.
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
        """Check the identity of the archive, then write the commit record of a recording.

        Returns:
            The record in the archive: this one, or one of another run with the same objects.

        Raises:
            ArchiveConflict: the archive has a commit record of other objects.
        """
        self.check_identity()
        key = layout.commit_key(folder)
        return self.put_commit_record(folder, record, self.source_of(key, encode_record(record)))

    def put_commit_record(self, folder: str, record: CommitRecord, source: Source) -> CommitRecord:
        """Write the commit record, whose source is given; the caller has just checked the identity. See `commit`."""
        try:
            self.put_source(layout.commit_key(folder), source, "application/json")
        except ArchiveConflict:
            standing = self.commit_record(folder)
            ours = {(o.key, o.sha256) for o in record.objects}
            if standing is None or {(o.key, o.sha256) for o in standing.objects} != ours:
                raise
            return standing
        return record

    def commit_record(self, folder: str) -> CommitRecord | None:
        """The commit record of a recording; None if it is not committed.

        Raises:
            UnreadableRecord: the key holds something else.
            StoreError: the store does not answer.
        """
        return self._read_record(COMMIT_RECORD, layout.commit_key(folder))

    def versions(self, folder: str) -> list[CommitRecord]:
        """The commit records of a recording's versions, in the order of their keys.

        Raises:
            UnreadableRecord: one cannot be read.
            StoreError: the store does not answer.
        """
        keys = self.keys_of(f"{folder}versions/")
        return [COMMIT_RECORD.read(self.read_small(k), k) for k in keys if kinds.kind_of(k) is kinds.VERSION]

    def is_erased(self, folder: str) -> bool:
        """Whether the owner had a recording erased, so nothing of it may be written any more."""
        return self.store.stat(layout.erasure_key(folder)) is not None

    def put_transcription(self, folder: str, transcription_id: str, record: TranscriptionRecord) -> TranscriptionRecord:
        """Archive a transcription and prove it. An earlier record with the same text stays.

        Returns:
            The record in the archive: this one, or the earlier one.

        Raises:
            ArchiveConflict: the archive has the transcription with another text.
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
            return there  # Telnyx changes fields such as `updated_at` without a change of the text
        return record

    def put_receipt(self, folder: str, receipt: DeletionReceipt) -> None:
        """Write the receipt of a deletion; one of another run, which confirmed it at another moment, stays."""
        self.put_once(layout.receipt_key(folder), receipt)

    def put_transcribing(self, connection_id: str) -> None:
        """Record that recordings of a connection get transcriptions; at most once in each process."""
        if connection_id not in self._transcribing:
            self.put_record(layout.transcribing_key(connection_id), Transcribing(connection_id=connection_id))
            self._transcribing.add(connection_id)

    def put_gone(self, folder: str, record: Gone) -> None:
        """Record that an original was gone before its deletion; an earlier record stays."""
        self.put_once(layout.gone_key(folder), record)

    def is_not_archived(self, folder: str) -> bool:
        """Whether the archive records that Telnyx has no audio of a recording, so no day waits for it."""
        return self.store.stat(layout.not_archived_key(folder)) is not None

    def not_archived(self, folder: str) -> NotArchived | None:
        """The record that a recording is not archived; None if it does not exist.

        Raises:
            UnreadableRecord: the key holds something else.
            StoreError: the store does not answer.
        """
        return self._read_record(NOT_ARCHIVED, layout.not_archived_key(folder))

    def put_not_archived(self, folder: str, record: NotArchived) -> None:
        """Record that a recording is not archived, and why; an earlier record stays."""
        self.put_once(layout.not_archived_key(folder), record)

    def transcription_not_archived(self, key: str) -> TranscriptionNotArchived | None:
        """The record under a key that a transcription is not archived; None if it does not exist.

        Raises:
            UnreadableRecord: the key holds something else, or the record of another transcription.
            StoreError: the store does not answer.
        """
        record = self._read_record(TRANSCRIPTION_NOT_ARCHIVED, key)
        if record and not layout.is_of_transcription(key, record.recording_id, record.transcription_id):
            what = f"names another transcription, {record.transcription_id} of recording {record.recording_id}"
            raise UnreadableRecord(key, what)
        return record

    def prove_again(self, known: ArchivedObject, mode: ProofMode | None = None) -> ArchivedObject:
        """Prove an archived object again, in the archive's proof mode or another; see `proof.prove_again`."""
        return prove_again(self.store, known, mode or self._proof_mode)

    def find_folder(self, recording_id: str, near: date, days: int = 2) -> str | None:
        """Find the folder of a committed or erased recording whose day is roughly known; the nearest day first."""
        for distance in sorted(range(-days, days + 1), key=abs):
            folder = layout.recording_folder(near + timedelta(days=distance), recording_id)
            for key in (layout.commit_key(folder), layout.erasure_key(folder)):
                if self.store.stat(key) is not None:
                    return folder
        return None

    def put_media(self, folder: str, content: bytes, media: dict[str, Any], content_type: str) -> MediaRecord:
        """Archive one content of a medium: its bytes, then its record.

        Raises:
            ArchiveConflict: the key of this content holds other bytes.
        """
        archived = self.put(f"{folder}content", content, content_type)
        record = MediaRecord(media=media, object=archived)
        self.put_once(layout.media_key(folder), record)  # an earlier one may have another expiry of the same bytes
        return record

    def put_erasure(self, folder: str, record: Erasure) -> None:
        """Write the erasure record before the erasure; one of another process that has just begun stays."""
        self.put_once(layout.erasure_key(folder), record)

    def keys_of(self, folder: str) -> list[str]:
        """List the keys of a recording's folder."""
        return [stored.key for stored in self.store.list(folder)]

    def read_once(self, key: str) -> bytes | None:
        """Read a small object, from the store the first time only; None if the key is not in use."""
        if (known := self._read_once.get(key)) is not None:
            return known
        data = self.read_small(key)
        if data is not None and len(data) <= _LARGEST_KEPT_BYTES:
            if len(self._read_once) >= _MOST_KEPT:
                self._read_once.clear()
            self._read_once[key] = data
        return data

    def read_small(self, key: str) -> bytes | None:
        """Read the bytes of a record, 16 MiB at most; None if the key is not in use."""
        try:
            return b"".join(self.store.read(key, 0, _LARGEST_RECORD_BYTES))
        except KeyError:
            return None

    def read_records(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Read the bytes of some records, 16 MiB of each at most, together where the store can; without keys not in use."""
        found = self.store.read_small(keys, _LARGEST_RECORD_BYTES)
        return {key: data for key, data in zip(keys, found, strict=True) if data is not None}

    def _read_record(self, reader: RecordReader[R], key: str) -> R | None:
        data = self.read_small(key)
        return None if data is None else reader.read(data, key)

    def put_record(self, key: str, record: Record) -> ArchivedObject:
        """Write a record and prove it; raises as `put`."""
        return self.put(key, encode_record(record), "application/json")

    def put_once(self, key: str, record: Record) -> None:
        """Write a record and prove it; an earlier one stays, such as one of another worker, moment or person."""
        try:
            self.put_record(key, record)
        except ArchiveConflict:
            pass


def _same_words(one: TranscriptionRecord, other: TranscriptionRecord) -> bool:
    """Whether two records have the same transcription id and text."""
    names = ("id", "transcription_text")
    return all(one.transcription.get(name) == other.transcription.get(name) for name in names)
