"""What a record of a disposal says to go and is still there: a hold came in the last moment, or the store refuses.

Such a recording can be heard and read, so the catalogue shows it as it is. The record is looked at again until the rest is
gone: then the catalogue takes it in whole. What a person had erased counts as erased from its record on.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from archive import kinds, layout
from archive.archive import Archive
from archive.erasures import read_removal, rule_of
from archive.records import UnreadableRecord, encode_record
from archive.removal_records import Disposal
from workers.catalogue.catalogue import Catalogue

_UNDONE = "undone disposals"  # the name in `state` of the keys of their records, as JSON
_PARTS: Mapping[kinds.Kind, str] = {
    kinds.TRANSCRIPTION: "transcripts",
    kinds.AUDIO: "audio",
    kinds.VERSION_AUDIO: "audio",
}


def as_done(archive: Archive, key: str, data: bytes) -> tuple[bytes | None, bool | None]:
    """What a record of an erasure or a disposal says, without what is still there: one listing; blocks.

    Args:
        archive: where the object lies.
        key: its key; if it is no such record, its bytes come back as they are.
        data: its bytes.

    Returns:
        The record for the catalogue (None: nothing of it is done), and whether something of it is not done (None: it is no
        record of a disposal).

    Raises:
        StoreError: the archive cannot be read now.
    """
    if kinds.kind_of(key) not in kinds.REMOVALS or (place := layout.recording_of(key)) is None:
        return data, None
    try:
        record = read_removal(data, key)
    except UnreadableRecord:
        return data, False  # the catalogue reports it
    if rule_of(record) is None:
        return data, False
    there = {*archive.keys_of(key.removesuffix(place[2]))}
    parts = {_PARTS.get(kind) for one in record.objects if one.key in there and (kind := kinds.kind_of(one.key))}
    left = parts - {None}
    if not left:
        return data, False
    goes = [part for part in record.goes if part not in left] if isinstance(record, Disposal) else []
    return (encode_record(msgspec.structs.replace(record, goes=goes)) if goes else None), True


def remember_undone(catalogue: Catalogue, looked_at: Mapping[str, bool]) -> None:
    """Note which records are not done, within a transaction.

    Args:
        catalogue: the catalogue.
        looked_at: the keys of records, and whether something of each is not done.
    """
    if looked_at:
        before = undone(catalogue)
        left = sorted(
            {key for key in before if key not in looked_at} | {key for key, is_left in looked_at.items() if is_left}
        )
        if left != before:
            catalogue.remember(_UNDONE, msgspec.json.encode(left).decode())


def undone(catalogue: Catalogue) -> list[str]:
    """The keys of the records of which something was not done when it was last looked at, in order."""
    known = catalogue.state(_UNDONE)
    return [] if known is None else msgspec.json.decode(known, type=list[str])
