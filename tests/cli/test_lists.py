"""Commands that list: `--limit`, how many more there are, and local times."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.supervisor import CALLVAULT
from lab.processes import CLEAN, ROOT, run_callvault
from tests.seals.small import SmallArchive
from workers.engine.attempts import DeadLetter
from workers.keys import DEAD_LETTERS, DELETIONS_DUE


@pytest.fixture
def here(redis_url: str, redis: Any, tmp_path: Path) -> dict[str, str]:
    """A service with eight recordings, three dead letters, three scheduled deletions and three holds."""
    small = SmallArchive(tmp_path / "archive", {"id": "ab" * 16})
    for number in range(3):
        redis.zadd(DELETIONS_DUE, {f"recordings/2026/11/25/one-{number}/": number})
        letter = DeadLetter(
            f"job-{number}", "archive_recording", {}, "arq:queue", "rejected", "no", f"2026-11-2{number}T22:30:00Z", []
        )
        redis.hset(DEAD_LETTERS, letter.job_id, msgspec.json.encode(letter))
    environment = {"REDIS_URL": redis_url, "CALLVAULT_ARCHIVE_URL": small.root.as_uri(), "TELNYX_API_KEY": "KEY"}
    environment |= {"TELNYX_BASE_URL": "http://127.0.0.1:9/v2", "CALLVAULT_DATA": str(tmp_path / "data")}
    for number in range(3):
        arguments = ["deletions", "hold", "--connection", f"17{number}", "--why", "case 17"]
        assert run_callvault(arguments, environment).returncode == 0
    return environment


def output(here: dict[str, str], *words: str) -> str:
    done = run_callvault([*words], here)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "command, rows, total, last, noun",
    [
        ("find", None, 8, "2 of 8 recordings; 6 more, use --limit 0 for all", "8 recordings"),
        (
            "dead-letters list",
            "dead_letters",
            3,
            "2 of 3 dead letters; 1 more, use --limit 0 for all",
            "3 dead letters",
        ),
        ("deletions holds", "holds", 3, "2 of 3 active holds; 1 more, use --limit 0 for all", "3 active holds"),
        (
            "deletions list",
            "first",
            3,
            "3 originals scheduled (1 more, use --limit 0 for all); deletion: ",
            "3 originals",
        ),
    ],
)
def test_a_list_stops_at_its_limit_and_says_how_many_more_there_are(
    command: str, rows: str | None, total: int, last: str, noun: str, here: dict[str, str]
) -> None:
    words = command.split()
    limited = output(here, *words, "--limit", "2").splitlines()
    assert limited[-1].startswith(last), limited
    for whole in ([], ["--limit", "0"]):
        line = output(here, *words, *whole).splitlines()[-1]
        assert line.startswith(noun) and "more" not in line
    printed = output(here, *words, "--json", "--limit", "2")
    if rows is None:
        assert printed.count("\n") == 2
        return
    report = json.loads(printed)
    assert (len(report[rows]), report["due" if command == "deletions list" else "count"]) == (2, total)


def test_a_limited_list_keeps_the_newest_dead_letters_and_shows_local_times(here: dict[str, str]) -> None:
    report = json.loads(output(here, "dead-letters", "list", "--json", "--limit", "1"))
    assert [(one["job_id"], one["died_at"]) for one in report["dead_letters"]] == [("job-2", "2026-11-22T22:30:00Z")]
    kolkata = here | {"TZ": "Asia/Kolkata"}
    shown = output(kolkata, "dead-letters", "list", "--limit", "1")
    assert "failed (UTC+05:30)\n" in shown and "failed 2026-11-23 04:00:00\n" in shown
    shown = output(kolkata, "dead-letters", "list", "--limit", "1", "--utc")
    assert "failed (UTC)\n" in shown and "failed 2026-11-22 22:30:00\n" in shown


def test_a_terminal_gets_fifty_rows_and_a_pipe_gets_all(here: dict[str, str], redis: Any) -> None:
    for number in range(60):
        letter = DeadLetter(
            f"job-{number}", "archive_recording", {}, "arq:queue", "rejected", "no", "2026-11-25T10:00:00Z", []
        )
        redis.hset(DEAD_LETTERS, letter.job_id, msgspec.json.encode(letter))
    assert output(here, "dead-letters", "list").endswith("\n60 dead letters\n")
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        process = subprocess.Popen(
            [*CALLVAULT, "dead-letters", "list"], stdout=theirs, env=CLEAN | here, cwd=ROOT, stderr=subprocess.DEVNULL
        )
        os.close(theirs)
        shown = b""
        try:
            while chunk := screen.read(65536):
                shown += chunk
        except OSError:  # Linux reports the end of the other side as an error
            pass
        assert process.wait(30) == 0
    assert shown.decode().splitlines()[-1] == "50 of 60 dead letters; 10 more, use --limit 0 for all"


def test_an_error_in_a_list_gives_a_terminal_no_orders(here: dict[str, str], redis: Any) -> None:
    letter = DeadLetter(
        "job-x", "archive_recording", {}, "arq:queue", "rejected", "no\x1b[2J\rok", "2026-11-25T10:00:00Z", []
    )
    redis.hset(DEAD_LETTERS, letter.job_id, msgspec.json.encode(letter))
    printed = output(here, "dead-letters", "list")
    assert "no [2J ok" in printed and {c for c in printed if not c.isprintable()} == {"\n"}, printed
