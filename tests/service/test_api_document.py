"""The document of the API: its examples are true, docs/api.md runs, and a client that a public generator makes of it works."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from lab.processes import CLEAN, program
from service.ops.problems import PROBLEMS
from tests.service.applications import ONE, Api, make_api

ROOT = Path(__file__).parent.parent.parent
GENERATOR = ROOT / ".tools" / "openapi-client" / "bin"  # of `make test`
TEXT = (ROOT / "docs" / "api.md").read_text()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with make_api(tmp_path_factory.mktemp("api")) as made:
        yield made


@pytest.fixture(scope="module")
def document(api: Api) -> dict[str, Any]:
    return dict(api.get("/api/openapi.json").raise_for_status().json())


def _examples(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each schema of a document that stands beside an example, with that."""
    if isinstance(value, dict):
        if "schema" in value and "example" in value:
            yield value["schema"], value["example"]
        for one in value.values():
            yield from _examples(one)
    elif isinstance(value, list):
        for one in value:
            yield from _examples(one)


def test_every_example_fits_its_schema_and_every_operation_has_a_name_and_its_errors(document: dict[str, Any]) -> None:
    shared = json.loads(json.dumps(document["components"]))
    examples = [*_examples(document)]
    assert len(examples) > 60
    for schema, example in examples:
        jsonschema_rs.Draft202012Validator({**schema, "components": shared}).validate(example)
    operations = [(path, method, one) for path, row in document["paths"].items() for method, one in row.items()]
    names = [one["operationId"] for *_, one in operations]
    assert len(set(names)) == len(names) and {"getRecordings", "playAudio", "holdRecording"} < {*names}
    for path, method, one in operations:
        assert {"400", "500", "503"} < {*one["responses"]}, path
        assert ("401" in one["responses"]) == ("security" not in one), path
        assert (
            method == "get" or not (body := one.get("requestBody")) or "example" in body["content"]["application/json"]
        )
    assert {known.status for known in PROBLEMS.values()} == {
        int(status) for status in document["components"]["responses"]
    }


def _commands() -> list[str]:
    """The commands that docs/api.md shows, except those of Callvault, which have a test of their own."""
    blocks = re.findall(r"(?:^ {4}.*\n)+", TEXT, re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith(("curl ", "openapi-python-client "))]


def _overrides() -> str:
    """The settings of the generator that docs/api.md shows."""
    found = re.search(r"^ {4}(content_type_overrides:\n(?: {6}.*\n)+)", TEXT, re.MULTILINE)
    assert found is not None
    return re.sub("^ {4}", "", found[1], flags=re.MULTILINE)


def test_every_request_that_the_documentation_shows_works(api: Api, tmp_path: Path) -> None:
    program("curl", "curl")
    commands = _commands()
    assert len(commands) == 9
    environment = CLEAN | {"CALLVAULT": str(api.client.base_url).rstrip("/"), "TOKEN": api.tokens["officer"]["token"]}
    environment |= {"PATH": f"{GENERATOR}:{os.environ['PATH']}", "no_proxy": "127.0.0.1"}
    (tmp_path / "client.yaml").write_text("post_hooks: []\n" + _overrides())
    answers = []
    for command in commands:
        words = re.sub(r"\bID\b", ONE, command).replace("curl ", "curl -sS --fail-with-body ", 1)
        done = subprocess.run(
            ["sh", "-c", words], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        answers.append(done.stdout)
    assert json.loads(answers[1])["url"] and "refund" in answers[2] and json.loads(answers[5])["is_new"]
    assert (tmp_path / "call.wav").read_bytes() == b"audio of 11-one"
    kinds = set(re.findall(r"^\| `([a-z-]+)` \| \d", TEXT, re.MULTILINE))
    assert kinds == {*PROBLEMS}


def test_a_client_that_a_public_generator_makes_searches_and_downloads(
    api: Api, document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    (tmp_path / "client.yaml").write_text("post_hooks: []\n" + _overrides())
    command: list[str | Path] = [
        GENERATOR / "openapi-python-client",
        "generate",
        "--path",
        "openapi.json",
        "--config",
        "client.yaml",
    ]
    command += ["--meta", "none", "--output-path", "callvault_client", "--fail-on-warning"]
    done = subprocess.run(command, cwd=tmp_path, env=CLEAN, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(tmp_path)

    def call(name: str, *arguments: Any, **more: Any) -> Any:
        module = importlib.import_module(f"callvault_client.api.default.{name}")
        return module.sync(*arguments, client=client, **more)

    made = importlib.import_module("callvault_client")
    options = {"trust_env": False}
    client = made.AuthenticatedClient(str(api.client.base_url), api.tokens["listener"]["token"], httpx_args=options)
    found = call("get_recordings", q=f"id:{ONE}")
    assert [hit.row.recording_id for hit in found.hits] == [ONE]
    models = importlib.import_module("callvault_client.models")
    audio = call("download_audio", ONE, models.DownloadAudioAudioFormat.WAV)
    assert audio.payload.read() == b"audio of 11-one"
    address = call("create_audio_address", ONE, body=models.AddressWanted(why="ticket 17"))
    played = call("play_audio", address.path.rpartition("/")[2])
    assert played.payload.read() == b"audio of 11-one"
    refused = call("hold_recording", ONE, body=models.Reason(why="x"))
    assert refused.status == 403 and refused.type_ == "urn:callvault:problem:not-allowed"
    for name in [name for name in sys.modules if name.startswith("callvault_client")]:
        del sys.modules[name]
