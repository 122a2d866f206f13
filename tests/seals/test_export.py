"""`callvault export`: a bundle that somebody checks who has nothing else."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest

from archive.archive import Archive
from archive.cases import new_id as new_case_id
from archive.cases import put_case
from archive.decision_records import CaseQuery, CaseRecord
from archive.stores.store import open_store
from lab.processes import callvault, run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.worker import archive as archive_one
from tests.seals.conftest import CALLS_A_DAY, Sealed
from tests.seals.scripts import run_script
from tests.seals.test_making_seals import ago
from text.errors import UserError
from workers.catalogue.rows import Row
from workers.catalogue.search import Hit
from workers.export.exported import Exported, _file_name
from workers.export.folder import begun
from workers.export.index import About, Index
from workers.export.kept import read_kept
from workers.runtime import Runtime

_AGE_KEY = str(pyrage.x25519.Identity.generate().to_public())
DAY = f"since:{ago(4)} until:{ago(4)}"


def own(sealed: Sealed, tmp_path: Path) -> dict[str, str]:
    """A copy of the archive, since an export is logged there; a catalogue of its own; no Redis."""
    archive = tmp_path / "archive"
    if not archive.exists():
        sealed.copy(archive)
    own = {"CALLVAULT_ARCHIVE_URL": archive.as_uri(), "CALLVAULT_DATA": str(tmp_path / "data"), "REDIS_URL": ""}
    return sealed.environment | own


def export(environment: dict[str, str], *words: str, status: int = 0) -> dict[str, Any]:
    done = run_callvault(["export", *words, "--json"], environment)
    assert done.returncode == status, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def check(bundle: Path) -> tuple[int, str]:
    """Run the checker of a bundle."""
    done = run_script(bundle / "check.py")
    assert not done.stderr
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def bundle(sealed: Sealed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    report = export(own(sealed, folder), DAY, "--out", str(folder / "case"))
    assert (report["recordings"], report["not_sealed"], report["problems"]) == (CALLS_A_DAY, 0, [])
    return folder / "case"


def test_a_bundle_proves_its_recordings_without_the_archive(sealed: Sealed, bundle: Path) -> None:
    status, said = check(bundle)
    alone = [sys.executable, "-I", str(bundle / "check.py")]  # as somebody runs it who has the bundle and Python
    done = subprocess.run(alone, capture_output=True, text=True, timeout=60, env={}, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, said, "")
    seals = sorted((sealed.archive / "seals").glob("*.json"))
    assert (status, said.splitlines()[-1].rpartition(" ")[2]) == (0, hashlib.sha256(seals[-1].read_bytes()).hexdigest())
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (bundle / "audio").iterdir()}
    assert hashes == {call["sha256"] for call in sealed.calls[4]}
    assert len(list((bundle / "transcripts").iterdir())) == 5
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=bundle, check=True, timeout=60)
    with (bundle / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["recording_id"] for row in rows} == {call["id"] for call in sealed.calls[4]}
    assert all((bundle / row["audio"]).is_file() for row in rows)
    page = (bundle / "index.html").read_text()
    assert page.count("<audio") == CALLS_A_DAY and "<script" not in page
    assert bundle.stat().st_mode & 0o077 == 0, "nobody else on this machine can read it"
    assert not (bundle / ".unfinished").exists()


def _edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    data = change(path.read_bytes())
    path.unlink()  # the files of the copy are hard links
    path.write_bytes(data)


def _forge_hash(bundle: Path) -> str:
    """Change a recording and every record beside it that names its hash."""
    audio = next((bundle / "audio").iterdir())
    before = hashlib.sha256(audio.read_bytes()).hexdigest()
    _edit(audio, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    after = hashlib.sha256(audio.read_bytes()).hexdigest()
    summary = bundle / "proof" / "bundle.json"
    record = next(path for path in bundle.rglob("recording.json") if before in path.read_text())
    was = hashlib.sha256(record.read_bytes()).hexdigest()
    _edit(record, lambda data: data.replace(before.encode(), after.encode()))
    now = hashlib.sha256(record.read_bytes()).hexdigest()
    _edit(
        summary,
        lambda data: data.replace(before.encode(), after.encode()).replace(was.encode(), now.encode()),
    )
    return audio.name


def _forge_manifest(bundle: Path) -> str:
    _forge_hash(bundle)
    manifest = next((bundle / "proof" / "seals").glob("*.sha256"))
    _edit(manifest, lambda data: b"0" * 64 + data[64:])
    return f"{manifest.name}: is not the manifest"


def _change_audio(bundle: Path) -> str:
    audio = next((bundle / "audio").iterdir())
    _edit(audio, lambda data: data + b"x")
    return f"{audio.name}: was changed"


def _remove_audio(bundle: Path) -> str:
    audio = next((bundle / "audio").iterdir())
    audio.unlink()
    return f"{audio.name}: is missing"


def _add_audio(bundle: Path) -> str:
    (bundle / "audio" / "another.wav").write_bytes(b"RIFF")
    return "another.wav: is not part"


def _remove_seal(bundle: Path) -> str:
    (bundle / "proof" / "seals" / "0000000001.json").unlink()
    return "seal 1 is missing"


def _remove_manifest(bundle: Path) -> str:
    """Without it, a forged recording would look like one of a day that had no seal."""
    seals = (bundle / "proof" / "seals").glob("*.json")
    seal = next(path for path in seals if json.loads(path.read_bytes())["day"] == ago(4).isoformat())
    seal.with_suffix(".sha256").unlink()
    return f"{seal.stem}.sha256: is missing"


def _change_seal(bundle: Path) -> str:
    _edit(bundle / "proof" / "seals" / "0000000001.json", lambda data: data + b" ")
    return "0000000002.json: does not contain the hash"


def _summary(bundle: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the list of the files in a bundle."""

    def changed(data: bytes) -> bytes:
        summary = json.loads(data)
        change(summary["files"])
        return json.dumps(summary).encode()

    _edit(bundle / "proof" / "bundle.json", changed)


