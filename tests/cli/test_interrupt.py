"""Ctrl-C and SIGTERM end each command in time, with one sentence, the status of a shell and no half file."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from archive.ahead import ahead
from archive.stores.store import open_store
from cli.supervisor import CALLVAULT
from lab.processes import CLEAN, ROOT, callvault, free_port, run_callvault, wait_for
from lab.servers import HttpServer, RunningSandbox
from tests.seals.small import SmallArchive
from workers.export.folder import Folder
from workers.export.target import BundleFile, Piece

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


def sentence_of(output: str) -> str:
    """The last line; there is one sentence, and no stack trace."""
    assert "Traceback" not in output and "Error" not in output, output
    (said,) = [line for line in output.splitlines() if "interrupted" in line]
    assert output.splitlines()[-1] == said and said.startswith("callvault: interrupted: "), output
    return said


@pytest.fixture
def small(tmp_path: Path) -> SmallArchive:
    return SmallArchive(tmp_path / "archive", {"id": "ab" * 16})


@pytest.fixture
def here(small: SmallArchive, redis_url: str, tmp_path: Path) -> dict[str, str]:
    environment = {"REDIS_URL": redis_url, "CALLVAULT_ARCHIVE_URL": small.root.as_uri(), "TELNYX_API_KEY": "KEY"}
    return environment | {"TELNYX_BASE_URL": "http://127.0.0.1:9/v2", "CALLVAULT_DATA": str(tmp_path / "data")}


class Silent:
    """A Telnyx that never answers a request of some kinds; its lists are empty."""

    def __init__(self, *kinds: str) -> None:
        self.came: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.came.append(f"{self.command} {self.path}")
                if self.command in kinds:
                    time.sleep(60)
                    return
                body = b'{"data": [], "meta": {"total_pages": 0, "total_results": 0, "page_number": 1}}'
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HttpServer(Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v2"

    def wait_for(self, kind: str) -> None:
        """Wait until a request of a kind has come."""
        wait_for(lambda: any(one.startswith(kind) for one in self.came), what=f"a {kind}")


@pytest.fixture
def silent() -> Iterator[Silent]:
    telnyx = Silent("GET", "POST")
    yield telnyx
    telnyx.server.stop()


def cpu_milliseconds(pid: int) -> float:
    """The processor time that a process has used, a measure of how far it is on any machine."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) * 1000 / os.sysconf("SC_CLK_TCK")


_IN_A_CALLBACK = """
import cli, signal, time, weakref
class Lock: pass
lock = Lock()
reference = weakref.ref(lock, lambda _: signal.raise_signal(signal.SIGINT))
del lock  # Python ignores what its callback raises
time.sleep(30)
"""


def test_ctrl_c_where_python_ignores_exceptions_ends_the_next_step() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IN_A_CALLBACK],
        env=CLEAN,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "callvault: interrupted: nothing was begun\n")


@pytest.mark.parametrize("milliseconds", [50, 80, 120, 180, 300])
@pytest.mark.parametrize("command", ["status", "verify --deep --seals", "backfill --since 7d", "demo", "up --sandbox"])
def test_ctrl_c_at_any_moment_of_the_start_ends_without_a_stack_trace(
    command: str, milliseconds: int, here: dict[str, str], silent: Silent, tmp_path: Path
) -> None:
    words = command.split()
    words += ["--data", str(tmp_path / "own")] if words[0] == "demo" else []
    words += ["--port", str(free_port())] if words[0] == "up" else []
    own_start = {"PYTHONUTF8": "1"}  # an interpreter of its own, which still imports
    with callvault(words, here | {"TELNYX_BASE_URL": silent.url} | own_start) as running:
        began = time.monotonic()
        while not running.has_ended and time.monotonic() - began < 2 and cpu_milliseconds(running.pid) < milliseconds:
            time.sleep(0.002)
        status = running.stop(signal.SIGINT, 40)
    assert "Traceback" not in running.output, running.output
    if status == 130:
        sentence_of(running.output)
    elif words[0] == "up" and status == 0:
        assert "stopping" in running.output, "it had begun to take the signal as the order to stop"
    else:
        assert words[0] in ("status", "verify") and status in (0, 1), f"it ended by itself: {status} {running.output}"


