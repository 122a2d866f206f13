"""What proves an object where a store keeps less than it claims: a checksum, an ETag, or its bytes read back."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from archive.archive import Archive
from archive.proof import Damaged, ProofMode
from archive.stores.s3_md5s import Forms
from archive.stores.store import StoredObject, StoreError, open_store
from lab.stores import SMALL_PARTS, environ
from tests.contract.awkward_s3 import LARGE, SIZES, SMALL, Play, put

pytestmark = pytest.mark.usefixtures("quick_retries")


def test_a_store_that_checks_is_believed_and_keeps_nothing_of_the_wrong_put(play: Play) -> None:
    store, server = play(checks=True)
    assert put(store, SMALL).proof.by == "checksum"
    assert list(server.objects) == ["/bucket/prefix/probe/condition", "/bucket/prefix/recordings/a.wav"]


@pytest.mark.parametrize("checks", [True, False])
def test_a_reader_writes_nothing_and_relies_on_earlier_findings(checks: bool, play: Play) -> None:
    writer, server = play(checks=checks, echoes=not checks)
    archived = put(writer, SMALL)
    held, written = dict(server.objects), len(server.seen)
    with environ(server.environment):
        reader = open_store("s3://bucket/prefix", SMALL_PARTS)
    found = reader.stat(archived.key)
    assert found is not None and bool(found.checksums) == checks
    assert reader.stat("none") is None and b"".join(reader.read(archived.key)) == SMALL
    assert (server.objects, len(server.seen)) == (held, written)


def test_a_store_that_echoes_checksums_is_detected(play: Play) -> None:
    store, _ = play(echoes=True)
    assert put(store, SMALL).proof.by == "etag"


def test_a_store_whose_etags_are_no_md5s_is_read_back(play: Play) -> None:
    plain: tuple[dict[str, Any], ...] = ({"echoes": True, "md5_etags": False}, {"md5_etags": False})
    for manners in plain:
        store, _ = play(**manners)
        for data in SIZES.values():
            assert Archive(store).put(f"x{len(data)}", iter([data]), "audio/wav").proof.by == "read-back"


def test_a_large_object_is_proven_by_the_md5_of_its_parts_or_of_all_its_bytes_whichever_is_the_etag(play: Play) -> None:
    store, server = play()
    archive = Archive(store)

    def proofs(name: str) -> list[str]:
        return [archive.put(f"{name}{n}", iter([LARGE]), "audio/wav").proof.by for n in range(2)]

    assert proofs("parts") == ["etag", "etag"]
    server.manners.whole_etags = True
    assert proofs("whole") == ["read-back", "etag"], "the last object shows that it computes"
    server.manners.whole_etags = False
    assert proofs("parts again") == ["read-back", "etag"]


def test_an_object_of_the_first_process_shows_each_later_one_which_md5_to_compute(play: Play) -> None:
    store, server = play(whole_etags=True)
    assert put(store, LARGE).proof.by == "etag"
    with environ(server.environment):
        later = Archive(open_store("s3://bucket/prefix", SMALL_PARTS))
    server.manners.whole_etags = False
    proofs = [later.put(f"recordings/{n}.wav", iter([LARGE]), "audio/wav").proof.by for n in range(2)]
    assert proofs == ["read-back", "etag"], "it computes what the probe shows, then what its last object shows"
    probe = "/bucket/prefix/probe/multipart"
    assert len([seen for seen in server.seen if seen["path"] == probe and "uploads" in seen["query"]]) == 1


def test_uploads_that_begin_together_ask_once_which_md5_to_compute_and_compute_both_without_an_answer() -> None:
    asked: list[bool] = []

    def probe(fails: bool) -> StoredObject:
        asked.append(fails)
        time.sleep(0.05)
        if fails:
            raise StoreError("away")
        return StoredObject("probe/multipart", 72, etag="0" * 32)

    for fails, forms in ((True, ("parts", "whole")), (False, ("whole",))):
        of_process, asked[:] = Forms(None), []
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda _, f=fails, o=of_process: o.to_compute(lambda: probe(f)), range(8)))
        assert found == [forms] * 8 and asked == [fails]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("rung", "manners", "mode"),
    [
        ("checksum", {"checks": True}, "store"),
        ("etag", {}, "store"),
        ("etag of all the bytes", {"whole_etags": True}, "store"),
        ("etag of one that echoes", {"echoes": True}, "store"),
        ("read-back", {"md5_etags": False}, "store"),
        ("read-back of one that echoes", {"md5_etags": False, "echoes": True}, "store"),
        ("read-back demanded", {"echoes": True}, "read-back"),
    ],
)
def test_a_flipped_byte_is_found_at_every_proof_level(
    rung: str, manners: dict[str, Any], mode: ProofMode, size: str, play: Play
) -> None:
    store, server = play(flips=True, **manners)
    with pytest.raises((Damaged, StoreError)):
        put(store, SIZES[size], mode)
    assert not [path for path in server.objects if path.endswith("recording.json")]
