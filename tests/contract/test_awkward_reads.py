"""Stores that answer a read or a listing with something else than was asked for."""

from __future__ import annotations

import pytest

from archive.stores.store import StoreError
from tests.contract.awkward_s3 import LARGE, SMALL, Play, put

pytestmark = pytest.mark.usefixtures("quick_retries")


@pytest.mark.parametrize("what", ["list", "erase"])
def test_a_list_that_is_cut_short_is_no_list(what: str, play: Play) -> None:
    lists = "<R><IsTruncated>true</IsTruncated><Contents><Key>prefix/a</Key><Size>1</Size></Contents></R>"
    store, _ = play(lists=lists)
    with pytest.raises(StoreError, match="listing is incomplete"):
        list(store.list("")) if what == "list" else store.erase("a")


@pytest.mark.parametrize(
    ("answer", "is_erased"),
    [((501, "NotImplemented"), True), ((405, "MethodNotAllowed"), True), ((400, "InvalidRequest"), True),
     ((400, "ExpiredToken"), False), ((400, "RequestTimeout"), False), ((403, "AccessDenied"), False)],
)  # fmt: skip
def test_versions_are_skipped_only_if_the_store_reports_that_it_keeps_none(
    answer: tuple[int, str], is_erased: bool, play: Play
) -> None:
    store, server = play(lists=answer)
    put(store, SMALL)
    if is_erased:
        store.erase("recordings/a.wav")
    else:
        with pytest.raises(StoreError):
            store.erase("recordings/a.wav")
    assert ("/bucket/prefix/recordings/a.wav" in server.objects) != is_erased


def test_a_range_that_is_answered_with_the_whole_is_cut(play: Play) -> None:
    store, _ = play()
    put(store, LARGE)
    for start, end in ((0, 10), (5, 700_000), (len(LARGE) - 3, None), (len(LARGE) - 3, len(LARGE) + 5)):
        assert b"".join(store.read("recordings/a.wav", start, end)) == LARGE[start:end]


@pytest.mark.parametrize(
    ("given", "sent", "span", "is_right"),
    [
        ("bytes 10-19/1000", (10, 20), (10, 20), True),
        ("bytes 990-999/1000", (990, 1000), (990, 2000), True),
        ("bytes 990-999/1000", (990, 1000), (990, None), True),
        ("bytes 10-19/*", (10, 20), (10, 20), True),
        ("bytes 0-9/1000", (0, 10), (10, 20), False),
        ("bytes 10-17/1000", (10, 18), (10, 20), False),
        ("bytes 10-29/1000", (10, 30), (10, 20), False),
        ("bytes 990-994/1000", (990, 995), (990, None), False),
        ("bytes 10-14/*", (10, 15), (10, 20), False),
        ("bytes 990-994/*", (990, 995), (990, None), False),
        ("bytes 10-19/1000", (10, 15), (10, 20), False),
        ("bytes 10-19/1000", (10, 25), (10, 20), False),
        ("items 10-19/1000", (10, 20), (10, 20), False),
        ("bytes 0-499/1000", (0, 500), (0, None), False),
        ("bytes 0-999/1000", (0, 1000), (0, None), True),
    ],
)
def test_a_part_is_given_only_if_it_is_the_part_that_was_asked_for(
    given: str, sent: tuple[int, int], span: tuple[int, int | None], is_right: bool, play: Play
) -> None:
    store, server = play()
    put(store, SMALL)
    server.manners.reads, server.manners.sends = (206, {"content-range": given}), sent
    if is_right:
        assert b"".join(store.read("recordings/a.wav", *span)) == SMALL[slice(*span)]
        return
    with pytest.raises(StoreError, match=r"^s3://bucket/prefix/recordings/a\.wav: the store (answered|sent) "):
        b"".join(store.read("recordings/a.wav", *span))


def test_a_compressed_answer_is_not_taken_for_the_object(play: Play) -> None:
    store, server = play()
    put(store, SMALL)
    assert b"".join(store.read("recordings/a.wav")) == SMALL and server.codings == {"identity"}, "none is asked for"
    server.manners.reads = (200, {"content-encoding": "gzip"})
    with pytest.raises(StoreError, match="compressed"):
        b"".join(store.read("recordings/a.wav"))
