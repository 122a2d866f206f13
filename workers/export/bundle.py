"""A bundle: recordings in a folder with all that proves them, for somebody who has nothing else.

Audio lies under names that people can read, and under `proof/` lies what the archive has of each recording, byte for byte,
under its key: commit records, transcriptions, receipts, decisions, then the seals of their days with the manifests that list
them, and every seal between them and the head of the chain. `check.py` in the bundle follows the hashes from each file to the
head. docs/export.md describes the format.

A bundle that was interrupted lies in a folder with a mark; the next run continues it, and fetches no audio twice that is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from archive import kinds, layout
from archive.ahead import ahead
from archive.archive import Archive
from archive.problems import Problem
from archive.proof import Damaged, Missing
from archive.readers import COMMIT_RECORD
from archive.records import ArchivedObject, UnreadableRecord
from archive.seals import Chain, lines_of
from text.errors import UserError
from text.times import first_instant, format_instant, utc_now
from workers.catalogue.rows import transcript_of
from workers.catalogue.search import Hit

_MARK = ".unfinished"
PART = ".part"
_HERE = Path(__file__).parent
_LONGEST_PARTY = 40
_LONGEST_ID = 64


class BundleFile(msgspec.Struct, frozen=True):
    """A file of a bundle that comes from the archive.

    Attributes:
        path: in the bundle, with slashes.
        key: of the object in the archive.
        size: in bytes.
        sha256: hexadecimal.
    """

    path: str
    key: str
    size: int
    sha256: str


@dataclass
class Exported:
    """One recording of a bundle.

    Attributes:
        hit: as the catalogue has it.
        folder: its folder in the archive.
        audio: its audio files.
        proofs: the records under `proof/`.
        transcript: the path of its transcript as text; None without one.
        problems: why the bundle is without a part of it.
    """

    hit: Hit
    folder: str
    audio: list[BundleFile] = field(default_factory=list)
    proofs: list[BundleFile] = field(default_factory=list)
    transcript: str | None = None
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds.

    Attributes:
        recordings: in it.
        files: from the archive.
        size_bytes: of these files.
        unsealed: recordings whose commit record no seal lists yet.
        head: the SHA-256 of the last seal; None: the archive has no seal.
        problems: what it lacks, and why.
    """

    recordings: int
    files: int
    size_bytes: int
    unsealed: int
    head: str | None
    problems: list[Problem]


def write_bundle(
    archive: Archive, hits: Iterable[Hit], out: Path, query: str, show: Callable[[int, int], None]
) -> Bundle:
    """Write a bundle, or continue one that was interrupted; blocks.

    Args:
        archive: the archive.
        hits: the recordings.
        out: the folder of the bundle; it must not exist, or hold an unfinished bundle of the same query and archive.
        query: what was searched for; the bundle names it.
        show: called with the recordings and bytes so far.

    Raises:
        UserError: the folder holds something else, or cannot be written.
        StoreError: the archive does not answer; the bundle can be continued.
        UnreadableRecord: the chain of seals cannot be read.
    """
    try:
        _begin(out, archive.identity.id, query)
        chain = Chain(archive)
        chain.refresh()
        done: list[Exported] = []
        size = 0
        for one in ahead(hits, partial(_export, archive, out)):
            done.append(one)
            size += sum(file.size for file in (*one.audio, *one.proofs))
            show(len(done), size)
        return _finish(archive, out, query, done, _write_seals(archive, chain, out, done))
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror}; run the same command again to continue") from None


def _begin(out: Path, archive_id: str, query: str) -> None:
    """Create the folder, or find that an unfinished bundle in it is this one."""
    mark = {"archive_id": archive_id, "query": query}
    if out.exists():
        try:
            begun = json.loads((out / _MARK).read_text())
        except (OSError, ValueError):
            raise UserError(f"{out} already exists; choose another folder with --out") from None
        if begun != mark:
            raise UserError(f"{out} holds an unfinished export of another search; choose another folder with --out")
        return
    out.mkdir(parents=True, mode=0o700)
    (out / _MARK).write_text(json.dumps(mark))


