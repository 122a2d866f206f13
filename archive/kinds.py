"""The kinds of objects in the archive: one row for each, with its key, its reader, and when it is written.

`place_of` reads a key by this table: which kind of object it is, and of what. A key that no row makes belongs to an unknown
object, whatever it looks like: `archive.json.bak`, a key of the year 1, or one with other percent-encoding than ours.

docs/archive-format.md describes the same keys for readers outside this project; `tests/workers/test_layout.py` compares
the two. To add a kind: a row here, a row in that document, the shape in `records.py` or a file that it names, the reader in
`readers.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple, cast

from archive import layout, readers
from archive.readers import RecordReader
from archive.records import UnreadableRecord

_DAY = "{YYYY}/{MM}/{DD}/"
_FOLDER = f"recordings/{_DAY}{{recording_id}}/"
# What stands for a part of a key that varies: a group, if it names something. Any other part is a name as `encode_name` makes it.
_PARTS = {
    "YYYY": r"\d{4}",
    "MM": r"\d\d",
    "DD": r"\d\d",
    "YYYY-MM-DD": r"\d{4}-\d\d-\d\d",
    "wav|mp3": "(wav|mp3)",
    "sha256": "([0-9a-f]{64})",
    "sequence": r"(\d{10})",
    "instant": r"(\d{8}T\d{6}\.\d{6}Z)",
    "writer": "([0-9a-f]{16})",
    "sha256|json|sig|tsr": "(sha256|json|sig|tsr)",
    "number": r"(\d{1,18})",
    "scope}/{subject": "(?:(?:recordings|connections)/([^/]+)|everything)",
}


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of object.

    Attributes:
        key: the pattern of its key.
        written: when it is written.
        reader: reads its JSON; None if it is not JSON.
        written_at: finds the instant of writing in its JSON; None if the JSON has none. `callvault verify` compares it
            with the seals of the day.
        is_named_by_instant: whether the first name in its key is the instant of writing.
        survives_erasure: whether it stays when the owner has the recording erased.
    """

    key: str
    written: str
    reader: RecordReader[Any] | None = None
    written_at: Callable[[dict[str, Any]], str] | None = None
    is_named_by_instant: bool = False
    survives_erasure: bool = False

    @property
    def prefix(self) -> str:
        """What every key of this kind begins with, up to the first part that varies."""
        return self.key.partition("{")[0]

    def read(self, data: bytes | None, key: str) -> Any:
        """Read a record of this kind.

        Raises:
            UnreadableRecord: as `RecordReader.read`, or this kind has no record.
        """
        if self.reader is None:
            raise UnreadableRecord(key, "not a record")
        return self.reader.read(data, key)


def _of_transcription(record: dict[str, Any]) -> str:
    transcription: dict[str, str] = record["transcription"]
    return transcription.get("updated_at") or transcription["created_at"]


