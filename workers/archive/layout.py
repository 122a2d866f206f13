"""Where things lie in the archive: every object key, in one place. A contract that readers outside this project use.

    recordings/{YYYY}/{MM}/{DD}/{recording_id}/audio.{wav|mp3}
    recordings/{YYYY}/{MM}/{DD}/{recording_id}/recording.json                        commit record, written last
    recordings/{YYYY}/{MM}/{DD}/{recording_id}/transcriptions/{transcription_id}.json
    recordings/{YYYY}/{MM}/{DD}/{recording_id}/deleted.json                          receipt of the deletion at Telnyx
    recordings/{YYYY}/{MM}/{DD}/{recording_id}/gone.json                             it was gone before we asked
    recordings/{YYYY}/{MM}/{DD}/{recording_id}/not-archived.json                     Telnyx lists it and gives no audio of it
    recordings/{YYYY}/{MM}/{DD}/{recording_id}/transcriptions-not-archived/{transcription_id}.json  the same of a transcription
    recordings/{YYYY}/{MM}/{DD}/{recording_id}/decisions/{instant or id}.json        a decision about it, for its seal
    recordings/{YYYY}/{MM}/{DD}/{recording_id}/versions/{name}/audio…, recording.json  another content of the same id
    media/{YYYY}/{MM}/{DD}/{media_name}/{sha256}/content, media.json                 one version of a stored medium
    log-messages/{YYYY}/{MM}/{DD}/{identity}.json                                    a log message, the day first seen
    recordings/{YYYY}/{MM}/{DD}/{recording_id}/erased.json, erased.sig               what its owner had erased, and why
    seals/{sequence}.sha256, .json, .sig, .tsr                                       what a closed day held, chained
    catalogue/day={YYYY-MM-DD}/{sequence}.parquet                                    the same as rows for query engines
    decisions/recordings/{recording_id}/{id}.json                                    a person's hold, release, approval
    decisions/connections/{connection_id}/{id}.json, decisions/everything/{id}.json  the same of more
    duties/{unit}/{number}.json                                                      what workers may do with originals
    transcribing/{connection_id}.json                                                transcriptions of it are awaited
    damage/{key of an object}/{number}.json                                          it is known to be damaged, or whole again
    archive.json                                                                     which archive this is

The date is the UTC day of `recording_started_at`, else of `created_at`; of media the day of `updated_at`. Keys here are
relative to the archive's prefix,
which the store adds.
"""

from __future__ import annotations

import hashlib
import re
from datetime import date, datetime
from functools import lru_cache
from typing import Literal
from urllib.parse import quote, unquote

LONGEST_NAME_BYTES = 200
IDENTITY_KEY = "archive.json"
KINDS = ("log-messages", "media", "recordings")  # what lies by day, in the order of their keys


def encode_name(name: str) -> str:
    """A name from outside as one segment of a key: percent-encoded, 200 bytes at most, never empty or all dots.

    A longer one is cut and gets the SHA-256 of the whole, so that two names never become one key.
    """
    encoded = quote(name, safe="")
    if not encoded.strip("."):
        encoded = encoded.replace(".", "%2E") or "%00"
    if len(encoded) > LONGEST_NAME_BYTES:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        encoded = f"{encoded[: LONGEST_NAME_BYTES - 65]}~{digest}"
    return encoded


def day_prefix(day: date, kind: str = "recordings") -> str:
    """The prefix of all that a UTC day holds of one kind, with a slash at its end."""
    return f"{kind}/{day:%Y/%m/%d}/"


def recording_folder(day: date | datetime, recording_id: str) -> str:
    """The prefix of all that belongs to one recording, with a slash at its end."""
    return day_prefix(day) + encode_name(recording_id) + "/"


def audio_key(folder: str, audio_format: str) -> str:
    """The audio of a recording in one format, `wav` or `mp3`."""
    return f"{folder}audio.{audio_format}"


def commit_key(folder: str) -> str:
    """The commit record of a recording."""
    return f"{folder}recording.json"


def receipt_key(folder: str) -> str:
    """The receipt of the deletion of a recording at Telnyx."""
    return f"{folder}deleted.json"