def _export(archive: Archive, out: Path, hit: Hit) -> Exported:
    """Copy everything of one recording."""
    folder = layout.recording_folder(hit.row.date, hit.row.recording_id)
    one = Exported(hit, folder)
    name = _file_name(hit)
    texts: list[str] = []
    taken: set[str] = set()
    version = 0
    for key in sorted(archive.keys_of(folder), key=lambda key: ("/versions/" in key, key)):
        kind = kinds.kind_of(key)
        if kind is None:
            one.problems.append(Problem("unknown", key, "not a key of the archive format; not copied"))
            continue
        if kind in (kinds.AUDIO, kinds.VERSION_AUDIO):
            continue  # what a commit record names is copied
        data = archive.read_small(key)
        if data is None:
            one.problems.append(Problem("missing", key, "gone from the archive"))
            continue
        one.proofs.append(_write(out, f"proof/{key}", key, data))
        try:
            if kind is kinds.TRANSCRIPTION:
                texts.append(transcript_of(data, key))
            elif kind in (kinds.COMMIT, kinds.VERSION):
                version += kind is kinds.VERSION
                stem = f"{name} version {version}" if kind is kinds.VERSION else name
                for known in COMMIT_RECORD.read(data, key).objects:
                    if known.key not in taken:
                        taken.add(known.key)
                        one.audio.append(_copy_audio(archive, out, known, stem))
        except UnreadableRecord as error:
            one.problems.append(Problem("damaged", key, error.what))
        except Damaged as damage:
            one.problems.append(
                Problem("missing" if isinstance(damage, Missing) else "damaged", damage.key, damage.what)
            )
    if texts:
        one.transcript = f"transcripts/{name}.txt"
        _write(out, one.transcript, "", "\n\n".join(texts).encode() + b"\n")
    if not one.proofs:
        one.problems.append(Problem("missing", layout.commit_key(folder), "gone from the archive"))
    return one


def _file_name(hit: Hit) -> str:
    """A name that sorts by time, that people can read, and that every file system takes."""
    started = first_instant(hit.row.started_at)
    when = f"{started:%Y-%m-%d %H.%M.%SZ}" if started else hit.row.day
    parties = [
        re.sub(r"[^0-9A-Za-z+@._-]", "_", party)[:_LONGEST_PARTY].strip(".")
        for party in (hit.row.from_number, hit.row.to_number)
        if party
    ]
    parts = (when, " to ".join(parties), layout.encode_name(hit.row.recording_id)[-_LONGEST_ID:])
    return " ".join(part for part in parts if part)


def _copy_audio(archive: Archive, out: Path, known: ArchivedObject, stem: str) -> BundleFile:
    """Copy an audio object, unless the bundle has it from an earlier run.

    Raises:
        Damaged, Missing: the archive does not hold the bytes that its commit record names.
    """
    suffix = "mp3" if known.content_type == "audio/mpeg" else "wav"
    path = f"audio/{stem}.{suffix}"
    target = out / path
    if target.exists() and _sha256(target) == known.sha256:
        return BundleFile(path, known.key, known.size, known.sha256)
    try:
        return _copy(archive, out, path, known.key, known.sha256)
    except KeyError:
        raise Missing(known.key, "gone from the archive") from None


def _copy(archive: Archive, out: Path, path: str, key: str, sha256: str | None = None) -> BundleFile:
    """Copy an object piece by piece; a file appears under its name only if it has the hash that is given.

    Raises:
        KeyError: the archive has no such object.
        Damaged: it has another hash.
    """
    target = out / path
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + PART)
    digest, size = hashlib.sha256(), 0
    try:
        with part.open("wb") as copy:
            for chunk in archive.store.read(key):
                digest.update(chunk)
                size += copy.write(chunk)
        if sha256 not in (None, digest.hexdigest()):
            raise Damaged(key, f"SHA-256 is {digest.hexdigest()}, its commit record says {sha256}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return BundleFile(path, key, size, digest.hexdigest())


def _write(out: Path, path: str, key: str, data: bytes) -> BundleFile:
    target = out / path
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name[:200] + PART)
    part.write_bytes(data)
    part.replace(target)
    return BundleFile(path, key, len(data), hashlib.sha256(data).hexdigest())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class _Seals:
    """The seals of a bundle.

    Attributes:
        files: those of the chain, and the manifests of the recordings' days.
        listed: the keys that these manifests list, of those in the bundle.
        problems: the manifests that cannot be read.
    """

    files: list[BundleFile]
    listed: set[str]
    problems: list[Problem]


