"""What users install: the wheel has all of it and nothing else. `test_release.py` installs it alone and runs the demo."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = {"archive", "cli", "config", "process", "sandbox", "service", "telnyx_api", "text", "workers"}


def test_the_wheel_has_every_room_and_the_files_beside_its_code(tmp_path: Path) -> None:
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
