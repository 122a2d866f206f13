"""How many requests the archive gets: what is listed or read twice costs a bucket's owner money and time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from archive.archive import Archive
from archive.decision_records import Decision
from archive.decisions import held_connections, new_id, put_decision
from archive.stores.store import Store, StoredObject, open_store
from lab.servers import RunningSandbox
from lab.worker import archive, own_runtime
from tests.seals.small import LAST, SmallArchive
from text.times import utc_now
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.feed import read_archive
from workers.keys import DELETIONS_DUE
from workers.reconcile.comparison import Tally
from workers.reconcile.reconcile import Days, reconcile_days


class CountingStore:
    """A real store that counts the requests for each key and prefix; `together` reads wait for each other."""

    def __init__(self, store: Store, together: int = 1) -> None:
        self._store = store
        self._together = threading.Barrier(together)
        self.counts: Counter[tuple[str, str]] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        self.counts["list", prefix] += 1
        return self._store.list(prefix)

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        self.counts["read", key] += 1
        self._together.wait(timeout=10)
        return self._store.read(key, start, end)


def test_the_catalogue_reads_the_manifest_of_a_new_seal_once(tmp_path: Path) -> None:
    small = SmallArchive(tmp_path / "archive")
    store = CountingStore(open_store(small.root.as_uri()))
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    read_archive(catalogue, Archive(store), everything=True)
    assert len(catalogue.seals()) == small.sequence
    manifests = {key: n for (what, key), n in store.counts.items() if what == "read" and key.endswith(".sha256")}
    assert manifests == {layout.seal_key(n, "sha256"): 1 for n in range(1, small.sequence + 1)}
    small.recording(LAST, "late")
    small.seal(LAST)
    store.counts.clear()
    read_archive(catalogue, Archive(store), everything=False)
    assert store.counts["read", layout.seal_key(small.sequence, "sha256")] == 1
    catalogue.close()


def test_the_decisions_about_connections_are_read_at_once(tmp_path: Path) -> None:
    held = Archive(open_store(SmallArchive(tmp_path / "archive").root.as_uri()))
    for n in range(8):
        decision = Decision(
            id=new_id(), decision="hold", scope="connection", subject=str(n), why=f"case {n}", by="ann", at=""
        )
        put_decision(held, decision)
    store = CountingStore(held.store, together=8)  # fails if one waits for the other
    assert held_connections(Archive(store)) == {str(n): f"case {n}" for n in range(8)}
    assert store.counts["list", layout.CONNECTION_DECISIONS] == 1


@pytest.mark.parametrize("deletes", [True, False])
async def test_a_reconcile_lists_each_day_once(
    deletes: bool, sandbox: RunningSandbox, deleting: dict[str, str], environment: dict[str, str]
) -> None:
    today = utc_now().date()
    first, until = today - timedelta(days=3), today
    recordings = [sandbox.world.add_recording(seconds=1, started_at=utc_now() - timedelta(days=n)) for n in range(3)]
    async with own_runtime(deleting if deletes else environment) as runtime:
        await archive(runtime, *recordings)
        await runtime.redis.delete(DELETIONS_DUE)
        store = CountingStore(runtime.archive.store)
        runtime.archive.store = store
        assert await reconcile_days(runtime, Days(first, until, "reconcile"), tally := Tally()) == []
        assert (tally.found, tally.missing, tally.scheduled) == (3, 0, 3 * deletes)
        assert await runtime.schedule.count() == 3 * deletes
    days = [layout.day_prefix(first + timedelta(days=n)) for n in range(4)]
    listed = {prefix: n for (what, prefix), n in store.counts.items() if what == "list" and prefix in days}
    assert set(listed.values()) == {1}
