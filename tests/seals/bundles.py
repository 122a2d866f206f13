"""Exports of the sealed archive, and what a person does with them: unpack, check, change."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.processes import run_callvault
from tests.seals.scripts import run_script
from tests.seals.test_making_seals import ago

if TYPE_CHECKING:
    from tests.seals.conftest import Sealed

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


def unpacked(out: Path, tmp_path: Path) -> Path:
    """Unpack a ZIP as somebody does who was given it."""
    with zipfile.ZipFile(out) as packed:
        assert packed.testzip() is None
        names = packed.namelist()
        assert len(names) == len(set(names))
        packed.extractall(tmp_path / "unpacked")
    (found,) = (tmp_path / "unpacked").iterdir()
    return found


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    data = change(path.read_bytes())
    path.unlink()  # the files of the copy are hard links
    path.write_bytes(data)
