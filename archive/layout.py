"""Every key of the archive: how keys are made, and how days, ids and seals are read back from them.

Readers outside this project use the same keys, so they never change. `kinds.py` has a row for each kind of object, and
reads whole keys; docs/archive-format.md describes them. Keys are relative to the archive's prefix, which the store adds.

The date in a key is the UTC day of `recording_started_at`, else of `created_at`; for media the day of `updated_at`.
"""

from __future__ import annotations

import hashlib
import re
from datetime import date, datetime
from functools import lru_cache
from typing import Literal, NamedTuple
from urllib.parse import quote, unquote

LONGEST_NAME_BYTES = 200
IDENTITY_KEY = "archive.json"
DAY_FOLDERS = ("access-log", "log-messages", "media", "recordings")  # sorted; everything in them lies under its UTC day

Scope = Literal["recording", "connection", "everything"]  # of a decision


class Outside(NamedTuple):
    """An object in the archive's bucket but outside its prefix, where custom storage put it.

    Attributes:
        name: its name in the bucket.
    """

    name: str

    @property
    def key(self) -> str:
        """Its key: a slash, then the name. Every other key is relative to the prefix."""
        return f"/{self.name}"

    @classmethod
    def of(cls, key: str) -> Outside | None:
        """The object of a key; None if the key is relative to the prefix."""
        return cls(key[1:]) if key.startswith("/") else None


def name_in_bucket(key: str, prefix: str) -> str:
    """The name in the bucket of an object of the archive with this prefix."""
    outside = Outside.of(key)
    return prefix + key if outside is None else outside.name


def encode_name(name: str) -> str:
    """Encode a name from outside as one segment of a key: percent-encoded, 200 bytes at most, never empty or all dots.

    A longer name is cut and ends in the SHA-256 of the whole name, so two names never become one key.
    """
    if _PLAIN.fullmatch(name):
        return name
    encoded = quote(name, safe="")
    if not encoded.strip("."):
        encoded = encoded.replace(".", "%2E") or "%00"
    if len(encoded) > LONGEST_NAME_BYTES:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        encoded = f"{encoded[: LONGEST_NAME_BYTES - 65]}~{digest}"
    return encoded


def decode_name(segment: str) -> str | None:
    """The name in one segment of a key, or cut if it was cut for its length; None if `encode_name` makes no such segment."""
    if _PLAIN.fullmatch(segment):
        return segment
    name = unquote(segment)
    is_ours = segment.isascii() and (encode_name(name) == segment or _CUT.fullmatch(segment) is not None)
    return name if is_ours else None


_PLAIN = re.compile(r"[\w~-][\w.~-]{,199}", re.ASCII)  # what most names are
_CUT = re.compile(r"[\w.~%-]{135}~[0-9a-f]{64}", re.ASCII)


def day_prefix(day: date, folder: str = "recordings") -> str:
    """The prefix of a UTC day in one of `DAY_FOLDERS`, with a slash at its end."""
    return f"{folder}/{day:%Y/%m/%d}/"


def recording_folder(day: date | datetime, recording_id: str) -> str:
    """The prefix of a recording's folder, with a slash at its end."""
    return day_prefix(day) + encode_name(recording_id) + "/"


def audio_key(folder: str, audio_format: str) -> str:
    """The key of a recording's audio in one format, `wav` or `mp3`."""
    return f"{folder}audio.{audio_format}"


def commit_key(folder: str) -> str:
    """The key of the commit record of a recording."""
    return f"{folder}recording.json"


def receipt_key(folder: str) -> str:
    """The key of the receipt of a deletion at Telnyx."""
    return f"{folder}deleted.json"


def gone_key(folder: str) -> str:
    """The key of the record that an original was gone at Telnyx before its deletion."""
    return f"{folder}gone.json"


def not_archived_key(folder: str) -> str:
    """The key of the record that a recording is not archived, so its day is sealed without it."""
    return f"{folder}not-archived.json"


