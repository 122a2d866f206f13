"""The sandbox's books against the archive: nothing lost, nothing deleted too early or against a decision."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from archive.layout import commit_key, receipt_key, recording_folder
from sandbox import recordings as sandbox_recordings
from sandbox.world import Recording, World
from tests.chaos.scenes import Scenes
from text.times import parse_instant, utc_now


def folder_of(recording: Recording) -> str:
    """The key of a recording's folder in the archive."""
    return recording_folder(parse_instant(recording.data["recording_started_at"]), recording.data["id"])


class Books:
    """Compares the sandbox's records with the archive: at each deletion from now on, and in the end.

    Args:
        world: the sandbox's records.
        scenes: what has happened to the run.
        archive_folder: where the archive lies in the end, with its disk mounted.
        grace_seconds: how long an archived original stays.
        wrong: gets a line for each thing that is wrong.

    Attributes:
        archived: how many recordings are in the archive; like the next two, counted in the end.
        deleted: how many originals are gone with a receipt.
        due_later: how many are not due, because Redis's clock was an hour ahead when they were archived.
    """

    def __init__(
        self, world: World, scenes: Scenes, archive_folder: Path, grace_seconds: float, wrong: list[str]
    ) -> None:
        self._world, self._scenes = world, scenes
        self._folder, self._grace_seconds, self._wrong = archive_folder, grace_seconds, wrong
        self._changed_unseen: set[str] = set()  # ids of originals deleted right after their content changed
        self.archived = self.deleted = self.due_later = 0
        self._watch_deletions()

    def _watch_deletions(self) -> None:
        delete = sandbox_recordings._delete

        def checked(world: World, recording: Recording) -> None:
            if world is self._world:
                self._check_deletion(recording)
            delete(world, recording)

        sandbox_recordings._delete = checked

    def _check_deletion(self, recording: Recording) -> None:
        """Check what must be true in the moment an original is deleted."""
        why, wrong = self._scenes.why_kept(recording), self._what_is_wrong(recording)
        if why is not None:
            self._wrong.append(f"deleted though {why}: {recording.data['id']}")
        elif (early := self._seconds_early(recording)) > 0:
            self._wrong.append(f"deleted {early:.1f}s before its grace was over: {recording.data['id']}")
        if wrong is not None and self._scenes.changed_lately(recording):
            self._changed_unseen.add(recording.data["id"])
        elif wrong is not None:
            self._wrong.append(f"deleted too early: {wrong}")

    def _seconds_early(self, recording: Recording) -> float:
        path = self._scenes.disk / commit_key(folder_of(recording))
        if not path.exists():
            return 0.0
        archived_at = parse_instant(json.loads(path.read_bytes())["archived_at"]).timestamp()
        return archived_at + self._grace_seconds - time.time()

    def _what_is_wrong(self, recording: Recording) -> str | None:
        """Compare the archive with what Telnyx serves; None if the archive has it whole."""
        folder = folder_of(recording)
        path = self._scenes.disk / commit_key(folder)
        if not path.exists():
            return f"{recording.data['id']} has no commit record"
        # Later content is archived as a version.
        records = [path, *sorted((path.parent / "versions").glob("*/recording.json"))]
        objects = [one for record in records for one in json.loads(record.read_bytes())["objects"]]
        keys = {(one["key"].rpartition(".")[2], one["sha256"]): one["key"] for one in objects}
        for audio_format, audio in recording.audio.items():
            key = keys.get((audio_format, audio.sha256))
            if key is None or not (self._scenes.disk / key).exists():
                return f"{folder}: its {audio_format} is not in the archive as it was served"
            if hashlib.sha256((self._scenes.disk / key).read_bytes()).hexdigest() != audio.sha256:
                return f"{key} is damaged"
        return None

    @property
    def are_settled(self) -> bool:
        """Whether every original is gone with a receipt, or not due yet."""
        recordings = list(self._world.recordings.values())
        return all(self._is_done(one) or self._is_dated_ahead(one) for one in recordings)

    def _is_done(self, recording: Recording) -> bool:
        return recording.deleted_at is not None and (self._folder / receipt_key(folder_of(recording))).exists()

    def _is_dated_ahead(self, recording: Recording) -> bool:
        """Whether Redis's clock was an hour ahead when it was archived, so that its grace ends later."""
        path = self._folder / commit_key(folder_of(recording))
        return path.exists() and parse_instant(json.loads(path.read_bytes())["archived_at"]) > utc_now()

    def check(self) -> None:
        """Check every recording and transcription in the end."""
        world = self._world
        for recording in world.recordings.values():
            is_due_later = recording.deleted_at is None and self._is_dated_ahead(recording)
            is_seen_later = is_due_later and self._scenes.has_changed(recording)  # by the check before its deletion
            what = self._what_is_wrong(recording)
            if what is None or is_seen_later or recording.data["id"] in self._changed_unseen:
                self.archived += 1
            else:
                self._wrong.append(f"lost: {what}")
            if self._is_done(recording):
                self.deleted += 1
            elif is_due_later:
                self.due_later += 1
            else:
                self._wrong.append(f"{recording.data['id']}: its original is still there, or there is no receipt")
        for transcription in (*world.transcriptions.values(), *world.deleted_transcriptions.values()):
            folder = folder_of(world.recordings[transcription["recording_id"]])
            path = self._folder / folder / "transcriptions" / f"{transcription['id']}.json"
            if transcription["status"] == "completed" and not path.exists():
                self._wrong.append(f"transcription {transcription['id']} is not in the archive")
        self._wrong += world.misuse
