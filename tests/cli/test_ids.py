"""The beginning of a recording's ID does where it is the only one, and never for an erasure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from archive import layout
from lab.processes import run_callvault
from tests.seals.small import SmallArchive
from workers.engine.attempts import DeadLetter
from workers.keys import DEAD_LETTERS

ONE = "4f2a9c10-0000-4000-8000-000000000001"
TWO = "4f2a9c10-0000-4000-8000-000000000002"
OTHER = "8b1d00aa-0000-4000-8000-000000000003"
SHORT = "8b1d00aa-0000"  # an ID that another one begins with


@pytest.fixture
def small(tmp_path: Path) -> SmallArchive:
    small = SmallArchive(tmp_path / "archive", {"id": "ab" * 16})
    for recording_id in (ONE, TWO, OTHER):
        small.recording(3, recording_id)
    return small


@pytest.fixture
def here(small: SmallArchive, redis_url: str, tmp_path: Path) -> dict[str, str]:
    environment = {"REDIS_URL": redis_url, "CALLVAULT_ARCHIVE_URL": small.root.as_uri()}
    return environment | {"TELNYX_BASE_URL": "http://127.0.0.1:9/v2", "CALLVAULT_DATA": str(tmp_path / "data")}


def run(here: dict[str, str], *words: str, status: int = 0) -> str:
    done = run_callvault([*words], here)
    assert done.returncode == status, done.stderr
    said = done.stderr.splitlines(keepends=True)
    return done.stdout if status == 0 else "".join(one for one in said if not one.startswith("building the catalogue"))


def test_a_beginning_finds_and_gets_the_only_recording_that_has_it(here: dict[str, str], tmp_path: Path) -> None:
    assert json.loads(run(here, "find", "--json", "--id", "8b1d00"))["recording_id"] == OTHER
    report = json.loads(run(here, "get", "8b1d00aa", "--json", "--out", str(tmp_path / "out.wav")))
    assert (report["recording_id"], (tmp_path / "out.wav").read_text()) == (OTHER, f"audio of {OTHER}")
    assert json.loads(run(here, "get", "8B1D00", "--json", "--out", str(tmp_path / "two")))["recording_id"] == OTHER
    assert run(here | {"TELNYX_API_KEY": "KEY"}, "repair", "8b1d00aa").startswith(
        f"recording {OTHER}: no audio is missing"
    )


@pytest.mark.parametrize(
    "command",
    ["get", "find --id", "repair", "deletions hold --why x", "deletions release --why x", "deletions approve --why x"],
)
def test_a_beginning_of_several_lists_them_and_is_refused(command: str, here: dict[str, str]) -> None:
    said = run(here, *command.split(), "4f2a9c1", status=2)
    assert (
        said.splitlines()[-1]
        == f"callvault: ID: 4f2a9c1 is the beginning of several: {ONE}, {TWO}; type more of the one you mean"
    )


def test_less_than_six_characters_and_unknown_ones_are_taken_as_they_are(here: dict[str, str]) -> None:
    assert run(here, "get", "8b1d0", status=1).startswith("callvault: recording 8b1d0 is not in the archive")
    assert run(here, "get", "abcdef", status=1).startswith("callvault: recording abcdef is not in the archive")


def test_an_id_that_begins_others_is_itself(small: SmallArchive, here: dict[str, str]) -> None:
    small.recording(3, SHORT)
    assert run(here, "deletions", "hold", SHORT, "--why", "case 17").startswith(f"{SHORT} is on hold")


def test_a_decision_names_the_whole_id_that_it_took(small: SmallArchive, here: dict[str, str]) -> None:
    assert run(here, "deletions", "hold", "8b1d00", "--why", "case 17").startswith(f"{OTHER} is on hold")
    assert OTHER in run(here, "deletions", "holds") and (small.root / small.folder(3, OTHER) / "decisions").is_dir()
    released = run(here, "deletions", "release", "8b1d00", "--why", "closed", "--json")
    assert json.loads(released)["recording_id"] == OTHER
    assert OTHER in run(here, "deletions", "approve", "8b1d00", "--why", "heard", status=1), "it has no findings"


def test_an_erasure_wants_the_whole_id(small: SmallArchive, here: dict[str, str]) -> None:
    for options in (["--reason", "x", "--yes"], ["--why", "x", "--yes"], ["--sign"]):
        said = run(here | {"CALLVAULT_SEAL_KEY": key_in(small.root.parent)}, "erase", "8b1d00", *options, status=2)
        assert said.startswith(f"callvault: ID: 8b1d00 is only the beginning of {OTHER}; what is erased"), said
    assert (small.root / layout.commit_key(small.folder(3, OTHER))).exists()


def key_in(folder: Path) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    (folder / "key").write_bytes(key)
    return str(folder / "key")


def test_a_dead_letter_is_accepted_by_the_beginning_of_its_recording(here: dict[str, str], redis: Any) -> None:
    for number in (1, 2):
        job_id = f"archive_recording:{number}abcdef0-0000-4000-8000-000000000000"
        letter = DeadLetter(job_id, "archive_recording", {}, "arq:queue", "rejected", "no", "2026-11-25T10:00:00Z", [])
        redis.hset(DEAD_LETTERS, job_id, msgspec.json.encode(letter))
    said = run(here | {"TELNYX_API_KEY": "KEY"}, "dead-letters", "accept", "1abcdef", "--why", "x", status=1)
    assert "1abcdef0-0000-4000-8000-000000000000" in said or "Telnyx" in said


def test_a_decision_without_its_catalogue_is_taken_and_says_that_the_id_was_not_looked_up(
    here: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("no folder")
    done = run_callvault(["deletions", "hold", OTHER[:-1], "--why", "case 17"], here)
    assert (
        f"callvault: ID: {OTHER[:-1]} is taken as a whole ID, because the catalogue cannot be searched: " in done.stderr
    )
    assert "Traceback" not in done.stderr