def transcription_not_archived_key(day: date, recording_id: str, transcription_id: str) -> str:
    """The key of the record that a transcription is not archived, under the day of the transcription."""
    return f"{recording_folder(day, recording_id)}transcriptions-not-archived/{encode_name(transcription_id)}.json"


def is_of_transcription(key: str, recording_id: str, transcription_id: str) -> bool:
    """Whether a `transcription_not_archived_key` of any day belongs to a transcription."""
    place = f"/{encode_name(recording_id)}/transcriptions-not-archived/{encode_name(transcription_id)}.json"
    return key.endswith(place)


def version_folder(folder: str, name: str) -> str:
    """The prefix of a version: other content of the same recording. With a slash at its end."""
    return f"{folder}versions/{encode_name(name)}/"


def recording_id_of(folder: str) -> str:
    """The id of a recording from its folder."""
    return unquote(folder.rstrip("/").rpartition("/")[2])


def home_of(folder: str) -> str:
    """The folder of a recording, from that folder or the folder of one of its versions."""
    if "/versions/" not in folder:
        return folder
    return re.sub(r"^(recordings/[0-9/]{10}/[^/]+/)versions/[^/]+/$", r"\1", folder)


def erasure_key(folder: str) -> str:
    """The key of the erasure record of a recording."""
    return f"{folder}erased.json"


def disposal_key(folder: str, number: int) -> str:
    """The key of the record that parts of a recording were disposed of, while its commit record stays."""
    return f"{folder}disposed/{number:08d}.json"


def signature_key(record_key: str) -> str:
    """The key of the signature beside a record, such as `erased.sig` beside `erased.json`."""
    return f"{record_key.removesuffix('.json')}.sig"


def seal_key(sequence: int, suffix: Literal["json", "sha256", "sig", "tsr"] = "json") -> str:
    """The key of a seal, its manifest, its signature or its time stamp."""
    return f"seals/{sequence:010d}.{suffix}"


def seal_of(key: str) -> tuple[int, str] | None:
    """The sequence number and suffix of a key under `seals/`; None for another kind of key."""
    found = re.fullmatch(r"seals/([0-9]{10})\.(json|sha256|sig|tsr)", key)
    return (int(found.group(1)), found.group(2)) if found else None


def parquet_key(day: date, sequence: int) -> str:
    """The key of the Parquet rows of a seal."""
    return f"catalogue/day={day.isoformat()}/{sequence:010d}.parquet"


def log_message_key(day: date | datetime, identity: str) -> str:
    """The key of a log message, under the day it was first seen: the message has no time of its own."""
    return f"{day_prefix(day, 'log-messages')}{encode_name(identity)}.json"


def access_log_key(at: datetime, writer: str) -> str:
    """The key of some lines of the access log, by the instant (UTC) when their object was named, and who writes it."""
    return f"{day_prefix(at, 'access-log')}{at:%Y%m%dT%H%M%S.%fZ}-{writer}.jsonl"


def media_folder(day: date | datetime, media_name: str, sha256: str) -> str:
    """The prefix of one content of a stored medium, with a slash at its end."""
    return f"{day_prefix(day, 'media')}{encode_name(media_name)}/{sha256}/"


def media_folder_of(key: str) -> str | None:
    """The folder of the content of a stored medium in which a key lies; None for another kind of key."""
    parts = key.split("/", 6)
    if len(parts) != 7 or parts[0] != "media" or day_of(key) is None:
        return None
    is_ours = decode_name(parts[4]) is not None and _SHA256.fullmatch(parts[5]) is not None
    return key.removesuffix(parts[6]) if is_ours else None


_SHA256 = re.compile(r"[0-9a-f]{64}")


def media_key(folder: str) -> str:
    """The key of a medium's record, written after its content."""
    return f"{folder}media.json"


DECISIONS = "decisions/"
RECORDING_DECISIONS = "decisions/recordings/"
CONNECTION_DECISIONS = "decisions/connections/"
TRANSCRIBING = "transcribing/"
DUTIES = "duties/"
DAMAGE = "damage/"
API_TOKENS = "api-tokens/"
RETENTION = "retention/"
CASES = "cases/"
_SCOPES: dict[Scope, str] = {
    "recording": RECORDING_DECISIONS,
    "connection": CONNECTION_DECISIONS,
    "everything": "decisions/everything/",
}


