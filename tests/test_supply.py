"""The supply chain of the image: lock files, and an audit that fails if it cannot run.

`test_release.py` checks the bill of materials.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def locked(name: str = "requirements.lock") -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([\w.+!-]+)", (ROOT / name).read_text(), re.MULTILINE))


def test_every_locked_package_has_its_hashes_and_no_address() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-build.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        for entry in re.split(r"\n(?=\S)", text.strip()):
            assert "--hash=sha256:" in entry, entry
    assert locked().items() <= locked("requirements-dev.lock").items(), "the tests use the versions of the image"


def test_an_audit_that_cannot_look_is_a_failure() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "audit", f"BIN={BIN}"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HTTPS_PROXY": "http://127.0.0.1:1", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode != 0
    assert "or could not reach PyPI" in done.stderr
