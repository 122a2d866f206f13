"""What the file store promises beyond the contract of every store."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from archive.source import Source
from archive.stores.file import FileStore
from archive.stores.store import StoreError, StoreRefused, open_store


def store_at(path: Path) -> FileStore:
    store = open_store(path.as_uri())
    store.create_place()
    assert isinstance(store, FileStore)
    return store


@pytest.mark.parametrize("key", ["../a", "a/../../b", "/etc/passwd", "a//b", "", ".", "a/.", ".incoming/x", "a\0b"])
def test_a_key_never_leaves_the_archive(key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a valid key"):
        store_at(tmp_path).put(key, Source(iter([b"x"])), "text/plain", {})


def test_leftovers_of_killed_writers_are_removed_once_they_are_old(tmp_path: Path) -> None:
    incoming = tmp_path / ".incoming"
    incoming.mkdir()
    (tmp_path / "lost+found").mkdir(mode=0)  # at the root of a disk
    young = "1" * 32
    for name, age in (("0" * 32, 25 * 3600), (young, 3600), ("another's.part", 25 * 3600)):
        (incoming / name).write_bytes(b"x")
        os.utime(incoming / name, (time.time() - age,) * 2)
    assert store_at(tmp_path).remove_orphans() == 1
    assert sorted(path.name for path in incoming.iterdir()) == [young, "another's.part"]


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreRefused, match="cannot create the folder"):
        open_store((tmp_path / "file" / "archive").as_uri()).create_place()


def test_keys_are_listed_in_the_order_of_object_stores(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    keys = ["a-b/1", "a/1", "a/1/2", "a0/1", "b"]
    for key in (k for k in keys if k != "a/1"):
        store.put(key, Source(iter([b"x"])), "text/plain", {})
    assert [o.key for o in store.list("")] == sorted(k for k in keys if k != "a/1")
    assert [o.key for o in store.list("a/")] == ["a/1/2"]
    assert [o.key for o in store.list("a")] == ["a-b/1", "a/1/2", "a0/1"]
    assert list(store.list("nothing/")) == []


def test_a_name_that_is_not_text_is_listed_with_its_bytes_escaped(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    folder = tmp_path / os.fsdecode(b"r\xff")
    folder.mkdir()
    for name in (b"a", b"b\xfe"):
        (folder / os.fsdecode(name)).write_bytes(b"x")
    assert [o.key for o in store.list("r")] == ["r\\xff/a", "r\\xff/b\\xfe"]


def test_an_unknown_store_is_one_clear_line() -> None:
    with pytest.raises(StoreRefused, match=r"unknown store ftp://; use az://"):
        open_store("ftp://x")


def test_small_objects_that_cannot_be_read_leave_no_file_open(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    for n in range(30):
        (tmp_path / f"{n}.json").write_bytes(b"{}")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(StoreError, match=r"folder\.json"):
        store.read_small([*(f"{n}.json" for n in range(20)), "folder.json", *(f"{n}.json" for n in range(20, 30))], 100)
    opened = [one.resolve() for one in Path("/proc/self/fd").iterdir()]
    assert [path for path in opened if path.is_relative_to(tmp_path.resolve())] == []
