"""A small sealed archive, written in milliseconds by the documented format, without our sealing code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from archive import layout
from archive.access import encode_line, new_line
from archive.signatures import SealKeys
from text.times import end_of_day, format_instant, utc_now

FIRST, LAST = (
    12,
    4,
)  # how many days ago the first and the last sealed day is; all from then to now must be sealed by now


def ago(days: int) -> date:
    return (utc_now() - timedelta(days=days)).date()


def noon(days: int) -> datetime:
    return end_of_day(ago(days)) - timedelta(hours=12)


class SmallArchive:
    """An archive with an identity and nine sealed days: four hold two recordings each, the others none."""

    def __init__(self, root: Path, identity: dict[str, Any] | None = None, keys: SealKeys | None = None) -> None:
        self.root = root
        self.keys = keys
        (root / ".incoming").mkdir(parents=True)
        (root / "seals").mkdir()
        fields: dict[str, Any] = {
            "schema": "callvault.archive/1",
            "id": "an-archive",
            "created_at": format_instant(noon(FIRST)),
        }
        fields |= {"by": "somebody", "adopted": False, "adopted_seals": 0, "adopted_head": None} | (identity or {})
        self.write("archive.json", fields)
        self.sequence = 0
        self.head: str | None = None
        for days in range(FIRST, LAST - 1, -1):
            if days % 2:
                self.recording(days, f"{days}-one")
                self.recording(days, f"{days}-two")
            self.seal(days)

    def folder(self, days: int, recording_id: str) -> str:
        return layout.recording_folder(ago(days), recording_id)

    def write(self, key: str, content: dict[str, Any] | bytes) -> bytes:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        return data

    def read(self, key: str) -> Any:
        return json.loads((self.root / key).read_bytes())

    def sha256(self, key: str) -> str:
        return hashlib.sha256((self.root / key).read_bytes()).hexdigest()

    def remove(self, *keys: str) -> None:
        for key in keys:
            (self.root / key).unlink()

    def recording(self, days: int, recording_id: str, at: datetime | None = None, audio: bytes | None = None) -> str:
        """Archive a recording, with bytes that no player plays if none are given; one that is there gets them instead."""
        folder = self.folder(days, recording_id)
        self._commit(folder, recording_id, audio or f"audio of {recording_id}".encode(), at or noon(days))
        self.transcription(days, recording_id, "first", at or noon(days))
        return folder

    def _commit(self, folder: str, recording_id: str, audio: bytes, at: datetime, audio_key: str | None = None) -> None:
        key = audio_key or layout.audio_key(folder, "wav")
        if audio_key is None:
            self.write(key, audio)
        sha256 = hashlib.sha256(audio).hexdigest()
        proof = {"by": "read-back", "algorithm": "sha256", "value": sha256, "version": None}
        o = {"key": key, "size": len(audio), "sha256": sha256, "content_type": "audio/wav", "proof": proof}
        record = {
            "schema": "callvault.recording/1",
            "recording": {"id": recording_id},
            "objects": [o],
            "audio": {"format": "wav", "channels": 1, "sample_rate_hz": 8000, "duration_ms": 1, "findings": []},
            "archived_at": format_instant(at),
            "event_id": None,
            "found_by": "webhook",
        }
        self.write(layout.commit_key(folder), record)

    def version(self, folder: str, name: str, at: datetime, audio: bytes | None = b"another content") -> str:
        """Add a version of a recording; None: with the same bytes as the first."""
        recording_id = self.read(layout.commit_key(folder))["recording"]["id"]
        place = layout.version_folder(folder, name)
        first = layout.audio_key(folder, "wav")
        if audio is None:
            self._commit(place, recording_id, (self.root / first).read_bytes(), at, first)
        else:
            self._commit(place, recording_id, audio, at)
        return place

    def transcription(self, days: int, recording_id: str, name: str, at: datetime) -> str:
        key = layout.transcription_key(self.folder(days, recording_id), name)
        fields = {"id": name, "created_at": format_instant(at), "updated_at": format_instant(at)}
        self.write(key, {"schema": "callvault.transcription/1", "transcription": fields})
        return key

    def receipt(self, folder: str, at: datetime, name: str = "deleted.json") -> str:
        recording_id = folder.split("/")[4]
        fields: dict[str, Any] = {"recording_id": recording_id, "objects": []}
        if name == "gone.json":
            fields |= {"schema": "callvault.gone/1", "found_gone_at": format_instant(at)}
        else:
            fields |= {
                "schema": "callvault.deletion/1",
                "transcription_ids": [],
                "confirmed_gone_at": format_instant(at),
            }
        self.write(folder + name, fields)
        return folder + name

    def access(self, days: int, *who: str, at: datetime | None = None) -> str:
        """Write an object of the access log: a line for each who looked at a recording; under the day of `at`, if given."""
        at = at or noon(days)
        lines = (new_line("look", name, "token", "127.0.0.1", ["5-one"]) for name in who)
        key = layout.access_log_key(at, hashlib.sha256("".join(who).encode()).hexdigest()[:16])
        self.write(key, b"".join(encode_line(line) + b"\n" for line in lines))
        return key

    def not_archived(self, days: int, recording_id: str, at: datetime) -> str:
        """Write the record that a recording is not archived, and why."""
        folder = self.folder(days, recording_id)
        fields = {"schema": "callvault.not-archived/1", "recording_id": recording_id, "recording": {"id": recording_id}}
        self.write(
            folder + "not-archived.json", fields | {"answer": "404", "why": "x", "by": "y", "at": format_instant(at)}
        )
        return folder + "not-archived.json"

    def erase(self, folder: str, *, sha256: str | None = None, sign_with: SealKeys | None = None, **more: Any) -> str:
        """Erase a recording; with another hash, as a forged record would."""
        keys = sorted(str(p.relative_to(self.root)) for p in (self.root / folder).rglob("*") if p.is_file())
        rows = [{"key": k, "size": (self.root / k).stat().st_size, "sha256": sha256 or self.sha256(k)} for k in keys]
        fields = {"schema": "callvault.erasure/1", "recording_id": folder.split("/")[4], "objects": rows}
        fields |= {"why": "x", "by": "y", "erased_at": format_instant(utc_now())} | more
        keys = [key for key in keys if "/disposed/" not in key]
        fields["objects"] = [row for row in rows if row["key"] in keys]
        data = self.write(layout.erasure_key(folder), fields)
        if sign_with is not None:
            self.write(layout.signature_key(layout.erasure_key(folder)), sign_with.sign(data))
        self.remove(*keys)
        return layout.erasure_key(folder)

    def rules(self, number: int = 1, **more: Any) -> str:
        """Apply retention rules: everything goes after a day."""
        rule = {"name": "default", "keep": "1 day"}
        fields = {
            "schema": "callvault.retention/1",
            "number": number,
            "rules": [rule],
            "zone": "UTC",
            "grace_seconds": 0,
        }
        fields |= {"file_sha256": "0" * 64, "by": "y", "at": format_instant(noon(FIRST))}
        self.write(layout.retention_key(number), fields | more)
        return layout.retention_key(number)

    def dispose(self, folder: str, *names: str, number: int = 1, sign_with: SealKeys | None = None, **more: Any) -> str:
        """Dispose of some objects of a recording, whose commit record stays; of its audio if no name is given."""
        keys = [folder + name for name in names or ("audio.wav",)]
        rows = [{"key": k, "size": (self.root / k).stat().st_size, "sha256": self.sha256(k)} for k in keys]
        now = format_instant(utc_now())
        fields = {"schema": "callvault.disposal/1", "recording_id": folder.split("/")[4], "number": number}
        fields |= {"goes": ["audio"], "objects": rows, "why": "x", "by": "y", "rule": "default", "rules_number": 1}
        fields |= {"ended_at": now, "disposed_at": now} | more
        data = self.write(layout.disposal_key(folder, number), fields)
        if sign_with is not None:
            self.write(layout.signature_key(layout.disposal_key(folder, number)), sign_with.sign(data))
        self.remove(*keys)
        return layout.disposal_key(folder, number)

    def seal(self, days: int, *, only: Iterable[str] | None = None, void: str | None = None) -> int:
        """Seal what no seal lists of a day."""
        listed = {
            line[66:] for path in (self.root / "seals").glob("*.sha256") for line in path.read_text().splitlines()
        }
        folders = (self.root / layout.day_prefix(ago(days), name) for name in layout.DAY_FOLDERS)
        keys = {str(p.relative_to(self.root)) for folder in folders for p in folder.rglob("*") if p.is_file()} - listed
        keys = keys if only is None else set(only)
        lines = "".join(f"{self.sha256(key)}  {key}\n" for key in sorted(keys)).encode()
        self.sequence += 1
        seal: dict[str, Any] = {"schema": "callvault.seal/1", "sequence": self.sequence, "day": ago(days).isoformat()}
        recordings = sum(key.count("/") == 5 and key.endswith("/recording.json") for key in keys)
        seal |= {
            "recordings": recordings,
            "transcriptions": 0,
            "bytes": 0,
            "manifest_sha256": hashlib.sha256(lines).hexdigest(),
        }
        compared = format_instant(end_of_day(ago(days)) + timedelta(days=2))
        seal |= {"previous_sha256": self.head, "reconciled_at": compared, "sealed_at": compared}
        self.write(layout.seal_key(self.sequence, "sha256"), lines)
        data = self.write(layout.seal_key(self.sequence), seal | ({} if void is None else {"void": void}))
        if self.keys is not None:
            self.write(layout.seal_key(self.sequence, "sig"), self.keys.sign(data))
        self.head = hashlib.sha256(data).hexdigest()
        return self.sequence
