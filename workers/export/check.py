"""Checks this bundle of call recordings: `python3 check.py`. It needs Python 3.9 or newer and nothing else.

It follows the hashes: each audio file has the SHA-256 in its commit record, the manifest of its day lists both, the seal of
the day contains the hash of the manifest, and each seal contains the hash of the seal before, up to the head. Compare the
head with one that was kept elsewhere: nobody can then have changed a recording since. Exit status 0: everything is proven;
1: something is wrong; 3: nothing is wrong, but some files are of days without a seal, and only this bundle vouches for them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent


def sha256(path: Path) -> str | None:
    """The SHA-256 of a file; None if it is not there."""
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def follow_chain(problems: list[str]) -> tuple[dict[str, str], tuple[dict[str, Any], str] | None]:
    """Check the seals; returns the SHA-256 of each listed key, and the last seal with its SHA-256."""
    listed: dict[str, str] = {}
    before, number, head = None, 0, None
    for path in sorted((ROOT / "proof" / "seals").glob("*.json")):
        seal = json.loads(path.read_bytes())
        if seal["sequence"] != number + 1 or int(path.stem) != number + 1:
            problems.append(f"seal {number + 1} is missing")
        elif seal["previous_sha256"] != before:
            problems.append(f"{path.name}: does not contain the hash of the seal before it")
        number, before = int(path.stem), hashlib.sha256(path.read_bytes()).hexdigest()
        head = seal, before
        manifest = path.with_suffix(".sha256")
        if manifest.is_file() and sha256(manifest) != seal["manifest_sha256"]:
            problems.append(f"{manifest.name}: is not the manifest of its seal")
        elif manifest.is_file() and "void" not in seal:
            lines = manifest.read_text(encoding="utf-8").splitlines()
            listed.update((line[66:], line[:64]) for line in lines)
    return listed, head


def main() -> int:
    """Check every file; returns the exit status."""
    problems: list[str] = []
    unsealed: list[str] = []
    bundle = json.loads((ROOT / "proof" / "bundle.json").read_bytes())
    listed, head = follow_chain(problems)
    committed: dict[str, str] = {}
    for row in bundle["files"]:
        if row["key"].endswith("/recording.json"):
            record = json.loads((ROOT / row["path"]).read_bytes())
            committed.update((known["key"], known["sha256"]) for known in record["objects"])
    for row in bundle["files"]:
        found, key = sha256(ROOT / row["path"]), row["key"]
        if found is None:
            problems.append(f"{row['path']}: is missing")
        elif found != listed.get(key, found) or found != committed.get(key, found) or found != row["sha256"]:
            problems.append(f"{row['path']}: was changed")
        elif key not in listed and not key.startswith("/"):
            unsealed.append(row["path"])
        elif key not in committed and row["path"].startswith("audio/"):
            problems.append(f"{row['path']}: no commit record names it")
    known = {row["path"] for row in bundle["files"]}
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "audio").glob("*")}
    problems += [f"{path}: is not part of the bundle" for path in sorted(there - known)]
    problems += [f"{one['key']}: {one['what']} (when the bundle was made)" for one in bundle["problems"]]
    for line in problems + [f"{path}: of a day that had no seal" for path in unsealed]:
        print(line)
    print(f"files: {len(bundle['files'])}, problems: {len(problems)}, not sealed: {len(unsealed)}")
    if head:
        print(f"head: seal {head[0]['sequence']} of {head[0]['sealed_at']}, SHA-256 {head[1]}")
    return 1 if problems else 3 if unsealed else 0


if __name__ == "__main__":
    sys.exit(main())
