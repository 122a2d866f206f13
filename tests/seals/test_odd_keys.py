"""Keys that nobody of ours wrote: each belongs to an unknown object, with an answer, whoever looks at it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive import kinds, layout
from archive.archive import Archive
from archive.decisions import all_holds, decisions_about, decisions_on, held_connections, standing_holds
from archive.erase import what_is_left
from archive.erasures import Erasures, Removed
from archive.folder import folders_in, read_folder
from archive.problems import advice_for
from archive.register import look, read_register, record_damage
from archive.sealed import SealedRecordings
from archive.seals import Chain, Manifest, folders_of_day, objects_of_day, present_seals
from archive.source import Source
from archive.stores.store import open_store
from archive.verify import Verified, count_recordings, verify
from archive.verify_seals import count_seals, verify_seals
from lab import stores
from lab.stores import BUCKET, Emulator, environ
from service.ops.life import read_life
from tests.seals.small import LAST, SmallArchive, ago
from tests.seals.test_same_verdict import by_script
from tests.seals.test_same_verdict import verify as verified_by_us
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.feed import read_archive, take_folder
from workers.catalogue.rows import row_of
from workers.deletion.duties import stated_duties
from workers.reconcile.archived_days import ArchivedDays, without_receipt

OPEN = LAST - 2  # how many days ago the day is that no seal lists yet
DAY, HEX = layout.day_prefix(ago(OPEN)), "0" * 64
FOLDER = layout.recording_folder(ago(OPEN), "whole")
MEDIA, LOGS = layout.day_prefix(ago(OPEN), "media"), layout.day_prefix(ago(OPEN), "log-messages")
# Of unknown objects. An ending slash makes no file, `..` leaves a folder, and a slash in front or two say something else.
IN_A_FOLDER = [
    *(
        FOLDER + name
        for name in (".hidden", "recording.json.bak", "audio.wav.part", "audio.ogg", "versions/v/notes.txt")
    ),
    *(FOLDER + name for name in ("versions/a/b/recording.json", "transcriptions/t", "transcriptions/a/b.json")),
    *(FOLDER + name for name in ("transcriptions/%61.json", "transcriptions/..json", "versions/%61/recording.json")),
    *(FOLDER + name for name in ("decisions/a/b.json", f"a\n{HEX}  {DAY}x/recording.json", "transcriptions/a\nb.json")),
]
OF_THE_DAY = [
    *(
        DAY + name
        for name in ("x", "%61/recording.json", "%zz/recording.json", "\u00e9/recording.json", "a\nb/deleted.json")
    ),
    f"{DAY}%77hole/recording.json",  # the id `whole`, in another encoding
    *(MEDIA + name for name in ("x", "n/v/content", f"n/{HEX}/notes.txt", f"%6e/{HEX}/media.json")),
    *(LOGS + name for name in ("a/b.json", "%61.json", "x.json.bak", ".hidden")),
]
OF_NO_DAY = [
    "recordings/x", "recordings/0001/01/01/x/recording.json", "recordings/1899/12/31/x/recording.json",
    "recordings/2026/02/30/x/recording.json", "recordings/2026/W48/3/x/recording.json",
    "recordings/\u0662\u0660\u0662\u0666/01/01/x/recording.json", "recordings/2026/1/1/x/recording.json",
]  # fmt: skip
ELSEWHERE = [
    "seals/1.json", "seals/.hidden", "seals/0000000001.json.bak", f"seals/{chr(0x660) * 10}.json",
    "catalogue/.hidden", "catalogue/day=2026-11-20/notes.txt", "media/x", "log-messages/x.json",
    "decisions/x", "decisions/connections/8", "decisions/connections/7/a/b.json", "decisions/connections/%37/d.json",
    "decisions/everything/a/b.json", "decisions/nobody/7/d.json", "duties/y", "duties/u/x.json", "duties/u/1/2.json",
    f"duties/u/{'9' * 30}.json", "damage/z", "damage/x/y.json", "damage/%61/00000001.json", f"damage/x/{'9' * 30}.json",
    "retention/x", "retention/00000001.json.bak", "retention/u/00000001.json", "retention/.hidden",
    "transcribing/a/b.json", "transcribing/.hidden", "archive.json.bak", ".hidden", "probe/x", "other",
]  # fmt: skip
IN_BUCKETS_ALONE = [
    f"{FOLDER}", f"{FOLDER}transcriptions/", f"{FOLDER}transcriptions/../recording.json", f"{FOLDER}versions//recording.json",
    f"{DAY}/recording.json", f"{DAY}../x/recording.json", f"{DAY}./recording.json", f"{DAY}{'a' * 900}/recording.json",
    f"{DAY}{'x/' * 400}", f"{LOGS}{'a' * 300}.json", "decisions//d.json", "damage//00000001.json", "duties//00000001.json",
    "transcribing/", "seals/", "archive.json/", "/outside.json", f"/{FOLDER}recording.json", "../x",
    f"{FOLDER}{'a' * (1024 - len(FOLDER) - len('odd/'))}",
]  # fmt: skip
ODD = [*IN_A_FOLDER, *OF_THE_DAY, *OF_NO_DAY, *ELSEWHERE]
HELD = {"7": "a decision cannot be read"}  # what may be a hold counts as one


@pytest.mark.parametrize("key", [*ODD, *IN_BUCKETS_ALONE, "", "/", "archive.json\n", "seals/0000000001.json "])
def test_an_odd_key_is_of_no_kind(key: str) -> None:
    place = kinds.place_of(key)
    assert (place.kind, place.names) == (None, ())
    assert key.startswith(place.folder)
    assert (place.recording_id == "whole") == key.startswith(FOLDER)
    assert not kinds.is_key_of_parts(key)
    assert advice_for(key, "missing") == f"restore {key} from a copy of the archive"


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A bucket, which takes keys that no folder can hold."""
    with stores.gcs(tmp_path_factory.mktemp("gcs")) as running:
        yield running


