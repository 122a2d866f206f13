"""The commands as a person types them."""

from __future__ import annotations

import json
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.processes import CALLVAULT, Process, callvault, free_port, receiver, run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.stores import make_archive


def test_demo_does_the_main_job_and_reports_it_in_json(tmp_path: Path) -> None:
    done = run_callvault(["demo", "--json", "--recordings", "12", "--data", str(tmp_path)], seconds=100)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    expected = {"recordings": 12, "archived": 12, "verified": 12, "deleted": 12, "transcriptions": 4}
    assert {name: report[name] for name in expected} == expected
    assert (report["duplicates_ignored"], report["mismatches"]) == (1, [])
    assert report["archive_url"] == (tmp_path / "archive").as_uri()
    assert report["bytes"] == sum(p.stat().st_size for p in tmp_path.glob("archive/recordings/*/*/*/*/audio.*"))


def test_demo_takes_the_users_own_audio(tmp_path: Path) -> None:
    from sandbox.audio import make_mp3, make_wav

    folder = tmp_path / "mine"
    folder.mkdir()
    for name, audio in (("a.wav", make_wav("mine", 3, 2)), ("b.mp3", make_mp3("mine", 3))):
        (folder / name).write_bytes(b"".join(audio.read(0, audio.size)))
    (folder / "notes.txt").write_text("not audio")
    arguments = ["demo", "--json", "--recordings", "4", "--audio", str(folder), "--data", str(tmp_path / "data")]
    done = run_callvault(arguments, seconds=100)
    assert done.returncode == 0, done.stderr
    kept = {p.read_bytes() for p in (tmp_path / "data").glob("archive/recordings/*/*/*/*/audio.*")}
    assert kept == {p.read_bytes() for p in folder.glob("*.[wm]*")}


@pytest.mark.parametrize("command", ["demo", "sandbox"])
@pytest.mark.parametrize("name", [None, "notes.txt"])
def test_a_folder_without_audio_is_refused(command: str, name: str | None, tmp_path: Path) -> None:
    (folder := tmp_path / "mine").mkdir()
    if name is not None:
        (folder / name).write_text("not audio")
    done = run_callvault([command, "--audio", str(folder), *(["--data", str(tmp_path / "d")] * (command == "demo"))])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert done.stderr.startswith(f"callvault: --audio: {folder} has no .wav or .mp3 file; put some there")
    assert not (tmp_path / "d").exists()


def test_up_runs_everything_mends_what_dies_and_ends_with_0(tmp_path: Path) -> None:
    port = free_port()
    environment = {"CALLVAULT_DATA": str(tmp_path), "CALLVAULT_LOG_LEVEL": "info"}
    with Process([*CALLVAULT, "up", "--sandbox", "--port", str(port)], environment) as up:
        up.wait_for_output("receiver  http://")
        url = f"http://127.0.0.1:{port}"
        assert httpx.get(url + "/readyz", trust_env=False).status_code == 200

        second = run_callvault(["up", "--sandbox", "--port", str(free_port())], environment)
        assert second.returncode == 1
        assert "is in use by another callvault" in second.stderr
        assert second.stderr.count("\n") == 1

        control = up.output.split("/calls")[0].rsplit(" ", 1)[1]
        body = {"count": 2, "webhook_url": url + "/webhooks/telnyx"}

        def archived(one: str) -> list[Path]:
            return list(tmp_path.glob(f"archive/recordings/*/*/*/{one}/recording.json"))

        def calls_are_archived() -> None:
            answer = httpx.post(control + "/calls", json=body, trust_env=False).raise_for_status()
            for one in answer.json()["recordings"]:  # the sandbox's world starts with others
                wait_for(partial(archived, one), 40)

        calls_are_archived()

        worker = wait_for(lambda: child_of(up.pid, "worker"))
        receiver = wait_for(lambda: child_of(up.pid, "serve"))
        niceness = partial(os.getpriority, os.PRIO_PROCESS)
        assert (niceness(worker), niceness(receiver)) == (niceness(0) + 5, niceness(0))
        if (group := Path(f"/proc/{worker}/autogroup")).exists():  # where the kernel groups sessions
            assert group.read_text().split()[1:] == ["nice", "5"]
        os.kill(worker, signal.SIGKILL)
        up.wait_for_output("worker exited with status -9; restarting it")
        valkey = wait_for(lambda: child_of(up.pid, "valkey"))
        os.kill(valkey, signal.SIGKILL)
        up.wait_for_output("valkey exited with status -9; restarting it")
        wait_for(lambda: child_of(up.pid, "worker"))
        calls_are_archived()
        assert up.stop() == 0
    with callvault(["up", "--sandbox", "--port", str(port)], environment, "receiver  http://") as again:
        assert again.stop(signal.SIGINT) == 0