def _forge_outside_of_recordings(bundle: Path) -> str:
    """Add a recording with a commit record under keys that no archive has."""
    audio = b"RIFF forged"
    name = "audio/2026-11-23 07.00.00Z +1312 to +1415 forged.wav"
    sums = {"key": "/forged.wav", "size": len(audio), "sha256": hashlib.sha256(audio).hexdigest()}
    record = json.dumps({"objects": [sums]}).encode()
    own = {"key": "/recording.json", "size": len(record), "sha256": hashlib.sha256(record).hexdigest()}
    (bundle / name).write_bytes(audio)
    (bundle / "proof" / "forged.json").write_bytes(record)
    _summary(bundle, lambda files: files.extend([sums | {"path": name}, own | {"path": "proof/forged.json"}]))
    return "forged.wav: no commit record names it"


def _swap_audio(bundle: Path) -> str:
    """Give two recordings, both of which are proven, the names of each other."""
    one, other = sorted((bundle / "audio").iterdir())[:2]
    names = {f"audio/{one.name}": f"audio/{other.name}", f"audio/{other.name}": f"audio/{one.name}"}
    kept = one.rename(bundle / "kept")
    other.rename(one)
    kept.rename(other)

    def swap(files: list[dict[str, Any]]) -> None:
        for row in files:
            row["path"] = names.get(row["path"], row["path"])

    _summary(bundle, swap)
    return f"{one.name}: is not where its key says"


def _change_transcript(bundle: Path) -> str:
    path = next((bundle / "transcripts").iterdir())
    _edit(path, lambda data: b"I confess.\n")
    return f"{path.name}: is not what the records of its recording say"


def _remove_transcript(bundle: Path) -> str:
    transcript = next((bundle / "transcripts").iterdir())
    transcript.unlink()
    return transcript.stem.rpartition(" ")[2]


def _remove_record(bundle: Path) -> str:
    next(bundle.rglob("recording.json")).unlink()
    return "recording.json: is missing"


def _swap_transcripts(bundle: Path) -> str:
    one, other = sorted((bundle / "transcripts").iterdir(), key=lambda path: path.stat().st_size)[
        :: len(list((bundle / "transcripts").iterdir())) - 1
    ]
    assert one.read_bytes() != other.read_bytes()
    kept = one.rename(bundle / "kept")
    other.rename(one)
    kept.rename(other)
    return f"{one.name}: is not what the records"