# `callvault` that gets a signal while Typer reads what was typed.
_WHILE_READING = """
import os, sys
from cli import main

class Interrupts(main._Commands):
    def parse_args(self, ctx, args):
        os.kill(os.getpid(), int(number))

number, *sys.argv[1:] = sys.argv[1:]
main.app.info.cls = Interrupts
main.main()
"""


@pytest.mark.parametrize("number", STATUS)
def test_a_signal_while_the_words_are_read_ends_a_command_with_a_sentence(number: signal.Signals) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _WHILE_READING, str(int(number)), "status"],
        env=CLEAN,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (STATUS[number], "")
    assert sentence_of(done.stderr) == "callvault: interrupted: nothing was begun"


@pytest.mark.parametrize("number", STATUS)
def test_a_backfill_says_what_it_has_compared_and_the_same_command_goes_on(
    number: signal.Signals, sandbox: RunningSandbox, environment: dict[str, str], tmp_path: Path
) -> None:
    one = sandbox.world.add_recording(seconds=0.2)
    with callvault(["backfill", "--since", "2d", "--json"], environment, "recordings 0/1") as running:
        assert running.stop(number, 20) == STATUS[number], running.output
    said = sentence_of(running.output)
    assert (
        said.endswith("run the same command again to continue. Workers finish the queued jobs")
        and "compared through" in said
    )
    report = json.loads(next(line for line in running.output.splitlines() if line.startswith("{")))
    assert (report["stopped"], report["queued"], report["done"]) == (True, 1, 0)
    with callvault(["worker"], environment, "worker ready"):
        again = run_callvault(["backfill", "--since", "2d", "--json"], environment)
    assert (again.returncode, "Resuming after" in again.stderr) == (0, True), again.stderr
    report = json.loads(again.stdout)
    assert (report["stopped"], report["done"], report["left"]) == (False, 1, 0), report
    assert run_callvault(["get", one.data["id"], "--out", str(tmp_path / "call.wav")], environment).returncode == 0


def test_a_backfill_that_waits_for_telnyx_ends_at_once(environment: dict[str, str], silent: Silent) -> None:
    with callvault(["backfill", "--since", "2d"], environment | {"TELNYX_BASE_URL": silent.url}) as running:
        silent.wait_for("GET")
        began = time.monotonic()
        assert running.stop(signal.SIGINT, 20) == 130, running.output
    assert time.monotonic() - began < 15
    assert sentence_of(running.output).startswith("callvault: interrupted: no day was compared to its end; ")


@pytest.mark.parametrize("number", STATUS)
def test_a_verification_says_how_far_it_came_and_resumes_there(
    number: signal.Signals, small: SmallArchive, here: dict[str, str], tmp_path: Path
) -> None:
    key = small.folder(5, "5-two") + "audio.wav"
    whole = (small.root / key).read_bytes()
    small.remove(small.folder(11, "11-one") + "audio.wav")
    (small.root / key).unlink()
    os.mkfifo(small.root / key)  # whoever opens it waits for a writer

    assert run_callvault(["deletions", "list"], here).returncode == 0, "now Redis belongs to the archive"
    with callvault(["verify", "--deep"], here) as running:
        states = (tmp_path / "data").glob
        wait_for(
            lambda: any('"recordings":6' in path.read_text() for path in states("verify-*.json")), what="three days"
        )
        began = time.monotonic()
        assert running.stop(number, 20) == STATUS[number], running.output
        assert time.monotonic() - began < 15
    said = sentence_of(running.output)
    assert said.startswith("callvault: interrupted: 1 problem found so far; verified through "), said
    assert said.endswith(": add --resume to the same command to continue")
    known = json.loads(run_callvault(["status", "--json"], here).stdout)["conditions"]
    assert any(one["kind"] == "damaged" and "11-one" in one["about"] for one in known), "what was found is known"
    (small.root / key).unlink()
    (small.root / key).write_bytes(whole)
    resumed = run_callvault(["verify", "--deep", "--resume", "--json"], here)
    report = json.loads(resumed.stdout)
    assert (report["recordings"], len(report["problems"]), report["earlier"] is None) == (8, 1, False)


