"""The state of the sandbox, in memory."""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from sandbox.audio import Audio, FileAudio, audio_files, make_mp3, make_wav
from sandbox.faults import Faults

SENTENCES = (
    "Thank you for calling, how can I help you today?",
    "I would like to ask about a refund for my last order.",
    "Could you give me your account number, please?",
    "The delivery arrived two days late and one box was damaged.",
    "Let me check that for you, it will only take a moment.",
    "I can see the invoice here, it was paid on the third.",
    "We will send a replacement and you can keep the other one.",
    "Is there anything else I can do for you?",
    "No, that was all, thank you very much for your help.",
    "Please hold the line while I transfer you to a colleague.",
)


def now() -> datetime:
    """The present instant, in UTC."""
    return datetime.now(UTC)


def text_of(instant: datetime) -> str:
    """An instant as the API writes it."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass
class Recording:
    """A recording: its data in the API, its audio by format, its deletion and its downloads."""

    data: dict[str, Any]
    audio: dict[str, Audio]
    visible_from: datetime
    deleted_at: str | None = None
    served: dict[str, int] = field(default_factory=dict)  # whole downloads by format


@dataclass
class Ticket:
    """An upload or a release: its data in the API, and the statuses that follow."""

    data: dict[str, Any]
    connection_id: str
    ahead: list[str] = field(default_factory=list)
    due: datetime = field(default_factory=now)


class World:
    """The whole state of one sandbox.

    Args:
        audio_folder: the user's own WAV and MP3 files to serve as recordings.
        seed: of all random values.
        api_key: to accept; None: generate one.
    """

    def __init__(self, *, audio_folder: Path | None = None, seed: int = 1, api_key: str | None = None) -> None:
        self.rng = random.Random(seed)
        self.began_at = now()  # the recordings of the start are dated relative to this
        self.api_key = api_key or "KEY" + uuid.UUID(int=self.rng.getrandbits(128)).hex.upper()
        self.signing_key = SigningKey(self.rng.randbytes(32))
        self.url_secret = self.rng.randbytes(32)
        self.account_id = self.new_uuid()
        self.base_url = ""
        self.faults = Faults(seed=seed)
        self.url_lifetime_seconds = 600.0
        self.step_seconds = 0.3  # how long an upload, a release or a transcription stays in one status
        self.user_files = audio_files(audio_folder) if audio_folder is not None else []
        self.recordings: dict[str, Recording] = {}
        # Ids of recordings. A deletion of one, alone or with others, is answered 403.
        self.undeletable: set[str] = set()
        self.transcriptions: dict[str, dict[str, Any]] = {}
        self.deleted_transcriptions: dict[str, dict[str, Any]] = {}
        self.storage: dict[str, dict[str, Any]] = {}
        self.dialogflow: dict[str, dict[str, Any]] = {}
        self.siprec: dict[str, dict[str, Any]] = {}
        self.media: dict[str, tuple[dict[str, Any], bytes]] = {}
        self.connections: dict[str, dict[str, Any]] = {}
        self.addresses: dict[str, dict[str, dict[str, Any]]] = {}
        self.numbers: dict[str, dict[str, dict[str, Any]]] = {}
        self.uploads: dict[str, Ticket] = {}
        self.releases: dict[str, Ticket] = {}
        self.log_messages: dict[str, dict[str, Any]] = {}
        self.deliveries: dict[str, dict[str, Any]] = {}
        self.requests: list[dict[str, Any]] = []  # requests to the API, newest last, bounded
        self.misuse: list[str] = []  # mistakes of the client, such as a key sent to a download URL
        self._numbers = itertools.count(1)

    @property
    def next_signing_key(self) -> SigningKey:
        """The key that signs webhooks after a rotation, derived from the current one."""
        return SigningKey(hashlib.sha256(bytes(self.signing_key)).digest())

    @functools.cached_property
    def another_account(self) -> World:
        """An empty account."""
        return World()

    def public_keys(self) -> dict[str, str]:
        """The current and the next public key, base64."""
        keys = {"public_key": self.signing_key, "next_public_key": self.next_signing_key}
        return {name: base64.b64encode(key.verify_key.encode()).decode() for name, key in keys.items()}

    def new_uuid(self) -> str:
        """A UUID of the seed."""
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def new_id(self) -> str:
        """A numeric id, as connections have."""
        return str(1_700_000_000_000_000_000 + next(self._numbers))

    def add_recording(
        self,
        *,
        seconds: float = 8,
        channels: int = 2,
        formats: Iterable[str] = ("wav",),
        started_at: datetime | None = None,
        connection_id: str | None = None,
        source: str = "call",
        silent: bool = False,
        duration_millis: int | None = None,
        leg_id: str | None = None,
        session_id: str | None = None,
    ) -> Recording:
        """Make a recording as if a call had just ended, or had begun at an instant in the past."""
        recording_id = self.new_uuid()
        audio = self._audio(recording_id, seconds, channels, tuple(formats), silent)
        first = next(iter(audio.values()))
        started = started_at or now() - timedelta(milliseconds=first.duration_ms)
        ended = started + timedelta(milliseconds=first.duration_ms)
        created = text_of(ended)
        data = {
            "id": recording_id,
            "record_type": "recording",
            "call_control_id": "v3:" + self.new_uuid(),
            "call_leg_id": leg_id or self.new_uuid(),
            "call_session_id": session_id or self.new_uuid(),
            "conference_id": self.new_uuid() if source == "conference" else None,
            "connection_id": connection_id or self._a_connection(),
            "channels": "dual" if first.channels == 2 else "single",
            "created_at": created,
            "updated_at": created,
            "duration_millis": first.duration_ms if duration_millis is None else duration_millis,
            "from": f"+1312555{self.rng.randrange(10_000):04d}",
            "to": f"+1415555{self.rng.randrange(10_000):04d}",
            "initiated_by": "StartCallRecordingAPI" if source == "call" else "StartConferenceRecordingAPI",
            "source": source,
            "status": "completed",
            "recording_started_at": text_of(started),
            "recording_ended_at": created,
        }
        visible = now() + timedelta(seconds=self.faults.not_found_seconds)
        self.recordings[recording_id] = recording = Recording(data, audio, visible)
        return recording

    def _audio(
        self, recording_id: str, seconds: float, channels: int, formats: tuple[str, ...], silent: bool
    ) -> dict[str, Audio]:
        if self.user_files:
            path = self.user_files[len(self.recordings) % len(self.user_files)]
            return {path.suffix[1:].lower(): FileAudio(path)}
        made: dict[str, Audio] = {}
        for audio_format in formats:
            if audio_format == "mp3":
                made["mp3"] = make_mp3(recording_id, seconds, channels)
            else:
                made["wav"] = make_wav(recording_id, seconds, channels, silent=silent)
        return made

    def _a_connection(self) -> str:
        return next(iter(self.connections), "1700000000000000000")

    def add_transcription(self, recording: Recording) -> dict[str, Any]:
        """Begin a transcription of a recording; `complete_transcription` ends it."""
        instant = max(recording.data["created_at"], recording.data["recording_ended_at"])
        transcription = {
            "id": self.new_uuid(),
            "record_type": "recording_transcription",
            "recording_id": recording.data["id"],
            "status": "in-progress",
            "duration_millis": recording.data["duration_millis"],
            "transcription_text": None,
            "created_at": instant,
            "updated_at": instant,
        }
        self.transcriptions[transcription["id"]] = transcription
        return transcription

    def complete_transcription(self, transcription: dict[str, Any], at: datetime | None = None) -> None:
        """End a transcription, now or at an instant in the past: it has its text then."""
        rng = random.Random(transcription["id"])
        sentences = rng.sample(SENTENCES, 5)
        transcription |= {
            "status": "completed",
            "transcription_text": " ".join(sentences),
            "updated_at": text_of(at or now()),
        }

    def live_recordings(self) -> list[Recording]:
        """The recordings that the API shows, newest first."""
        present = now()
        live = [r for r in self.recordings.values() if r.deleted_at is None and r.visible_from <= present]
        return sorted(live, key=lambda r: (r.data["created_at"], r.data["id"]), reverse=True)

    def log(self, connection_id: str, code: str, title: str, detail: str, **meta: str | None) -> dict[str, Any]:
        """Write a log message of an external connection."""
        message: dict[str, Any] = {
            "id": self.new_uuid(),
            "code": code,
            "title": title,
            "detail": detail,
            "source": {"pointer": "/attribute"},
            "meta": {
                "external_connection_id": connection_id,
                "telephone_number": meta.get("telephone_number"),
                "ticket_id": meta.get("ticket_id"),
            },
        }
        self.log_messages[message["id"]] = message
        return message
