"""`callvault verify --seals` and docs/verify_archive.py agree on exit status and problems of many archives."""

from __future__ import annotations

import inspect
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archive import layout, verify_chain
from lab.processes import callvault_here
from tests.seals import verdicts_on_recordings, verdicts_on_records
from tests.seals.scripts import VERIFY_ARCHIVE, run_script
from tests.seals.small import SmallArchive
from text.errors import UserError
from text.times import utc_now

SEEDS = 400 if os.environ.get("CALLVAULT_FUZZ") == "long" else 16


@pytest.fixture(autouse=True)
def few_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify looks for a last seal again for a while if only its manifest is there; here, none is on its way."""
    monkeypatch.setattr(verify_chain, "_LOOK_SECONDS", 0.01)


def verify(archive: Path, tmp_path: Path, *options: str, **environment: str) -> tuple[int, dict[str, Any]]:
    settings = {"CALLVAULT_ARCHIVE_URL": archive.as_uri(), "CALLVAULT_DATA": str(tmp_path / "data")} | environment
    code, out = callvault_here(["verify", "--seals", "--json", *options], settings)
    return code, json.loads(out)


def by_script(archive: Path, *options: str) -> tuple[int, set[tuple[str, str]]]:
    done = run_script(VERIFY_ARCHIVE, str(archive), *options)
    assert done.stdout, done.stderr
    rows = [line.split(": ", 2) for line in done.stdout.splitlines()[:-1]]
    return done.returncode, {(kind, key) for kind, key, _ in rows}


CASES: list[Callable[[SmallArchive], set[tuple[str, str]]]] = [
    made
    for module in (verdicts_on_recordings, verdicts_on_records)
    for name, made in vars(module).items()
    if inspect.isfunction(made) and made.__module__ == module.__name__ and not name.startswith("_")
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_verify_and_the_script_agree(case: Callable[[SmallArchive], set[tuple[str, str]]], tmp_path: Path) -> None:
    one = SmallArchive(tmp_path / "archive")
    expected = case(one)
    code, report = verify(one.root, tmp_path)
    assert {(p["kind"], p["key"]) for p in report["problems"]} == expected
    assert len(report["problems"]) == len(expected), "each is reported once"
    assert code == (1 if expected else 0)
    assert by_script(one.root) == (code, expected)
    deep_code, deep = verify(one.root, tmp_path, "--deep")
    assert (deep_code, {(p["kind"], p["key"]) for p in deep["problems"]}) == (code, expected)


def spoil(one: SmallArchive, chance: random.Random) -> None:
    """Change an archive at random: remove, cut, flip, copy, plant, or do something legitimate."""
    keys = sorted(str(path.relative_to(one.root)) for path in one.root.rglob("*") if path.is_file())
    key = chance.choice([key for key in keys if key != "archive.json"])
    data = (one.root / key).read_bytes()
    what = chance.randrange(9)
    folder = one.folder(chance.choice((5, 7, 9, 11)), "x")
    if what == 0:
        one.remove(key)
    elif what == 1:
        one.write(key, data[: chance.randrange(len(data) + 1)])
    elif what == 2 and data:
        at = chance.randrange(len(data))
        one.write(key, data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
    elif what == 3:
        one.write(chance.choice([key for key in keys if key != "archive.json"]), data)
    elif what == 4:
        name = chance.choice(
            ("audio.wav", "recording.json", "deleted.json", "erased.json", "versions/v/audio.wav", "x")
        )
        one.write(key.rpartition("/")[0] + "/" + name if "/" in key else f"decisions/{name}", data)
    elif what == 5:
        shutil.rmtree((one.root / key).parent if (one.root / key).parent != one.root else one.root / "seals")
    elif what == 6 and key.endswith("/recording.json") and "/versions/" not in key:
        one.erase(key.removesuffix("recording.json"), sha256=chance.choice((None, "0" * 64)))
    elif what == 7 and key.startswith("recordings/"):
        one.receipt("/".join(key.split("/")[:5]) + "/", utc_now(), chance.choice(("deleted.json", "gone.json")))
    elif (one.root / folder).exists():
        one.version(folder, "v", utc_now(), chance.choice((b"another", None)))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_both_agree_on_any_damage_to_an_archive(seed: int, tmp_path: Path) -> None:
    one, chance = SmallArchive(tmp_path / "archive"), random.Random(seed)
    for _ in range(chance.randint(1, 3)):
        spoil(one, chance)
    code, report = verify(one.root, tmp_path)
    assert by_script(one.root) == (code, {(p["kind"], p["key"]) for p in report["problems"]})


@pytest.mark.parametrize("what", ["nothing is there", "an empty folder", "a folder of other things"])
def test_a_place_without_an_archive_fails_the_check(what: str, tmp_path: Path) -> None:
    place = tmp_path / "archive"
    if what != "nothing is there":
        place.mkdir()
    if what == "a folder of other things":
        (place / "notes.txt").write_text("of somebody else")
    command = [sys.executable, "-I", str(VERIFY_ARCHIVE), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert str(place) in done.stderr
    settings = {"CALLVAULT_ARCHIVE_URL": place.as_uri(), "CALLVAULT_DATA": str(tmp_path / "data")}
    with pytest.raises(UserError, match="is not a Callvault archive"):
        callvault_here(["verify", "--seals"], settings)


def test_an_object_of_a_key_that_no_store_has_ends_no_verification(tmp_path: Path) -> None:
    one = SmallArchive(tmp_path / "archive")
    key = layout.commit_key(one.recording(1, "odd"))
    record = one.read(key)
    record["objects"][0]["key"] = "/../outside"
    one.write(key, record)
    whole = one.recording(1, "whole")
    one.remove(layout.audio_key(whole, "wav"))
    code, report = verify(one.root, tmp_path)
    found = {(p["kind"], p["key"]) for p in report["problems"]}
    assert (code, found >= {("damaged", "/../outside"), ("missing", layout.audio_key(whole, "wav"))}) == (1, True)
