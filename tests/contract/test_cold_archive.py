"""An archive with audio in Glacier: commands, the page and deletion say so, ask for the restore, and take it for no damage."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from archive.archive import Archive
from archive.erase import erase
from archive.problems import Problem
from archive.restore import look_at
from archive.stores.store import RestoreWish, StoreCold, StoreRefused, open_store
from cli.check import Noted, Wrong
from cli.check_lifecycle import check_lifecycle
from cli.left_out import cold_of, restored
from lab import stores
from lab.processes import receiver, run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.stores import BUCKET, S3_ENVIRONMENT, Emulator, environ, make_archive
from lab.worker import archive, delete_what_is_due, own_runtime, settings_of
from tests.seals.small import SmallArchive
from tests.service.test_roles import make_token
from workers.recordings.repair import CannotRepair, _look

ID = "11-one"


@pytest.fixture(scope="module")
def s3() -> Iterator[Emulator]:
    with stores.s3_strict() as emulator:
        yield emulator


class Cold:
    """A small archive in a bucket, with the audio of one recording in DEEP_ARCHIVE."""

    def __init__(self, s3: Emulator, small: SmallArchive, prefix: str, data: Path) -> None:
        self.small, self.prefix = small, prefix
        self.environment = s3.environment | {
            "CALLVAULT_ARCHIVE_URL": f"{s3.url}/{prefix}",
            "CALLVAULT_DATA": str(data),
            "TELNYX_API_KEY": "KEY",
            "TELNYX_BASE_URL": "http://127.0.0.1:9/v2",
        }
        with environ(s3.environment):
            self.client = boto3.client("s3")
            self.archive = Archive(open_store(f"{s3.url}/{prefix}"))
        for path in sorted(small.root.rglob("*")):
            if path.is_file():
                self.put(str(path.relative_to(small.root)))
        self.key = small.folder(11, ID) + "audio.wav"
        self.put(self.key, "DEEP_ARCHIVE")

    def put(self, key: str, storage_class: str = "STANDARD") -> None:
        data = (self.small.root / key).read_bytes()
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        about = {"Body": data, "ChecksumSHA256": checksum, "StorageClass": storage_class}
        self.client.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{key}", **about)

    def run(self, *words: str, status: int = 0) -> tuple[str, str]:
        done = run_callvault([*words], self.environment)
        assert done.returncode == status, done.stdout + done.stderr
        said = done.stderr.splitlines(keepends=True)
        return done.stdout, "".join(
            one for one in said if not one.startswith(("building the catalogue", "recordings "))
        )

    def is_ready(self) -> bool:
        stored = self.archive.store.stat(self.key)
        return stored is not None and stored.state == "readable"


@pytest.fixture
def cold(s3: Emulator, tmp_path: Path, request: pytest.FixtureRequest) -> Cold:
    small = SmallArchive(tmp_path / "archive", {"id": "ab" * 16})
    return Cold(s3, small, f"c{abs(hash(request.node.nodeid)) % 10**9}", tmp_path / "data")


def test_get_says_that_audio_is_cold_asks_for_its_restore_and_writes_it_when_it_is_ready(
    cold: Cold, tmp_path: Path
) -> None:
    path = tmp_path / "call.wav"
    out = ("get", ID, "--out", str(path))
    _, said = cold.run(*out, status=1)
    assert said == (
        f"callvault: {cold.key}: it is in DEEP_ARCHIVE and must be restored before it can be read; nothing was written; "
        f"run `callvault get {ID} --restore`; it says when the audio is ready\n"
    )
    _, said = cold.run(*out, "--restore", "--tier", "bulk", "--days", "3", status=1)
    assert said == (
        f"{cold.key}: asked for its restore from DEEP_ARCHIVE at the speed bulk; usually ready within 48 hours, then "
        "readable for 3 days. Nothing was written yet; run the same command again then, and it writes the file.\n"
    )
    report = json.loads(cold.run(*out, "--restore", "--json", status=1 if not cold.is_ready() else 0)[0])
    if report["path"] is None:
        assert (report["state"], report["asked_now"], report["storage_class"]) == ("restoring", False, "DEEP_ARCHIVE")
        assert not path.exists()
    wait_for(cold.is_ready, 20, "the restore")
    cold.run(*out, "--restore", "--force")
    assert path.read_bytes() == (cold.small.root / cold.key).read_bytes()
    lines, _ = cold.run("access-log", "--recording", ID, "--json")
    assert "restore" in [json.loads(line)["what"] for line in lines.splitlines()]


@pytest.mark.parametrize(
    "words, said",
    [
        (("--days", "3"), "--days needs --restore"),
        (("--tier", "bulk"), "--tier needs --restore"),
        (("--restore", "--tier", "fast"), "expected bulk, standard or expedited"),
        (("--restore", "--days", "0"), "--days: expected at least 1"),
        (("--restore", "--transcript"), "--transcript and --restore exclude each other"),
    ],
)
def test_options_of_a_restore_that_do_not_fit_are_refused(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = run_callvault(["get", ID, *words], {"CALLVAULT_DATA": str(tmp_path)})
    assert done.returncode == 2 and said in done.stderr, done.stderr


def test_verify_counts_cold_audio_as_not_read_and_not_as_damage(cold: Cold) -> None:
    found = json.loads(cold.run("verify", "--seals", "--json")[0])
    assert (found["problems"], found["cold"], found["objects"]) == ([], 0, 8), "the store's checksum proves it"
    found = json.loads(cold.run("verify", "--deep", "--seals", "--json")[0])
    assert (found["problems"], found["cold"], found["checked_by"]) == ([], 1, {"read-back": 7})
    assert any("the bytes of 1 object in cold storage" in line for line in found["not_checked"])
    record = cold.archive.commit_record(cold.small.folder(11, ID))
    assert record is not None
    with pytest.raises(StoreCold):
        cold.archive.prove_again(record.objects[0], "read-back")


def test_a_record_that_a_rule_made_cold_is_a_problem_of_its_own_and_hides_no_other(cold: Cold) -> None:
    record = cold.small.folder(9, "9-one") + "recording.json"
    cold.put(record, "GLACIER")
    cold.client.delete_object(Bucket=BUCKET, Key=f"{cold.prefix}/{cold.small.folder(9, '9-two')}audio.wav")
    for more in ((), ("--seals",)):
        found = json.loads(cold.run("verify", *more, "--json", status=1)[0])
        kinds = {(one["kind"], one["key"]) for one in found["problems"]}
        assert kinds == {("cold", record), ("missing", cold.small.folder(9, "9-two") + "audio.wav")}
        assert "correct the lifecycle rule" in next(one["advice"] for one in found["problems"] if one["kind"] == "cold")


def test_an_export_names_the_cold_audio_that_it_leaves_out_asks_for_its_restore_and_adds_it(
    cold: Cold, tmp_path: Path
) -> None:
    out, why = tmp_path / "bundle", "it is in DEEP_ARCHIVE and must be restored before it can be read"
    export = ("export", "--all", "--out", str(out))
    result, said = cold.run(*export, status=1)
    assert f"{cold.key}: {why}\n" in said
    assert "Left out: the audio of 1 recording, in cold storage; --restore asks the store for it." in result
    rows = {row["recording_id"]: row for row in csv.DictReader((out / "index.csv").open())}
    assert (rows[ID]["audio"], rows[ID]["left_out"]) == ("", f"{cold.key}: {why}")
    assert len(rows) == 8 and all(row["audio"] and not row["left_out"] for name, row in rows.items() if name != ID)
    page = (out / "index.html").read_text()
    assert "1 recording is not whole; it says below what is missing." in page and f"{cold.key}: {why}" in page
    copied = {path.name: path.stat().st_mtime_ns for path in (out / "audio").iterdir()}
    assert (len(copied), look_at(cold.archive, cold.key).state) == (7, "cold"), "nobody asked for its restore"

    report = json.loads(cold.run(*export, "--restore", "--tier", "bulk", "--days", "3", "--json", status=1)[0])
    asked = {"recordings": [ID], "restores_asked": 1, "restores_asked_before": 0, "restore_failed": None}
    assert report["left_out"] == asked
    again = json.loads(cold.run(*export, "--restore", "--tier", "standard", "--json", status=1)[0])
    assert again["left_out"] == asked | {"restores_asked": 0, "restores_asked_before": 1}
    assert [(one["kind"], one["key"]) for one in report["problems"]] == [("cold", cold.key)]
    lines, _ = cold.run("access-log", "--recording", ID, "--json")
    assert [json.loads(line)["what"] for line in lines.splitlines()].count("restore") == 1, "once, as it was asked for"
    wait_for(cold.is_ready, 20, "the restore")
    result, _ = cold.run(*export)
    assert "8 recordings" in result and "Left out" not in result
    now = {path.name: path.stat().st_mtime_ns for path in (out / "audio").iterdir()}
    assert now.items() > copied.items() and len(now) == 8, "what was there is not fetched again"
    assert not (out / ".unfinished").exists()
    done = subprocess.run([sys.executable, out / "check.py"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "problems: 0" in done.stdout) == (0, True), done.stdout


def test_a_zip_says_when_to_export_again_and_a_restore_that_the_store_refuses_is_said(
    cold: Cold, tmp_path: Path
) -> None:
    words = ("export", f"id:{ID}", "--restore", "--out")
    said, _ = cold.run(*words, str(tmp_path / "one.zip"), status=1)
    assert "asked for its restore from DEEP_ARCHIVE at the speed standard; usually ready within 12 hours" in said
    assert "then readable for 7 days. Export again then, into another file. To check it, unpack it" in said


def test_a_restore_that_the_store_refuses_is_said_with_what_was_asked_for_before(
    cold: Cold, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = cold.small.folder(9, "9-one") + "audio.wav"
    cold.put(other, "DEEP_ARCHIVE")
    ask = cold.archive.store.restore

    def refuse(key: str, wish: RestoreWish) -> None:
        if key == cold.key:
            raise StoreRefused(f"{key}: AccessDenied")
        ask(key, wish)

    monkeypatch.setattr(cold.archive.store, "restore", refuse)
    left = cold_of([Problem("cold", key, "it is cold") for key in (other, cold.key)])
    logged: list[str] = []
    left = restored(cold.archive, left, RestoreWish(), logged.extend)
    assert (len(left.asked), left.failures, left.recordings) == (1, [f"{cold.key}: AccessDenied"], [ID, "9-one"])
    assert logged == [ID, "9-one"]
    said = left.sentence(RestoreWish(), "Again.")
    assert said.startswith(
        " Left out: the audio of 2 recordings, in cold storage; 1 object could not be asked for, see above; "
    )
    assert said.endswith(
        "asked for its restore from DEEP_ARCHIVE at the speed standard; usually ready within 12 hours, "
        "then readable for 7 days. Again."
    )


def test_cold_audio_is_erased_without_a_restore_and_its_record_has_the_hash(cold: Cold) -> None:
    folder = cold.small.folder(11, ID)
    erased = erase(cold.archive, folder, "asked for", "somebody")
    named = {one.key: one.sha256 for one in erased.record.objects}
    assert named[cold.key] == cold.small.sha256(cold.key)
    assert cold.archive.store.stat(cold.key) is None
    found = json.loads(cold.run("verify", "--seals", "--json")[0])
    assert found["problems"] == [] and found["erased_recordings"] == 1


async def test_the_doctor_sees_rules_that_delete_and_records_that_are_cold(cold: Cold) -> None:
    settings = settings_of(cold.environment)

    async def check(*rules: dict[str, Any]) -> str:
        rows = [{"ID": "r", "Status": "Enabled", **rule} for rule in rules]
        cold.client.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": rows})
        with environ(cold.environment):
            return await check_lifecycle(settings, None)

    try:
        made = json.loads(cold.run("cost", "--older-than", "90d", "--to", "deep_archive", "--rule")[0])
        assert "moves after 90 d audio to DEEP_ARCHIVE" in await check(*made["Rules"])
        with pytest.raises(Wrong, match=r"^rule 'r' deletes after 30 d what belongs to the archive$"):
            await check({"Filter": {"Prefix": ""}, "Expiration": {"Days": 30}})
        with pytest.raises(Noted, match="they cost more there"):
            await check({"Filter": {"Prefix": ""}, "Transitions": [{"Days": 30, "StorageClass": "STANDARD_IA"}]})
        cold.put("archive.json", "GLACIER")
        with pytest.raises(Wrong, match=r"^archive\.json is in cold storage$"):
            await check(*made["Rules"])
    finally:
        cold.client.delete_bucket_lifecycle(Bucket=BUCKET)


def test_cost_names_each_class_and_what_a_move_would_save(cold: Cold, tmp_path: Path) -> None:
    found = json.loads(cold.run("cost", "--json")[0])
    classes = {one["storage_class"]: one for one in found["classes"]}
    assert (classes["DEEP_ARCHIVE"]["objects"], classes["DEEP_ARCHIVE"]["audio_objects"]) == (1, 1)
    assert classes["STANDARD"]["audio_objects"] == 7
    assert found["prices"]["are_examples"] and found["month"] > 0 and found["move"] is None
    big = b"x" * (2 * 1024 * 1024)
    cold.small.write(cold.small.folder(9, "9-one") + "audio.wav", big)
    cold.put(cold.small.folder(9, "9-one") + "audio.wav")
    would = json.loads(cold.run("cost", "--older-than", "5d", "--to", "GLACIER_IR", "--json")[0])["move"]
    assert (would["objects"], would["size_bytes"]) == (1, len(big)), "small audio and what is cheaper already stay"
    assert would["month_after"] == pytest.approx(len(big) / 1024**3 * 0.004)
    assert would["month_before"] == pytest.approx(len(big) / 1024**3 * 0.023)
    would = json.loads(cold.run("cost", "--older-than", "5d", "--to", "intelligent_tiering", "--json")[0])["move"]
    assert would["objects"] == 1 and would["month_after"] > would["month_before"], "with monitoring, before it tiers"
    table = tmp_path / "prices.toml"
    table.write_text(
        'currency = "EUR"\ndate = "2026-11"\n[s3]\nplace = "ours"\ndefault = "STANDARD"\n'
        "[s3.classes.STANDARD]\ngib_month = 1000\n"
    )
    cold.environment["CALLVAULT_PRICES_FILE"] = str(table)
    said, _ = cold.run("cost")
    assert re.search(r"DEEP_ARCHIVE +1 .* no price in the table", said)
    assert (
        re.search(r"all of it: unknown; at least \d+\.\d\d EUR a month", said) and "prices of 2026-11, ours\n" in said
    )


def test_the_page_has_a_button_instead_of_a_player_until_the_audio_is_restored(cold: Cold, redis_url: str) -> None:
    with receiver(cold.environment | {"REDIS_URL": redis_url}) as (client, _):
        page = client.get(f"/ops/recordings/{ID}").text
        assert "it must be restored before it can be heard" in page and "<audio" not in page
        for path in ("audio.wav", "levels.json"):
            answer = client.get(f"/ops/recordings/{ID}/{path}")
            assert answer.status_code == 409 and "must be restored before it can be read" in answer.text, answer.text
        assert client.get(f"/ops/recordings/{ID}/audio.wav", headers={"range": "bytes=0-3"}).status_code == 409
        form = {"csrf": re.findall(r'name="csrf" value="([^"]+)"', page)[0], "id": ID, "days": "2"}
        assert client.post("/ops/recordings/restore", data=form | {"tier": "fast"}).status_code == 400
        answer = client.post("/ops/recordings/restore", data=form | {"tier": "bulk"}, headers={"hx-request": "true"})
        assert answer.status_code == 200 and "asked for its restore from DEEP_ARCHIVE" in answer.text, answer.text
        wait_for(cold.is_ready, 20, "the restore")
        page = client.get(f"/ops/recordings/{ID}").text
        assert "<audio" in page and "can be heard until" in page and "Restore: make it readable" not in page
        assert client.get(f"/ops/recordings/{ID}/audio.wav").status_code == 200
        assert client.get(f"/api/recordings/{ID}").json()["storage"][0]["state"] == "readable"
        cold.put(cold.key, "GLACIER")
        token = {
            "Authorization": f"Bearer {make_token(cold.environment | {'REDIS_URL': redis_url}, 'listener')['token']}"
        }
        answer = client.get(f"/api/recordings/{ID}/audio.wav", headers=token)
        assert answer.status_code == 409 and "POST /api/recordings/ID/restore" in answer.text
        for state in ("restoring", "restoring"):  # asked twice is asked once
            answer = client.post(f"/api/recordings/{ID}/restore", json={"tier": "expedited"}, headers=token)
            assert answer.status_code == 200 and answer.json()["storage"][0]["state"] == state, answer.text
        assert client.post(f"/api/recordings/{ID}/restore", json={"days": 0}, headers=token).status_code == 400
        assert client.post("/api/recordings/nobody/restore", json={}, headers=token).status_code == 404


@pytest.mark.parametrize("proof", ["store", "read-back"])
async def test_an_original_goes_only_if_the_store_proves_its_cold_copy(
    proof: str, s3: Emulator, sandbox: RunningSandbox, environment: dict[str, str], redis: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    place = f"{s3.url}/deletion-{proof}"
    with environ(S3_ENVIRONMENT | s3.environment):
        make_archive(place)
        settings = environment | s3.environment | {"CALLVAULT_ARCHIVE_URL": place, "CALLVAULT_PROOF": proof}
        settings |= {"CALLVAULT_DELETE_ORIGINALS": "verified", "CALLVAULT_DELETE_AFTER": "0s"}
        async with own_runtime(settings) as runtime:
            await archive(runtime, recording)
            (key,) = [o.key for o in runtime.archive.store.list("recordings/") if o.key.endswith(".wav")]
            name = f"deletion-{proof}/{key}"
            source = {"Bucket": BUCKET, "Key": name}
            boto3.client("s3").copy_object(
                Bucket=BUCKET, Key=name, CopySource=source, StorageClass="DEEP_ARCHIVE", MetadataDirective="COPY"
            )
            assert (stored := runtime.archive.store.stat(key)) is not None and stored.state == "cold"
            await delete_what_is_due(runtime)
            assert (recording.deleted_at is not None) == (proof == "store")
            if proof == "read-back":
                (attempt,) = [json.loads(one) for one in redis.lrange(redis.keys("*attempts*")[0], 0, -1)][-1:]
                assert attempt["cause"] == "cold" and "must be restored" in attempt["error"]
                with pytest.raises(CannotRepair, match="cannot be checked"):
                    _look(runtime, key.rpartition("/")[0] + "/")


async def test_a_worker_refuses_to_write_audio_into_a_class_that_cannot_be_read(environment: dict[str, str]) -> None:
    settings = environment | {"CALLVAULT_ARCHIVE_URL": "s3://bucket/x", "CALLVAULT_STORAGE_CLASS": "DEEP_ARCHIVE"}
    done = run_callvault(["worker"], settings)
    assert done.returncode != 0 and "move audio there later by a lifecycle rule" in done.stderr, done.stderr