AUDIO = Kind(_FOLDER + "audio.{wav|mp3}", "first")
COMMIT = Kind(
    _FOLDER + "recording.json",
    "after its objects are proven",
    readers.COMMIT_RECORD,
    itemgetter("archived_at"),
)
VERSION_AUDIO = Kind(_FOLDER + "versions/{name}/audio.{wav|mp3}", "when Telnyx shows other content for the same id")
VERSION = Kind(
    _FOLDER + "versions/{name}/recording.json",
    "after its audio",
    readers.COMMIT_RECORD,
    itemgetter("archived_at"),
)
TRANSCRIPTION = Kind(
    _FOLDER + "transcriptions/{transcription_id}.json",
    "when it is complete at Telnyx",
    readers.TRANSCRIPTION,
    _of_transcription,
)
RECEIPT = Kind(
    _FOLDER + "deleted.json",
    "when Telnyx answers 404 after the deletion",
    readers.RECEIPT,
    itemgetter("confirmed_gone_at"),
    survives_erasure=True,
)
GONE = Kind(
    _FOLDER + "gone.json",
    "instead of a receipt, if the original was gone before the deletion",
    readers.GONE,
    itemgetter("found_gone_at"),
    survives_erasure=True,
)
NOT_ARCHIVED = Kind(
    _FOLDER + "not-archived.json",
    "when the day is sealed without the recording",
    readers.NOT_ARCHIVED,
    itemgetter("at"),
)
TRANSCRIPTION_NOT_ARCHIVED = Kind(
    _FOLDER + "transcriptions-not-archived/{transcription_id}.json",
    "when the day is sealed without the transcription",
    readers.TRANSCRIPTION_NOT_ARCHIVED,
    itemgetter("at"),
)
DECISION_COPY = Kind(
    _FOLDER + "decisions/{id}.json",
    "after the decision itself",
    readers.DECISION,
    itemgetter("at"),
    survives_erasure=True,
)
ERASURE = Kind(
    _FOLDER + "erased.json",
    "before the recording is erased",
    readers.ERASURE,
    itemgetter("erased_at"),
    survives_erasure=True,
)
ERASURE_SIGNATURE = Kind(_FOLDER + "erased.sig", "after the erasure record", survives_erasure=True)
DISPOSAL = Kind(
    _FOLDER + "disposed/{number}.json",
    "before a part of the recording is disposed of",
    readers.DISPOSAL,
    itemgetter("disposed_at"),
    survives_erasure=True,
)
DISPOSAL_SIGNATURE = Kind(_FOLDER + "disposed/{number}.sig", "after that record", survives_erasure=True)
REMOVALS = (ERASURE, DISPOSAL)  # the records of what is gone from a recording's folder
REMOVAL_SIGNATURES = (ERASURE_SIGNATURE, DISPOSAL_SIGNATURE)
IN_A_RECORDING = (
    AUDIO,
    COMMIT,
    VERSION_AUDIO,
    VERSION,
    TRANSCRIPTION,
    RECEIPT,
    GONE,
    NOT_ARCHIVED,
    TRANSCRIPTION_NOT_ARCHIVED,
    DECISION_COPY,
    ERASURE,
    ERASURE_SIGNATURE,
    DISPOSAL,
    DISPOSAL_SIGNATURE,
)

MEDIUM = Kind(f"media/{_DAY}{{media_name}}/{{sha256}}/content", "first")
MEDIUM_RECORD = Kind(f"media/{_DAY}{{media_name}}/{{sha256}}/media.json", "after the content", readers.MEDIA)
LOG_MESSAGE = Kind(
    f"log-messages/{_DAY}{{identity}}.json",
    "when a poll sees it",
    readers.LOG_MESSAGE,
    itemgetter("first_seen_at"),
)
ACCESS_LOG = Kind(
    f"access-log/{_DAY}{{instant}}-{{writer}}.jsonl",
    "within minutes, if somebody looked at, heard or decided something",
    is_named_by_instant=True,
)

SEAL = Kind("seals/{sequence}.{sha256|json|sig|tsr}", "when a closed day is sealed, in this order")
ROWS = Kind("catalogue/day={YYYY-MM-DD}/{sequence}.parquet", "before the seal of the same number")

DECISION = Kind("decisions/{scope}/{subject}/{id}.json", "when a person decides", readers.DECISION)
DUTIES = Kind("duties/{unit}/{number}.json", "when a worker starts with other settings", readers.DUTIES)
DAMAGE = Kind("damage/{key}/{number}.json", "when an object is found damaged, missing or whole again", readers.DAMAGE)
TRANSCRIBING = Kind(
    "transcribing/{connection_id}.json", "with the first transcription of the connection", readers.TRANSCRIBING
)
API_TOKEN = Kind("api-tokens/{id}/{number}.json", "when an API token is made or revoked", readers.API_TOKEN)
RETENTION = Kind("retention/{number}.json", "when a person applies retention rules", readers.APPLIED_RULES)
CASE = Kind("cases/{id}/{number}.json", "when a case is opened or closed", readers.CASE)
IDENTITY = Kind("archive.json", "first of all, by `callvault init`", readers.IDENTITY)
AT_THE_ROOT = (DECISION, DUTIES, DAMAGE, TRANSCRIBING, API_TOKEN, RETENTION, CASE, IDENTITY)

