"""Only this user can read the data folder, including files that an earlier version left readable."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from archive.marks import ProvenMarks
from archive.records import ArchivedObject, Proof
from cli.resume import StateFile
from lab.processes import callvault, run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.stores import make_archive
from process.private import private_file, private_folder
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.rows import Row


@pytest.fixture(autouse=True)
def open_hand() -> Iterator[None]:
    """A umask that leaves every file readable."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_reads_what_lies_in_the_data_folder(sandbox: RunningSandbox, tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_archive(tmp_path / "archive")
    environment = sandbox.environment | {
        "CALLVAULT_ARCHIVE_URL": (tmp_path / "archive").as_uri(),
        "CALLVAULT_DATA": str(data),
    }
    sandbox.world.add_recording(seconds=0.1)
    with callvault(["up", "--port", "0"], environment, "receiver"):
        wait_for(lambda: list((tmp_path / "archive").glob("recordings/*/*/*/*/recording.json")), 40)
        assert run_callvault(["find"], environment).returncode == 0
        assert run_callvault(["verify", "--deep"], environment).returncode == 0
        files = {path.relative_to(data) for path in data.rglob("*") if path.is_file()}
        assert Path("catalogue.sqlite") in files and any("appendonly" in str(path) for path in files)
        open_ones = {str(path): oct(mode(data / path)) for path in files if mode(data / path) & 0o077}
        assert open_ones == {}
        assert mode(data) == 0o700 and mode(data / "valkey") == 0o700


def test_a_world_readable_catalogue_becomes_private_with_its_sidecar_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    catalogue = Catalogue(data / "catalogue.sqlite")
    with catalogue.writing():
        catalogue.put_rows([Row(recording_id="r", day="2026-11-25", key="k")])
    (data / "catalogue.sqlite.unusable").write_bytes(b"numbers and transcripts")
    for path in (data, *data.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    again = Catalogue(data / "catalogue.sqlite")
    assert mode(data) == 0o700
    names = {f"catalogue.sqlite{suffix}" for suffix in ("", "-shm", "-wal", ".unusable")}
    assert {path.name: mode(path) for path in data.iterdir()} == dict.fromkeys(names, 0o600)
    again.empty()
    assert mode(data / "catalogue.sqlite") == 0o600
    again.close()
    catalogue.close()


def test_states_and_marks_are_closed(tmp_path: Path) -> None:
    class State(msgspec.Struct):
        n: int

    data = tmp_path / "data"
    file = StateFile(data, "verify", "x", State(0), 1, archive_id="a", start_over="")
    file.save(State(1))
    marks = ProvenMarks(data, "a")
    marks.remember(ArchivedObject("key", 1, "0" * 64, "audio/wav", Proof("read-back", "sha256", "0" * 64, "v")))
    assert {mode(path) for path in data.iterdir()} == {0o600}
    marks.close()
    (path,) = data.glob("verify-marks-*.sqlite")
    path.chmod(0o644)
    ProvenMarks(data, "a").close()
    file.save(State(2))
    assert {mode(path) for path in data.iterdir()} == {0o600} and mode(data) == 0o700


def test_a_folder_that_is_shared_on_purpose_stays_so(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    private_folder(shared)
    private_file(shared / "file")
    assert (mode(shared), mode(shared / "file")) == (0o1777, 0o600)
    strict = tmp_path / "strict"
    strict.mkdir(mode=0o500)
    private_folder(strict)
    assert mode(strict) == 0o500, "nothing is opened"
