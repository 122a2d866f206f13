"""Every `callvault` command in a document or help text is run in a deployment that has what it refers to."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from archive import layout
from cli.main import app
from docs.commands import all_pages
from lab.processes import callvault, free_port, run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.stores import make_archive
from sandbox.audio import make_wav
from sandbox.world import World
from text.times import utc_now
from workers.disposal.stop import Stop
from workers.engine.attempts import Attempts, DeadLetter
from workers.engine.connect import connect_worker
from workers.keys import DISPOSAL_STOPPED
from workers.queue.embedded import EmbeddedServer
from workers.queue.jobs import Job, enqueue
from workers.recordings.requests import MirrorRequest, RecordingRequest, recording_job

ROOT = Path(__file__).parent.parent
DOCUMENTS = [path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")) if path.name != "CHANGELOG.md"]
RUNS_ON = {"serve": "Uvicorn running", "worker": "worker ready", "up": "receiver  http", "sandbox": ""}
MAY_FIND_SOMETHING = {"doctor", "healthy", "status"}  # exit status 1 is an answer of theirs
GROUPS_ALONE = {"telnyx"}
PRINT_LINES = {"find", "access-log"}  # a document for each row


def shown() -> list[str]:
    """The commands, each once, as they are written."""
    found: set[str] = set()
    for path in DOCUMENTS:
        text = path.read_text()
        found |= set(re.findall(r"^ {4,}(?:\.venv/bin/)?callvault (.*)$", text, re.MULTILINE))
        found |= set(re.findall(r"`(?:\.venv/bin/)?callvault ([^`]*)`", text))
        found |= set(re.findall(r" callvault (demo.*)$", text, re.MULTILINE))  # in the image
    found |= {example.partition(" ")[2] for one in all_pages() for example in one.page.examples}
    commands = (re.split(r"\s#\s|\s+>", command)[0].strip() for command in found)
    return sorted({command for command in commands if not command.startswith("--") and command not in GROUPS_ALONE})


COPY = "/mnt/copy/audio.wav"


@dataclass
class Deployment:
    """A deployment with what the commands refer to."""

    environment: dict[str, str]
    folder: Path
    recordings: list[str]
    connection: str
    log_messages: list[str]
    head: str
    sandbox: RunningSandbox
    odd: str  # a recording with a finding

    def words(self, command: str) -> list[str]:
        """The words of a command, with placeholders replaced."""
        words = shlex.split(command.replace(" ...", " because"))
        stands_for = {
            "FILE": str(self.folder / "telnyx.toml"),
            "telnyx.toml": str(self.folder / "telnyx.toml"),
            "access.toml": str(self.folder / "access.toml"),
            "retention.toml": str(self.folder / "retention.toml"),
            "DIR": str(self.folder / "audio"),
            COPY: str(next((self.folder / "archive").glob(f"recordings/*/*/*/{self.recordings[0]}/audio.wav"), COPY)),
            **{
                name: str(self.folder / name)
                for name in ("call.wav", "case-17", "case-17.zip", "case-17.zip.age", "case-18", "case-19", "q4.pdf")
            },
            "+13125550100 since:2026-01-01": "since:2026-01-01",  # numbers are made up
            "archive_recording:ID": "archive_recording:given-up",
            "ID": self._id(words),
            "HASH": self.head,
            "UNIT": self._unit() if "UNIT" in words else "",
            **dict.fromkeys(("7", "1-7", "1-40"), "1"),  # numbers of seals; there is one seal
        }
        return [stands_for.get(word, word) for word in words]

    def _id(self, words: list[str]) -> str:
        if "--connection" in words or "custom-storage-credentials" in words:
            return self.connection
        if words[:2] == ["logs", "dismiss"]:
            return self.log_messages.pop()
        if words[:2] == ["dead-letters", "accept"]:
            return self._refused()
        if words[:2] == ["deletions", "approve"]:
            return self.odd
        if words[:2] == ["tokens", "revoke"]:
            made = run_callvault(["tokens", "create", "a token", "--role", "listener", "--json"], self.environment)
            return str(json.loads(made.stdout)["id"])
        if words[0] == "cases" or "--case" in words:
            of = ["--id", self.recordings[0]] if words[0] == "export" else ["--leg", "none"]
            opened = ["cases", "open", "a case", *of, "--why", "a letter", "--json"]
            return str(json.loads(run_callvault(opened, self.environment).stdout)["id"])
        return self.recordings.pop() if words[0] == "erase" else self.recordings[0]

    def _refused(self) -> str:
        """A recording without audio at Telnyx; made late, since a backfill would wait for it."""
        made = self.sandbox.world.add_recording(seconds=0.5).data["id"]
        self.sandbox.world.faults.change({"answers": {f"/_downloads/{made}": 404}})
        return str(made)

    def _unit(self) -> str:
        duties = run_callvault(["deletions", "duties", "--json"], self.environment)
        return str(json.loads(duties.stdout)["units"][0]["unit"])

    def prepare(self, words: list[str]) -> None:
        """Make what a command needs: only a held recording can be released, only a dead letter discarded."""
        if words[0] == "dead-letters":
            asyncio.run(_bury(self.environment["REDIS_URL"]))
        if words[:2] == ["deletions", "release"]:
            self._run("deletions", "hold", *words[2:])
        if words[:2] == ["retention", "dispose"]:
            self._run("retention", "apply", "--yes")
        if words[:2] == ["retention", "approve"]:
            stop = Stop("stop", 2, 1_000, 10, 1, 0, 1, "2026-11-25T10:00:00.000000Z")
            asyncio.run(_stop_disposal(self.environment["REDIS_URL"], stop))

    def _run(self, *words: str) -> None:
        done = run_callvault([*words], self.environment)
        assert done.returncode == 0, done.stderr


async def _stop_disposal(redis_url: str, stop: Stop) -> None:
    client = connect_worker(redis_url)
    await client.set(DISPOSAL_STOPPED, msgspec.json.encode(stop))
    await client.aclose()


async def _bury(redis_url: str) -> None:
    client = connect_worker(redis_url)
    letter = DeadLetter("archive_recording:given-up", "archive_recording", {"v": 1, "recording_id": "x"}, "arq:queue",
                        "unexpected", "an error", "2026-11-25T10:00:00.000000Z", [])  # fmt: skip
    await Attempts(client).bury(letter)
    await client.aclose()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, valkey: EmbeddedServer) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    server, sandbox = EmbeddedServer(folder), RunningSandbox(World())
    server.start()
    environment = sandbox.environment | {
        "REDIS_URL": server.url,
        "CALLVAULT_ARCHIVE_URL": (folder / "archive").as_uri(),
        "CALLVAULT_DATA": str(folder / "data"),
    }
    make_archive(folder / "archive")
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30)
    environment |= {"CALLVAULT_SEAL_KEY": str(key)}
    made = [sandbox.world.add_recording(seconds=0.5) for _ in range(8)]
    odd = sandbox.world.add_recording(seconds=4, silent=True)
    sealed = sandbox.world.add_recording(seconds=0.5, started_at=utc_now() - timedelta(days=5))
    connection = run_callvault(
        ["telnyx", "external-connections", "create", "--external-sip-connection", "zoom", "--outbound", "{}"],
        environment,
    )
    connection_id = json.loads(connection.stdout)["id"]
    storage = {"backend": "s3", "bucket": "b", "region": "r", "aws_access_key_id": "i", "aws_secret_access_key": "s"}
    create = ["telnyx", "custom-storage-credentials", "create", connection_id, "--backend", "s3"]
    created = run_callvault([*create, "--configuration", json.dumps(storage)], environment)
    assert created.returncode == 0, created.stderr
    # What an export refers to.
    environment |= {f"AWS_ACCESS_KEY_ID_{connection_id}": "i", f"AWS_SECRET_ACCESS_KEY_{connection_id}": "s"}
    sandbox.control("log_messages", connection_id=connection_id, count=4)

    async def prepare() -> None:
        client = connect_worker(server.url)
        for one in (*made, odd, sealed):
            await enqueue(client, recording_job(RecordingRequest(event_id="e", recording_id=one.data["id"])))
        await enqueue(client, Job("mirror_log_messages", MirrorRequest(), "mirror_log_messages:now"))
        await client.aclose()

    asyncio.run(prepare())
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: len(list((folder / "archive").glob("recordings/**/recording.json"))) == len(made) + 2, 60)
        wait_for((folder / "archive" / layout.seal_key(1, "sig")).exists, 60, "the seal")
        wait_for(lambda: list((folder / "archive").glob("log-messages/**/*.json")), 90, "the log messages")
    (folder / "audio").mkdir()
    audio = make_wav("mine", 1, 1)
    (folder / "audio" / "a.wav").write_bytes(b"".join(audio.read(0, audio.size)))
    exported = run_callvault(["connections", "export"], environment)
    (folder / "telnyx.toml").write_text(exported.stdout)
    (folder / "retention.toml").write_text('[default]\nkeep = "5 years"\n')
    environment |= {"CALLVAULT_RETENTION_FILE": str(folder / "retention.toml")}
    (folder / "access.toml").write_text(
        '[groups]\n"voice team" = "operator"\n"EU support" = { role = "listener", numbers = ["+1"] }\n'
    )
    messages = [str(message.get("id")) for message in sandbox.world.log_messages.values()]
    head = hashlib.sha256((folder / "archive" / layout.seal_key(1)).read_bytes()).hexdigest()
    ids = [one.data["id"] for one in made]
    yield Deployment(environment, folder, ids, connection_id, messages, head, sandbox, odd.data["id"])
    sandbox.stop()
    server.stop()


def test_the_documents_show_many_commands() -> None:
    commands = shown()
    assert len(commands) > 45 and "verify --seals" in commands and "get ID --out call.wav" in commands


def test_every_command_has_an_example_of_its_own_that_can_be_read() -> None:
    root = typer.main.get_command(app)
    pages = [one.page for one in all_pages(with_operations=True)]
    assert len(pages) > 100
    for page in pages:
        assert page.examples, page.name
        for example in page.examples:
            assert example.startswith(f"{page.name} "[: len(example)]), example
            words = re.split(r"\s+>", example)[0]
            command: Any = root
            ctx, rest = None, shlex.split(words.replace(COPY, __file__))  # it must exist
            while rest and hasattr(command, "commands"):
                name, *rest = rest
                ctx = command.make_context(name, rest or ["x"], parent=ctx, resilient_parsing=True)
                if rest and (below := command.get_command(ctx, rest[0])) is not None:
                    command = below
                else:
                    break
            if not hasattr(command, "commands"):
                command.make_context(rest[0], rest[1:], parent=ctx)  # raises if it cannot be read


def _without(words: list[str], *options: str) -> list[str]:
    kept = list(words)
    for option in options:
        if option in kept:
            at = kept.index(option)
            del kept[at : at + 2]
    return kept


def run_here(command: str) -> str:
    """A command as it is run here: on a free port of this machine, with few processes and recordings."""
    words = command.split()
    if words[0] in RUNS_ON:
        words = _without(words, "--port", "--host")
    if words[0] == "demo":
        words = _without(words, "--recordings")
    return re.sub(r"--processes \d+", "--processes 2", " ".join(words)) if words[0] in (*RUNS_ON, "demo") else command


@pytest.mark.timeout(240)
@pytest.mark.parametrize("command", sorted({*map(run_here, shown())}))
def test_a_command_that_is_shown_works(command: str, deployment: Deployment, tmp_path: Path) -> None:
    words = deployment.words(command)
    deployment.prepare(words)
    if words[0] in RUNS_ON:
        environment = deployment.environment | {"CALLVAULT_DATA": str(tmp_path)}
        if words[0] != "worker":
            words += ["--port", str(free_port())]
        if words[0] == "up":
            environment.pop("REDIS_URL")
        ready = RUNS_ON[words[0]] if "--processes" not in words else ""
        if "--dispose" in words:
            ready = "disposal ready"
        with callvault(words, environment, ready) as running:
            if not ready:
                wait_for(lambda: running.output.strip(), 60, "a first line")
            assert running.stop() == 0, running.output
        return
    if words[0] == "demo":
        words += ["--recordings", "2", "--data", str(tmp_path)]
    environment = deployment.environment
    words = [str(tmp_path / word) if word.endswith(".pdf") else word for word in words]
    if words[0] == "get" and "--restore" in words:  # other commands write files of the same name
        words += ["--out", str(tmp_path / "restored.wav")]
    if (
        words[0] == "cost" and "--to" in words
    ):  # a folder has no storage classes, and no bucket is needed to print a rule
        environment = environment | {"CALLVAULT_ARCHIVE_URL": "s3://bucket/callvault"}
        words += [] if "--rule" in words else ["--rule"]
    there = set(Path.cwd().iterdir())
    done = run_callvault(words, environment, seconds=120, stdin="y\n")
    allowed = (0, 1) if words[0] in MAY_FIND_SOMETHING else (0,)
    assert done.returncode in allowed and "Traceback" not in done.stderr, f"{words}\n{done.stdout}\n{done.stderr}"
    assert set(Path.cwd().iterdir()) == there, f"{words} left a file in the checkout"


def with_json() -> list[str]:
    """An example of each command that has `--json` and ends by itself."""
    pages = [one.page for one in all_pages() if not one.is_group and "--json" in dict(one.page.options)]
    commands = [re.split(r"\s+>", page.examples[0])[0].partition(" ")[2] for page in pages]
    return [command for command in commands if command.split()[0] not in RUNS_ON]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("command", with_json())
def test_with_json_a_command_prints_one_document_and_nothing_else(
    command: str, deployment: Deployment, tmp_path: Path
) -> None:
    words = deployment.words(command)
    if "--out" in words:
        words[words.index("--out") + 1] = str(tmp_path / "out")
    deployment.prepare(words)
    words += ["--recordings", "2", "--data", str(tmp_path)] if words[0] == "demo" else []
    words += (
        ["--yes"] if words[0] == "erase" or words[1:2] == ["apply"] or words[:2] == ["retention", "approve"] else []
    )
    done = run_callvault([*words, "--json"], deployment.environment, seconds=120)
    allowed = (0, 1) if words[0] in MAY_FIND_SOMETHING else (0,)
    assert done.returncode in allowed, f"{words}\n{done.stdout}\n{done.stderr}"
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(isinstance(one, dict) for one in documents), done.stdout
    assert len(documents) == 1 or words[0] in PRINT_LINES, done.stdout


def test_every_target_of_make_that_is_shown_is_one() -> None:
    there = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        word for path in DOCUMENTS for word in re.findall(r"(?:^ {4,}|`)make ([a-z-]+)", path.read_text(), re.MULTILINE)
    }
    assert len(named) > 8 and named <= there


def test_the_manifests_that_are_applied_are_there() -> None:
    text = (ROOT / "docs" / "deployment.md").read_text()
    for place in re.findall(r"kubectl apply -k (\S+)", text):
        done = subprocess.run(["kubectl", "kustomize", str(ROOT / place)], capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def test_the_quickstart_makes_calls_in_the_sandbox(tmp_path: Path) -> None:
    port = free_port()
    environment = {"CALLVAULT_DATA": str(tmp_path)}
    with callvault(["up", "--sandbox", "--port", str(port)], environment, "worker ready") as running:
        (command,) = re.findall(r"curl -d .*", running.output)
        shown_command = re.sub(r"127\.0\.0\.1:\d+/_", "127.0.0.1:PORT/_", command).replace(f":{port}/", ":8080/")
        assert f"    {shown_command}\n" in (ROOT / "docs" / "quickstart.md").read_text()
        wait_for(lambda: running.output.count("recording archived") == 6, 60, "what the sandbox began with")
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        wait_for(lambda: running.output.count("recording archived") == 9, 60, "the three calls")
        assert "no problems" in run_callvault(["verify"], environment).stdout
