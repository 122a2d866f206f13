"""Configuration as code, against the sandbox over HTTP."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lab.processes import run_callvault
from lab.servers import RunningSandbox
from sandbox import connections as family
from telnyx_api.account import Account
from telnyx_api.client import TelnyxClient
from workers.connections.document import load
from workers.connections.plan import apply, plan

SECRETS = {"CALLS_KEY": "AKIAhush", "CALLS_SECRET": "hush-hush", "DIALOGFLOW": '{"type": "service_account", "a": 1}'}

TABLES = {
    "external_connections": """
[external_connections.office]
active = false
tags = ["office", "zoom"]
webhook_event_url = "https://calls.example.com/webhooks/telnyx"
webhook_timeout_secs = 20
outbound = { channel_limit = 7, outbound_voice_profile_id = "1911630617284445511" }
inbound = { channel_limit = 3 }
""",
    "custom_storage_credentials": """
[custom_storage_credentials.17]
backend = "s3"
[custom_storage_credentials.17.configuration]
bucket = "calls"
region = "eu-central-1"
aws_access_key_id = "$CALLS_KEY"
aws_secret_access_key = "$CALLS_SECRET"
""",
    "dialogflow_connections": """
[dialogflow_connections.18]
service_account = "$DIALOGFLOW"
environment = "draft"
""",
    "siprec_connectors": """
[siprec_connectors.recorder]
host = "siprec.example.com"
port = 5061
""",
    "media": """