def test_a_command_that_waits_for_an_answer_ends_at_ctrl_c(
    sandbox: RunningSandbox, environment: dict[str, str], tmp_path: Path
) -> None:
    """Also where asyncio would take the signal and wait for its next step."""
    wanted = tmp_path / "telnyx.toml"
    wanted.write_text(
        '[external_connections."Main"]\nexternal_sip_connection = "zoom"\noutbound = { channel_limit = 3 }\n'
    )
    for number in STATUS:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*CALLVAULT, "connections", "apply", str(wanted)],
            stdin=theirs, stdout=theirs, stderr=theirs, env=CLEAN | environment, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        shown = ""
        try:
            deadline = time.monotonic() + 60
            while "Make these changes?" not in shown and time.monotonic() < deadline and process.poll() is None:
                shown += os.read(ours, 65536).decode()
            assert "Make these changes?" in shown, shown
            time.sleep(0.3)
            process.send_signal(number)
            assert process.wait(20) == STATUS[number]
            while True:
                try:
                    shown += os.read(ours, 65536).decode()
                except OSError:
                    break
        finally:
            process.kill()
            process.wait()
            os.close(ours)
        assert sentence_of(shown.replace("\r\n", "\n").replace("[y/N]: ", "[y/N]: \n")).endswith(
            "interrupted: nothing was changed; run the same command again"
        )


@pytest.fixture
def half_silent() -> Iterator[Silent]:
    telnyx = Silent("POST")
    yield telnyx
    telnyx.server.stop()


@pytest.mark.parametrize("number", STATUS)
def test_changes_of_the_account_that_are_interrupted_say_which_may_be_made(
    number: signal.Signals, half_silent: Silent, tmp_path: Path
) -> None:
    wanted = tmp_path / "telnyx.toml"
    wanted.write_text(
        '[external_connections."Main"]\nexternal_sip_connection = "zoom"\noutbound = { channel_limit = 3 }\n'
    )
    environment = {
        "TELNYX_BASE_URL": half_silent.url,
        "TELNYX_API_KEY": "KEY",
        "CALLVAULT_DATA": str(tmp_path / "data"),
    }
    with callvault(["connections", "apply", str(wanted), "--yes"], environment, "1 difference") as running:
        half_silent.wait_for("POST")
        assert running.stop(number, 20) == STATUS[number], running.output
    assert sentence_of(running.output) == (
        "callvault: interrupted: 0 of 1 change made; create external_connections.Main may have been made, too. Run the same "
        "command again for the rest"
    )


def test_a_get_that_is_interrupted_leaves_no_file(small: SmallArchive, here: dict[str, str], tmp_path: Path) -> None:
    assert run_callvault(["find"], here).returncode == 0, "the catalogue knows all"
    key = small.folder(11, "11-one") + "audio.wav"
    (small.root / key).unlink()
    os.mkfifo(small.root / key)
    (folder := tmp_path / "out").mkdir()
    for number in STATUS:
        with callvault(["get", "11-one", "--out", str(folder / "call.wav")], here) as running:
            wait_for(lambda: any(folder.iterdir()), 30, "the temporary file")
            time.sleep(0.2)
            assert running.stop(number, 20) == STATUS[number], running.output
        assert sentence_of(running.output)
        assert [*folder.iterdir()] == []


