"""Jobs that meet a record of an erasure: they finish none that a rule began, and none that something holds since."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from archive import layout
from archive.decision_records import Decision
from archive.decisions import new_id, put_decision
from archive.proof import Damaged
from archive.seals import Chain, folders_of_day
from archive.stores.store import StoredObject
from archive.verify import Verified, verify
from archive.verify_seals import verify_seals
from config.settings import load_settings
from tests.disposal.test_disposal import Watched, hold, names_of, open_case
from tests.seals.small import SmallArchive, ago
from text.times import format_instant, utc_now
from workers.disposal.run import Disposer
from workers.recordings.writing import Erased, refuse_if_erased
from workers.runtime import Runtime

WHOLE = {"audio.wav", "recording.json", "transcriptions/first.json"}


def record_erasure(small: SmallArchive, folder: str, **more: Any) -> None:
    """Write what an erasure writes first, as if it was killed then."""
    rows = [{"key": folder + n, "size": 1, "sha256": small.sha256(folder + n)} for n in sorted(WHOLE)]
    record = {"schema": "callvault.erasure/1", "recording_id": "5-one", "objects": rows, "why": "x", "by": "y"}
    small.write(layout.erasure_key(folder), record | {"erased_at": format_instant(utc_now())} | more)


async def test_no_job_finishes_a_disposal(runtime: Runtime, small: SmallArchive) -> None:
    """Only the process that disposes does: it asks for holds, cases, pauses and other rules, and a job asks for none of these."""
    folder = small.folder(5, "5-one")
    record_erasure(small, folder, rule="default", rules_number=1, ended_at=format_instant(utc_now()))
    with pytest.raises(Erased, match="disposed of"):
        await refuse_if_erased(runtime, folder)
    assert names_of(small, folder) >= WHOLE


@pytest.mark.parametrize("what", ["hold", "case", "connection", "setting", "nothing"])
async def test_no_job_finishes_an_erasure_of_what_is_held_since(
    what: str, runtime: Runtime, small: SmallArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small.folder(5, "5-one")
    commit = small.read(layout.commit_key(folder))
    small.write(layout.commit_key(folder), commit | {"recording": {"id": "5-one", "connection_id": "7"}})
    record_erasure(small, folder)
    if what == "hold":
        hold(runtime, "5-one")
    elif what == "case":
        open_case(runtime, "5-one")
    elif what == "connection":
        about = {"scope": "connection", "subject": "7", "why": "suit", "by": "Ann", "at": "2026-01-01"}
        put_decision(runtime.archive, msgspec.convert({"id": new_id(), "decision": "hold"} | about, Decision))
    elif what == "setting":
        monkeypatch.setenv("CALLVAULT_HOLD_CONNECTIONS", "7")
        runtime = replace(runtime, settings=load_settings())
    with pytest.raises(Erased if what == "nothing" else Damaged):
        await refuse_if_erased(runtime, folder)
    assert (names_of(small, folder) >= WHOLE) == (what != "nothing")


@pytest.mark.parametrize("stays", ["metadata", "hashes"])
async def test_a_day_is_sealed_and_verified_while_its_recordings_are_disposed_of(
    stays: str, runtime: Runtime, small: SmallArchive
) -> None:
    """The record of each disposal has its day sealed again, so on a large day the two always meet; that is no damage."""
    small.rules(1, rules=[{"name": "default", "keep": "1 day", "stays": stays}])
    store, chain = runtime.archive.store, Chain(runtime.archive)
    chain.refresh()
    before = list(store.list(small.folder(5, "5-one")))
    report = await Disposer(runtime).run()
    assert "5-one" in {one.recording_id for one in report.gone}

    class ListedBefore(Watched):
        """Whoever reads the day now has listed it before the disposal began."""

        def list(self, prefix: str) -> Iterator[StoredObject]:
            if prefix not in ("recordings/", layout.day_prefix(ago(5))):
                return store.list(prefix)
            others = (one for one in store.list(prefix) if "/5-one/" not in one.key)
            return iter(sorted([*others, *before], key=lambda one: one.key))

    runtime.archive.store = ListedBefore(store, lambda name, arguments: None)
    folders = {one.prefix: one for one in folders_of_day(runtime.archive, ago(5), chain.of_day(ago(5)))}
    of_it = folders[small.folder(5, "5-one")]
    assert [line.rpartition("/")[2] for line in of_it.lines] == ["deleted.json\n"], "the rest gets a further seal"
    assert (of_it.commit is None) == (stays == "hashes")
    for check in (verify, verify_seals):
        state = check(runtime.archive, Verified())
        assert [problem for problem in state.problems if "/5-one/" in problem.key] == [], check