def gone_key(folder: str) -> str:
    """What says that an original was gone at Telnyx before we asked for its deletion."""
    return f"{folder}gone.json"


def not_archived_key(folder: str) -> str:
    """What says that a recording is not archived, and why: its day is sealed without it."""
    return f"{folder}not-archived.json"


def transcription_not_archived_key(day: date, recording_id: str, transcription_id: str) -> str:
    """What says that a transcription is not archived, and why; it lies under the day the transcription was made."""
    return f"{recording_folder(day, recording_id)}transcriptions-not-archived/{encode_name(transcription_id)}.json"


def is_of_transcription(key: str, recording_id: str, transcription_id: str) -> bool:
    """Whether such a key, of whichever day, is the one of a transcription."""
    place = f"/{encode_name(recording_id)}/transcriptions-not-archived/{encode_name(transcription_id)}.json"
    return key.endswith(place)


def version_folder(folder: str, name: str) -> str:
    """Where another content of the same recording lies, with a slash at its end."""
    return f"{folder}versions/{encode_name(name)}/"


def recording_id_of(folder: str) -> str:
    """The id of a recording, from its folder."""
    return unquote(folder.rstrip("/").rpartition("/")[2])


def home_of(folder: str) -> str:
    """The folder of a recording, from its own folder or the folder of one of its versions."""
    return re.sub(r"^(recordings/[0-9/]{10}/[^/]+/)versions/[^/]+/$", r"\1", folder)


def is_version(name: str) -> bool:
    """Whether a name within a recording's folder is the commit record of a version."""
    return re.fullmatch(r"versions/[^/]+/recording\.json", name) is not None


def erasure_signature_key(folder: str) -> str:
    """The signature of the record of what was erased."""
    return f"{folder}erased.sig"


def erasure_key(folder: str) -> str:
    """The record of what was erased of a recording at the owner's wish."""
    return f"{folder}erased.json"


def seal_key(sequence: int, suffix: Literal["json", "sha256", "sig", "tsr"] = "json") -> str:
    """A seal, its manifest, its signature or its time stamp."""
    return f"seals/{sequence:010d}.{suffix}"


def seal_of(key: str) -> tuple[int, str] | None:
    """The sequence number and the suffix of a key under `seals/`; None for another kind of key."""
    found = re.fullmatch(r"seals/(\d{10})\.(json|sha256|sig|tsr)", key)
    return (int(found.group(1)), found.group(2)) if found else None


def parquet_key(day: date, sequence: int) -> str:
    """The rows of a seal."""
    return f"catalogue/day={day.isoformat()}/{sequence:010d}.parquet"


def log_message_key(day: date | datetime, identity: str) -> str:
    """A log message of an external connection, under the day it was first seen: it carries no time of its own."""
    return f"{day_prefix(day, 'log-messages')}{encode_name(identity)}.json"


def log_message_of(key: str) -> str | None:
    """The identity of a log message, from its key; None for another kind of key."""
    parts = key.split("/")
    if len(parts) != 5 or parts[0] != "log-messages" or not parts[4].endswith(".json"):
        return None
    return unquote(parts[4].removesuffix(".json"))


def media_folder(day: date | datetime, media_name: str, sha256: str) -> str:
    """The prefix of one version of a stored medium, with a slash at its end."""
    return f"{day_prefix(day, 'media')}{encode_name(media_name)}/{sha256}/"


def media_key(folder: str) -> str:
    """What Telnyx says of a medium; written after its bytes."""
    return f"{folder}media.json"


DECISIONS = "decisions/"
CONNECTION_DECISIONS = "decisions/connections/"
TRANSCRIBING = "transcribing/"
DUTIES = "duties/"
DAMAGE = "damage/"
_SCOPES: dict[Literal["recording", "connection", "everything"], str] = {
    "recording": "decisions/recordings/",
    "connection": CONNECTION_DECISIONS,
    "everything": "decisions/everything/",
}


def decision_prefix(scope: Literal["recording", "connection", "everything"], subject: str = "") -> str:
    """The prefix of the decisions about one recording or connection, or about everything; with a slash at its end."""
    return _SCOPES[scope] + (encode_name(subject) + "/" if scope != "everything" else "")


