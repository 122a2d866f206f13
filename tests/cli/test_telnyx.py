"""`callvault telnyx`: every operation, its arguments, its errors."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli.supervisor import CALLVAULT
from cli.telnyx import command_name
from lab.processes import CLEAN, run_callvault
from lab.servers import RunningSandbox
from telnyx_api.operations import all_operations
from tests.conformance.calls import prepare

ROOT = Path(__file__).parent.parent.parent


def run(sandbox: RunningSandbox, *arguments: str, stdin: str | None = None) -> Any:
    return run_callvault(["telnyx", *arguments], sandbox.environment, stdin=stdin)


def test_help_lists_all_48_operations() -> None:
    listed = run_callvault(["telnyx", "--help"]).stdout
    for row in all_operations():
        assert f"{row.family} {command_name(row)}" in listed


def test_a_list_is_walked_as_json_lines(sandbox: RunningSandbox) -> None:
    ids = [sandbox.world.add_recording(seconds=0.25).data["id"] for _ in range(7)]
    done = run(sandbox, "recordings", "list", "--page-size", "3", "--filter", "created_at.gte=2020-01-01")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ids[::-1]
    for limit, wanted in (("4", ids[:2:-1]), ("0", ids[::-1])):
        limited = run(sandbox, "recordings", "list", "--page-size", "3", "--limit", limit)
        assert [json.loads(line)["id"] for line in limited.stdout.splitlines()] == wanted, limited.stderr


def test_a_single_object_is_one_json_document(sandbox: RunningSandbox) -> None:
    names = prepare(sandbox.world, "http://x")
    done = run(sandbox, "uploads", "retrieve", names["zoom"], names["upload"])
    assert json.loads(done.stdout)["ticket_id"] == names["upload"]


def test_a_body_comes_from_options_a_file_or_standard_input(sandbox: RunningSandbox, tmp_path: Path) -> None:
    body = {"name": "a", "host": "h", "port": 5060}
    (tmp_path / "body.json").write_text(json.dumps(body))
    by_file = run(sandbox, "siprec-connectors", "create", "--json", str(tmp_path / "body.json"))
    by_stdin = run(sandbox, "siprec-connectors", "create", "--json", "-", stdin=json.dumps(body | {"name": "b"}))
    by_options = run(sandbox, "siprec-connectors", "create", "--name", "c", "--host", "h", "--port", "5060")
    assert [json.loads(d.stdout)["name"] for d in (by_file, by_stdin, by_options)] == ["a", "b", "c"]
    made = run(
        sandbox, "external-connections", "create", "--external-sip-connection", "zoom", "--outbound", "{}",
        "--tags", '["a"]', "--webhook-event-failover-url", "null",
    )  # fmt: skip
    assert json.loads(made.stdout)["tags"] == ["a"]


def test_bytes_are_written_as_they_are(sandbox: RunningSandbox) -> None:
    prepare(sandbox.world, "http://x")
    assert run(sandbox, "media", "download", "prompt.mp3").stdout == "audio"


def test_an_operation_without_an_answer_prints_nothing(sandbox: RunningSandbox) -> None:
    prepare(sandbox.world, "http://x")
    done = run(sandbox, "media", "delete", "doomed.mp3")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["recordings", "retrieve", "none"], 1, "404 10005 Resource not found"),
        (["siprec-connectors", "create", "--name", "x", "--host", "h", "--port", "0"], 1, "(at /port)"),
        (["siprec-connectors", "create", "--name", "x"], 2, "needs --host"),
        (["siprec-connectors", "create", "--json", "/nowhere"], 2, "cannot read '/nowhere'"),
        (["siprec-connectors", "create", "--json", "-"], 2, "is not JSON"),
        (["recordings", "list", "--filter", "created_at"], 2, "--filter: cannot use 'created_at'; expected NAME=VALUE"),
        (["recordings", "retrieve", ".."], 2, "is not a valid path segment"),
        (["recordings", "list", "--page-size", "251"], 2, "--page-size: expected at most 250"),
        (["recordings", "nothing"], 2, "unknown command nothing; see `callvault telnyx recordings --help`"),
    ],
)
def test_an_error_is_one_readable_line(arguments: list[str], status: int, text: str, sandbox: RunningSandbox) -> None:
    done = run(sandbox, *arguments, stdin="{")
    assert done.returncode == status
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert sandbox.world.api_key not in done.stderr


def test_output_that_is_not_read_to_its_end_is_no_error(sandbox: RunningSandbox) -> None:
    """As in `callvault telnyx recordings list | head -1`: the command fetches a page when its reader leaves."""
    for _ in range(600):
        sandbox.world.add_recording(seconds=0.1)
    command = [*CALLVAULT, "telnyx", "recordings", "list"]
    with subprocess.Popen(
        command, env={**CLEAN, **sandbox.environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(b'{"id": ')
        process.stdout.close()
        errors = process.stderr.read().decode()
        process.wait(30)
    assert errors == ""
