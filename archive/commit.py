"""Writes one recording with as few waits as a distant store allows: what does not depend on each other is asked at once.

The order of a commit stays: look for a commit record and an erasure; write the audio; prove it; check that the store still
holds the same archive; write the commit record; prove it; look for an erasure again. Asked together are, in each case after
the last write and before the next one: the first two; the proof of the audio and the identity; the proof of the record and
the erasure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from archive import layout
from archive.archive import Archive
from archive.records import ArchivedObject, CommitRecord, encode_record
from archive.stores.store import StoreError

_FRESH_SECONDS = 1.0  # what was asked earlier, as before a long proof, is asked again


class Commit:
    """The commit of one recording by one job; its methods block, and only one runs at a time.

    Args:
        archive: the archive.
        folder: the recording's folder.

    Attributes:
        was_erased: whether `look` found the record of an erasure; None before.
        is_erased: whether there was one after the commit record was written; None if the store was not asked or did not answer.
    """

    def __init__(self, archive: Archive, folder: str) -> None:
        self.folder = folder
        self.was_erased: bool | None = None
        self.is_erased: bool | None = None
        self._archive = archive
        self._key = layout.commit_key(folder)
        self._checked_at: float | None = None  # when the identity was
        self._is_free: Callable[[], object] | None = None

    def look(self) -> CommitRecord | None:
        """The commit record that the archive has of the recording.

        Raises:
            UnreadableRecord: its key holds something else.
            StoreError: the store does not answer.
        """
        erased = self._archive.store.ask_stat(layout.erasure_key(self.folder))
        record = self._archive.commit_record(self.folder)
        self.was_erased = erased() is not None
        return record

    def put(
        self, key: str, chunks: Iterator[bytes], content_type: str, attributes: Mapping[str, str]
    ) -> ArchivedObject:
        """Write an object of the recording, and prove it; see `Archive.put`."""
        source = self._archive.source_of(key, chunks)
        source.meanwhile = self._check
        return self._archive.put_source(key, source, content_type, attributes)

    def _check(self) -> None:
        """Check the identity, and ask whether the key of the commit record is free. What fails is done again by `commit`."""
        self._checked_at = self._is_free = None
        with suppress(StoreError):
            now, self._is_free = time.monotonic(), self._archive.store.ask_free(self._key)
            self._archive.check_identity()
            self._checked_at = now

    def commit(self, record: CommitRecord) -> CommitRecord:
        """Write the commit record, unless the store holds another archive now; see `Archive.commit`."""
        source = self._archive.source_of(self._key, encode_record(record))
        if self._checked_at is not None and time.monotonic() - self._checked_at <= _FRESH_SECONDS:
            source.is_free = self._is_free
        else:
            self._archive.check_identity()
        self._is_free = None
        source.meanwhile = self._look_again
        committed = self._archive.put_commit_record(self.folder, record, source)
        if self.is_erased is None:
            self._look_again()
        return committed

    def _look_again(self) -> None:
        with suppress(StoreError):  # the caller asks again
            self.is_erased = self._archive.is_erased(self.folder)