def _write_seals(archive: Archive, chain: Chain, out: Path, done: list[Exported]) -> _Seals:
    """Copy the chain, and the manifests of the recordings' days."""
    wanted = {file.key for one in done for file in (*one.audio, *one.proofs)}
    days = {one.hit.row.date for one in done}
    covering = [link for day in sorted(days) for link in chain.of_day(day)]
    problems: list[Problem] = []
    listed: set[str] = set()
    for link in covering:
        try:
            listed |= {key for _, key in lines_of(archive, link)} & wanted
        except UnreadableRecord as error:
            problems.append(Problem("seal-altered", error.key, error.what))
    keys = [layout.seal_key(link.seal.sequence) for link in chain.links]
    full = [*covering, *chain.links[-1:]]
    keys += [layout.seal_key(link.seal.sequence, suffix) for link in full for suffix in ("sha256", "sig", "tsr")]
    copied = ahead(dict.fromkeys(keys), partial(_copy_seal, archive, out))
    return _Seals([file for file in copied if file is not None], listed, problems)


def _copy_seal(archive: Archive, out: Path, key: str) -> BundleFile | None:
    """Copy an object of a seal; None if the archive lacks it: not every seal is signed and stamped."""
    try:
        return _copy(archive, out, f"proof/{key}", key)
    except KeyError:
        return None


def _finish(archive: Archive, out: Path, query: str, done: list[Exported], seals: _Seals) -> Bundle:
    """Write the index, the checker and the list of hashes; then the bundle is whole."""
    files = [file for one in done for file in (*one.audio, *one.proofs)]
    problems = [problem for one in done for problem in one.problems] + seals.problems
    committed = [layout.commit_key(one.folder) for one in done]
    present = {file.key for file in files}
    unsealed = sum(
        key in present and key not in seals.listed for key in committed
    )  # an erased one has no commit record
    head = _head(seals.files)
    summary = {
        "schema": "callvault.bundle/1",
        "archive_id": archive.identity.id,
        "made_at": format_instant(utc_now()),
        "query": query,
        "head": dict(zip(("sequence", "sha256"), head, strict=True)) if head else None,
        "files": msgspec.to_builtins(files),
        "problems": msgspec.to_builtins(problems),
    }
    from workers.export.pages import index_csv, index_page

    _write(out, "proof/bundle.json", "", json.dumps(summary, indent=1).encode() + b"\n")
    _write(out, "check.py", "", (_HERE / "check.py").read_bytes())
    _write(out, "index.csv", "", index_csv(done))
    _write(out, "index.html", "", index_page(done, summary, unsealed))
    known = {file.path: file.sha256 for file in (*files, *seals.files)}
    sums = [f"{known.get(path) or _sha256(out / path)}  {path}\n" for path in sorted(_paths(out))]
    _write(out, "SHA256SUMS", "", "".join(sums).encode())
    with suppress(FileNotFoundError):
        (out / _MARK).unlink()
    size = sum(file.size for file in files)
    return Bundle(len(done), len(files), size, unsealed, head[1] if head else None, problems)


def _head(seals: Iterable[BundleFile]) -> tuple[int, str] | None:
    """The number and SHA-256 of the last seal among some files; None without one."""
    found = [(place[0], one.sha256) for one in seals if (place := layout.seal_of(one.key)) and place[1] == "json"]
    return max(found, default=None)


def _paths(out: Path) -> Iterator[str]:
    for folder, _, names in os.walk(out):
        for name in names:
            path = Path(folder, name).relative_to(out).as_posix()
            if path not in (_MARK, "SHA256SUMS"):
                yield path
