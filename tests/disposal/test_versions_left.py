"""On Azure with versions, a killed deletion may leave the last version of an object: the next run sees it."""

from __future__ import annotations

from typing import Any

import pytest

from archive import layout
from archive.erase import erase
from archive.stores.store import Store, StoreError
from tests.disposal.test_disposal import hold, names_of, why_left
from tests.seals.small import SmallArchive
from workers.disposal.run import Disposer
from workers.runtime import Runtime


class LeavesVersions:
    """A store that is cut off once an object is deleted and before its last version is, as Azure can be.

    Attributes:
        cut_at: the name of the object.
        left: the keys of which a version is left.
    """

    def __init__(self, store: Store, cut_at: str) -> None:
        self._store, self.cut_at, self.left = store, cut_at, list[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def erase(self, key: str) -> None:
        if key in self.left:
            self.left.remove(key)
            return
        self._store.erase(key)
        if self.cut_at and key.endswith(self.cut_at):
            self.left.append(key)
            raise StoreError(f"{key}: the process was killed")

    def remains(self, prefix: str) -> list[str]:
        return [key for key in self.left if key.startswith(prefix)]


async def cut_off(runtime: Runtime, small: SmallArchive, at: str, stays: str) -> LeavesVersions:
    """A run that is killed when it has deleted an object of 5-one and not its last version."""
    small.rules(1, rules=[{"name": "default", "keep": "1 day", "stays": stays}])
    runtime.archive.store = store = LeavesVersions(runtime.archive.store, f"/5-one/{at}")
    assert "failed" in why_left(await Disposer(runtime).run()).values()
    assert len(store.left) == 1
    store.cut_at = ""
    return store


@pytest.mark.parametrize("stays", ["metadata", "hashes"])
async def test_the_next_run_deletes_the_version_that_a_killed_one_has_left(
    stays: str, runtime: Runtime, small: SmallArchive
) -> None:
    store = await cut_off(runtime, small, "audio.wav", stays)
    report = await Disposer(runtime).run()
    assert (store.left, why_left(report)) == ([], {})
    left = {"disposed/00000001.json", "recording.json"} if stays == "metadata" else {"erased.json"}
    assert names_of(small, small.folder(5, "5-one")) == {"deleted.json"} | left


async def test_a_hold_that_came_meanwhile_keeps_that_version_too(runtime: Runtime, small: SmallArchive) -> None:
    store = await cut_off(runtime, small, "audio.wav", "metadata")
    hold(runtime, "5-one")
    assert why_left(await Disposer(runtime).run()) == {"5-one": "held"}
    assert store.left == [small.folder(5, "5-one") + "audio.wav"]


async def test_a_person_is_told_of_a_version_by_which_no_rule_can_be_asked(
    runtime: Runtime, small: SmallArchive
) -> None:
    """The commit record goes last, and says which rule applies; who erases the recording deletes what is left of it."""
    store = await cut_off(runtime, small, "recording.json", "hashes")
    report = await Disposer(runtime).run()
    assert why_left(report) == {"5-one": "undone"}
    folder = small.folder(5, "5-one")
    assert layout.commit_key(folder) in report.left[0].why and "callvault erase 5-one --reason" in report.left[0].why
    assert erase(runtime.archive, folder, "x", "y").keys == [layout.commit_key(folder)]
    assert (store.left, why_left(await Disposer(runtime).run())) == ([], {})
