"""Compares the books of the simulated Telnyx with the archive: all archived once, nothing lost, nothing deleted early."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from archive.layout import commit_key, receipt_key, recording_folder
from text.times import parse_instant

GRACE_SECONDS = 20.0  # CALLVAULT_DELETE_AFTER in compose.yaml beside this file


def is_settled(archive: Path, rows: list[dict[str, Any]]) -> bool:
    """Whether every original is deleted, with its receipt."""
    return all(row["deleted_at"] and (archive / receipt_key(_folder(row))).exists() for row in rows)


def faults(archive: Path, rows: list[dict[str, Any]]) -> list[str]:
    """What is wrong, a line each."""
    return [f"{row['id']}: {fault}" for row in rows for fault in _faults(archive, row)]


def _folder(row: dict[str, Any]) -> str:
    return recording_folder(parse_instant(row["recording_started_at"]), row["id"])


def _faults(archive: Path, row: dict[str, Any]) -> list[str]:
    folder = _folder(row)
    path = archive / commit_key(folder)
    if not path.exists():
        return ["lost: it has no commit record"]
    record = json.loads(path.read_bytes())
    found = []
    archived = {one["key"].rpartition(".")[2]: one for one in record["objects"]}
    for audio_format, audio in row["audio"].items():
        one = archived.get(audio_format)
        data = (archive / one["key"]).read_bytes() if one and (archive / one["key"]).exists() else b""
        if one is None or not one["sha256"] == audio["sha256"] == hashlib.sha256(data).hexdigest():
            found.append(f"its {audio_format} is not in the archive as it was served")
    if len(record["objects"]) != len(row["audio"]) or (path.parent / "versions").exists():
        found.append("archived more than once")
    if row["deleted_at"] is None:
        found.append("its original is still there")
    elif not (archive / receipt_key(folder)).exists():
        found.append("deleted without a receipt")
    elif (kept := _seconds(row["deleted_at"]) - _seconds(record["archived_at"])) < GRACE_SECONDS:
        found.append(f"deleted {kept:.1f} s after it was archived, within its grace of {GRACE_SECONDS:g} s")
    return found


def _seconds(instant: str) -> float:
    return parse_instant(instant).timestamp()
