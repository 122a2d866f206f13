"""What `make compose-check` concludes from: its comparison of books, and the file it adds to `compose.yaml`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from archive.layout import commit_key, receipt_key, recording_folder
from config.settings import names_of_settings
from deploy.compose_check.books import GRACE_SECONDS, faults, is_settled
from deploy.compose_check.hardening import _status
from tests.test_deploy import COMPOSE, ROOT
from text.times import parse_instant

AUDIO = b"RIFF"
STARTED = "2026-11-25T10:00:00.000000Z"
FOLDER = recording_folder(parse_instant(STARTED), "one")


def books(deleted_at: str | None = "2026-11-25T10:01:30Z") -> list[dict[str, Any]]:
    audio = {"wav": {"sha256": hashlib.sha256(AUDIO).hexdigest()}}
    return [{"id": "one", "recording_started_at": STARTED, "deleted_at": deleted_at, "audio": audio}]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of the recording, whose original is deleted."""
    key = f"{FOLDER}audio.wav"
    objects = [{"key": key, "sha256": hashlib.sha256(AUDIO).hexdigest()}]
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / key).write_bytes(AUDIO)
    (tmp_path / commit_key(FOLDER)).write_text(json.dumps({"archived_at": "2026-11-25T10:01:00Z", "objects": objects}))
    (tmp_path / receipt_key(FOLDER)).write_text("{}")
    return tmp_path


def test_a_recording_that_is_archived_once_and_deleted_in_time_has_no_fault(archive: Path) -> None:
    assert (faults(archive, books()), is_settled(archive, books())) == ([], True)
    assert not is_settled(archive, books(deleted_at=None))


@pytest.mark.parametrize(
    ("harm", "deleted_at", "fault"),
    [
        (lambda folder: (folder / "recording.json").unlink(), None, "lost: it has no commit record"),
        (
            lambda folder: (folder / "audio.wav").write_bytes(b"RIFX"),
            None,
            "its wav is not in the archive as it was served",
        ),
        (lambda folder: (folder / "audio.wav").unlink(), None, "its wav is not in the archive as it was served"),
        (lambda folder: (folder / "versions").mkdir(), None, "archived more than once"),
        (lambda folder: (folder / "deleted.json").unlink(), None, "deleted without a receipt"),
        (lambda folder: None, "2026-11-25T10:01:19Z", "deleted 19.0 s after it was archived, within its grace of 20 s"),
    ],
)
def test_each_fault_of_a_recording_is_found(archive: Path, harm: Any, deleted_at: str | None, fault: str) -> None:
    harm(archive / FOLDER)
    assert faults(archive, books(deleted_at) if deleted_at else books()) == [f"one: {fault}"]


def test_an_original_that_is_still_there_is_a_fault(archive: Path) -> None:
    assert faults(archive, books(deleted_at=None)) == ["one: its original is still there"]


def test_the_rights_of_a_process_that_lives_are_read_and_one_that_has_ended_is_passed_over() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait(10)
    assert _status(ended.pid) == {}
    assert {"Uid", "CapEff", "CapBnd", "NoNewPrivs"} <= _status(os.getpid()).keys()


def test_the_added_file_changes_services_that_exist_and_settings_that_are_known() -> None:
    added = yaml.load(
        re.sub("!override", "", (ROOT / "deploy/compose_check/compose.yaml").read_text()), yaml.SafeLoader
    )
    assert added["services"].keys() - COMPOSE["services"].keys() == {"telnyx"}
    known = {*names_of_settings()}
    assert added["x-times"].keys() <= known
    assert added["x-times"]["CALLVAULT_DELETE_AFTER"] == f"{GRACE_SECONDS:g}s"