def small_archive(root: Path) -> SmallArchive:
    small = SmallArchive(root)
    small.recording(OPEN, "whole")
    return small


@pytest.fixture(params=["file", "gcs"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Archive, list[str]]:
    """An archive with all odd keys that its store takes."""
    small = small_archive(tmp_path / "archive")
    if request.param == "file":
        for key in ODD:
            small.write(key, b"{}")
        return Archive(open_store(small.root.as_uri())), ODD
    gcs: Emulator = request.getfixturevalue("gcs")
    store = gcs.open("odd")
    if next(iter(store.list("")), None) is None:
        for path in filter(Path.is_file, small.root.rglob("*")):
            store.put(path.relative_to(small.root).as_posix(), Source(path.read_bytes()), "text/plain", {})
        with environ(gcs.environment):
            from google.cloud import storage

            bucket = storage.Client(project="p").bucket(BUCKET)
            for key in (*ODD, *IN_BUCKETS_ALONE):
                bucket.blob(f"odd/{key}").upload_from_string(b"{}")
    return Archive(store), [*ODD, *IN_BUCKETS_ALONE]


def is_listed(key: str, *prefixes: str) -> bool:
    return key.startswith(prefixes)


def test_verify_calls_each_unknown(odd: tuple[Archive, list[str]]) -> None:
    archive, keys = odd
    found = {(p.kind, p.key) for p in verify(archive, Verified()).problems}
    checked = ("recordings/", "decisions/", "duties/", "damage/", "transcribing/", "retention/")
    assert found == {("unknown", key) for key in keys if is_listed(key, *checked)}
    assert count_recordings(archive, ago(OPEN), ago(OPEN)) >= 1
    found = {(p.kind, p.key) for p in verify_seals(archive, Verified()).problems}
    assert found == {("unlisted", key) for key in keys if is_listed(key, "seals/")}, "no other key is of a sealed day"
    assert count_seals(archive) == len(present_seals(archive)) == len(Chain(archive).refresh())


def test_a_day_with_odd_keys_is_sealed_and_verify_agrees(odd: tuple[Archive, list[str]], tmp_path: Path) -> None:
    archive, keys = odd
    with Manifest() as manifest:
        for folder in folders_of_day(archive, ago(OPEN), ()):
            manifest.add(folder)
            row = row_of(folder)
            assert (row is not None) == (folder.prefix == FOLDER)
        lines = b"".join(manifest.chunks()).decode().splitlines()
        assert (manifest.recordings, manifest.transcriptions, manifest.not_archived) == (1, 1, 0)
    of_day = [stored.key for stored in objects_of_day(archive, ago(OPEN))]
    assert [line[66:] for line in lines] == [key for key in of_day if "\n" not in key]
    assert all(line[:64] == hashlib.sha256(b"{}").hexdigest() for line in lines if line[66:] in keys)
    assert manifest.objects == len(lines)


def test_a_medium_with_an_odd_key_between_its_own_is_sealed_and_verify_agrees(tmp_path: Path) -> None:
    small = SmallArchive(tmp_path / "archive")
    folder, sha256 = layout.media_folder(ago(OPEN), "greeting", HEX), hashlib.sha256(b"a greeting").hexdigest()
    proof = {"by": "read-back", "algorithm": "sha256", "value": sha256, "version": None}
    named = {"key": f"{folder}content", "size": 10, "sha256": sha256, "content_type": "audio/wav", "proof": proof}
    small.write(f"{folder}content", b"a greeting")
    small.write(f"{folder}desktop.ini", b"x")
    small.write(f"{folder}media.json", {"schema": "callvault.media/1", "media": {}, "object": named})
    archive = Archive(open_store(small.root.as_uri()))
    (found,) = folders_of_day(archive, ago(OPEN), ())
    assert (found.prefix, [line[66:-1] for line in found.lines]) == (folder, sorted(found.present))
    small.seal(OPEN)
    assert verify_seals(archive, Verified()).problems == []


def test_everything_that_reads_the_archive_has_an_answer(odd: tuple[Archive, list[str]], tmp_path: Path) -> None:
    archive, keys = odd
    days = ArchivedDays(archive)
    assert list(days.walk(ago(OPEN))) == [FOLDER]
    assert days.has_recording(ago(OPEN), "whole") and not days.has_recording(ago(OPEN), "a")
    assert days.has_transcription(ago(OPEN), "whole", "first")
    assert not days.has_transcription(ago(OPEN), "whole", "a")
    every = [*folders_in(archive.store.list(""))]
    assert sum(len(folder.objects) for folder in every) == sum(1 for _ in archive.store.list(""))
    assert FOLDER in set(without_receipt(archive.store.list("recordings/")))
    life = read_life(archive, FOLDER)
    assert (life.seen, [said.id for said in life.said]) == ([], ["first"])
    assert read_folder(archive.store, FOLDER).keys_of(kinds.COMMIT) == [f"{FOLDER}recording.json"]
    assert (read_register(archive), stated_duties(archive)) == ({}, {})
    assert held_connections(archive) == HELD
    assert {(scope, subject) for scope, subject, _ in all_holds(archive)} == {("connection", "7"), ("everything", "")}
    assert standing_holds(decisions_about(archive, "everything"))
    assert standing_holds(decisions_on(archive, FOLDER)), "a key under decisions/ may be a hold"
    assert archive.versions(FOLDER) == []
    assert set(what_is_left(archive, FOLDER)) >= {key for key in keys if key.startswith(FOLDER)}
    assert Erasures(archive, None, None).read(FOLDER, archive.keys_of(FOLDER)) == Removed()
    sealed = SealedRecordings(archive)
    chain = Chain(archive)
    chain.refresh()
    sealed.follow(chain)
    sealed.read_day(ago(5))
    assert not any(sealed.lists(key) for key in keys)


def test_the_catalogue_knows_nothing_of_odd_keys(odd: tuple[Archive, list[str]], tmp_path: Path) -> None:
    archive, keys = odd
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    read_archive(catalogue, archive, everything=True)
    before = catalogue.count()
    with catalogue.writing():
        for key in keys:
            assert catalogue.knows(key)
            catalogue.apply(key, b"{")
        catalogue.put_seal(99, ago(OPEN).isoformat(), keys)
    take_folder(catalogue, archive, FOLDER)
    assert (
        catalogue.count()
        == before
        == len({f.recording_id for f in folders_in(archive.store.list("recordings/")) if f.has(kinds.COMMIT)})
    )
    catalogue.close()


def test_damage_to_an_odd_key_is_recorded_and_looked_at(tmp_path: Path) -> None:
    small = small_archive(tmp_path / "archive")
    archive = Archive(open_store(small.root.as_uri()))
    for key in (FOLDER + ".hidden", "damage/x/y.json", "seals/1.json", "archive.json.bak"):
        small.write(key, b"{}")
        row = record_damage(archive, key, "damaged", "odd", "verify", "2026-11-20T00:00:00Z")
        assert record_damage(archive, key, "damaged", "odd", "verify", "later").number == row.number == 1
        problem = look(archive, key)
        assert (problem is None) == (key == "archive.json.bak"), key
        assert read_register(archive)[key] == row


def test_the_script_gives_the_same_answers(tmp_path: Path) -> None:
    small = small_archive(tmp_path / "archive")
    for key in (key for key in ODD if "\n" not in key):  # a line of its output names a key
        small.write(key, b"{}")
    code, report = verified_by_us(small.root, tmp_path)
    assert by_script(small.root) == (code, {(p["kind"], p["key"]) for p in report["problems"]})
    assert code == 1


def test_a_file_whose_name_is_not_utf_8_is_unknown(tmp_path: Path) -> None:
    small = small_archive(tmp_path / "archive")
    for name in (b"\xff.txt", b"transcriptions/\xff.json", b"deleted.json\xff"):
        Path(os.fsdecode(os.fsencode(small.root / FOLDER) + b"/" + name)).write_bytes(b"{}")
    archive = Archive(open_store(small.root.as_uri()))
    shown = {FOLDER + name for name in ("\\xff.txt", "transcriptions/\\xff.json", "deleted.json\\xff")}
    with Manifest() as manifest:
        for folder in folders_of_day(archive, ago(OPEN), ()):
            manifest.add(folder)
        assert (manifest.objects, manifest.recordings) == (3, 1), "a manifest cannot name them"
    code, report = verified_by_us(small.root, tmp_path)
    problems = {(p["kind"], p["key"]) for p in report["problems"]}
    assert (code, problems) == (1, {("unknown", key) for key in shown})
    assert by_script(small.root) == (code, problems)
    small.seal(OPEN, only=[key for key in archive.keys_of(DAY) if key not in shown])
    problems |= {("unlisted", key) for key in shown}
    assert by_script(small.root) == (1, problems)
    assert {(p["kind"], p["key"]) for p in verified_by_us(small.root, tmp_path)[1]["problems"]} == problems


def test_a_transcription_on_record_whose_recording_telnyx_does_not_name_is_known(tmp_path: Path) -> None:
    small = small_archive(tmp_path / "archive")
    for recording_id in ("", "whole"):
        small.write(layout.transcription_not_archived_key(ago(OPEN), recording_id, "t"), b"{}")
    days = ArchivedDays(Archive(open_store(small.root.as_uri())))
    days.load(ago(OPEN))
    known = [days.is_transcription_not_archived(ago(OPEN), recording_id, "t") for recording_id in ("", "whole", "x")]
    assert known == [True, True, False]
