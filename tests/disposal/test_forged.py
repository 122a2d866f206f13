"""Disposal in an archive in which somebody may write: no record that was put there or changed makes a recording go early."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from archive.archive import Archive
from archive.erasures import read_removal
from archive.seals import Chain
from archive.stores.store import StoreRefused, open_store
from lab.processes import callvault_here
from service.ops.life import read_life
from tests.disposal.test_disposal import Watched, hold, names_of, why_left
from tests.seals.scripts import run_script
from tests.seals.small import SmallArchive, ago, noon
from text.times import format_instant, utc_now
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.feed import bring_up_to_date
from workers.catalogue.reach import EVERYTHING
from workers.catalogue.search import search_ids
from workers.catalogue.undone import undone
from workers.disposal.certificate import certify
from workers.disposal.run import Disposer
from workers.runtime import Runtime

RULE = {"name": "sound", "channels": 1, "goes": "audio"}


@pytest.mark.parametrize("what", ["commit record", "version"])
async def test_a_record_that_was_changed_after_its_seal_ends_no_term(
    what: str, runtime: Runtime, small: SmallArchive
) -> None:
    """The term is counted from the commit records, which stay themselves: they must be the sealed ones."""
    small.rules(1, rules=[{"name": "default", "keep": "5 years"}])
    folder, key = small.folder(5, "5-one"), layout.commit_key(small.folder(5, "5-one"))
    old = {"archived_at": format_instant(noon(4000))}
    if what == "version":
        small.write(key, small.read(key) | old)
        key = layout.commit_key(small.version(folder, "b" * 64, noon(5)))
        small.seal(5)
    small.write(key, small.read(key) | old)
    report = await Disposer(runtime).run()
    assert why_left(report) == {"5-one": "damaged"}
    assert (folder + "audio.wav" in {folder + name for name in names_of(small, folder)}, report.gone) == (True, [])
    assert "its seal says" in report.left[0].why


async def test_a_version_that_no_seal_lists_yet_keeps_the_recording(runtime: Runtime, small: SmallArchive) -> None:
    folder = small.folder(5, "5-one")
    small.version(folder, "b" * 64, noon(5), audio=None)
    report = await Disposer(runtime).run()
    assert why_left(report) == {"5-one": "not-sealed"}
    assert "audio.wav" in names_of(small, folder)


@pytest.mark.parametrize("fault", ["hash", "unsealed", "receipt", "id", "number"])
async def test_a_record_of_a_disposal_that_somebody_put_there_is_not_continued(
    fault: str, runtime: Runtime, small: SmallArchive
) -> None:
    """Continuing it would sign it, and verify would then take its word for what is missing."""
    folder, copy = small.folder(5, "5-one"), small.folder(7, "7-one")
    name = {"receipt": "deleted.json"}.get(fault, "audio.wav")
    if fault == "unsealed":
        (small.root / folder / "transcriptions/late.json").write_bytes(b"{}")
        name = "transcriptions/late.json"
    data = (small.root / folder / name).read_bytes()
    key = small.dispose(folder, name)
    if fault in ("id", "number"):
        small.write(key, small.read(key) | ({"recording_id": "7-one"} if fault == "id" else {"number": 3}))
    if fault == "hash":
        small.write(key, small.read(key) | {"objects": [{"key": folder + name, "size": 1, "sha256": "0" * 64}]})
    (small.root / folder / name).write_bytes(data)
    if fault == "unsealed":
        small.remove(folder + name)
    report = await Disposer(runtime).run()
    assert why_left(report) == {"5-one": "damaged"}
    assert "audio.wav" in names_of(small, folder)
    assert "audio.wav" not in names_of(small, copy)


async def test_no_record_of_an_erasure_lets_go_what_it_does_not_name(runtime: Runtime, small: SmallArchive) -> None:
    """Else objects would go of which no record says what they were."""
    small.rules(1, rules=[{"name": "default", "keep": "1 day", "stays": "hashes"}])
    folder = small.folder(5, "5-one")
    record = {"schema": "callvault.erasure/1", "recording_id": "5-one", "objects": [], "why": "x", "by": "y"}
    small.write(layout.erasure_key(folder), record | {"erased_at": format_instant(utc_now())})
    report = await Disposer(runtime).run()
    assert why_left(report) == {"5-one": "damaged"}
    assert {"audio.wav", "recording.json"} <= names_of(small, folder)


@pytest.mark.parametrize("at", ["record", "first deletion"])
async def test_a_process_that_was_suspended_after_its_questions_asks_again_before_it_deletes(
    at: str, runtime: Runtime, small: SmallArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.deletion.may_delete import moment

    late = [0.0]
    monkeypatch.setattr("workers.disposal.may_dispose.moment", lambda: tuple(one + late[0] for one in moment()))
    monkeypatch.setattr("workers.deletion.may_delete.moment", lambda: tuple(one + late[0] for one in moment()))

    def suspend(name: str, arguments: tuple[Any, ...]) -> None:
        key = str(arguments[0]) if arguments else ""
        if name == ("put" if at == "record" else "erase") and "/5-one/" in key and not late[0]:
            late[0] = 3600.0
            hold(runtime, "5-one")

    runtime.archive.store = Watched(runtime.archive.store, suspend)
    report = await Disposer(runtime).run()
    assert why_left(report)["5-one"] == "held"
    left = names_of(small, small.folder(5, "5-one"))
    assert ("audio.wav" in left, "disposed/00000001.json" in left) == (at == "record", True)
    assert "transcriptions/first.json" in left


@pytest.mark.parametrize("stays", ["metadata", "hashes"])
async def test_a_recording_whose_audio_is_missing_stays_for_a_person_to_look(
    stays: str, runtime: Runtime, small: SmallArchive
) -> None:
    """It may be evidence; and below a delete marker its bytes would stay, while the recording counts as disposed of."""
    small.rules(1, rules=[{"name": "default", "keep": "1 day", "stays": stays}])
    folder = small.folder(5, "5-one")
    small.remove(folder + "audio.wav")
    report = await Disposer(runtime).run()
    assert why_left(report) == {"5-one": "damaged"}
    assert names_of(small, folder) == {"recording.json", "deleted.json", "transcriptions/first.json"}


@pytest.mark.parametrize("stays", ["metadata", "hashes"])
async def test_a_recording_that_was_held_before_the_first_deletion_is_there_for_everybody(
    stays: str, runtime: Runtime, small: SmallArchive, environment: dict[str, str], tmp_path: Path
) -> None:
    """Its record says that it goes; a hold came first, and a store may refuse the deletion for years."""
    small.rules(1, rules=[{"name": "default", "keep": "1 day", "stays": stays}])

    def hold_first(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "erase" and "/5-one/" in str(arguments[0]):
            raise StoreRefused("locked by a policy of the whole container")

    runtime.archive.store = Watched(runtime.archive.store, hold_first)
    report = await Disposer(runtime).run()
    assert report.stopped is not None and "the store refuses to delete" in report.stopped
    folder = small.folder(5, "5-one")
    record = "erased.json" if stays == "hashes" else "disposed/00000001.json"
    assert {"audio.wav", record} <= names_of(small, folder)
    assert "to be disposed of, and still there" in [one.what for one in read_life(runtime.archive, folder).steps]
    code, out = callvault_here(["deletions", "hold", "5-one", "--why", "suit"], environment)
    assert "too late" not in out and "original was already gone" in out, out
    code, out = callvault_here(["retention", "explain", "5-one", "--json"], environment)
    assert (code, json.loads(out)["gone"], len(json.loads(out)["terms"])) == (0, [], 1)
    code, out = callvault_here(["export", "id:5-one", "--out", str(tmp_path / "case"), "--json"], environment)
    assert (code, json.loads(out)["problems"]) == (0, [])
    (audio,) = (tmp_path / "case" / "audio").iterdir()
    assert audio.read_bytes() == b"audio of 5-one"
    code, _ = callvault_here(["get", "5-one", "--out", str(tmp_path / "5-one.wav")], environment)
    assert (code, (tmp_path / "5-one.wav").read_bytes()) == (0, b"audio of 5-one")
    assert run_script(tmp_path / "case" / "check.py").returncode == 3, "its record of the disposal is in no seal yet"


@pytest.mark.parametrize("has_redis", [True, False])
@pytest.mark.parametrize("stays", ["metadata", "hashes"])
async def test_the_catalogue_shows_what_a_hold_saved_in_the_last_moment_until_it_is_gone(
    stays: str, has_redis: bool, runtime: Runtime, small: SmallArchive, tmp_path: Path
) -> None:
    """Also if a seal lists the record meanwhile, and if the catalogue cannot hear of the rest of the disposal."""
    small.rules(1, rules=[{"name": "default", "keep": "1 day", "stays": stays}])
    catalogue = Catalogue(tmp_path / "catalogue.sqlite3")

    transcript = layout.transcription_key(small.folder(5, "5-one"), "first")

    async def look() -> tuple[str, bool]:
        await bring_up_to_date(catalogue, runtime.archive, runtime.redis if has_redis else None)
        return search_ids(catalogue.path, ["5-one"], EVERYTHING)["5-one"].state, catalogue.knows(transcript)

    is_held = True

    def hold_first(name: str, arguments: tuple[Any, ...]) -> None:
        if is_held and name == "erase" and "/5-one/" in str(arguments[0]):
            raise StoreRefused("held")

    runtime.archive.store = Watched(runtime.archive.store, hold_first)
    assert await look() == ("deleted", True)
    await Disposer(runtime).run()
    record = small.folder(5, "5-one") + ("erased.json" if stays == "hashes" else "disposed/00000001.json")
    await runtime.announce(
        record, read_removal(runtime.archive.read_small(record), record)
    )  # as the next run does at first
    small.seal(5)
    assert await look() == ("deleted", True)
    is_held = False
    await Disposer(runtime).run()
    assert await look() == ("erased" if stays == "hashes" else "disposed", False)
    assert undone(catalogue) == []


@pytest.mark.parametrize("receipt", ["none", "of another recording"])
def test_a_certificate_counts_no_recording_whose_original_may_still_be_at_telnyx(
    receipt: str, small: SmallArchive
) -> None:
    archive = Archive(open_store(small.root.as_uri()))
    chain = Chain(archive)
    chain.refresh()
    for name in ("5-one", "5-two"):
        small.dispose(small.folder(5, name))
    key = small.folder(5, "5-one") + "deleted.json"
    if receipt == "none":
        small.remove(key)
    else:
        small.write(key, small.read(key) | {"recording_id": "7-one"})
    made = certify(archive, chain, ago(12), utc_now().date(), "Ann")
    assert [(one.recording_id, one.original) for one in made.destroyed] == [
        ("5-two", small.folder(5, "5-two") + "deleted.json")
    ]
    (problem,) = made.problems
    assert "at Telnyx" in problem if receipt == "none" else f"{key}: names another recording, 7-one" in problem


@pytest.mark.parametrize("keep", ["5 years", "forever"])
def test_a_record_that_names_an_earlier_end_than_its_rules_give_is_found_out(
    keep: str, small: SmallArchive, environment: dict[str, str], tmp_path: Path
) -> None:
    """Whoever deletes evidence could else explain it by a rule that kept it."""
    small.rules(1, rules=[{"name": "default", "keep": "1 day", "goes": "transcripts"}, RULE | {"keep": keep}])
    key = small.dispose(small.folder(5, "5-one"))
    words = small.dispose(small.folder(5, "5-two"), "transcriptions/first.json", goes=["transcripts"])
    code, out = callvault_here(["verify", "--seals", "--json"], environment)
    (problem,) = json.loads(out)["problems"]
    assert (code, problem["kind"], problem["key"]) == (1, "erasure", key)
    assert "as the end of audio, which applied rules 1 keep " in problem["what"]
    out = callvault_here(["retention", "certificate", "--out", str(tmp_path / "c"), "--json"], environment)[1]
    named = json.loads((tmp_path / "c.json").read_text())["destroyed"]
    assert ([one["record"] for one in named], len(json.loads(out)["problems"])) == ([words], 1)