KINDS = (*IN_A_RECORDING, MEDIUM, MEDIUM_RECORD, LOG_MESSAGE, ACCESS_LOG, SEAL, ROWS, *AT_THE_ROOT)


def _pattern(kind: Kind) -> Callable[[str], re.Match[str] | None]:
    """Matches a key of a kind; of an object in a recording's folder, the rest of its key there."""
    parts = re.split(r"\{(scope\}/\{subject|[^}]+)\}", kind.key.removeprefix(_FOLDER))
    texts = (re.escape(part) if n % 2 == 0 else _PARTS.get(part, "([^/]+)") for n, part in enumerate(parts))
    return re.compile("".join(texts), re.ASCII).fullmatch


_IN_A_RECORDING = [(kind, _pattern(kind)) for kind in IN_A_RECORDING]
_ELSEWHERE = [(kind, _pattern(kind)) for kind in KINDS if kind not in IN_A_RECORDING]


class Place(NamedTuple):
    """What a key says.

    Attributes:
        kind: the kind of the object; None if it is unknown.
        folder: what all keys of the same recording, or of the same content of a medium, begin with, known or not, with the
            slash at its end; any other key is a folder of its own.
        day: the UTC day that it lies under; None if it lies under none.
        recording_id: the id of the recording in whose folder it lies, known or not; empty for any other key.
        names: what varies in the rest of the key, in its order: such as a format, the id of a transcription, the name of a
            version, the unit and the number of duties.
    """

    kind: Kind | None
    folder: str
    day: date | None = None
    recording_id: str = ""
    names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last of the names; empty without one."""
        return self.names[-1] if self.names else ""


def place_of(key: str) -> Place:
    """What a key says. Any text is a key: one that no row of the table makes has no kind."""
    if (home := layout.recording_of(key)) is not None:
        day, recording_id, rest = home
        kind, names = _read_in_a_recording(rest)
        return Place(kind, key[: len(key) - len(rest)], day, recording_id, names)
    under_day = layout.day_of(key)
    kind, names = _read(key, _ELSEWHERE)
    folder = layout.media_folder_of(key) or key
    if kind is None or (under_day is None and _DAY in kind.key):
        return Place(None, folder, under_day)
    return Place(kind, folder, under_day, names=names)


def place_after(key: str, before: Place | None) -> Place:
    """The same, if `before` is what the key before it says, which mostly belongs to the same recording."""
    if before is None or not before.recording_id or not key.startswith(before.folder):
        return place_of(key)
    kind, names = _read_in_a_recording(key[len(before.folder) :])
    return Place(kind, before.folder, before.day, before.recording_id, names)


def _read(
    text: str, patterns: Iterable[tuple[Kind, Callable[[str], re.Match[str] | None]]]
) -> tuple[Kind | None, tuple[str, ...]]:
    """The kind of a key, and the names in it."""
    for kind, matches in patterns:
        if (found := matches(text)) is not None:
            names = tuple(layout.decode_name(name) if name else "" for name in found.groups())
            return (None, ()) if None in names else (kind, cast("tuple[str, ...]", names))
    return None, ()


@lru_cache(1024)  # almost every recording has the same few names
def _read_in_a_recording(rest: str) -> tuple[Kind | None, tuple[str, ...]]:
    return _read(rest, _IN_A_RECORDING)


def kind_of(key: str) -> Kind | None:
    """The kind of an object from its key; None if it is unknown."""
    return place_of(key).kind


def is_key_of_parts(key: str) -> bool:
    """Whether a key belongs to an object of the archive that may be uploaded in parts; its bucket may hold other data."""
    place = place_of(key)
    return place.kind in (AUDIO, VERSION_AUDIO, MEDIUM, ROWS) or (
        place.kind is SEAL and place.name in ("json", "sha256")
    )


def last_of_each(kind: Kind, keys: Iterable[str]) -> dict[str, str]:
    """Of numbered records the key that counts, by its first name: the one with the last number."""
    found = ((place_of(key), key) for key in keys)
    rows = sorted((int(place.name), place.names[0], key) for place, key in found if place.kind is kind)
    return {name: key for _, name, key in rows}