[media."greeting.mp3"]
media_url = "SAMPLE"
ttl_secs = 86400
""",
}


@pytest.fixture
def run(sandbox: RunningSandbox, tmp_path: Path) -> Any:
    path = tmp_path / "telnyx.toml"

    def call(command: str, text: str | None = None, *options: str, stdin: str | None = None) -> Any:
        if text is not None:
            path.write_text(text.replace("SAMPLE", f"{sandbox.world.base_url}/_sandbox/sample.mp3"))
        arguments = ["connections", command, *([] if command == "export" else [str(path)]), *options]
        return run_callvault(arguments, sandbox.environment | SECRETS, stdin=stdin)

    return call


@pytest.mark.parametrize("name", TABLES)
def test_plan_apply_plan_is_empty_for_each_family(name: str, run: Any) -> None:
    planned = run("plan", TABLES[name])
    assert planned.returncode == 2, planned.stderr
    assert f"+ {name}." in planned.stdout
    applied = run("apply", None, "--yes")
    assert applied.returncode == 0, applied.stderr
    again = run("plan")
    assert (again.returncode, again.stdout) == (0, "no differences\n")


def test_numbers_that_are_to_be_there_are_uploaded_once(run: Any, sandbox: RunningSandbox) -> None:
    connection = family.add_connection(sandbox.world, "zoom")
    family.add_address(sandbox.world, connection["id"])
    there = family.add_number(sandbox.world, connection["id"], "+13125550100")["number_id"]
    text = f'[uploads.{connection["id"]}]\nnumber_ids = ["{there}", "n-1", "n-2"]\nusage = "calling_user_assignment"\n'
    assert run("plan", text).returncode == 2
    assert run("apply", None, "--yes").returncode == 0
    (upload,) = sandbox.world.uploads.values()
    assert [entry["number_id"] for entry in upload.data["tn_upload_entries"]] == ["n-1", "n-2"]
    assert run("plan").returncode == 0


def test_the_emergency_address_of_a_location_is_set_by_every_apply(run: Any, sandbox: RunningSandbox) -> None:
    connection = family.add_connection(sandbox.world, "zoom")
    address = family.add_address(sandbox.world, connection["id"])
    place = f"{connection['id']}/{address['locations'][1]['id']}"
    text = f'[locations."{place}"]\nstatic_emergency_address_id = "{address["id"]}"\n'
    assert run("plan", text).returncode == 0, "what Telnyx does not tell cannot differ"
    for _ in range(2):
        applied = run("apply", None, "--yes")
        assert applied.returncode == 0, applied.stderr
        assert f"done: update locations.{place}" in applied.stdout
    assert len([r for r in sandbox.world.requests if r["method"] == "PATCH"]) == 2
    wrong = run("apply", text.replace(address["id"], "unknown"), "--yes")
    assert (wrong.returncode, "/static_emergency_address_id" in wrong.stderr) == (1, True)


def test_the_services_own_archive_can_be_the_custom_storage(sandbox: RunningSandbox, tmp_path: Path) -> None:
    path = tmp_path / "telnyx.toml"
    path.write_text('[custom_storage_credentials.5]\nbackend = "s3"\nconfiguration = "archive"\n')
    aws = {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "hush"}
    settings = sandbox.environment | aws | {"CALLVAULT_ARCHIVE_URL": "s3://calls/prefix"}
    done = run_callvault(["connections", "apply", str(path), "--yes"], settings)
    assert done.returncode == 0, done.stderr
    configuration = sandbox.world.storage["5"]["data"]["configuration"]
    assert (configuration["bucket"], configuration["aws_secret_access_key"]) == ("calls", "hush")
    assert run_callvault(["connections", "plan", str(path)], settings).returncode == 0
    refused = run_callvault(["connections", "plan", str(path)], sandbox.environment)
    assert (refused.returncode, "requires CALLVAULT_ARCHIVE_URL=s3://" in refused.stderr) == (2, True)


def test_all_of_it_at_once_and_no_secret_shows(run: Any, sandbox: RunningSandbox) -> None:
    outputs = [run("plan", "".join(TABLES.values())), run("apply", None, "--yes"), run("plan", None, "--json")]
    assert json.loads(outputs[2].stdout) == {"changes": []}
    sandbox.world.storage["17"]["data"]["configuration"]["aws_secret_access_key"] = "stolen-and-replaced"
    drifted = run("drift")
    assert drifted.returncode == 1
    assert "configuration.aws_secret_access_key: (secret) -> (secret)" in drifted.stdout
    for output in (*outputs, drifted):
        for secret in ("hush-hush", "AKIAhush", "stolen-and-replaced", sandbox.world.api_key):
            assert secret not in output.stdout + output.stderr


def test_a_change_made_behind_our_back_is_drift_and_is_put_right(run: Any, sandbox: RunningSandbox) -> None:
    run("apply", TABLES["external_connections"], "--yes")
    assert run("drift").returncode == 0
    (connection,) = sandbox.world.connections.values()
    sandbox.control("connection", id=connection["id"], webhook_event_url="https://evil.example.com")
    connection["outbound"]["channel_limit"] = 99
    drifted = run("drift")
    assert drifted.returncode == 1
    assert '"https://evil.example.com" -> "https://calls.example.com/webhooks/telnyx"' in drifted.stdout
    assert "outbound.channel_limit: 99 -> 7" in drifted.stdout
    assert run("apply", None, "--yes").returncode == 0
    assert run("drift").returncode == 0
    assert len(sandbox.world.connections) == 1, "changed, not made again"


async def test_apply_interrupted_at_every_step_and_run_again_converges(sandbox: RunningSandbox, tmp_path: Path) -> None:
    path = tmp_path / "telnyx.toml"
    path.write_text("".join(TABLES.values()).replace("SAMPLE", f"{sandbox.world.base_url}/_sandbox/sample.mp3"))
    document = load(path, SECRETS)
    account = Account(sandbox.world.api_key, sandbox.base_url)
    async with TelnyxClient(account) as client:
        for left in range(len(TABLES), 0, -1):
            changes = await plan(client, document)
            assert len(changes) == left
            async for _ in apply(client, changes):
                break
        assert await plan(client, document) == []
        assert len(sandbox.world.connections) == 1


def test_the_first_error_stops_and_names_itself(run: Any, sandbox: RunningSandbox) -> None:
    bad = TABLES["external_connections"].replace("webhook_timeout_secs = 20", "webhook_timeout_secs = 99")
    failed = run("apply", bad + TABLES["siprec_connectors"], "--yes")
    assert failed.returncode == 1
    assert "create external_connections.office" in failed.stderr
    assert "/webhook_timeout_secs" in failed.stderr
    assert "0 of 2 made" in failed.stderr
    assert sandbox.world.siprec == {}


def test_apply_prints_one_document_after_it_has_acted(run: Any, sandbox: RunningSandbox) -> None:
    bad = TABLES["external_connections"].replace("webhook_timeout_secs = 20", "webhook_timeout_secs = 99")
    failed = run("apply", TABLES["siprec_connectors"] + bad, "--yes", "--json")
    assert failed.returncode == 1 and failed.stdout.count("\n") == 1
    report = json.loads(failed.stdout)
    assert report["made"] == len(sandbox.world.siprec) == sum(one["made"] for one in report["changes"])
    assert len(report["changes"]) == 2 and "/webhook_timeout_secs" in report["error"]
    applied = json.loads(run("apply", TABLES["siprec_connectors"] + TABLES["media"], "--yes", "--json").stdout)
    assert (applied["made"], applied["error"]) == (len(applied["changes"]), None)
    (medium,) = [one for one in applied["changes"] if one["family"] == "media"]
    assert (medium["action"], medium["key"], medium["made"]) == ("create", "greeting.mp3", True)
    again = run("apply", TABLES["siprec_connectors"], "--json")
    assert (again.returncode, json.loads(again.stdout)) == (0, {"changes": [], "made": 0, "error": None})
    unasked = run("apply", TABLES["dialogflow_connections"], "--json")
    assert (unasked.returncode, unasked.stdout) == (2, "")
    assert unasked.stderr == "callvault: --yes: missing; --json asks nobody, and 1 change would be made\n"


def test_apply_asks_and_does_nothing_on_no(run: Any, sandbox: RunningSandbox) -> None:
    asked = run("apply", TABLES["siprec_connectors"], stdin="n\n")
    assert "Make these changes?" in asked.stdout
    assert sandbox.world.siprec == {}


def test_objects_missing_from_the_file_are_kept_unless_pruned(run: Any, sandbox: RunningSandbox) -> None:
    other = family.add_connection(sandbox.world, "zoom", active=False)
    run("apply", TABLES["external_connections"], "--yes")
    assert run("plan").returncode == 0
    pruned = run("plan", None, "--prune")
    assert (pruned.returncode, f"- external_connections.{other['id']}" in pruned.stdout) == (2, True)
    assert run("apply", None, "--prune", "--yes").returncode == 0
    assert list(sandbox.world.connections) != []
    assert other["id"] not in sandbox.world.connections


def test_a_newcomer_starts_from_an_export(run: Any, sandbox: RunningSandbox) -> None:
    first = family.add_connection(sandbox.world, "zoom", tags=["a"])
    family.add_connection(sandbox.world, "operator_connect")
    run("apply", TABLES["custom_storage_credentials"].replace(".17", "." + first["id"]), "--yes")
    exported = run("export")
    assert exported.returncode == 0, exported.stderr
    assert "hush" not in exported.stdout
    text = exported.stdout.replace(f"$AWS_ACCESS_KEY_ID_{first['id']}", "$CALLS_KEY")
    text = text.replace(f"$AWS_SECRET_ACCESS_KEY_{first['id']}", "$CALLS_SECRET")
    planned = run("plan", text)
    assert (planned.returncode, planned.stdout) == (0, "no differences\n"), planned.stderr
    report = json.loads(run("export", None, "--json").stdout)
    assert report["configuration"] == tomllib.loads(exported.stdout) and report["unreadable"] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[external_connections", "invalid TOML"),
        ("[nothing.x]\na = 1", "unknown table [nothing]"),
        ("[siprec_connectors.x]\nhost = 'h'", "port is missing"),
        ("[siprec_connectors.x]\nhost = 'h'\nport = 1\nprot = 2", "unknown field prot"),
        ("siprec_connectors = 3", "must contain tables"),
        (
            "[dialogflow_connections.1]\nservice_account = '$NOT_SET_ANYWHERE'",
            "environment variable NOT_SET_ANYWHERE is not set",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(text: str, said: str, run: Any, sandbox: RunningSandbox) -> None:
    done = run("apply", text, "--yes")
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert sandbox.world.requests == []
