"""A signal that arrives before the server handles signals ends the process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lab.processes import CLEAN, ROOT, free_port
from lab.webhooks import Signer

EARLY = """
import os, signal, sys, uvicorn, uvicorn.supervisors
def early(method):
    def run(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return method(*arguments, **options)
    return run
uvicorn.run = early(uvicorn.run)
uvicorn.Server.run = early(uvicorn.Server.run)
uvicorn.supervisors.Multiprocess.run = early(uvicorn.supervisors.Multiprocess.run)
sys.argv[1:] = os.environ["COMMAND"].split()
from cli.main import main
main()
"""


@pytest.mark.parametrize("command", ["serve", "serve --processes 2", "sandbox"])
def test_a_signal_that_comes_before_the_server_ends_the_process(command: str, redis_url: str) -> None:
    needed = {
        "REDIS_URL": redis_url,
        "TELNYX_PUBLIC_KEY": Signer().public_key,
        "COMMAND": f"{command} --port {free_port()}",
    }
    ran = subprocess.run(
        [sys.executable, "-c", EARLY],
        env=os.environ | CLEAN | needed,
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr.count(b"Traceback")) == (0, 0), ran.stderr.decode()
