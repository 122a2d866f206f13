"""Commands find the sandbox and the settings of a `callvault up` that runs with their data folder."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cli.running_up import NotPrivate, RunningUp, data_folder_here, find_up, published
from cli.supervisor import CALLVAULT
from lab.processes import CLEAN, Process, callvault, free_port, run_callvault

UP = RunningUp(1, True, {"TELNYX_API_KEY": "KEY", "TELNYX_BASE_URL": "http://127.0.0.1:1/v2"}, [])


def run_in(folder: Path, *words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, without any setting but these."""
    return run_callvault([*words], environment, cwd=folder)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("up")
    with Process(["callvault", "up", "--sandbox", "--port", str(free_port())], cwd=folder) as process:
        process.wait_for_output("receiver  http://")
        yield process


def folder_of(up: Process) -> Path:
    return Path(f"/proc/{up.pid}/cwd").readlink()


def settings_of(*words: str, environment: dict[str, str]) -> tuple[dict[str, Any], str]:
    """The settings that a command would use, by name, and what it says on standard error."""
    done = run_callvault(["config", "--json", *words], environment)
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)["settings"]}, done.stderr


def test_a_command_in_the_same_folder_uses_the_sandbox_without_exports(up: Process) -> None:
    folder = folder_of(up)
    listed = run_in(folder, "telnyx", "recordings", "list")
    assert len(listed.stdout.splitlines()) == 6, listed.stderr
    which = f"the `callvault up` that runs with data folder callvault-data (process {up.pid})"
    assert listed.stderr == f"callvault: using the sandbox of {which}\n"
    assert run_in(folder, "status", "--json").stderr == listed.stderr
    path = folder / "callvault-data" / "running.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_command_elsewhere_uses_it_by_its_data_folder_or_by_the_lines_to_paste(up: Process, tmp_path: Path) -> None:
    data = folder_of(up) / "callvault-data"
    found, said = settings_of("--data", str(data), environment={})
    assert found["TELNYX_BASE_URL"]["source"] == found["TELNYX_API_KEY"]["source"] == "callvault up"
    assert said.count("\n") == 1 and str(data) in said
    lines = re.findall(r"^  (export \w+=.*)$", up.output, re.MULTILINE)
    assert [line.partition("=")[0].removeprefix("export ") for line in lines] == [
        "CALLVAULT_DATA", "TELNYX_BASE_URL", "TELNYX_API_KEY", "TELNYX_PUBLIC_KEY",
    ]  # fmt: skip
    script = "\n".join([*lines, f"{sys.executable} -P -m cli.main telnyx recordings list"])
    done = subprocess.run(
        ["sh", "-ec", script], cwd=tmp_path, env=CLEAN, capture_output=True, text=True, timeout=100, check=False
    )
    assert (len(done.stdout.splitlines()), done.stderr) == (6, ""), "all is explicit, so nothing is said"


@pytest.mark.parametrize(
    "name, value",
    [
        ("TELNYX_API_KEY", "KEYofaccount"),
        ("TELNYX_BASE_URL", "https://api.telnyx.com/v2"),
        ("CALLVAULT_ARCHIVE_URL", "s3://bucket/calls"),
        ("REDIS_URL", "redis://redis.example.com"),
    ],
)
def test_an_account_redis_or_archive_of_the_environment_excludes_all_others(name: str, value: str, up: Process) -> None:
    """A real archive with a sandbox for Telnyx would be the worst of both."""
    here = {"CALLVAULT_DATA": str(folder_of(up) / "callvault-data"), name: value}
    found, said = settings_of(environment=here)
    assert {row["source"] for row in found.values()} == {"default", "environment"}
    assert said.startswith("callvault: not using the settings of the `callvault up`")
    assert said.endswith(f"because {name} is set here to something else\n") and said.count("\n") == 1


def test_any_other_setting_of_the_environment_wins_alone(up: Process) -> None:
    here = {"CALLVAULT_DATA": str(folder_of(up) / "callvault-data"), "CALLVAULT_PROOF": "read-back"}
    found, _ = settings_of(environment=here)
    assert (found["CALLVAULT_PROOF"]["source"], found["CALLVAULT_PROOF"]["value"]) == ("environment", "read-back")
    assert found["TELNYX_API_KEY"]["source"] == "callvault up"


