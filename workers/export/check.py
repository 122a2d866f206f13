"""Checks a bundle of call recordings: `python3 check.py [FOLDER]`, by default the one that it lies in.

It needs Python 3.9 or newer and nothing else. It follows the hashes: each audio file has the SHA-256 in its commit record, the
manifest of its day lists both, the seal of the day contains the hash of the manifest, and each seal contains the hash of the
seal before, up to the head. Compare the head with one that was kept elsewhere: nobody can then have changed a recording since.
What seals list of a recording is in the bundle, unless a record says that it is gone. Each transcript says what its records
say. Times and parties are proven in the commit records: in names, index.html and index.csv they are only for reading.

Exit status 0: nothing was changed; 1: something is wrong; 3: nothing is wrong, but no seal lists some files, and only this
bundle vouches for them. Whoever forged a bundle could forge this file too: take it from Callvault itself if you doubt it.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else Path(__file__).resolve().parent
LONGEST_ID = 64  # of the end of an id that a name has


def sha256(path: Path) -> str | None:
    """The SHA-256 of a file; None if it is not there, or outside of the bundle."""
    if not path.is_file() or ROOT not in path.resolve().parents:
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def follow_chain(
    problems: list[str], days: set[str]
) -> tuple[dict[str, str], set[str], tuple[dict[str, Any], str] | None]:
    """Check the seals, and that the manifests of some days are there.

    Returns:
        The SHA-256 of each listed key, the days that have a seal, and the last seal with its SHA-256.
    """
    listed: dict[str, str] = {}
    sealed: set[str] = set()
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
        if "void" not in seal:
            sealed.add(seal["day"])
            if seal["day"] in days and not manifest.is_file():
                problems.append(f"{manifest.name}: is missing")
        if manifest.is_file() and sha256(manifest) != seal["manifest_sha256"]:
            problems.append(f"{manifest.name}: is not the manifest of its seal")
        elif manifest.is_file() and "void" not in seal:
            lines = manifest.read_text(encoding="utf-8", errors="replace").split("\n")
            listed.update((line[66:], line[:64]) for line in lines if line)
    return listed, sealed, head


def day_of(key: str) -> str:
    """The day of the recording that a key is of."""
    return "-".join(key.split("/")[1:4])


def id_of(key: str) -> str:
    """The end of the id of the recording that a key is of, as names have it; empty for a key of another shape."""
    parts = key.split("/")
    return parts[4][-LONGEST_ID:] if parts[0] == "recordings" and len(parts) > 5 else ""


def named(path: str) -> tuple[str, bool]:
    """The end of the id that a file for people has in its name, and whether it is of a later version."""
    stem, version, number = path.rpartition("/")[2].rpartition(".")[0].rpartition(" version ")
    is_later = bool(version) and number.isdigit()
    return (stem if is_later else f"{stem}{version}{number}").rpartition(" ")[2], is_later


def is_in_place(row: dict[str, Any]) -> bool:
    """Whether a file lies where its key says, so that nobody takes it for another."""
    path, key = str(row["path"]), str(row["key"])
    if path == f"proof/{key}":
        return ROOT in (ROOT / path).resolve().parents
    is_audio = path.startswith("audio/") and path.count("/") == 1
    if key.startswith("/"):  # elsewhere in the bucket, by custom storage: its commit record says whose it is
        return is_audio
    return is_audio and id_of(key) != "" and named(path) == (id_of(key), "/versions/" in key)


def read(path: str) -> dict[str, Any]:
    """A record; an empty one if it is not there or not readable, which other lines report."""
    try:
        found = json.loads((ROOT / path).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def folder_of(key: str) -> str:
    """The folder of the recording that a key is of; empty for a key of another shape."""
    return "/".join(key.split("/")[:5]) if id_of(key) else ""


def check_whole(rows: list[dict[str, Any]], wanted: set[str], known: set[str]) -> list[str]:
    """Look for what the bundle lacks of its recordings, though no record in it says that it is gone.

    Args:
        rows: the files of the bundle.
        wanted: the keys that seals list, and those that its commit records name.
        known: the keys of what was missing when the bundle was made, which other lines report.
    """
    there = {row["key"] for row in rows}
    folders = {folder_of(key) for key in there} - {""}
    gone: set[str] = set()
    for row in rows:
        folder = folder_of(row["key"])
        name = row["key"][len(folder) + 1 :]
        if folder and (name == "erased.json" or (name.startswith("disposed/") and name.endswith(".json"))):
            objects = read(row["path"]).get("objects", ())
            gone.update(one["key"] for one in objects if folder_of(one["key"]) == folder)
    lacking = (key for key in wanted - there - gone - known if key.startswith("/") or folder_of(key) in folders)
    return [f"{key}: is missing, and no record says that it is gone" for key in sorted(lacking)]


def check_transcripts(rows: list[dict[str, Any]], problems: list[str]) -> None:
    """Check that each transcript says what the records of its recording say."""
    said: dict[str, dict[str, list[str]]] = {}
    for row in sorted(rows, key=lambda row: ("/versions/" in row["key"], row["key"])):
        if "/transcriptions/" in row["key"] and "transcription" in (record := read(row["path"])):
            folder = folder_of(row["key"])
            text = str(record["transcription"].get("transcription_text") or "")
            said.setdefault(id_of(row["key"]), {}).setdefault(folder, []).append(text)
    there = {named(path.name)[0] for path in (ROOT / "transcripts").glob("*")}
    problems += [f"transcripts: the one of recording {one} is missing" for one in sorted(said.keys() - there)]
    for path in sorted((ROOT / "transcripts").glob("*")):
        wanted = ["\n\n".join(texts).encode() + b"\n" for texts in said.get(named(path.name)[0], {}).values()]
        if sha256(path) not in [hashlib.sha256(text).hexdigest() for text in wanted]:
            problems.append(f"transcripts/{path.name}: is not what the records of its recording say")


def main() -> int:
    """Check every file; returns the exit status."""
    problems: list[str] = []
    unsealed: list[str] = []
    bundle = json.loads((ROOT / "proof" / "bundle.json").read_bytes())
    problems += [f"{row['path']}: is not where its key says" for row in bundle["files"] if not is_in_place(row)]
    rows = [row for row in bundle["files"] if is_in_place(row)]
    listed, sealed, head = follow_chain(problems, {day_of(row["key"]) for row in rows})
    committed: dict[str, tuple[str, str]] = {}  # the SHA-256 of an audio object, and the key of its commit record
    for row in rows:
        if row["key"].endswith("/recording.json"):
            objects = read(row["path"]).get("objects", ())
            committed.update((known["key"], (known["sha256"], row["key"])) for known in objects)
    for row in rows:
        found, key, path = sha256(ROOT / row["path"]), row["key"], row["path"]
        wanted, record = committed.get(key, (found, key))
        if found is None:
            problems.append(f"{path}: is missing")
        elif found != listed.get(key, found) or found != wanted or found != row["sha256"]:
            problems.append(f"{path}: was changed")
        elif key not in committed and path.startswith("audio/"):
            problems.append(f"{path}: no commit record names it")
        elif path.startswith("audio/") and named(path)[0] != id_of(record):
            problems.append(f"{path}: is not where its key says")
        elif (record if key.startswith("/") else key) not in listed:
            is_late = day_of(record) in sealed
            why = "came after the seal of its day, or from elsewhere" if is_late else "of a day that had no seal"
            unsealed.append(f"{path}: {why}")
    lacks = {one["key"] for one in bundle["problems"]}
    problems += check_whole(rows, {*listed, *committed}, lacks)
    check_transcripts(rows, problems)
    known = {row["path"] for row in rows}
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "audio").glob("*")}
    problems += [f"{path}: is not part of the bundle" for path in sorted(there - known)]
    problems += [f"{one['key']}: {one['what']} (when the bundle was made)" for one in bundle["problems"]]
    for line in problems + unsealed:
        print("".join(c if c.isprintable() else "?" for c in line))
    print(f"files: {len(bundle['files'])}, problems: {len(problems)}, not sealed: {len(unsealed)}")
    if head:
        print(f"head: seal {head[0]['sequence']} of {head[0]['sealed_at']}, SHA-256 {head[1]}")
    return 1 if problems else 3 if unsealed else 0


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.exit(main())
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        print(f"{ROOT.name}: not a whole bundle ({type(error).__name__}: {error})")
        sys.exit(1)
