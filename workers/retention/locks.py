"""Locks by rule: each object of a recording is locked, as it is written, until its retention rule ends.

Only with `CALLVAULT_LOCK_BY_RULES`, and only in stores that have locks. A lock never keeps a recording from being archived: where
the rules cannot be read, the object is written without a lock by rule, and the log and a condition say so.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from archive import kinds
from archive.archive import Archive
from archive.decision_records import AppliedRules
from archive.facts import Facts, facts_of, facts_of_recording
from archive.records import UnreadableRecord
from archive.retention import PARTS, part_of, read_applied, terms_of_facts
from process.logs import get_logger

if TYPE_CHECKING:
    from telnyx_api.models import Recording  # only for its type: searches need no model

log = get_logger()

_FRESH_SECONDS = 60.0
_MOST_KNOWN = 1000
_RECORDS = (kinds.COMMIT, kinds.VERSION)


class RuleLocks:
    """Says until when an object should be locked. Several threads use it.

    Args:
        archive: whose rules in force and commit records count.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._known: OrderedDict[str, Facts] = OrderedDict()
        self._guard = threading.Lock()
        self._applied: list[AppliedRules] = []
        self._read_at: float | None = None

    def know(self, folder: str, recording: Recording) -> None:
        """Remember a recording that has no commit record yet, by its folder; ids are unique."""
        facts = facts_of_recording(recording.as_returned(), None, None, datetime.now(UTC))
        with self._guard:
            self._known[folder] = facts
            self._known.move_to_end(folder)
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)

    def end_of(self, key: str) -> datetime | None:
        """Until when the object of a key should be locked, UTC; None: its rule gives no end.

        What lies beside audio and transcripts of a recording is locked until the last of both ends.

        Raises:
            StoreError: the rules or the commit record must be read, and the store does not answer.
        """
        place = kinds.place_of(key)
        part = part_of(place.kind)
        if part is None and place.kind not in _RECORDS:
            return None
        if not (applied := self._fresh()) or (facts := self._facts(place.folder)) is None:
            return None
        terms = terms_of_facts([facts], applied)
        if part is not None:
            return next((term.ends_at for term in terms if part in term.goes), None)
        is_whole = {one for term in terms for one in term.goes} == set(PARTS)
        return terms[-1].ends_at if is_whole else None

    def _facts(self, folder: str) -> Facts | None:
        with self._guard:
            if (known := self._known.get(folder)) is not None:
                return known
        try:
            record = self._archive.commit_record(folder)
        except UnreadableRecord:
            return None
        return None if record is None else facts_of(record)

    def _fresh(self) -> list[AppliedRules]:
        """The rules in force, at most a minute old."""
        if self._read_at is None or time.monotonic() - self._read_at > _FRESH_SECONDS:
            started = time.monotonic()
            try:
                self._applied = read_applied(self._archive)
            except UnreadableRecord as error:
                self._applied = []
                log.warning("objects are written without a lock by rule", error=str(error))
            self._read_at = started
        return self._applied