@pytest.mark.parametrize("name", ["case-17", "case-17.zip"])
def test_an_export_that_is_interrupted_has_no_half_file_and_continues(
    name: str, small: SmallArchive, here: dict[str, str], tmp_path: Path
) -> None:
    assert run_callvault(["find"], here).returncode == 0, "the catalogue knows all"
    key = small.folder(5, "5-two") + "audio.wav"
    whole = (small.root / key).read_bytes()
    (small.root / key).unlink()
    os.mkfifo(small.root / key)
    out = tmp_path / name
    folder = tmp_path / f"{name}.unfinished" if name.endswith(".zip") else out
    with callvault(["export", "--all", "--out", str(out)], here) as running:
        half = "*5-two*.part" if folder == out else "bundle.zip"
        wait_for(lambda: any(folder.rglob(half)), 30, "the file that is being written")
        assert running.stop(signal.SIGINT, 20) == 130, running.output
    assert sentence_of(running.output).endswith(
        f"interrupted: {folder} keeps what was exported; run the same command again to continue"
    )
    assert not [*folder.rglob("*.part")] and (folder == out or not out.exists())
    (small.root / key).unlink()
    (small.root / key).write_bytes(whole)
    done = run_callvault(["export", "--all", "--out", str(out), "--json"], here)
    assert (done.returncode, json.loads(done.stdout)["recordings"]) == (0, 8), done.stderr


def test_whoever_stops_reading_ahead_waits_for_no_slow_store() -> None:
    slow = threading.Event()
    try:
        for number in ahead(range(3), lambda number: number == 0 or slow.wait(60)):
            assert number is True
            break  # as Ctrl-C between two results ends the loop
        assert not slow.is_set()
    finally:
        slow.set()


def test_an_export_that_has_ended_begins_no_more_files(tmp_path: Path) -> None:
    def put(name: str) -> None:
        folder.put(Piece(BundleFile(name, "", 1, ""), b"x"))

    with Folder(open_store(tmp_path.as_uri()), tmp_path / "out") as folder:
        put("proof/first.json")
    with pytest.raises(OSError, match="stopped"):  # by a thread that nobody waits for
        put("proof/second.json")
    assert [path.name for path in tmp_path.rglob("*.*")] == ["first.json"]


def test_a_demo_that_is_interrupted_stops_what_it_started_and_names_its_folder(tmp_path: Path) -> None:
    logs = tmp_path / "demo" / "logs"

    def parts() -> list[Path]:
        """The processes whose standard error is a log of the demo."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended
                found += [process] if (process / "fd" / "2").readlink().parent == logs else []
        return found

    with callvault(["demo", "--recordings", "600", "--data", str(tmp_path / "demo")], {}) as running:
        wait_for(
            lambda: any(tmp_path.glob("demo/archive/recordings/*/*/*/*/recording.json")), 90, "the first recording"
        )
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        started = {*parts(), *(Path("/proc", child) for child in children)}
        assert len(started) == 4, "three parts, and Redis"
        assert running.stop(signal.SIGINT, 60) == 130, running.output
        wait_for(lambda: not any(process.exists() for process in started), 30)
    said = sentence_of(running.output)
    assert f"its files stay in {tmp_path / 'demo'}. Run the command again" in said


def test_a_seal_by_hand_and_an_erasure_say_how_to_go_on(
    small: SmallArchive, here: dict[str, str], silent: Silent, redis: Any
) -> None:
    environment = here | {"TELNYX_BASE_URL": silent.url}
    assert run_callvault(["find"], here).returncode == 0
    cases = {
        "seal --due": "seals that are written stay; run the same command again for the rest",
        "erase 11-one --reason x --yes": "may have begun; run the same command again, and it continues where it stopped",
    }
    for command, stands in cases.items():
        silent.came.clear()
        with callvault(command.split(), environment) as running:
            silent.wait_for("GET")
            assert running.stop(signal.SIGINT, 20) == 130, running.output
        assert sentence_of(running.output).endswith(stands)
    assert (small.root / layout.commit_key(small.folder(11, "11-one"))).exists(), "Telnyx goes first"
