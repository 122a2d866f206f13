"""The name of the user who runs a command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lab.processes import CLEAN, ROOT

_ASK = (
    "import os, sys; from text.user import user_name; sys.argv[1:] and os.setuid(int(sys.argv[1])); print(user_name())"
)


def name_of(*uid: str) -> str:
    environment = {k: v for k, v in CLEAN.items() if k not in ("LOGNAME", "USER", "LNAME", "USERNAME")}
    done = subprocess.run(
        [sys.executable, "-c", _ASK, *uid],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_a_name_is_named_by_number() -> None:
    """As in a container that runs as a user of the cluster's choice."""
    assert name_of("54321") == "user 54321"


def test_a_user_with_a_name_is_named_by_it() -> None:
    assert name_of() and not name_of().startswith("user ")
