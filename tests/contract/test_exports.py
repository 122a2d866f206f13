"""The place of exports on every store: asked for, written in parts of unknown length, read in ranges, ended once, removed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from archive.source import Source
from archive.stores.store import Store
from text.times import format_instant, utc_now
from workers.catalogue.search import Chosen
from workers.export.keep import _clean
from workers.export.place import End, Exports, Request, new_id


def test_an_export_lies_on_every_store_and_goes_after_its_end(store: Store) -> None:
    exports, now = Exports(store, "an-archive"), utc_now()
    assert exports.known_id() == Exports(store, "an-archive").known_id()
    export_id = new_id(now)
    request = Request(export_id, "an-archive", format_instant(now), "Ann", "+1312", 1, 5, [], 24)
    exports.ask(request, [Chosen("2026-11-25", "one", 5)])
    assert exports.chosen(export_id) == [Chosen("2026-11-25", "one", 5)] and exports.is_wanted(export_id)
    chunks = [bytes([n]) * 300_000 for n in range(20)]  # 23 parts
    keys = [exports.put_bundle(export_id, Source(iter(chunks)), is_encrypted=False) for _ in range(2)]
    assert b"".join(store.read(keys[0], 299_999, 300_001)) == b"\x00\x01"
    end = End("ready", format_instant(now), format_instant(now + timedelta(seconds=60)), keys[0], 6_000_000, "ab" * 32)
    assert exports.end(export_id, end) and not exports.end(export_id, End("cancelled", "", ""))
    (found,) = exports.all()
    assert (found.request, found.end, found.is_over) == (request, end, False)
    _clean(exports)
    assert [one.key for one in exports.objects() if "/bundle-" in one.key] == [keys[0]]
    exports.revoke(export_id, "Ann")
    with pytest.MonkeyPatch.context() as patch:  # a clean-up that is stopped after the bundle
        patch.setattr(store, "erase", _erase_once(store))
        with pytest.raises(InterruptedError):
            _clean(exports)
    (found,) = exports.all()
    assert found.is_over and store.stat(keys[0]) is None
    _clean(exports)
    assert list(exports.objects()) == []


def _erase_once(store: Store) -> Callable[[str], None]:
    erase, times = store.erase, iter((True, False))

    def once(key: str) -> None:
        if not next(times, False):
            raise InterruptedError
        erase(key)

    return once
