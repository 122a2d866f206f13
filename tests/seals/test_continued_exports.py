"""An export that was interrupted goes on where it was, and holds nothing that is gone since."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from lab.processes import callvault, run_callvault, wait_for
from tests.seals.bundles import DAY, check, export, own, unpacked
from tests.seals.conftest import CALLS_A_DAY, Sealed
from tests.seals.test_making_seals import ago
from text.errors import UserError
from workers.export.folder import begun
from workers.export.index import About
from workers.export.kept import read_kept


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
        assert {one["what"] for one in report["problems"]} == {"gone from the archive"}
        of_it = f"{gone.parent.relative_to(archive).as_posix()}/"
        assert all(one["key"].startswith(of_it) for one in report["problems"])
    assert data not in (tmp_path / "case.zip").read_bytes()
    for bundle in (tmp_path / "case", unpacked(tmp_path / "case.zip", tmp_path)):
        assert len(list((bundle / "audio").iterdir())) == CALLS_A_DAY - 1
        assert "is not part of the bundle" not in check(bundle)[1]