def decision_prefix(scope: Scope, subject: str = "") -> str:
    """The prefix of the decisions about one recording or connection, or about everything; with a slash at its end."""
    return _SCOPES[scope] + (encode_name(subject) + "/" if scope != "everything" else "")


def decision_key(scope: Scope, subject: str, decision_id: str) -> str:
    """The key of a decision."""
    return f"{decision_prefix(scope, subject)}{encode_name(decision_id)}.json"


def decision_copy_key(folder: str, decision_id: str) -> str:
    """The key of the copy of a decision in the folder of its recording, where the seal of the day lists it."""
    return f"{folder}decisions/{encode_name(decision_id)}.json"


def decided_about(key: str) -> tuple[Scope, str] | None:
    """The scope and subject among whose decisions, or copies of them, a key is listed; None for another key."""
    if (place := recording_of(key)) is not None:
        return ("recording", place[1]) if place[2].startswith("decisions/") else None
    for scope, prefix in _SCOPES.items():
        subject, slash, _ = key.removeprefix(prefix).partition("/")
        if key.startswith(prefix) and scope == "everything":
            return scope, ""
        if key.startswith(prefix) and slash and (name := decode_name(subject)) is not None:
            return scope, name
    return None


def name_of(key: str) -> str:
    """The last part of a key without `.json`, such as the id of a decision or transcription."""
    return unquote(key.rpartition("/")[2].removesuffix(".json"))


def transcribing_key(connection_id: str) -> str:
    """The key of the mark that recordings of a connection get transcriptions."""
    return f"{TRANSCRIBING}{encode_name(connection_id)}.json"


def duties_key(unit: str, number: int) -> str:
    """The key of a duties record: the deletion settings of the workers of one unit."""
    return f"{DUTIES}{encode_name(unit)}/{number:08d}.json"


def damage_key(key: str, number: int) -> str:
    """The key of a row of the register of damage; of each object the last number counts."""
    return f"{damage_folder(key)}{number:08d}.json"


def damage_folder(key: str) -> str:
    """The prefix of the rows of one object in the register of damage, with a slash at its end."""
    return f"{DAMAGE}{encode_name(key)}/"


def api_token_key(token_id: str, number: int) -> str:
    """The key of a row about an API token: the first says that it was made, the next that it was revoked."""
    return f"{API_TOKENS}{encode_name(token_id)}/{number:08d}.json"


def retention_key(number: int) -> str:
    """The key of the retention rules that a person applied as the first, second and so on."""
    return f"{RETENTION}{number:08d}.json"


def case_key(case_id: str, number: int) -> str:
    """The key of a row about a case: the first says that it was opened, the next that it was closed."""
    return f"{CASES}{encode_name(case_id)}/{number:08d}.json"


def transcription_key(folder: str, transcription_id: str) -> str:
    """The key of a transcription."""
    return f"{folder}transcriptions/{encode_name(transcription_id)}.json"


def recording_of(key: str) -> tuple[date, str, str] | None:
    """The day, recording id and name within the folder from a key; None for another kind of key.

    An id that was cut for its length comes back cut; Telnyx has no such ids.
    """
    parts = key.split("/", 5)
    if len(parts) != 6 or parts[0] != "recordings" or (day := _day_of_text("-".join(parts[1:4]))) is None:
        return None
    recording_id = decode_name(parts[4])
    return None if recording_id is None else (day, recording_id, parts[5])


def day_of(key: str) -> date | None:
    """The day of a key in one of `DAY_FOLDERS`; None for another kind of key."""
    parts = key.split("/", 4)
    if len(parts) != 5 or parts[0] not in DAY_FOLDERS:
        return None
    return _day_of_text("-".join(parts[1:4]))


@lru_cache(4096)
def _day_of_text(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    # `fromisoformat` also reads weeks, which are not days of the archive.
    return day if day.isoformat() == text and 1900 <= day.year <= 2999 else None
