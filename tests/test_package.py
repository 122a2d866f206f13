"""What users install: the wheel, alone, in a fresh environment, does the main job."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lab.processes import CLEAN

ROOT = Path(__file__).parent.parent
ROOMS = {"archive", "cli", "config", "process", "sandbox", "service", "telnyx_api", "text", "workers"}


@pytest.mark.timeout(400)
def test_the_wheel_alone_does_the_demo(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    assert f"'dist/{wheel.name}[s3]'" in (ROOT / "README.md").read_text()
    names = zipfile.ZipFile(wheel).namelist()
    manual = f"{wheel.name.partition('-py3')[0]}.data/data/share/man/man1/callvault.1"
    ours = [name for name in names if ".dist-info/" not in name and name != manual]
    assert manual in names and {name.partition("/")[0] for name in ours} == ROOMS
    scripts = {str(path.relative_to(ROOT)) for path in (ROOT / "workers").rglob("*.lua")}
    assert scripts and scripts <= {*names}
    for needed in ("service/ops/templates/base.html", "service/ops/static/htmx-2.0.11.min.js", "sandbox/tone-dual.mp3"):
        assert needed in names
    empty = [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")]
    subprocess.run(empty, check=True, timeout=120)
    pip = [sys.executable, "-m", "pip", "--python", str(tmp_path / "venv"), "install", "--quiet", "--no-compile"]
    pip += ["--disable-pip-version-check"]  # it is twice as fast as the one that comes with Python
    locked = [*pip, "--require-hashes", "-r", str(ROOT / "requirements.lock")]
    subprocess.run(locked, check=True, capture_output=True, timeout=240)
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True, capture_output=True, timeout=60)
    # The extras of the wheel, as the README installs them; the lock file has what they need.
    subprocess.run([*pip, "--no-index", f"{wheel}[all]"], check=True, capture_output=True, timeout=60)
    assert (tmp_path / "venv" / "share" / "man" / "man1" / "callvault.1").is_file(), "where `man callvault` looks"
    demo = [str(tmp_path / "venv" / "bin" / "callvault"), "demo", "--recordings", "3", "--json"]
    done = subprocess.run(
        demo,
        cwd=tmp_path,
        env=CLEAN | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["archived"], report["deleted"], report["mismatches"]) == (3, 3, [])
