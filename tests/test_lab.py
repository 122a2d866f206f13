"""The launcher of processes keeps its promises: a time limit, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.forks import SHARED, share_forks
from lab.processes import CLEAN, ROOT, Process, free_port, listens, run_callvault, run_each, serves_http, wait_for

_LAUNCHER = """
import json, os, signal
from lab.processes import Process
started = [Process(["sleep", "300"]), Process(["callvault", "sandbox", "--port", "0"])]
for process in started:
    process.start()
started[1].wait_for_output("http://")
print(json.dumps([process.pid for process in started]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("command", [["sleep", "60"], ["callvault", "sandbox", "--port", "0"]])
def test_a_process_past_its_limit_is_killed(command: list[str]) -> None:
    with Process(command, limit_seconds=0.5) as process:
        wait_for(lambda: process.has_ended, 20, "the end of the process")
        assert process.stop() == -signal.SIGKILL


def test_commands_of_one_process_answer_as_each_would_in_its_own(tmp_path: Path) -> None:
    commands = [["find", "--since", "soon"], ["--version"], ["status", "x"], ["config", "--json"], ["none-such"]]
    environment = {"CALLVAULT_DATA": str(tmp_path)}
    alone = [run_callvault(command, environment) for command in commands]
    assert [vars(one) for one in run_each(commands, environment)] == [vars(one) for one in alone]
    assert [one.returncode for one in alone] == [2, 0, 2, 0, 2]


@pytest.mark.parametrize("is_shared", [False, True], ids=["", "shared"])
def test_a_killed_launcher_leaves_no_process_behind(is_shared: bool) -> None:
    command = [sys.executable, "-c", _LAUNCHER]
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        if not is_shared:
            patch.delenv(SHARED, raising=False)
        elif SHARED not in os.environ:  # a whole run has what its processes share
            stack.callback(share_forks(CLEAN))
        environment = CLEAN | {name: value for name, value in os.environ.items() if name == SHARED}
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        started = json.loads(done.stdout)
        wait_for(lambda: not any(_runs(pid) for pid in started), 20, "the end of what it started")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_forked_parts_of_up_answer_and_end_with_it(how: int, tmp_path: Path) -> None:
    port = free_port()
    with Process(["callvault", "up", "--sandbox", "--port", str(port)], {"CALLVAULT_DATA": str(tmp_path)}) as up:
        up.wait_for_output("receiver  http://")
        (sandbox,) = {int(found) for found in re.findall(r"http://127\.0\.0\.1:(\d+)", up.output)} - {port}
        assert serves_http(port, "/readyz")
        assert listens(sandbox)
        up.stop(how)
    wait_for(lambda: not listens(port) and not listens(sandbox), 20, "the end of the parts")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