def test_a_command_in_the_same_folder_finds_another_data_folder(tmp_path: Path) -> None:
    (here := tmp_path / "here").mkdir()
    words = ["callvault", "up", "--sandbox", "--port", str(free_port()), "--data", str(tmp_path / "data")]
    with Process(words, cwd=here) as one:
        one.wait_for_output("receiver  http://")
        listed = run_in(here, "telnyx", "recordings", "list")
        assert len(listed.stdout.splitlines()) == 6 and str(tmp_path / "data") in listed.stderr, listed.stderr
        assert str(tmp_path / "data") in run_in(here, "status").stdout
        rows = json.loads(run_in(here, "config", "--json").stdout)["settings"]
        (data,) = [row for row in rows if row["name"] == "CALLVAULT_DATA"]
        assert (data["value"], data["source"]) == (str(tmp_path / "data"), "callvault up")
        refused = run_in(here, "status", environment={"TELNYX_API_KEY": "KEYofaccount"})
        assert refused.returncode == 1 and "because TELNYX_API_KEY is set here" in refused.stderr
        assert "data folder callvault-data does not exist" in refused.stderr
        assert run_in(tmp_path, "telnyx", "recordings", "list").returncode == 2, "another folder"
        (here / "callvault-data").mkdir()
        refused = run_in(here, "status")
        assert refused.returncode == 1 and "data folder callvault-data holds no service" in refused.stderr
        (here / "callvault-data").rmdir()
        one.stop(signal.SIGKILL)
        refused = run_in(here, "status")
        assert refused.returncode == 1 and "data folder callvault-data does not exist" in refused.stderr


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_up_that_has_ended_is_not_used(how: int, tmp_path: Path) -> None:
    here = {"CALLVAULT_DATA": str(tmp_path)}
    with callvault(["up", "--sandbox", "--port", "0"], here, "receiver  http://") as one:
        assert settings_of(environment=here)[0]["TELNYX_API_KEY"]["source"] == "callvault up"
        one.stop(how)
    assert (tmp_path / "running.json").exists() == (how == signal.SIGKILL)
    found, said = settings_of(environment=here)
    assert (found["TELNYX_API_KEY"]["value"], said) == (None, "")
    with callvault(["up", "--sandbox", "--port", "0"], here, "receiver  http://") as again:
        assert settings_of(environment=here)[0]["TELNYX_API_KEY"]["source"] == "callvault up"
        again.stop()


def test_the_secrets_of_a_real_account_are_not_written(environment: dict[str, str], tmp_path: Path) -> None:
    here = environment | {"CALLVAULT_TIMESTAMP_URL": "https://callvault:hush@tsa.example.com"}
    with callvault(["up", "--port", "0"], here, "receiver  http://") as one:
        path = tmp_path / "data" / "running.json"
        told = json.loads(path.read_text())
        assert told["left_out"] == ["TELNYX_API_KEY", "CALLVAULT_TIMESTAMP_URL", "REDIS_URL"]
        for secret in (here["TELNYX_API_KEY"], here["REDIS_URL"], "hush"):
            assert secret not in path.read_text()
        found, said = settings_of(environment={"CALLVAULT_DATA": here["CALLVAULT_DATA"]})
        assert found["CALLVAULT_ARCHIVE_URL"]["source"] == "callvault up"
        assert found["TELNYX_API_KEY"]["value"] is found["REDIS_URL"]["value"] is None
        assert "using settings of" in said and "REDIS_URL is not set here" in said and said.count("\n") == 2
        assert settings_of(environment=here)[1] == ""
        one.stop()


def test_up_prints_its_addresses_as_one_document(tmp_path: Path) -> None:
    port = free_port()
    words = [*CALLVAULT, "up", "--sandbox", "--json", "--port", str(port), "--data", str(tmp_path)]
    with subprocess.Popen(
        words, env=CLEAN, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            report = json.loads(process.stdout.readline())
            assert report["webhook_url"] == f"http://127.0.0.1:{port}/webhooks/telnyx"
            assert report["data_folder"] == str(tmp_path) and report["sandbox"]["control_url"].endswith("/_sandbox")
            process.terminate()
            assert (process.stdout.read(), process.wait(60)) == ("", 0)
        finally:
            process.kill()


@pytest.mark.parametrize("name, mode", [("running.json", 0o640), ("running.json", 0o604), (".", 0o770), (".", 0o777)])
def test_a_file_that_other_users_could_have_changed_is_not_used(name: str, mode: int, tmp_path: Path) -> None:
    with published(UP, tmp_path):
        tmp_path.chmod(0o700)
        assert find_up(tmp_path) == UP
        (tmp_path / name).chmod(mode)
        with pytest.raises(NotPrivate, match=r"running\.json is not used, because other users could have changed it"):
            find_up(tmp_path)
        tmp_path.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("name", ["data", "data/running.json", "link"])
def test_a_file_or_folder_of_another_user_is_not_used(name: str, tmp_path: Path) -> None:
    (folder := tmp_path / "data").mkdir(mode=0o700)
    (link := tmp_path / "link").symlink_to("data")
    with published(UP, folder):
        assert find_up(link) == UP
        os.chown(tmp_path / name, 12345, 12345, follow_symlinks=False)
        with pytest.raises(NotPrivate, match="belongs to another user"):
            find_up(link)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_note_of_another_user_leads_to_no_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (folder := tmp_path / "data").mkdir(mode=0o700)
    with published(UP, folder):
        assert data_folder_here() == folder
        (note,) = tmp_path.glob("callvault-up-*")
        os.chown(note, 12345, 12345)
        assert data_folder_here() is None
    assert data_folder_here() is None and not note.exists()


def test_a_link_or_a_file_that_cannot_be_read_is_not_used(tmp_path: Path) -> None:
    (folder := tmp_path / "one").mkdir(mode=0o700)
    (other := tmp_path / "two").mkdir(mode=0o700)
    with published(UP, folder):
        (other / "running.json").symlink_to(folder / "running.json")
        assert find_up(other) is None
        for text in ("", "[]", '{"process": 1}', '{"process": 1, "of a later version": true}'):
            (folder / "running.json").write_text(text)
            assert find_up(folder) is None
