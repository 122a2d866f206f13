"""The process that disposes, beside a worker that archives and seals, as a user runs both."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from config.settings import load_settings
from lab.processes import callvault, callvault_here, run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.stores import make_archive
from tests.seals.test_catalogue import find
from tests.seals.test_sealing import archive, recordings_of, seal, seals_in
from tests.workers.steps import folder_of
from tests.workers.test_deletion import DELETING
from text.errors import UserError
from workers.catalogue.parquet import read_rows
from workers.disposal.looked import read_looked
from workers.disposal_main import take_credentials
from workers.keys import RECONCILED

RULES = 'grace = "0d"\n\n[default]\nkeep = "1 day"\n'


@pytest.fixture
def environment(
    sandbox: RunningSandbox, redis_url: str, redis: Any, archive_folder: Path, tmp_path: Path
) -> dict[str, str]:
    for span in ("recent", "open"):
        redis.set(RECONCILED + span, "1", ex=3600)
    make_archive(archive_folder)
    own = {"REDIS_URL": redis_url, "CALLVAULT_ARCHIVE_URL": archive_folder.as_uri()}
    return sandbox.environment | own | {"CALLVAULT_DATA": str(tmp_path / "data")}


async def test_a_call_is_archived_deleted_at_telnyx_and_disposed_of_at_the_end_of_its_rule(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path, tmp_path: Path
) -> None:
    one, other = recordings_of(sandbox, 5, 2)
    for recording in (one, other):
        sandbox.world.complete_transcription(sandbox.world.add_transcription(recording))
    folders = [folder_of(archive_folder, recording) for recording in (one, other)]
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    assert run_callvault(["retention", "apply", str(rules), "--yes"], environment).returncode == 0
    with callvault(["worker"], environment | DELETING, "worker ready"):
        await archive(environment, async_redis, archive_folder, [one, other])
        wait_for(lambda: len(seals_in(archive_folder)) == 1, 60, "the seal")
        wait_for(lambda: all((folder / "deleted.json").exists() for folder in folders), 60, "the receipts")
        held = run_callvault(["deletions", "hold", other.data["id"], "--why", "case 17"], environment)
        assert held.returncode in (0, 1), held.stderr
        with callvault(["worker", "--dispose"], environment, "disposal ready") as disposer:
            wait_for(lambda: (folders[0] / "disposed").exists(), 30, "the disposal")
            wait_for(lambda: not (folders[0] / "audio.wav").exists(), 10, "the deletion")
            assert disposer.stop() == 0
        looked = await read_looked(async_redis)
        assert looked is not None and (looked.waits, looked.since) == (None, None)
        assert seal(environment, seals_in(archive_folder)[0]["day"])[0] == 0
    assert (folders[1] / "audio.wav").exists() and not (folders[1] / "disposed").exists()
    status, out = callvault_here(["repair", one.data["id"]], environment)
    assert (status, "disposed of (audio and transcripts) at " in out, "missing" in out) == (0, True, False), out
    (row,) = find(environment, "--id", one.data["id"])
    assert (row["state"], row["from_number"]) == ("disposed", one.data["from"])
    assert json.loads(callvault_here(["verify", "--seals", "--json"], environment)[1])["problems"] == []
    files = list(archive_folder.rglob("*.parquet"))
    rows = [row for path in files for row in read_rows(path.open("rb"), path.parent.name.removeprefix("day="))]
    said = {row.recording_id: row.transcripts for row in rows if row.seal == 1}
    assert (said[one.data["id"]], len(said[other.data["id"]])) == ([], 1)
    code, out = callvault_here(["access-log", "--recording", one.data["id"], "--json"], environment)
    lines = [json.loads(line) for line in out.splitlines()]
    (line,) = [line for line in lines if line["what"] == "dispose"]
    assert (code, line["how"], line["why"].startswith("rule default of applied rules 1")) == (0, "worker", True)


def test_only_this_process_takes_the_credentials_that_may_delete(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_PROFILE", "")
    monkeypatch.setenv("CALLVAULT_DISPOSE_CREDENTIALS", "# of the owner\nAWS_PROFILE = owner\n")
    take_credentials(load_settings())
    assert os.environ["AWS_PROFILE"] == "owner"
    monkeypatch.setenv("CALLVAULT_DISPOSE_CREDENTIALS", "a-secret")
    with pytest.raises(UserError, match=r"line 1 is not NAME=value") as refused:
        take_credentials(load_settings())
    assert "a-secret" not in str(refused.value)
    both = run_callvault(["worker", "--dispose", "--processes", "2"], environment)
    assert (both.returncode, "exclude each other" in both.stderr) == (2, True)
