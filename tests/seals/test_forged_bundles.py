"""Whatever is changed in a bundle, the checker that it contains finds it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.seals.bundles import check, edit
from tests.seals.scripts import run_script
from tests.seals.test_making_seals import ago


def _forge_hash(bundle: Path) -> str:
    """Change a recording and every record beside it that names its hash."""
    audio = next((bundle / "audio").iterdir())
    before = hashlib.sha256(audio.read_bytes()).hexdigest()
    edit(audio, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    after = hashlib.sha256(audio.read_bytes()).hexdigest()
    summary = bundle / "proof" / "bundle.json"
    record = next(path for path in bundle.rglob("recording.json") if before in path.read_text())
    was = hashlib.sha256(record.read_bytes()).hexdigest()
    edit(record, lambda data: data.replace(before.encode(), after.encode()))
    now = hashlib.sha256(record.read_bytes()).hexdigest()
    edit(
        summary,
        lambda data: data.replace(before.encode(), after.encode()).replace(was.encode(), now.encode()),
    )
    return audio.name


def _forge_manifest(bundle: Path) -> str:
    _forge_hash(bundle)
    manifest = next((bundle / "proof" / "seals").glob("*.sha256"))
    edit(manifest, lambda data: b"0" * 64 + data[64:])
    return f"{manifest.name}: is not the manifest"


def _change_audio(bundle: Path) -> str:
    audio = next((bundle / "audio").iterdir())
    edit(audio, lambda data: data + b"x")
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
    edit(bundle / "proof" / "seals" / "0000000001.json", lambda data: data + b" ")
    return "0000000002.json: does not contain the hash"


def _summary(bundle: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the list of the files in a bundle."""

    def changed(data: bytes) -> bytes:
        summary = json.loads(data)
        change(summary["files"])
        return json.dumps(summary).encode()

    edit(bundle / "proof" / "bundle.json", changed)


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
    edit(path, lambda data: b"I confess.\n")
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


def _leave_out(bundle: Path, name: str) -> str:
    """Remove a file from the bundle and from its list, as if the archive had never had it."""
    path = min(path.relative_to(bundle).as_posix() for path in bundle.glob(name))
    (bundle / path).unlink()
    keys: list[str] = []

    def leave_out(files: list[dict[str, Any]]) -> None:
        (row,) = (row for row in files if row["path"] == path)
        files.remove(row)
        keys.append(row["key"])

    _summary(bundle, leave_out)
    return f"{keys[0]}: is missing, and no record says that it is gone"


def _leave_out_audio(bundle: Path) -> str:
    return _leave_out(bundle, "audio/*")


def _leave_out_words(bundle: Path) -> str:
    what = _leave_out(bundle, "proof/recordings/*/*/*/*/transcriptions/*.json")
    (transcript,) = (bundle / "transcripts").glob(f"* {what.split('/')[4]}.txt")
    transcript.unlink()
    return what


def _cut_off(bundle: Path) -> str:
    edit(bundle / "proof" / "bundle.json", lambda data: data[: len(data) // 2])
    return "not a whole bundle"


CHANGES = [
    *(_leave_out_audio, _leave_out_words, _cut_off),
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
    done = run_script(copy / "check.py")
    assert done.returncode == 1 and what in done.stdout + done.stderr and "Traceback" not in done.stderr
    by_another = run_script(bundle / "check.py", str(copy))
    assert (by_another.returncode, by_another.stdout, by_another.stderr) == (1, done.stdout, done.stderr)


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