def decision_key(scope: Literal["recording", "connection", "everything"], subject: str, decision_id: str) -> str:
    """A decision of a person, found by what it is about."""
    return f"{decision_prefix(scope, subject)}{encode_name(decision_id)}.json"


def decision_copy_key(folder: str, decision_id: str) -> str:
    """The same decision in the folder of its recording, where the seal of the day lists it."""
    return f"{folder}decisions/{encode_name(decision_id)}.json"


def decided_about(key: str) -> tuple[Literal["recording", "connection", "everything"], str] | None:
    """What a decision is about, from its key or from the key of its copy; None for another kind of key."""
    if (place := recording_of(key)) is not None:
        return ("recording", place[1]) if place[2].startswith("decisions/") else None
    for scope, prefix in _SCOPES.items():
        if key.startswith(prefix) and key.count("/") == (2 if scope == "everything" else 3):
            return scope, "" if scope == "everything" else subject_of(key)
    return None


def subject_of(key: str) -> str:
    """What a decision is about, from its key: the id of a connection or recording."""
    return unquote(key.split("/")[-2])


def name_of(key: str) -> str:
    """The last part of a key without its extension: a decision's id."""
    return unquote(key.rpartition("/")[2].removesuffix(".json"))


def transcribing_key(connection_id: str) -> str:
    """What says that transcriptions of a connection's recordings are awaited."""
    return f"{TRANSCRIBING}{encode_name(connection_id)}.json"


def duties_key(unit: str, number: int) -> str:
    """A statement of what the workers of one unit are set to do with originals."""
    return f"{DUTIES}{encode_name(unit)}/{number:08d}.json"


def damage_key(key: str, number: int) -> str:
    """What is known of an object that was found damaged; the last number counts."""
    return f"{damage_folder(key)}{number:08d}.json"


def damage_folder(key: str) -> str:
    """Where all that is known of such an object lies, with a slash at its end."""
    return f"{DAMAGE}{encode_name(key)}/"


def damaged_object_of(key: str) -> tuple[str, int] | None:
    """The object that a row of the register is about, and the row's number, from the key of the row; None for another key."""
    found = _DAMAGE_ROW.fullmatch(key)
    return None if found is None else (unquote(found[1]), int(found[2]))


_DAMAGE_ROW = re.compile(r"damage/([^/]+)/([0-9]{8})\.json")


def transcription_key(folder: str, transcription_id: str) -> str:
    """A transcription of a recording."""
    return f"{folder}transcriptions/{encode_name(transcription_id)}.json"


def transcription_of(key: str) -> str:
    """The id of a transcription, from its key."""
    return unquote(key.rpartition("/")[2].removesuffix(".json"))


def recording_of(key: str) -> tuple[date, str, str] | None:
    """Read a key back: the day, the recording's id, and the name within its folder; None for another kind of key.

    An id that was cut for its length comes back cut; such ids do not occur at Telnyx.
    """
    parts = key.split("/", 5)
    if len(parts) != 6 or parts[0] != "recordings" or (day := day_of(key)) is None:
        return None
    return day, unquote(parts[4]), parts[5]


def is_key_of_parts(key: str) -> bool:
    """Whether a key is one that this module makes, of an object that may be large enough to go up in parts.

    Strict, since an archive may share its bucket with others.
    """
    return _OF_PARTS.fullmatch(key) is not None


_DAY = r"\d{4}/\d{2}/\d{2}"
_OF_PARTS = re.compile(
    rf"recordings/{_DAY}/[^/]+/(versions/[^/]+/)?audio\.(wav|mp3)"
    rf"|media/{_DAY}/[^/]+/[0-9a-f]{{64}}/content"
    r"|catalogue/day=\d{4}-\d{2}-\d{2}/\d{10}\.parquet"
    r"|seals/\d{10}\.(json|sha256)"
)


def day_of(key: str) -> date | None:
    """The day that an object of any kind lies under; None for a key outside the days."""
    parts = key.split("/", 4)
    if len(parts) != 5 or parts[0] not in KINDS:
        return None
    return _day_of_text("-".join(parts[1:4]))


@lru_cache(4096)
def _day_of_text(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    # It reads weeks too, which are none here.
    return day if day.isoformat() == text and 1900 <= day.year <= 2999 else None
