"""Disposal in an archive in which somebody may write: no record that was put there or changed makes a recording go early."""

from __future__ import annotations

from typing import Any

import pytest

from archive import layout
from tests.disposal.test_disposal import Watched, hold, names_of, why_left
from tests.seals.small import SmallArchive, noon
from text.times import format_instant, utc_now
from workers.disposal.run import Disposer
from workers.runtime import Runtime


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
