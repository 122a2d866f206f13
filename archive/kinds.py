"""The kinds of objects in the archive: one row for each, with its key, its reader, and when it is written.

docs/archive-format.md describes the same keys for readers outside this project; `tests/workers/test_layout.py` compares
the two. To add a kind: a row here, a row in that document, the shape in `records.py`, the reader in `readers.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from archive import layout, readers
from archive.readers import RecordReader
from archive.records import UnreadableRecord

_DAY = "{YYYY}/{MM}/{DD}/"
_FOLDER = f"recordings/{_DAY}{{recording_id}}/"


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of object.

    Attributes:
        key: the pattern of its key.
        written: when it is written.
        reader: reads its JSON; None if it is not JSON.
        written_at: finds the instant of writing in its JSON; None if the JSON has none. `callvault verify` compares it
            with the seals of the day.
        survives_erasure: whether it stays when the owner has the recording erased.
    """

    key: str
    written: str
    reader: RecordReader[Any] | None = None
    written_at: Callable[[dict[str, Any]], str] | None = None
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
)

MEDIUM = Kind(f"media/{_DAY}{{media_name}}/{{sha256}}/content", "first")
MEDIUM_RECORD = Kind(f"media/{_DAY}{{media_name}}/{{sha256}}/media.json", "after the content", readers.MEDIA)
LOG_MESSAGE = Kind(
    f"log-messages/{_DAY}{{identity}}.json",
    "when a poll sees it",
    readers.LOG_MESSAGE,
    itemgetter("first_seen_at"),
)

SEAL = Kind("seals/{sequence}.{sha256|json|sig|tsr}", "when a closed day is sealed, in this order")
ROWS = Kind("catalogue/day={YYYY-MM-DD}/{sequence}.parquet", "before the seal of the same number")

DECISION = Kind("decisions/{scope}/{subject}/{id}.json", "when a person decides", readers.DECISION)
DUTIES = Kind("duties/{unit}/{number}.json", "when a worker starts with other settings", readers.DUTIES)
DAMAGE = Kind("damage/{key}/{number}.json", "when an object is found damaged, missing or whole again", readers.DAMAGE)
TRANSCRIBING = Kind(
    "transcribing/{connection_id}.json", "with the first transcription of the connection", readers.TRANSCRIBING
)
IDENTITY = Kind("archive.json", "first of all, by `callvault init`", readers.IDENTITY)
AT_THE_ROOT = (DECISION, DUTIES, DAMAGE, TRANSCRIBING, IDENTITY)

KINDS = (*IN_A_RECORDING, MEDIUM, MEDIUM_RECORD, LOG_MESSAGE, SEAL, ROWS, *AT_THE_ROOT)

# The rest of the key within the folder: a whole name, or a folder that holds one kind alone.
_NAMES = {kind.key.removeprefix(_FOLDER): kind for kind in IN_A_RECORDING if "{" not in kind.key.removeprefix(_FOLDER)}
_FOLDERS = {
    kind.key.removeprefix(_FOLDER).partition("/")[0]: kind
    for kind in (TRANSCRIPTION, TRANSCRIPTION_NOT_ARCHIVED, DECISION_COPY)
}


def kind_in_folder(name: str) -> Kind | None:
    """The kind of an object from its name within the folder of its recording; None if the format has no such name."""
    if (kind := _NAMES.get(name)) is not None:
        return kind
    folder, slash, _ = name.partition("/")
    if not slash:
        return AUDIO if name.startswith("audio.") else None
    if folder == "versions":
        if layout.is_version(name):
            return VERSION
        return VERSION_AUDIO if name.rpartition("/")[2].startswith("audio.") else None
    return _FOLDERS.get(folder)


def kind_of(key: str) -> Kind | None:
    """The kind of an object from its key; None if the format has no such key."""
    if (place := layout.recording_of(key)) is not None:
        return kind_in_folder(place[2])
    if layout.seal_of(key) is not None:
        return SEAL
    if layout.day_of(key) is not None:
        if layout.log_message_of(key) is not None:
            return LOG_MESSAGE
        name = key.rpartition("/")[2]
        is_of_media = key.startswith(MEDIUM.prefix) and key.count("/") == 6
        return {"content": MEDIUM, "media.json": MEDIUM_RECORD}.get(name) if is_of_media else None
    found = (kind for kind in (ROWS, *AT_THE_ROOT) if key.startswith(kind.prefix))
    return next((kind for kind in found if kind is not IDENTITY or key == IDENTITY.key), None)
