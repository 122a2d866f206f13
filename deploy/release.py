"""Makes a release in dist/: wheel, source package, bill of materials, locked dependencies, notes and checksums.

`make release` runs it. It builds what is committed, twice, and compares the bytes. It installs the wheel with the locked
dependencies in an empty folder with an empty HOME, and runs the demo there. If Docker or Podman answers, it also builds the image
and runs the demo in it. Nothing gets into dist/ before all of this has succeeded. Then it also writes the day into CHANGELOG.md.
It publishes, commits and tags nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
EPOCH = "1767225600"  # as in the Dockerfile, so that the image contains the same wheel
NEEDED = ("PATH", "LANG", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE")  # and pip's own settings
DEMO = ["demo", "--recordings", "5", "--json"]


class Refused(Exception):
    """No release can be made; the text says why, and what to do."""


def say(text: str) -> None:
    """Tell the person what happens now."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None, seconds: float = 600) -> str:
    """Run a program; returns its standard output.

    Raises:
        Refused: it failed, or took longer than so many seconds.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise Refused(f"`{' '.join(words)}` did not end within {seconds:g} s") from None
    if done.returncode:
        raise Refused(f"`{' '.join(words)}` failed:\n{(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def version_to_release() -> str:
    """The version in pyproject.toml.

    Raises:
        Refused: it was released already, or something is not committed.
    """
    version = str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
    if changed := run("git", "status", "--porcelain").splitlines():
        more = f" and {len(changed) - 1} more" if changed[1:] else ""
        raise Refused(
            f"not committed: {changed[0][3:]}{more}; a release is built from a commit, so commit or remove it"
        )
    if run("git", "tag", "--list", f"v{version}").strip():
        raise Refused(f"version {version} has the tag v{version} already; set a new version in pyproject.toml")
    return version


def dated(changelog: str, version: str, day: str) -> tuple[str, str]:
    """The changelog with this day in the heading of the version, and the section under that heading.

    Raises:
        Refused: the version has no section, or an empty one.
    """
    heading = re.compile(rf"^## {re.escape(version)} \((unreleased|\d{{4}}-\d\d-\d\d)\)$", re.MULTILINE)
    found = heading.search(changelog)
    if found is None:
        raise Refused(f"CHANGELOG.md has no section `## {version} (unreleased)`; write what changes for users")
    if found[1] == "unreleased":
        changelog = heading.sub(f"## {version} ({day})", changelog, count=1)
    section = changelog[found.start() :].partition("\n## ")[0].strip()
    if "\n" not in section:
        raise Refused(f"the section of {version} in CHANGELOG.md is empty; write what changes for users")
    return changelog, section + "\n"


def build(source: Path, into: Path, *kinds: str) -> dict[str, bytes]:
    """Build the packages of a source folder; returns their bytes by name."""
    wanted = [word for kind in kinds for word in ("-t", kind)]
    run(
        sys.executable,
        "-m",
        "hatchling",
        "build",
        *wanted,
        "-d",
        into,
        cwd=source,
        env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH},
    )
    return {path.name: path.read_bytes() for path in into.iterdir()}


def build_twice(source: Path, work: Path) -> Path:
    """Build wheel and source package from two copies of the source, and the wheel from the source package again.

    Returns:
        The folder with both packages.

    Raises:
        Refused: the builds differ.
    """
    copy = work / "another place" / "source"
    shutil.copytree(source, copy)
    first = build(source, work / "built", "wheel", "sdist")
    again = build(copy, work / "again", "wheel", "sdist")
    with tarfile.open(next((work / "built").glob("*.tar.gz"))) as package:
        package.extractall(work / "unpacked", filter="data")
    (unpacked,) = (work / "unpacked").iterdir()
    from_source = build(unpacked, work / "from source", "wheel")
    if differ := [name for name in first if again.get(name) != first[name]]:
        raise Refused(f"two builds of {', '.join(differ)} have different bytes")
    if differ := [name for name, data in from_source.items() if first.get(name) != data]:
        raise Refused(f"the source package builds another {', '.join(differ)} than the repository")
    return work / "built"


def check_demo(output: str) -> None:
    """Check the report of a demo.

    Raises:
        Refused: a recording was not archived, its original was not deleted, or it differs from what the simulated Telnyx served.
    """
    report = json.loads(output)
    if (report["archived"], report["deleted"], report["mismatches"]) != (5, 5, []):
        raise Refused(
            f"the demo archived {report['archived']} of 5 recordings and deleted {report['deleted']} originals; "
            f"mismatches: {report['mismatches']}"
        )


def check_wheel(wheel: Path, lock: Path, work: Path) -> None:
    """Install the wheel with the locked dependencies, and use it, in an empty folder with an empty HOME."""
    place, home = work / "empty", work / "home"
    place.mkdir()
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in NEEDED or name.startswith("PIP_")}
    env = kept | {"HOME": str(home)}
    run(sys.executable, "-m", "venv", "--without-pip", place / "venv", cwd=place, env=env)
    # By the pip of this Python and without bytecode, which takes half the time.
    install = ("install", "--quiet", "--no-compile", "--disable-pip-version-check")
    pip = (sys.executable, "-m", "pip", "--python", place / "venv", *install)
    run(*pip, "--require-hashes", "-r", lock, cwd=place, env=env)
    # As the README installs it: this fails unless the lock file has what every extra needs.
    run(*pip, "--no-index", f"{wheel}[all]", cwd=place, env=env)
    callvault = place / "venv" / "bin" / "callvault"
    run(callvault, "--help", cwd=place, env=env)
    check_demo(run(callvault, *DEMO, cwd=place, env=env))


def check_image(source: Path, version: str) -> str:
    """Build the image, if an engine answers, and run the demo in it; returns what was done."""
    for engine in ("docker", "podman"):
        if shutil.which(engine) is None:
            continue
        try:
            run(engine, "info", seconds=60)
        except Refused:
            continue
        image = f"callvault:{version}"
        run(engine, "build", "-t", image, ".", cwd=source, seconds=1800)
        limits = ("--read-only", "--tmpfs", "/tmp", "--tmpfs", "/var/lib/callvault:uid=10001")
        check_demo(run(engine, "run", "--rm", *limits, image, *DEMO))
        return f"built and checked {image} with {engine}"
    return "no image: neither Docker nor Podman answers here (`make image-check` tries the Dockerfile without them)"


def bill_of_materials(source: Path, into: Path) -> None:
    """Describe the locked dependencies, in CycloneDX."""
    options = ("--pyproject", "pyproject.toml", "--output-reproducible", "--validate", "-o", into)
    run(Path(sys.executable).parent / "cyclonedx-py", "requirements", "requirements.lock", *options, cwd=source)


def release(work: Path) -> None:
    """Make a release.

    Raises:
        Refused: it cannot be made; nothing has changed.
    """
    version = version_to_release()
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    changelog, notes = dated((ROOT / "CHANGELOG.md").read_text(), version, day)
    source = work / "source"
    source.mkdir()
    run("git", "archive", "--output", work / "source.tar", "HEAD")
    with tarfile.open(work / "source.tar") as committed:
        committed.extractall(source, filter="data")
    (source / "CHANGELOG.md").write_text(changelog)
    say(f"{version}: building wheel and source package twice ...")
    made = build_twice(source, work)
    (wheel,) = made.glob("*.whl")
    shutil.copy(source / "requirements.lock", made)
    bill_of_materials(source, made / f"callvault-{version}.cdx.json")
    (made / f"callvault-{version}.md").write_text(notes)
    say("installing the wheel in an empty folder and running the demo ...")
    check_wheel(wheel, made / "requirements.lock", work)
    image = check_image(source, version)
    files = sorted(made.iterdir())
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (made / "SHA256SUMS").write_text(sums)
    DIST.mkdir(exist_ok=True)
    for path in made.iterdir():
        shutil.copy(path, DIST)
    (ROOT / "CHANGELOG.md").write_text(changelog)
    say(f"{image}\nmade in dist/, all in SHA256SUMS:")
    say("\n".join(f"  {path.name}" for path in files))
    say(f"Next: commit CHANGELOG.md if it changed, run `git tag v{version}`, and publish these files.")


def main() -> int:
    """Make a release, or say in one line why not."""
    with tempfile.TemporaryDirectory(prefix="callvault-release-") as work:
        try:
            release(Path(work))
        except Refused as error:
            sys.stderr.write(f"release: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