def _point_outside(bundle: Path) -> str:
    """List a file that is proven, and lies outside of the bundle."""
    audio = next((bundle / "audio").iterdir())
    audio.rename(bundle.parent / audio.name)

    def move(files: list[dict[str, Any]]) -> None:
        next(row for row in files if row["path"] == f"audio/{audio.name}")["path"] = f"../{audio.name}"

    _summary(bundle, move)
    return f"../{audio.name}: is not where its key says"


def _link_outside(bundle: Path) -> str:
    audio = next((bundle / "audio").iterdir())
    audio.symlink_to(audio.rename(bundle.parent / audio.name))
    return f"{audio.name}: is missing"


CHANGES = [
    *(_forge_hash, _forge_manifest, _change_audio, _remove_audio, _add_audio, _remove_seal, _change_seal),
    *(
        _forge_outside_of_recordings,
        _swap_audio,
        _change_transcript,
        _swap_transcripts,
        _remove_transcript,
        _remove_record,
        _point_outside,
        _link_outside,
    ),
    _remove_manifest,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_bundle_is_found_out(bundle: Path, tmp_path: Path, change: Callable[[Path], str]) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy", copy_function=os.link))
    what = change(copy)
    status, said = check(copy)
    assert status == 1 and what in said


def test_a_file_that_no_seal_of_its_sealed_day_lists_is_said_to_be_one(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy", copy_function=os.link))
    key = next(copy.rglob("recording.json")).parent.relative_to(copy / "proof").as_posix() + "x/recording.json"
    forged = b'{"objects": []}'
    (copy / "proof" / key).parent.mkdir()
    (copy / "proof" / key).write_bytes(forged)
    row = {"path": f"proof/{key}", "key": key, "size": len(forged), "sha256": hashlib.sha256(forged).hexdigest()}
    _summary(copy, lambda files: files.append(row))
    status, said = check(copy)
    assert status == 3 and f"{key}: came after the seal of its day, or from elsewhere" in said


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


def test_an_export_that_was_killed_is_continued(sealed: Sealed, tmp_path: Path) -> None:
    environment, archive, out = own(sealed, tmp_path), tmp_path / "archive", tmp_path / "case"
    run_callvault(["index"], environment)
    stuck = sorted(archive.glob("recordings/*/*/*/*/audio.wav"))[2 * CALLS_A_DAY]
    whole = stuck.rename(tmp_path / "whole.wav")
    os.mkfifo(stuck)  # reading it blocks
    with callvault(["export", "--all", "--out", str(out)], environment) as process:
        wait_for(lambda: len(list(out.glob("audio/*.wav"))) > CALLS_A_DAY, 60, "the first files")
        process.kill()
    assert (out / ".unfinished").exists()
    first = next((out / "audio").glob("*.wav"))
    copied_at = first.stat().st_mtime_ns
    stuck.unlink()
    whole.rename(stuck)
    refused = run_callvault(["export", DAY, "--out", str(out)], environment)
    assert refused.returncode == 1 and "of another search" in refused.stderr
    (out / "letter.txt").write_text("a person's own")
    report = export(environment, "--all", "--out", str(out))
    assert report["recordings"] == 3 * CALLS_A_DAY and check(out)[0] == 0
    assert first.stat().st_mtime_ns == copied_at, "audio that was whole is not fetched again"
    assert (out / "letter.txt").exists()
    assert not list(out.rglob("*.part"))


def test_a_run_that_was_killed_before_its_mark_is_continued_and_a_folder_of_something_else_is_refused(
    tmp_path: Path,
) -> None:
    about = About(query="x", made_at="2026-11-27T10:00:00Z", archive_id="a")
    for name, left in (("empty", []), ("begun", [".unfinished.part"])):
        (tmp_path / name).mkdir()
        for one in left:
            (tmp_path / name / one).write_text('{"arch')
        with begun(tmp_path / name, about):
            assert [path.name for path in (tmp_path / name).iterdir()] == [".unfinished"]
        with begun(tmp_path / name, about):
            pass
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    with pytest.raises(UserError, match="already exists; choose another folder"), begun(tmp_path / "other", about):
        pass
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["letter.txt"]


def test_damage_in_the_archive_is_named_and_never_copied(sealed: Sealed, tmp_path: Path) -> None:
    environment, archive = own(sealed, tmp_path), tmp_path / "archive"
    audio = sorted(archive.glob("recordings/*/*/*/*/audio.wav"))
    _edit(audio[0], lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    audio[1].unlink()
    out = tmp_path / "case"
    report = export(environment, "--all", "--out", str(out), status=1)
    assert {one["key"] for one in report["problems"]} == {path.relative_to(archive).as_posix() for path in audio[:2]}
    assert len(list((out / "audio").iterdir())) == 3 * CALLS_A_DAY - 2
    status, said = check(out)
    assert status == 1 and said.count("when the bundle was made") == 2
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


def unpacked(out: Path, tmp_path: Path) -> Path:
    """Unpack a ZIP as somebody does who was given it."""
    with zipfile.ZipFile(out) as packed:
        assert packed.testzip() is None
        names = packed.namelist()
        assert len(names) == len(set(names))
        packed.extractall(tmp_path / "unpacked")
    (found,) = (tmp_path / "unpacked").iterdir()
    return found


def test_a_zip_that_was_killed_is_continued_from_its_whole_entries(sealed: Sealed, tmp_path: Path) -> None:
    environment, archive, out = own(sealed, tmp_path), tmp_path / "archive", tmp_path / "case.zip"
    run_callvault(["index"], environment)
    stuck = sorted(archive.glob("recordings/*/*/*/*/audio.wav"))[2 * CALLS_A_DAY]
    whole = stuck.rename(tmp_path / "whole.wav")
    os.mkfifo(stuck)  # reading it blocks
    part = tmp_path / "case.zip.unfinished" / "bundle.zip"
    with callvault(["export", "--all", "--out", str(out)], environment) as process:
        wait_for(lambda: part.exists() and part.stat().st_size > 20_000, 60, "the first entries")
        second = run_callvault(["export", "--all", "--out", str(out)], environment)
        assert second.returncode == 1 and "another export writes it now" in second.stderr
        process.kill()
    stuck.unlink()
    whole.rename(stuck)
    with part.open("rb") as file:
        kept = list(read_kept(file))
    assert len(kept) > 10
    first = next(one for one in kept if "/audio/" in one.info.filename)
    part.write_bytes(part.read_bytes()[: kept[-1].end - 5])  # killed in the middle of an entry
    audio = archive / next(archive.glob(f"recordings/*/*/*/{first.info.filename[-40:-4]}/audio.wav"))
    audio.unlink()  # what is kept is not fetched again
    report = export(environment, "--all", "--out", str(out))
    assert report["recordings"] == 3 * CALLS_A_DAY and check(unpacked(out, tmp_path))[0] == 0
    assert not part.parent.exists()


def test_what_an_interrupted_export_holds_and_the_archive_no_longer_has_is_in_no_bundle(
    sealed: Sealed, tmp_path: Path
) -> None:
    """Such as a recording that was erased in between."""
    environment, archive = own(sealed, tmp_path), tmp_path / "archive"
    for name in ("case", "case.zip"):
        whole = tmp_path / "first" / name
        export(environment, DAY, "--out", str(whole))
        if name == "case":
            mark = {"archive_id": json.loads((archive / "archive.json").read_bytes())["id"], "query": DAY}
            (whole / ".unfinished").write_text(json.dumps(mark))
            whole.rename(tmp_path / name)
        else:
            folder = tmp_path / "case.zip.unfinished"
            folder.mkdir()
            (folder / ".unfinished").write_text(json.dumps(mark))
            whole.rename(folder / "bundle.zip")
    gone = sorted(archive.glob(f"recordings/{ago(4):%Y/%m/%d}/*/audio.wav"))[CALLS_A_DAY // 2]
    data = gone.read_bytes()
    gone.unlink()
    shutil.rmtree(gone.parent)
    for name in ("case", "case.zip"):
        report = export(environment, DAY, "--out", str(tmp_path / name), status=1)
        assert [one["what"] for one in report["problems"]] == ["gone from the archive"]
    assert data not in (tmp_path / "case.zip").read_bytes()
    for bundle in (tmp_path / "case", unpacked(tmp_path / "case.zip", tmp_path)):
        assert len(list((bundle / "audio").iterdir())) == CALLS_A_DAY - 1
        assert "is not part of the bundle" not in check(bundle)[1]


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
