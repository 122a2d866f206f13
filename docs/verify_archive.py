"""Checks an archive that lies in a folder, with Python alone: `python verify_archive.py FOLDER`. Nothing of Callvault is used.

It walks the chain of seals, hashes every object that they list, and names every object of a sealed day that none lists.
"""

import hashlib
import json
import sys
from pathlib import Path


def sha256(path):
    """Hexadecimal, of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def check(root):
    """The seals and objects of an archive, counted, and what is wrong with it."""
    seals, problems, listed, days, erased, previous = root / "seals", [], {}, set(), set(), None
    last = max((int(path.name[:10]) for path in seals.glob("*.*")), default=0)
    for path in root.glob("recordings/*/*/*/*/erased.json"):
        erased |= {row["key"] for row in json.loads(path.read_bytes())["objects"]}
    for sequence in range(1, last + 1):
        path, manifest = seals / f"{sequence:010d}.json", seals / f"{sequence:010d}.sha256"
        if not path.exists() or not manifest.exists():
            problems.append(f"gap: seal {sequence} is not whole")
            previous = sha256(path) if path.exists() else "unknown"
            continue
        try:
            seal = json.loads(path.read_bytes())
            if (seal["sequence"], seal["manifest_sha256"]) != (sequence, sha256(manifest)):
                problems.append(f"altered: {manifest.name} is not the manifest that its seal tells of")
            if previous != "unknown" and seal["previous_sha256"] != previous:
                problems.append(f"altered: {path.name} does not tell the hash of the seal before it")
            days.add(seal["day"].replace("-", "/"))
        except (ValueError, KeyError, TypeError) as error:
            problems.append(f"altered: {path.name} cannot be read ({error!r})")
        previous = sha256(path)
        listed |= {line[66:]: line[:64] for line in manifest.read_text().splitlines()}
    for key, expected in listed.items():
        if not (root / key).exists():
            if key not in erased:
                problems.append(f"missing: {key}")
        elif sha256(root / key) != expected:
            problems.append(f"damaged: {key}")
    for kind in ("recordings", "media", "log-messages"):
        for day in days:
            there = (str(path.relative_to(root)) for path in (root / kind / day).rglob("*") if path.is_file())
            problems += [f"unlisted: {key}" for key in sorted(there) if key not in listed]
    return last, len(listed), problems


if __name__ == "__main__":
    count, objects, found = check(Path(sys.argv[1]))
    print("\n".join([*found, f"{count} seals, {objects} objects, {len(found)} problems"]))  # noqa: T201
    sys.exit(1 if found else 0)
