"""Erasure: what is deleted, what stays on record, and what verifies afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.processes import callvault, callvault_here, run_callvault
from lab.servers import RunningSandbox
from tests.seals.test_catalogue import find
from tests.seals.test_sealing import archive_and_seal, recordings_of, seal, seals_in
from tests.workers.steps import folder_of
from text.errors import UserError

pytestmark = pytest.mark.timeout(300)  # the first test process makes the archive, and the others wait for it


def kinds(environment: dict[str, str]) -> set[str]:
    done = run_callvault(["verify", "--seals", "--json"], environment)
    return {problem["kind"] for problem in json.loads(done.stdout)["problems"]}


async def test_an_erased_recording_is_gone_and_on_record(
    sandbox: RunningSandbox,
    environment: dict[str, str],
    async_redis: Any,
    redis: Any,
    archive_folder: Path,
    tmp_path: Path,
) -> None:
    one, other = recordings_of(sandbox, 5, 2)
    for recording in (one, other):
        sandbox.world.complete_transcription(sandbox.world.add_transcription(recording))
    await archive_and_seal(environment, async_redis, sandbox)
    assert len(find(environment, "--number", one.data["from"])) == 1
    folder = folder_of(archive_folder, one)
    hold = run_callvault(["deletions", "hold", one.data["id"], "--why", "case 17"], environment)
    assert hold.returncode == 0, hold.stderr
    arguments = ["erase", one.data["id"], "--reason", "request of 20 November", "--by", "dpo", "--yes", "--json"]
    held = run_callvault(arguments, environment)
    assert (held.returncode, "is on hold (case 17)" in held.stderr) == (1, True)
    by_connection = environment | {"CALLVAULT_HOLD_CONNECTIONS": one.data["connection_id"]}
    on_hold = run_callvault(["erase", other.data["id"], "--reason", "x", "--yes"], by_connection)
    assert (on_hold.returncode, "CALLVAULT_HOLD_CONNECTIONS" in on_hold.stderr) == (1, True)
    unreadable = folder_of(archive_folder, other) / "decisions" / "20261125T000000000000Z.json"
    unreadable.parent.mkdir()
    unreadable.write_text("{")
    refused = run_callvault(["erase", other.data["id"], "--reason", "x", "--yes"], environment)
    assert (refused.returncode, "which may be a hold" in refused.stderr) == (1, True)
    unreadable.unlink()
    unreadable.parent.rmdir()
    assert (folder / "recording.json").exists()
    assert other.deleted_at is None
    assert run_callvault(["deletions", "release", one.data["id"], "--why", "over"], environment).returncode == 0

    done = run_callvault(arguments, environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parquet_files"] == 1
    assert json.loads(done.stdout)["signed"] is False
    assert one.deleted_at, "the original is gone too, so reconcile cannot restore it"
    names = {path.name for path in folder.rglob("*") if path.is_file() and "decisions" not in path.parts}
    assert names == {"erased.json"}
    record = json.loads((folder / "erased.json").read_bytes())
    assert (record["schema"], record["why"], record["by"]) == ("callvault.erasure/1", "request of 20 November", "dpo")
    assert {row["key"].rpartition("/")[2] for row in record["objects"]} >= {"audio.wav", "recording.json"}
    left = b"".join(path.read_bytes() for path in archive_folder.rglob("*.parquet"))
    assert one.data["id"].encode() not in left
    assert other.data["id"].encode() in left

    (row,) = find(environment, "--id", one.data["id"])
    assert (row["state"], row["from_number"], row["to_number"]) == ("erased", None, None)
    assert "0s" not in run_callvault(["find", "--id", one.data["id"]], environment).stdout, "its length is unknown"
    assert find(environment, "--number", one.data["from"]) == []
    again = run_callvault(["get", one.data["id"]], environment)
    assert (again.returncode, "was erased" in again.stderr) == (1, True)

    for _ in range(2):
        verified = run_callvault(["verify", "--seals", "--json"], environment)
        report = json.loads(verified.stdout)
        assert (verified.returncode, report["problems"], report["erased"]) == (0, [], 3)
        assert report["erased_recordings"] == 1, "it counts as a recording, and is missing"
        assert seal(environment, seals_in(archive_folder)[0]["day"])[0] == 0, "the record of the erasure is sealed"
    assert "3 erased, as recorded" in run_callvault(["verify", "--seals"], environment).stdout
    assert " (1 erased, as recorded), " in run_callvault(["verify"], environment).stdout
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30)
    with_key = environment | {"CALLVAULT_SEAL_KEY": str(key)}
    assert "erasure" in kinds(with_key), "erased without the key, so no signature vouches for it"
    unsigned = run_callvault(["erase", one.data["id"], "--sign"], environment)
    assert (unsigned.returncode, "CALLVAULT_SEAL_KEY: not set" in unsigned.stderr) == (1, True)
    signed = run_callvault(["erase", one.data["id"], "--sign", "--json"], with_key)
    assert (signed.returncode, json.loads(signed.stdout)["signed"]) == (0, True), signed.stderr
    assert kinds(with_key) <= {"signature"}, "seals that were made without it"
    assert kinds(environment) == set(), "the signature waits for the next seal of the day"
    lost = run_callvault(["index", "--rebuild"], environment)
    assert lost.returncode == 0, lost.stderr
    assert find(environment, "--number", one.data["from"]) == []
    with callvault(["worker"], environment, "worker ready"):
        backfill = run_callvault(["backfill", "--since", "10d", "--json"], environment)
        assert json.loads(backfill.stdout)["missing"] == 0


def test_a_missing_recording_cannot_be_erased(environment: dict[str, str]) -> None:
    without_a_reason = run_callvault(["erase", "nothing", "--yes"], environment)
    assert (without_a_reason.returncode, "--reason" in without_a_reason.stderr) == (2, True)
    done = run_callvault(["erase", "nothing", "--reason", "x", "--yes"], environment)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith("callvault: recording nothing is not in the archive (searched every day since ")
    for arguments in (["erase", "nothing", "--reason", "x"], ["erase", "nothing", "--reason", "x", "--json"]):
        unasked = run_callvault(arguments, environment, stdin="y\n")
        assert (unasked.returncode, unasked.stdout) == (1, ""), "there is no question about a missing recording"
        assert "is not in the archive" in unasked.stderr


async def test_erase_asks_only_if_it_may_erase_and_no_changes_nothing(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path
) -> None:
    (one,) = recordings_of(sandbox, 5, 1)
    await archive_and_seal(environment, async_redis, sandbox)
    arguments = ["erase", one.data["id"], "--reason", "x"]
    refused = run_callvault(arguments, environment, stdin="n\n")
    assert (refused.returncode, "Erase recording" in refused.stdout) == (1, True), refused.stderr
    assert one.deleted_at is None and (folder_of(archive_folder, one) / "recording.json").exists()
    assert run_callvault(["deletions", "hold", one.data["id"], "--why", "case 17"], environment).returncode == 0
    held = run_callvault(arguments, environment, stdin="y\n")
    assert (held.returncode, held.stdout, "is on hold" in held.stderr) == (1, "", True)


async def test_without_pyarrow_erase_refuses_only_a_day_with_parquet_rows(
    sandbox: RunningSandbox,
    environment: dict[str, str],
    async_redis: Any,
    archive_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (one,) = recordings_of(sandbox, 5, 1)
    await archive_and_seal(environment, async_redis, sandbox)
    (rows,) = (archive_folder / "catalogue").rglob("*.parquet")
    arguments = ["erase", one.data["id"], "--reason", "x", "--yes", "--json"]
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pyarrow is missing, so the Parquet rows of .* or use the full image$"):
        callvault_here(arguments, environment)
    assert one.deleted_at is None and (folder_of(archive_folder, one) / "recording.json").exists()
    rows.unlink()
    status, printed = callvault_here(arguments, environment)
    assert (status, json.loads(printed)["parquet_files"]) == (0, 0)
    assert one.deleted_at is not None
