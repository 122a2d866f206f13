"""Rare answers of Azure Blob Storage: each is a conflict, or a reason to retry."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from azure.storage.blob import BlobServiceClient

from archive.archive import Archive, ArchiveConflict
from archive.stores.store import MIB, StoreError, StoreRefused
from lab import stores
from lab.stores import BUCKET, Emulator, behind
from tests.contract.test_stores import chunks_of, data_of, overwrite

DATA = data_of(10 * MIB)  # two blocks to the byte, so that their source ends right before they are committed


@pytest.fixture(scope="module")
def azure() -> Iterator[Emulator]:
    with stores.azure() as running:
        yield running


def chunks_then(act: Callable[[], object]) -> Iterator[bytes]:
    yield from chunks_of(DATA)
    act()


def test_the_lost_answer_to_a_commit_is_no_conflict(azure: Emulator) -> None:
    with behind(azure, 1e9) as (line, emulator):
        archive = Archive(emulator.open("lost"))
        put = archive.put("a", chunks_then(lambda: setattr(line, "lose_answer", True)), "audio/wav")
        assert line.happened == 1
    assert put.size == len(DATA)


@pytest.mark.parametrize("size", [MIB, len(DATA)], ids=["in one request", "in blocks"])
def test_bytes_that_are_damaged_on_their_way_are_refused(size: int, azure: Emulator) -> None:
    with behind(azure, 1e9) as (line, emulator):
        archive = Archive(emulator.open("damaged"))
        line.damages = DATA[1000:1008]
        with pytest.raises(StoreError, match="MD5"):
            archive.put("a", chunks_of(DATA[:size]), "audio/wav")
        assert line.happened
        assert archive.store.stat("a") is None


def test_blocks_that_are_gone_before_they_are_committed_are_sent_again(azure: Emulator) -> None:
    archive = Archive(azure.open("gone"))
    service = BlobServiceClient.from_connection_string(azure.environment["AZURE_STORAGE_CONNECTION_STRING"])
    blob = service.get_blob_client(BUCKET, "gone/a")

    def meddle() -> None:
        blob.commit_block_list([])  # this discards the staged blocks
        blob.delete_blob()

    with pytest.raises(StoreError, match="the upload starts again") as raised:
        archive.put("a", chunks_then(meddle), "audio/wav")
    assert not isinstance(raised.value, StoreRefused)
    assert archive.store.stat("a") is None
    assert archive.put("a", chunks_of(DATA), "audio/wav").size == len(DATA)


def test_an_object_that_another_writer_puts_before_the_commit_stays(azure: Emulator) -> None:
    archive = Archive(azure.open("raced"))
    with pytest.raises(ArchiveConflict):
        archive.put("a", chunks_then(lambda: overwrite(azure, "raced", "a", b"another's")), "audio/wav")
    assert b"".join(archive.store.read("a")) == b"another's"


def test_an_object_that_changes_during_a_read_is_reported(azure: Emulator) -> None:
    store = azure.open("read")
    Archive(store).put("a", chunks_of(DATA), "audio/wav")
    reading = store.read("a")
    next(reading)
    overwrite(azure, "read", "a", DATA[::-1])
    with pytest.raises(StoreError, match="changed while it was read"):
        b"".join(reading)
