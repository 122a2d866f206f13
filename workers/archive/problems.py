"""What `callvault verify` finds wrong, and what a person does about it."""

from __future__ import annotations

import msgspec

from workers.archive import layout
from workers.archive.records import WrongObject

# Of an object that is gone or another than it was, `how_to_mend` says what to do.
ADVICE = {
    "unlisted": "nobody sealed it: find out who put it there; what a worker wrote is sealed within a day of its writing",
    "gap": "restore the seal from a copy of the archive; the last one may be made by `callvault seal --due`",
    "seal-altered": "restore the seal and its manifest from a copy of the archive; find out who could write there",
    "unsealed": "`callvault status` says what the day waits for; if it waits for nothing, seals were cut off the chain's "
    "end: compare with a copy of the archive and with a head that was kept elsewhere (`verify --seals --head HASH`)",
    "head": "compare with a copy of the archive: the chain was made anew, or cut off before that seal; find out who could "
    "write there",
    "signature": "restore the signature from a copy; keys that signed before belong behind CALLVAULT_SEAL_KEY",
    "erasure": "ask whoever it names whether they erased the recording; if so, `callvault erase ID --sign` where the key of "
    "the seals is; if not, restore the recording from a copy of the archive",
    "time-stamp": "restore it from a copy; check that CALLVAULT_TIMESTAMP_CA is that authority's",
    "uncommitted": "a worker may be at it right now; else restore the commit record from a copy if a seal lists it "
    "(`verify --seals` says `missing`), before a comparison with Telnyx makes another; only if none does, `callvault backfill` "
    "for its day finishes it",
    "unknown": "not Callvault's; find out who put it there",
}


class Problem(msgspec.Struct, frozen=True):
    """Something that is wrong in the archive.

    Attributes:
        kind: `missing`, `damaged` or a row of `ADVICE`.
        key: of the object, or of the day.
        what: what is wrong with it, one line.
    """

    kind: str
    key: str
    what: str

    @property
    def advice(self) -> str:
        """What to do about it."""
        if self.kind in ("missing", "damaged"):
            return how_to_mend(self.key, self.kind)
        return ADVICE[self.kind]


def how_to_mend(key: str, state: str, place: str = "") -> str:
    """What a person does about one object, with its real id and path.

    Args:
        key: of the object; of no object where what is wrong is about something else.
        state: `missing`: nothing lies there; `damaged`: something else does, which `repair` never writes over.
        place: URL of the archive, so that the whole path is named; empty: the path within the archive.
    """
    path = f"{place.rstrip('/')}/{key}" if place else key
    found = layout.recording_of(key)
    command = ""
    if found is not None and found[2].rpartition("/")[2].startswith("audio."):
        command = f"`callvault repair {found[1]}`"
    if state == "missing":
        if command:
            return f"{command} puts it back from Telnyx, or with `--from FILE` from a copy of the archive"
        return f"restore {path} from a copy of the archive"
    first = f"find out who changed it and move {path} out of the archive"
    if command:
        return f"{first}; then {command} puts back the right bytes from Telnyx, or with `--from FILE` from a copy"
    return f"{first}; then restore it from a copy"


def wrong(error: WrongObject) -> Problem:
    """What an error says of an object."""
    return Problem("damaged", error.key, error.what)
