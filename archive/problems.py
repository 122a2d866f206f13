"""The problems that `callvault verify` reports, and what to do about each."""

from __future__ import annotations

import msgspec

from archive import kinds, layout
from archive.records import WrongObject
from archive.stores.store import StoreCold

# `advice_for` has the advice for missing and damaged objects.
ADVICE = {
    "unlisted": "find out who put it there; if a worker wrote it, a seal lists it within a day",
    "gap": "restore the seal from a copy of the archive; if it is the last one, `callvault seal --due` can make it",
    "seal-altered": "restore the seal and its manifest from a copy of the archive; find out who can write to the archive",
    "unsealed": "run `callvault status` to see what the day waits for; if it waits for nothing, someone cut seals off the end "
    "of the chain: compare the archive with a copy and with a head kept elsewhere (`callvault verify --seals --head HASH`)",
    "head": "compare the archive with a copy: someone rebuilt the chain or cut it off before that seal; find out who can "
    "write to the archive",
    "signature": "restore the signature from a copy; if an earlier key made it, add its public key to CALLVAULT_SEAL_KEY",
    "erasure": "ask the person it names whether they erased the recording; if they did, run `callvault erase ID --sign` "
    "where the seal key is; if not, restore the recording from a copy of the archive",
    "time-stamp": "restore it from a copy; check that CALLVAULT_TIMESTAMP_CA names the authority that made it",
    "uncommitted": "a worker may be archiving it right now. Otherwise run `callvault verify --seals`: if a seal lists the "
    "commit record, restore it from a copy before a reconcile writes another; if no seal does, run `callvault backfill` "
    "for its day",
    "cold": "restore it in the store, and correct the lifecycle rule that moved it: records must stay readable at once "
    "(docs/stores.md); then run this again",
    "unknown": "Callvault did not write it; find out who did",
}


class Problem(msgspec.Struct, frozen=True):
    """A problem in the archive.

    Attributes:
        kind: `missing`, `damaged` or a row of `ADVICE`.
        key: the key of the object, or the prefix of the day.
        what: what is wrong, in one line.
    """

    kind: str
    key: str
    what: str

    @property
    def advice(self) -> str:
        """What to do about it."""
        if self.kind in ("missing", "damaged"):
            return advice_for(self.key, self.kind)
        if self.kind == "cold":
            return restore_advice(self.key)
        return ADVICE[self.kind]


def advice_for(key: str, state: str, place: str = "") -> str:
    """What to do about one missing or damaged object, with its id and path.

    Args:
        key: the key of the object.
        state: `missing`, or `damaged`: `callvault repair` never overwrites a damaged object.
        place: the URL of the archive, to name the full path; empty names the path within the archive.
    """
    path = f"{place.rstrip('/')}/{key}" if place else key
    found = layout.recording_of(key)
    command = ""
    if found is not None and kinds.kind_of(key) in (kinds.AUDIO, kinds.VERSION_AUDIO):
        command = f"`callvault repair {found[1]}`"
    if state == "missing":
        if command:
            return (
                f"run {command} to restore it from Telnyx; add `--from FILE` to restore it from a copy of the archive"
            )
        return f"restore {path} from a copy of the archive"
    first = f"find out who changed it and move {path} out of the archive"
    if command:
        return f"{first}; then run {command} to restore it from Telnyx; add `--from FILE` to restore it from a copy"
    return f"{first}; then restore it from a copy"


def restore_advice(key: str) -> str:
    """What to do about an object that must be restored before it can be read."""
    found = layout.recording_of(key)
    if found is not None and kinds.kind_of(key) is kinds.AUDIO:
        return f"run `callvault get {found[1]} --restore`; it says when the audio is ready"
    return ADVICE["cold"]


def cold(error: StoreCold) -> Problem:
    """The problem of an object that cannot be read now; it is neither missing nor damaged."""
    return Problem("cold", error.key, str(error).removeprefix(f"{error.key}: "))


def wrong(error: WrongObject) -> Problem:
    """The problem that an error describes."""
    return Problem("damaged", error.key, error.what)