def child_of(parent: int, what: str) -> int | None:
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if what in Path(f"/proc/{child}/cmdline").read_text():
            return int(child)
    return None


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    environment = {"CALLVAULT_DATA": str(tmp_path)}
    with Process([*CALLVAULT, "up", "--sandbox", "--port", str(free_port())], environment) as up:
        up.wait_for_output("receiver  http://")
        children = Path(f"/proc/{up.pid}/task/{up.pid}/children").read_text().split()
        assert len(children) == 4
        up.stop(signal.SIGKILL)
        wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 30)


def test_serve_and_worker_share_an_embedded_redis(tmp_path: Path) -> None:
    make_archive(tmp_path / "archive")
    environment = {
        "CALLVAULT_DATA": str(tmp_path),
        "TELNYX_PUBLIC_KEY": "A" * 43 + "=",
        "TELNYX_API_KEY": "KEY",
        "TELNYX_BASE_URL": "http://127.0.0.1:1/v2",
    }
    with receiver(environment) as (client, serve), callvault(["worker"], environment, "worker ready") as worker:
        assert client.get("/readyz").status_code == 200
        assert (worker.stop(), serve.stop()) == (0, 0)


def test_several_processes_work_one_queue(tmp_path: Path, redis_url: str) -> None:
    make_archive(tmp_path / "archive")
    environment = {
        "CALLVAULT_DATA": str(tmp_path),
        "REDIS_URL": redis_url,
        "TELNYX_API_KEY": "KEY",
        "TELNYX_BASE_URL": "http://127.0.0.1:1/v2",
    }
    with callvault(["worker", "--processes", "2"], environment, "worker ready") as parent:
        wait_for(lambda: parent.output.count("worker ready") == 2)
        assert parent.stop() == 0


def test_several_processes_serve_one_port_and_use_the_data_folder_of_the_command_line(
    tmp_path: Path, redis_url: str
) -> None:
    make_archive(tmp_path / "archive")
    environment = {
        "CALLVAULT_DATA": str(tmp_path / "other"),
        "CALLVAULT_ARCHIVE_URL": (tmp_path / "archive").as_uri(),
        "REDIS_URL": redis_url,
        "TELNYX_PUBLIC_KEY": "A" * 43 + "=",
    }
    port, ready = free_port(), "Application startup complete"
    words = ["serve", "--processes", "2", "--port", str(port), "--data", str(tmp_path / "own")]
    with callvault(words, environment, ready) as parent:
        wait_for(lambda: parent.output.count(ready) == 2)
        assert httpx.get(f"http://127.0.0.1:{port}/ops", trust_env=False, timeout=30).status_code == 200
        assert parent.stop() == 0
    assert (tmp_path / "own" / "ops.key").exists()
    assert not (tmp_path / "other").exists()


def test_status_needs_no_api_key(tmp_path: Path, redis_url: str) -> None:
    make_archive(tmp_path / "archive")
    done = run_callvault(["status"], {"CALLVAULT_DATA": str(tmp_path), "REDIS_URL": redis_url})
    assert (done.returncode, done.stderr) == (0, "")
    assert "main queue" in done.stdout and "dead letters  none" in done.stdout


