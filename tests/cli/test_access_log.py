"""What commands write into the access log, and how it is read from the command line."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from archive.access import encode_line, new_line
from lab.processes import callvault_here, run_callvault
from lab.servers import RunningSandbox
from telnyx_api.errors import NotFound
from tests.seals.small import SmallArchive, ago
from text.errors import UserError
from text.times import utc_now
from text.user import user_name
from workers.keys import ACCESS_WAITING

ARCHIVE_ID = "ab" * 16


@pytest.fixture
def small(tmp_path: Path) -> SmallArchive:
    return SmallArchive(tmp_path / "archive", {"id": ARCHIVE_ID})


def settings_of(small: SmallArchive, **more: str) -> dict[str, str]:
    data = small.root.parent / "data"
    return {"CALLVAULT_ARCHIVE_URL": small.root.as_uri(), "CALLVAULT_DATA": str(data)} | more


def in_archive(small: SmallArchive) -> list[dict[str, Any]]:
    paths = sorted((small.root / "access-log").rglob("*.jsonl"))
    return [json.loads(row) for path in paths for row in path.read_bytes().splitlines()]


def test_commands_that_read_and_change_name_the_user_and_the_machine(
    small: SmallArchive, redis_url: str, redis: Any, tmp_path: Path
) -> None:
    settings = settings_of(small, REDIS_URL=redis_url, TELNYX_API_KEY="KEY", TELNYX_BASE_URL="http://127.0.0.1:9/v2")
    for arguments, what, about in (
        (["find", "id:11-one", "--findings"], None, {}),
        (["find", "id:11-one"], "find", {"query": "id:11-one", "found": 1}),
        (["find", "--id", "11-one", "--json"], "find", {"query": "id:11-one", "found": 1}),
        (["get", "11-one", "--out", str(tmp_path / "call.wav")], "get", {"recordings": ["11-one"]}),
        (
            ["deletions", "hold", "11-one", "--why", "case 17", "--by", "Ann"],
            "hold",
            {"recordings": ["11-one"], "why": "case 17", "by": "Ann"},
        ),
        (["deletions", "release", "11-one", "--why", "closed"], "release", {"recordings": ["11-one"], "why": "closed"}),
        (["deletions", "pause", "--why", "moving"], "pause", {"recordings": [], "why": "moving"}),
        (["deletions", "resume"], "resume", {"recordings": []}),
        (["deletions", "holds"], None, {}),
        (["verify", "--seals"], None, {}),
    ):
        before = redis.llen(ACCESS_WAITING + ARCHIVE_ID)
        assert callvault_here(arguments, settings)[0] == 0, arguments
        rows = [json.loads(row) for row in redis.lrange(ACCESS_WAITING + ARCHIVE_ID, before, -1)]
        assert [row["what"] for row in rows] == ([what] if what else []), arguments
        for row in rows:
            assert (row["who"], row["how"], row["address"]) == (user_name(), "command", socket.gethostname())
            assert row.items() >= about.items(), arguments
    assert in_archive(small) == [], "Redis has the lines"


def test_a_change_that_fails_is_followed_by_a_line_that_says_so(
    small: SmallArchive, redis_url: str, redis: Any
) -> None:
    settings = settings_of(small, REDIS_URL=redis_url, TELNYX_API_KEY="KEY", TELNYX_BASE_URL="http://127.0.0.1:9/v2")
    done = run_callvault(["deletions", "release", "11-one", "--why", "x"], settings)
    assert done.returncode == 1
    asked, failed = (json.loads(row) for row in redis.lrange(ACCESS_WAITING + ARCHIVE_ID, 0, -1))
    assert (asked["what"], failed["what"], failed["of"]) == ("release", "failed", asked["id"])


def test_without_a_redis_a_command_writes_into_the_archive(small: SmallArchive, tmp_path: Path) -> None:
    assert callvault_here(["get", "11-one", "--out", str(tmp_path / "call.wav")], settings_of(small))[0] == 0
    (row,) = in_archive(small)
    assert (row["what"], row["recordings"]) == ("get", ["11-one"])


def test_an_archive_that_takes_no_objects_is_read_with_a_warning(small: SmallArchive, tmp_path: Path) -> None:
    """As an auditor whose credentials may only read; those could read the bucket without Callvault too."""
    (small.root / ".incoming").rename(small.root / "elsewhere")
    (small.root / ".incoming").write_text("a file where the folder of new objects was")
    out = tmp_path / "call.wav"
    done = run_callvault(["get", "11-one", "--out", str(out)], settings_of(small))
    assert (done.returncode, out.read_bytes()) == (0, b"audio of 11-one")
    (line,) = [line for line in done.stderr.splitlines() if "not in the access log" in line]
    assert line.startswith("callvault: this use is not in the access log: ")


def test_the_access_log_as_a_table_and_as_json_lines(small: SmallArchive) -> None:
    lines = [
        new_line("look", "Ann\x1b[2J\nEve", "token", "192.0.2.7", ["r1"]),
        new_line("play", "Ben", "api token", "192.0.2.8", ["r1"]),
        new_line("search", "Ben", "local", "127.0.0.1", query="number:+4930", found=2),
        new_line("hold", "Ann", "command", "host", ["r1", "r2"], why="case 17", by="Counsel"),
    ]
    lines += [new_line("sent", "Ben", "api token", "192.0.2.8", ["r1"], of=lines[1].id, bytes=16_000, seconds=2.0)]
    lines += [new_line("failed", "Ann", "command", "host", ["r1"], of=lines[3].id, error="no such recording")]
    now = utc_now()
    small.write(layout.access_log_key(now, "0" * 16), b"".join(encode_line(one) + b"\n" for one in lines))
    settings = settings_of(small)
    code, out = callvault_here(["access-log", "--utc"], settings)
    head, *rows, last = out.splitlines()
    assert code == 0 and head.split()[:2] == ["when", "(UTC)"] and last == "4 lines"
    assert [row[21:].split("  ")[0] for row in rows] == ["Ann [2J Eve", "Ben", "Ben", "Ann"]
    assert "r1; 16.0 kB, 2s sent" in rows[1]
    assert "number:+4930; 2 recordings found" in rows[2]
    assert "r1 r2; why: case 17; as Counsel; failed: no such recording" in rows[3]
    _, out = callvault_here(["access-log", "--json"], settings)
    assert out.encode() == b"".join(encode_line(one) + b"\n" for one in lines)
    for options, expected in (
        (["--who", "ben"], [1, 2, 4]),
        (["--recording", "r2"], [3]),
        (["--limit", "2"], [4, 5]),
        (["--since", "today"], [0, 1, 2, 3, 4, 5]),
        (["--until", ago(1).isoformat()], []),
    ):
        _, out = callvault_here(["access-log", "--json", "--utc", *options], settings)
        assert [json.loads(row)["id"] for row in out.splitlines()] == [lines[n].id for n in expected], options
    assert callvault_here(["access-log", "--limit", "1"], settings)[1].splitlines()[-1] == (
        "1 of 4 lines; 3 more, use --limit 0 for all"
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--since", "never"], "callvault: --since: 'never' is not"),
        (["--since", "2026-01-02", "--until", "2026-01-01"], "callvault: --until: 2026-01-01 must be after since"),
        (["--who", ""], "callvault: --who: is empty"),
        (["--recording", "a\nb"], "callvault: --recording: 'a\\nb' cannot be searched for"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(options: list[str], expected: str, small: SmallArchive) -> None:
    done = run_callvault(["access-log", *options], settings_of(small))
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith(expected), done.stderr


def test_what_a_person_has_callvault_do_by_hand_is_a_line(
    small: SmallArchive, redis_url: str, redis: Any, sandbox: RunningSandbox
) -> None:
    """Beside the commands of the first test: those that used to leave no trace."""
    made = sandbox.world.add_recording(seconds=1, silent=True).data["id"]
    settings = settings_of(small, REDIS_URL=redis_url) | sandbox.environment
    waiting = ACCESS_WAITING + ARCHIVE_ID
    for arguments, status, what, about in (
        (["tokens", "create", "call center", "--role", "listener", "--by", "Ann"], 0, "create-token", {"by": "Ann"}),
        (["tokens", "revoke", "none"], 1, "revoke-token", {"about": "none"}),
        (["deletions", "holds"], 0, None, {}),
        (["deletions", "hold", "11-one", "--why", "x"], 0, "hold", {}),
        (["deletions", "holds"], 0, "list", {"about": "holds", "found": 1}),
        (["dead-letters", "retry", "a-job"], 1, "retry", {"about": "dead-letters a-job"}),
        (["repair", "11-one"], 0, "repair", {"recordings": ["11-one"], "about": "from Telnyx"}),
        (["seal", ago(11).isoformat()], None, "seal", {"about": f"day {ago(11)}"}),
        (["backfill", "--since", ago(9).isoformat(), "--until", ago(9).isoformat()], 0, "backfill", {}),
        (["telnyx", "connections", "list"], 0, None, {}),
        (["telnyx", "recordings", "retrieve", made], 0, "telnyx", {"recordings": [made]}),
        (["telnyx", "recordings", "delete", made], 0, "telnyx", {"about": f"recordings delete {made}"}),
        (["telnyx", "recordings", "bulk-delete", "--ids", '["r8", "r9"]'], 1, "telnyx", {"recordings": ["r8", "r9"]}),
    ):
        before = redis.llen(waiting)
        try:
            done = callvault_here(arguments, settings)[0]
        except (UserError, NotFound):
            done = 1
        assert status is None or done == status, (arguments, done)
        rows = [json.loads(row) for row in redis.lrange(waiting, before, -1)]
        assert [row["what"] for row in rows if row["what"] != "failed"] == ([what] if what else []), arguments
        assert ("failed" in [row["what"] for row in rows]) == (status == 1), arguments
        assert not rows or rows[0].items() >= about.items(), (arguments, rows)


def test_nothing_is_deleted_at_telnyx_without_its_line_and_an_account_is_mended_with_a_warning(
    small: SmallArchive, sandbox: RunningSandbox, tmp_path: Path
) -> None:
    made = sandbox.world.add_recording(seconds=1, silent=True).data["id"]
    away = settings_of(small, REDIS_URL="redis://127.0.0.1:9/0") | sandbox.environment
    (small.root / ".incoming").rename(small.root / "elsewhere")
    (small.root / ".incoming").write_text("a file where the folder of new objects was")
    refused = run_callvault(["telnyx", "recordings", "delete", made], away)
    assert refused.returncode == 1 and "the access log cannot be written" in refused.stderr
    shown = run_callvault(["telnyx", "recordings", "retrieve", made], away)
    assert shown.returncode == 0 and json.loads(shown.stdout)["id"] == made, "it is still there"
    assert "this use is not in the access log" in shown.stderr
    alone = {"CALLVAULT_DATA": str(tmp_path / "none")} | sandbox.environment
    assert run_callvault(["telnyx", "recordings", "delete", made], alone).stderr == "", "there is no archive here"
