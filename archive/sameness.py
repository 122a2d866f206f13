"""Compares a recording at Telnyx with what Telnyx showed when it was archived.

Telnyx may show other content under the same id: a second `recording.saved`, another length, other bytes. The API has no
checksum of a recording, so its fields and the headers of its download addresses are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from archive.records import CommitRecord
from telnyx_api.source_mark import SourceMark
from text.counts import many
from text.times import first_instant

# Fields that change with the content. `updated_at` changes for other reasons too, which costs only a comparison.
_INSTANTS = ("recording_started_at", "recording_ended_at", "updated_at")
_VALUES = ("duration_millis", "channels", "status")


def difference(record: CommitRecord, recording: Mapping[str, Any], sources: Mapping[str, SourceMark]) -> str | None:
    """Compare a recording at Telnyx with its commit record or a version's.

    Args:
        record: the commit record.
        recording: the recording as Telnyx returns it now.
        sources: by format, the headers of its download addresses now; absent formats are not compared.

    Returns:
        The first difference as a short sentence; None if they agree.
    """
    then = record.recording
    for name in _VALUES:
        if then.get(name) != recording.get(name):
            return f"{name} is {recording.get(name)}, and was {then.get(name)} when it was archived"
    for name in _INSTANTS:
        if not _is_same_instant(then.get(name), recording.get(name)):
            return f"{name} is {recording.get(name)}, and was {then.get(name)} when it was archived"
    sizes = {o.key.rpartition(".")[2]: o.size for o in record.objects}
    for audio_format, now in sources.items():
        if audio_format not in sizes:
            return f"Telnyx has it as {audio_format}, and the archive does not"
        if now.size is not None and now.size != sizes[audio_format]:
            return (
                f"its {audio_format} has {many(now.size, 'byte')}, and had {sizes[audio_format]} when it was archived"
            )
        known = {} if not isinstance(record.sources, dict) else record.sources
        if (found := _source_difference(known.get(audio_format), now)) is not None:
            return f"of its {audio_format} the {found}, as when it was archived"
    return None


def name_of_version(recording: Mapping[str, Any], sources: Mapping[str, SourceMark], sha256s: Mapping[str, str]) -> str:
    """The name of a version: a hash of the content and its fields, so every worker gives it the same name."""
    values = [recording.get(name) for name in _VALUES]
    instants = [str(first_instant(recording.get(name)) or recording.get(name)) for name in _INSTANTS]
    parts = [values, instants, sources, sha256s]
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def _is_same_instant(then: object, now: object) -> bool:
    """Whether two texts are the same instant, however they are written."""
    return then == now or ((instant := first_instant(then)) is not None and instant == first_instant(now))


def _source_difference(then: SourceMark | None, now: SourceMark) -> str | None:
    """The difference between two marks of the same address, in a header that both have. An equal ETag is enough."""
    if then is None:
        return None
    if then.etag and now.etag:
        return None if then.etag == now.etag else f"ETag {now.etag} is not {then.etag}"
    if then.last_modified and now.last_modified and then.last_modified != now.last_modified:
        return f"Last-Modified {now.last_modified} is not {then.last_modified}"
    return None