def test_deletion_is_paused_and_resumed_without_an_api_key(tmp_path: Path, redis_url: str) -> None:
    make_archive(tmp_path / "archive")
    environment = {"CALLVAULT_DATA": str(tmp_path), "REDIS_URL": redis_url}
    for command in ("pause", "resume"):
        arguments = ["deletions", command, *(["--why", "the bucket moves"] if command == "pause" else [])]
        done = run_callvault(arguments, environment)
        assert (done.returncode, done.stderr) == (0, ""), command
        status = json.loads(run_callvault(["status", "--json"], environment).stdout)
        assert (status["deletions"]["paused"] is not None) == (command == "pause")


@pytest.mark.parametrize(
    "command",
    [
        *("status", "verify", "verify --seals", "find", "get ID", "index", "logs list", "dead-letters list"),
        *("deletions list", "deletions pause", "seal --due", "backfill --since 1d", "erase ID --reason x --yes"),
    ],
)
def test_where_no_service_has_run_nothing_is_reported_as_good_and_nothing_is_made(command: str, tmp_path: Path) -> None:
    environment = {"CALLVAULT_DATA": str(tmp_path / "elsewhere"), "TELNYX_API_KEY": "KEY"}
    done = run_callvault(command.split(), environment)
    assert done.returncode == 1
    assert f"data folder {tmp_path / 'elsewhere'} does not exist; set " in done.stderr
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert not (tmp_path / "elsewhere").exists()


def test_an_unused_data_folder_gets_no_redis_and_is_not_reported_as_good(tmp_path: Path) -> None:
    """A catalogue alone does not make a folder the data folder of a service."""
    done = run_callvault(["deletions", "list"], {"CALLVAULT_DATA": str(tmp_path), "TELNYX_API_KEY": "KEY"})
    assert (done.returncode, done.stdout, [*tmp_path.iterdir()]) == (1, "", [])
    assert f"data folder {tmp_path} holds no service; set CALLVAULT_DATA" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "text"),
    [
        (["serve"], {}, 2, "TELNYX_PUBLIC_KEY is not set"),
        (["worker"], {"REDIS_URL": "redis://127.0.0.1:1"}, 2, "TELNYX_API_KEY: not set"),
        (["up"], {}, 2, "TELNYX_API_KEY: not set"),
        (["serve"], {"CALLVAULT_DELETE_AFTER": "soon"}, 2, "CALLVAULT_DELETE_AFTER: cannot use 'soon'"),
        (["demo", "--recordings", "0"], {}, 2, "--recordings: expected at least 1"),
        (["nothing"], {}, 2, "unknown command nothing; see `callvault --help`"),
        (
            ["worker"],
            {"TELNYX_API_KEY": "K", "CALLVAULT_ARCHIVE_URL": "file:///proc/x"},
            1,
            "is not a Callvault archive",
        ),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str], environment: dict[str, str], status: int, text: str, tmp_path: Path
) -> None:
    done = run_callvault(arguments, {"CALLVAULT_DATA": str(tmp_path)} | environment)
    assert done.returncode == status, done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_sandbox_prints_its_address_as_one_json_line() -> None:
    with callvault(["sandbox", "--port", "0", "--json"], {}) as sandbox:
        facts = json.loads(wait_for(lambda: sandbox.output))
        assert set(facts) == {"base_url", "api_key", "public_key", "control_url", "sample_media_url"}
        headers = {"Authorization": f"Bearer {facts['api_key']}"}
        listed = httpx.get(f"{facts['base_url']}/recordings", headers=headers, trust_env=False).json()
        assert listed["meta"]["total_results"] == len(listed["data"]) > 0
        assert httpx.get(facts["sample_media_url"], trust_env=False).headers["content-type"] == "audio/mpeg"
        time.sleep(0.1)
        assert sandbox.output.count("\n") == 1
        assert sandbox.stop() == 0


def test_a_backfill_that_queued_nothing_waits_for_no_job_of_the_clockwork(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any
) -> None:
    redis.zadd("arq:queue:bulk", {"seal_day:2026-11-25": 0})  # and no worker runs
    done = run_callvault(["backfill", "--since", "1d"], environment, seconds=60)
    assert done.returncode == 0, done.stderr
