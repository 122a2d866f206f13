"""How `callvault verify` checks one object that a record names."""

from __future__ import annotations

from dataclasses import dataclass

from archive.archive import Archive
from archive.erasures import Erasures
from archive.marks import ProvenMarks
from archive.problems import Problem, wrong
from archive.proof import Damaged, Missing, hash_object
from archive.records import ArchivedObject
from archive.stores.store import StoreCold


@dataclass(frozen=True)
class Checks:
    """How to check objects.

    Attributes:
        archive: the archive, with its proof mode.
        erasures: the erasure records of the archive.
        deep: read and hash every object.
        marks: marks of objects that earlier runs have read; None to read each object that needs it.
    """

    archive: Archive
    erasures: Erasures
    deep: bool = False
    marks: ProvenMarks | None = None

    def check(self, known: ArchivedObject) -> str:
        """Check an object.

        Returns:
            What proved it, as `Verified.checked_by` names it.

        Raises:
            Damaged: the object differs from its record.
            KeyError: the object is missing.
            StoreCold: only its bytes could prove it, and they cannot be read now.
            StoreError: the store does not answer.
        """
        store = self.archive.store
        if self.deep:
            if (found := hash_object(store, known.key)) != known.sha256:
                raise Damaged(known.key, f"reads back with SHA-256 {found}, not {known.sha256}")
            return "read-back"
        if self.marks is not None and (mark := self.marks.of(known)) is not None:
            stored = store.stat(known.key)
            if stored is not None and (stored.version, stored.size) == (mark, known.size):
                return "mark"
        proven = self.archive.prove_again(known)
        is_new_mark = proven.proof.version not in (None, known.proof.version)
        if self.marks is not None and is_new_mark and proven.proof.by == "read-back":
            self.marks.remember(proven)
        return proven.proof.by


def check_cold(checks: Checks, known: ArchivedObject) -> list[Problem]:
    """Check an object whose bytes cannot be read now by what the store shows of it: at least its size.

    Raises:
        StoreError: the store does not answer.
    """
    try:
        checks.archive.prove_again(known)
    except Missing:
        return [Problem("missing", known.key, "listed, and then not there")]
    except Damaged as error:
        return [wrong(error)]
    except StoreCold:
        pass  # it is there, and has its size
    return []
