"""`callvault export`: a bundle that somebody checks who has nothing else."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyrage
import pytest

from archive.archive import Archive
from archive.cases import new_id as new_case_id
from archive.cases import put_case
from archive.decision_records import CaseQuery, CaseRecord
from archive.stores.store import open_store
from lab.processes import run_callvault
from lab.servers import RunningSandbox
from lab.worker import archive as archive_one
from tests.seals.bundles import DAY, check, edit, export, own, unpacked
from tests.seals.conftest import CALLS_A_DAY, TRANSCRIBED_A_DAY, Sealed
from workers.catalogue.rows import Row
from workers.catalogue.search import Hit
from workers.export.exported import Exported, _file_name
from workers.export.index import About, Index
from workers.runtime import Runtime

_AGE_KEY = str(pyrage.x25519.Identity.generate().to_public())


def test_a_bundle_proves_its_recordings_without_the_archive(sealed: Sealed, bundle: Path) -> None:
    status, said = check(bundle)
    alone = [sys.executable, "-I", str(bundle / "check.py")]  # as somebody runs it who has the bundle and Python
    done = subprocess.run(alone, capture_output=True, text=True, timeout=60, env={}, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, said, "")
    seals = sorted((sealed.archive / "seals").glob("*.json"))
    assert (status, said.splitlines()[-1].rpartition(" ")[2]) == (0, hashlib.sha256(seals[-1].read_bytes()).hexdigest())
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (bundle / "audio").iterdir()}
    assert hashes == {call["sha256"] for call in sealed.calls[4]}
    assert len(list((bundle / "transcripts").iterdir())) == TRANSCRIBED_A_DAY
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=bundle, check=True, timeout=60)
    with (bundle / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["recording_id"] for row in rows} == {call["id"] for call in sealed.calls[4]}
    assert all((bundle / row["audio"]).is_file() for row in rows)
    page = (bundle / "index.html").read_text()
    assert page.count("<audio") == CALLS_A_DAY and "<script" not in page
    assert bundle.stat().st_mode & 0o077 == 0, "nobody else on this machine can read it"
    assert not (bundle / ".unfinished").exists()


@pytest.mark.parametrize("name", ["one", "another"])
def test_audio_that_custom_storage_put_elsewhere_is_proven_by_its_commit_record(tmp_path: Path, name: str) -> None:
    files: dict[str, bytes] = {f"audio/2026-11-23 07.00.00Z {name}.wav": b"RIFF", "proof/seals/0000000001.sha256": b""}
    sums = {path: {"path": path, "sha256": hashlib.sha256(data).hexdigest()} for path, data in files.items()}
    (audio, *_) = sums.values()
    key = "recordings/2026/11/23/one/recording.json"
    record = json.dumps({"objects": [{"key": "/elsewhere.wav", "sha256": audio["sha256"]}]}).encode()
    manifest = f"{hashlib.sha256(record).hexdigest()}  {key}\n".encode()
    seal = {"sequence": 1, "previous_sha256": None, "sealed_at": "now", "day": "2026-11-23"}
    seal["manifest_sha256"] = hashlib.sha256(manifest).hexdigest()
    rows = [audio | {"key": "/elsewhere.wav"}]
    rows += [{"path": f"proof/{key}", "key": key, "sha256": hashlib.sha256(record).hexdigest()}]
    files |= {f"proof/{key}": record, "proof/seals/0000000001.sha256": manifest}
    files |= {"proof/seals/0000000001.json": json.dumps(seal).encode()}
    files |= {"proof/bundle.json": json.dumps({"files": rows, "problems": []}).encode()}
    for path, data in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    shutil.copy("workers/export/check.py", tmp_path)
    status, said = check(tmp_path)
    assert status == (0 if name == "one" else 1) and ("is not where its key says" in said) == (name != "one")


def test_damage_in_the_archive_is_named_and_never_copied(sealed: Sealed, tmp_path: Path) -> None:
    environment, archive = own(sealed, tmp_path), tmp_path / "archive"
    audio = sorted(archive.glob("recordings/*/*/*/*/audio.wav"))
    edit(audio[0], lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    audio[1].unlink()
    words = sorted(archive.glob("recordings/*/*/*/*/transcriptions/*.json"))[-1]
    words.unlink()
    out = tmp_path / "case"
    report = export(environment, "--all", "--out", str(out), status=1)
    wrong = {path.relative_to(archive).as_posix() for path in (*audio[:2], words)}
    assert {one["key"] for one in report["problems"]} == wrong
    assert len(list((out / "audio").iterdir())) == 3 * CALLS_A_DAY - 2
    status, said = check(out)
    assert status == 1 and said.count("when the bundle was made") == 3 and "problems: 3," in said
    assert "SHA-256 is" in (out / "index.html").read_text()


def test_a_zip_holds_the_same_bundle(sealed: Sealed, tmp_path: Path) -> None:
    environment, out = own(sealed, tmp_path), tmp_path / "case.zip"
    call = sealed.calls[3][0]
    report = export(environment, call["id"], "--out", str(out))
    assert report["recordings"] == 1 and [path.name for path in tmp_path.glob("*case*")] == ["case.zip"]
    assert check(unpacked(out, tmp_path))[0] == 0 and out.stat().st_mode & 0o077 == 0
    again = run_callvault(["export", call["id"], "--out", str(out)], environment)
    assert again.returncode == 1 and "already exists" in again.stderr
    lines = map(json.loads, run_callvault(["access-log", "--json"], environment).stdout.splitlines())
    assert [(one["query"], one["found"]) for one in lines if one["what"] == "export"] == [(call["id"], 1)]


def test_a_bundle_of_a_case_names_it_and_says_that_it_holds(sealed: Sealed, tmp_path: Path) -> None:
    environment, out = own(sealed, tmp_path), tmp_path / "case"
    call = sealed.calls[3][0]
    archive = Archive(open_store((tmp_path / "archive").as_uri()))
    case_id, name, query, at = (
        new_case_id(),
        "Doe v. <Example>",
        CaseQuery(id=call["id"]),
        "2026-11-25T00:00:00.000000Z",
    )
    row = CaseRecord(id=case_id, number=1, state="open", name=name, query=query, why="a letter", by="Ann", at=at)
    put_case(archive, row)
    report = export(environment, "--case", case_id, "--out", str(out))
    assert report["recordings"] == 1 and check(out)[0] == 0
    summary = json.loads((out / "proof" / "bundle.json").read_bytes())
    assert (summary["case"], summary["case_name"]) == (case_id, name)
    page = (out / "index.html").read_text()
    assert "Doe v. &lt;Example&gt;" in page and "held" in page
    none = run_callvault(["export", "--case", "none", "--out", str(tmp_path / "none")], environment)
    assert none.returncode == 2 and "callvault: no case none" in none.stderr


def test_an_encrypted_bundle_is_for_its_recipients_alone(sealed: Sealed, tmp_path: Path) -> None:
    environment, out = own(sealed, tmp_path), tmp_path / "case.zip.age"
    ours, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    key = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30)
    keys = tmp_path / "recipients.txt"
    keys.write_text(f"# the court\n\n{ours.to_public()}\n")
    words = [DAY, "--out", str(out), "--recipient", str(keys), "-r", key.with_suffix(".pub").read_text().strip()]
    assert export(environment, *words)["recordings"] == CALLS_A_DAY
    assert [path.name for path in tmp_path.glob("*case*")] == ["case.zip.age"] and out.stat().st_mode & 0o077 == 0
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(out.read_bytes(), [other])
    (tmp_path / "case.zip").write_bytes(pyrage.decrypt(out.read_bytes(), [ours]))
    bundle = unpacked(tmp_path / "case.zip", tmp_path)
    assert bundle.name == "case" and check(bundle)[0] == 0
    assert pyrage.decrypt(out.read_bytes(), [pyrage.ssh.Identity.from_buffer(key.read_bytes())])
    if shutil.which("age"):  # the first implementation; Debian's package `age`
        done = subprocess.run(["age", "-d", "-i", str(key), str(out)], capture_output=True, timeout=60, check=True)
        assert done.stdout == (tmp_path / "case.zip").read_bytes()


async def test_a_recording_of_today_is_said_to_be_unsealed(
    sandbox: RunningSandbox, runtime: Runtime, environment: dict[str, str], tmp_path: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.1)
    await archive_one(runtime, recording)
    out = tmp_path / "case"
    report = export(environment | {"CALLVAULT_DATA": str(tmp_path / "data")}, "--all", "--out", str(out))
    assert (report["recordings"], report["not_sealed"], report["head"]) == (1, 1, None)
    status, said = check(out)
    assert status == 3 and "of a day that had no seal" in said
    assert "so no seal proves it." in (out / "index.html").read_text()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["+13125550100"], 2, "--out: missing"),
        (["--out", "case"], 2, "give WORDS"),
        (["--all", "+13125550100", "--out", "case"], 2, "give WORDS"),
        (["--all", "--out", "...zip"], 2, "--out: cannot use the name ...zip"),
        (["--all", "--out", "...zip.age", "-r", _AGE_KEY], 2, "--out: cannot use the name"),
        (["--all", "--out", "case.zip.age"], 2, "--recipient: missing"),
        (["--all", "--out", "case.zip", "-r", _AGE_KEY], 2, "a name that ends in .zip.age"),
        (["--all", "--out", "case.zip.age", "-r", "age1xyz"], 2, "recipient 'age1xyz' cannot be used"),
        (["--all", "--out", "case.zip.age", "-r", "keys.txt"], 2, "no recipient, and no file: keys.txt"),
        (["colour:red", "--out", "case"], 2, "colour"),
        (["nobody-said-this", "--out", "case"], 1, "nothing matches"),
    ],
)
def test_what_cannot_be_exported_writes_nothing(
    sealed: Sealed, tmp_path: Path, words: list[str], status: int, said: str
) -> None:
    done = run_callvault(["export", *words], own(sealed, tmp_path))
    assert done.returncode == status and said in done.stderr
    assert not Path("case").exists()


def test_parties_and_ids_from_outside_stay_within_the_bundle() -> None:
    row = Row(
        recording_id="../../<script>alert(1)</script>",
        day="2026-11-25",
        from_number="../../etc/passwd",
        to_number='sip:"<img src=x>"@host:5060',
        started_at="2026-11-25T07:30:00.000000Z",
    )
    hit = Hit(row=row, state="archived")
    name = _file_name(hit)
    assert "/" not in name and not set(name) & set('<>:"|?*\\')
    index = Index()
    index.add(Exported(hit, "recordings/"))
    index.add(Exported(Hit(row=Row(recording_id="=1+1", day="2026-11-25"), state="archived"), ""))
    page = index.page(About(query="<b>", made_at="2026-11-27T08:00:00Z", archive_id="a"), []).decode()
    assert "<script" not in page and "<img" not in page and "<b>" not in page
    assert b"'=" in index.csv()
