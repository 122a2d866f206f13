"""How many requests the archive gets: what is listed or read twice costs a bucket's owner money and time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from archive import layout
from archive.archive import Archive
from archive.decisions import held_connections, new_id, put_decision
from archive.records import Decision
from archive.stores.store import Store, StoredObject, open_store
from tests.seals.small import LAST, SmallArchive
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.feed import read_archive


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
    archive = Archive(open_store(SmallArchive(tmp_path / "archive").root.as_uri()))
    for n in range(8):
        decision = Decision(
            id=new_id(), decision="hold", scope="connection", subject=str(n), why=f"case {n}", by="ann", at=""
        )
        put_decision(archive, decision)
    store = CountingStore(archive.store, together=8)  # fails if one waits for the other
    assert held_connections(Archive(store)) == {str(n): f"case {n}" for n in range(8)}
    assert store.counts["list", layout.CONNECTION_DECISIONS] == 1
