"""The supply chain of the image: lock file, bill of materials, and an audit that fails if it cannot run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.timeout(400)
def test_the_bill_of_materials_names_every_package_of_the_image(tmp_path: Path) -> None:
    out = tmp_path / "callvault.cdx.json"
    options = ["--pyproject", "pyproject.toml", "--output-reproducible", "-o", str(out)]
    subprocess.run(
        [str(BIN / "cyclonedx-py"), "requirements", "requirements.lock", *options],
        cwd=ROOT, check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    bill = json.loads(out.read_text())
    assert bill["metadata"]["component"]["name"] == "callvault"
    assert {one["name"]: one["version"] for one in bill["components"]} == locked()
    assert all(one["externalReferences"][0]["hashes"] for one in bill["components"])


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
