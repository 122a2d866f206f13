"""`make release` makes packages that were built twice, installed and used, and refuses what cannot be a release.

The script itself fails unless the wheel, alone in a new environment, does the main job.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_supply import locked

ROOT = Path(__file__).parent.parent
UNRELEASED = "## 0.1.0 (unreleased)"


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Tests", "-c", "user.email=tests@localhost", "-c", "core.hooksPath=/dev/null")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """This repository as it is in the working tree, in one commit of another."""
    folder = tmp_path / "repository"
    for name in git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "All")
    return folder


def make_release(repository: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run the script where no container engine is: an image needs a base from a registry."""
    programs = repository.parent / "programs"
    programs.mkdir(exist_ok=True)
    for name in ("git", "valkey-server", "redis-server"):
        if (found := shutil.which(name)) and not (programs / name).is_symlink():
            (programs / name).symlink_to(found)
    return subprocess.run(
        [sys.executable, str(repository / "deploy" / "release.py")],
        cwd=repository,
        env=os.environ | {"PATH": str(programs)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def test_what_cannot_be_a_release_is_refused_in_one_line(repository: Path) -> None:
    def refusal() -> str:
        done = make_release(repository, 60)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
        assert not (repository / "dist").exists()
        return done.stderr

    (repository / "left over").write_text("")
    assert refusal().startswith('release: not committed: "left over"; a release is built from a commit')
    (repository / "left over").unlink()
    git(repository, "tag", "v0.1.0")
    assert "has the tag v0.1.0 already; set a new version in pyproject.toml" in refusal()
    git(repository, "tag", "--delete", "v0.1.0")
    changelog = repository / "CHANGELOG.md"
    text = changelog.read_text()
    for wrong, said in (
        (text.replace(UNRELEASED, "## 0.0.9 (2026-01-01)"), "has no section `## 0.1.0 (unreleased)`"),
        (
            f"# Changelog\n\n{UNRELEASED}\n\n## 0.0.9 (2026-01-01)\n\n- A line.\n",
            "section of 0.1.0 in CHANGELOG.md is empty",
        ),
    ):
        changelog.write_text(wrong)
        git(repository, "commit", "--quiet", "--all", "--message", "Change")
        assert said in refusal()


@pytest.mark.timeout(700)
def test_a_release_is_built_checked_and_can_be_checked_again(repository: Path) -> None:
    before = (repository / "CHANGELOG.md").read_text()
    done = make_release(repository, 600)
    assert done.returncode == 0, done.stderr
    assert "no image: neither Docker nor Podman answers here" in done.stdout
    dist = repository / "dist"
    assert {path.name for path in dist.iterdir()} == {
        "callvault-0.1.0-py3-none-any.whl",
        "callvault-0.1.0.tar.gz",
        "callvault-0.1.0.cdx.json",
        "callvault-0.1.0.md",
        "requirements.lock",
        "SHA256SUMS",
    }
    checked = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=dist, capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0 and checked.stdout.count(": OK") == 5, checked
    assert (dist / "requirements.lock").read_bytes() == (ROOT / "requirements.lock").read_bytes()
    bill = json.loads((dist / "callvault-0.1.0.cdx.json").read_text())
    assert bill["metadata"]["component"]["name"] == "callvault"
    assert {one["name"]: one["version"] for one in bill["components"]} == locked()
    assert all(one["externalReferences"][0]["hashes"] for one in bill["components"])
    changelog = (repository / "CHANGELOG.md").read_text()
    (heading,) = re.findall(r"^## 0\.1\.0 \(\d{4}-\d\d-\d\d\)$", changelog, re.MULTILINE)
    assert changelog == before.replace(UNRELEASED, heading)
    assert (dist / "callvault-0.1.0.md").read_text().startswith(f"{heading}\n")
    assert git(repository, "status", "--porcelain") in ("", " M CHANGELOG.md\n"), "nothing else has changed"
