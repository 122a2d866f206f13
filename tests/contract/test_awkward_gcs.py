"""Answers of Google Cloud Storage that its emulator never gives: each is damage, or a reason to retry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from archive.archive import Archive
from archive.proof import Damaged
from archive.records import ArchivedObject
from archive.stores.store import MIB, Store, StoreError, StoreRefused, open_store
from lab.stores import environ
from tests.contract.awkward_gcs import AwkwardGcs, GcsManners
from tests.contract.test_stores import chunks_of, data_of

pytestmark = pytest.mark.usefixtures("quick_retries")

DATA = data_of(11 * MIB)
Play = Callable[..., tuple[Store, AwkwardGcs]]


@pytest.fixture
def play() -> Iterator[Play]:
    started: list[AwkwardGcs] = []

    def make(**manners: Any) -> tuple[Store, AwkwardGcs]:
        server = AwkwardGcs(GcsManners(**manners))
        started.append(server)
        with environ(server.environment):
            return open_store("gs://bucket/prefix"), server

    yield make
    for server in started:
        server.stop()


def put(store: Store) -> ArchivedObject:
    return Archive(store).put("a.wav", chunks_of(DATA), "audio/wav")


def test_an_answer_with_another_checksum_is_settled_by_what_lies_there(play: Play) -> None:
    store, server = play(spoils_answers=True)
    assert put(store).proof.by == "checksum"
    assert (server.objects["prefix/a.wav"], server.deleted) == (DATA, [])


def test_stored_bytes_that_differ_from_the_sent_are_damage_and_stay_for_inspection(play: Play) -> None:
    store, server = play(flips=True)
    with pytest.raises(Damaged, match=r"a\.wav"):
        put(store)
    assert "prefix/a.wav" in server.objects
    assert server.deleted == []


@pytest.mark.parametrize("fault", ["keeps_half", "forgets"])
def test_an_upload_that_went_wrong_at_the_store_is_begun_again(fault: str, play: Play) -> None:
    store, server = play(**{fault: 1})
    with pytest.raises(StoreError) as raised:
        put(store)
    assert not isinstance(raised.value, StoreRefused)
    assert server.objects == {}
    assert put(store).size == len(DATA)
    assert server.objects["prefix/a.wav"] == DATA


def test_an_object_that_changes_during_a_read_is_reported(play: Play) -> None:
    store, _ = play()
    put(store)
    store, server = play(replaces=True)
    server.objects["prefix/a.wav"] = DATA
    with pytest.raises(StoreError, match="changed while it was read"):
        b"".join(store.read("a.wav"))


def test_another_part_than_was_asked_for_is_reported(play: Play) -> None:
    store, server = play(shifts=5)
    server.objects["prefix/a.wav"] = DATA
    with pytest.raises(
        StoreError, match=r"^gs://bucket/prefix/a\.wav: the store answered with Content-Range 'bytes 95-"
    ):
        b"".join(store.read("a.wav", 100, 200))


@pytest.mark.parametrize("fault", [{"statuses": [503] * 100}, {"loses_answers": 100}])
def test_a_store_that_is_away_is_an_outage_whose_error_shows_no_address_of_an_upload(
    fault: dict[str, Any], play: Play
) -> None:
    store, _ = play(**fault)
    with pytest.raises(StoreError) as raised:
        put(store)
    assert not isinstance(raised.value, StoreRefused)
    assert "upload_id" not in str(raised.value)


def test_an_answer_lost_after_the_store_took_the_object_is_asked_for_again(play: Play) -> None:
    store, server = play(loses_answers=1)
    assert put(store).size == len(DATA)
    assert server.objects["prefix/a.wav"] == DATA
