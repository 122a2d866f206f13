"""Stores that speak S3 in their own way: fallbacks, conditions, outages, and damage that is always found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from archive.archive import Archive, ArchiveConflict
from archive.source import Source
from archive.stores.store import KeyExists, StoreError, StoreRefused, open_store
from lab.awkward import AwkwardS3, Manners
from lab.lines import TcpProxy
from lab.stores import PART, SMALL_PARTS, environ
from tests.contract.awkward_s3 import LARGE, SIZES, SMALL, Play, put

pytestmark = pytest.mark.usefixtures("quick_retries")

REFUSALS = {
    "R2 refuses the trailer": ({"aws-chunked": (401, "Unauthorized")}, "aws-chunked"),
    "B2 refuses the algorithm": ({"x-amz-sdk-checksum-algorithm": (400, "InvalidArgument")}, "algorithm"),
    "a gateway refuses the checksum": ({"x-amz-checksum-sha256": (403, "SignatureDoesNotMatch")}, "sha256"),
    "another says credentials": ({"x-amz-checksum-sha256": (401, "Unauthorized")}, "sha256"),
    "and one says not implemented": ({"x-amz-checksum-sha256": (501, "NotImplemented")}, "sha256"),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("what", REFUSALS)
def test_a_store_that_refuses_a_header_causes_one_fallback(what: str, size: str, play: Play) -> None:
    refuses, _ = REFUSALS[what]
    if size == "large":
        refuses = refuses | {"x-amz-checksum-crc64nvme": next(iter(refuses.values()))}
    store, server = play(refuses=refuses)
    archived = put(store, SIZES[size])
    assert archived.proof.by == "etag"
    assert server.objects["/bucket/prefix/recordings/a.wav"][0] == SIZES[size]
    server.seen.clear()
    Archive(store).put("recordings/b.wav", iter([SMALL]), "audio/wav")
    assert len([s for s in server.seen if s["method"] == "PUT"]) == 1, "and is not asked again"


def test_a_store_that_knows_no_conditions_is_asked_first(play: Play) -> None:
    store, server = play(refuses={"if-none-match": (501, "NotImplemented")})
    put(store, SMALL)
    with pytest.raises(ArchiveConflict):
        put(store, SMALL + b"x")
    with pytest.raises(KeyExists):
        store.put("recordings/a.wav", Source(iter([b"x"])), "audio/wav", {})
    assert server.objects["/bucket/prefix/recordings/a.wav"][0] == SMALL


def heads_of(server: AwkwardS3, path: str) -> int:
    return sum(asked == ("HEAD", f"/bucket/prefix/{path}") for asked in server.asked)


def test_a_store_that_keeps_conditions_is_not_asked_first(play: Play) -> None:
    store, server = play(checks=True)
    put(store, SMALL)
    assert heads_of(server, "recordings/a.wav") == 1, "of the proof"
    with pytest.raises(KeyExists):
        store.put("recordings/a.wav", Source(iter([b"x"])), "audio/wav", {})
    assert server.objects["/bucket/prefix/recordings/a.wav"][0] == SMALL
    with environ(server.environment):
        another = open_store("s3://bucket/prefix", SMALL_PARTS)
    Archive(another).put("recordings/b.wav", iter([SMALL]), "audio/wav")
    probes = [seen for seen in server.seen if seen["path"].endswith("/probe/condition")]
    assert [seen["if-none-match"] for seen in probes] == ["*"] * 3, "two in the first process, one in each later one"


def test_a_store_that_ignores_conditions_is_asked_first(play: Play) -> None:
    store, server = play(checks=True, conditions=False)
    put(store, SMALL)
    assert heads_of(server, "recordings/a.wav") == 2
    with pytest.raises(KeyExists):
        store.put("recordings/a.wav", Source(iter([b"x"])), "audio/wav", {})
    assert server.objects["/bucket/prefix/recordings/a.wav"][0] == SMALL


def test_an_outage_does_not_show_that_conditions_are_kept(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archive.stores.s3_conditions._ASK_AGAIN_SECONDS", 0)
    store, server = play(checks=True, conditions=False, refusals=[(403, "AccessDenied")] * 4)
    with suppress(StoreError):
        put(store, SMALL)
    for name in "bc":
        Archive(store).put(f"recordings/{name}.wav", iter([SMALL]), "audio/wav")
        assert heads_of(server, f"recordings/{name}.wav") == 2


def test_a_large_object_is_asked_for_first_where_only_puts_are_known_to_keep_conditions(play: Play) -> None:
    store, server = play(checks=True)
    put(store, LARGE)
    with pytest.raises(KeyExists):
        store.put("recordings/a.wav", Source(iter([LARGE])), "audio/wav", {})
    begun = [seen["path"] for seen in server.seen if "uploads" in seen["query"]]
    assert begun == ["/bucket/prefix/probe/multipart", "/bucket/prefix/recordings/a.wav"]


PASSING = [(403, "AccessDenied"), (401, "Unauthorized"), (400, "InvalidArgument"), (501, "NotImplemented")]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("answer", [*PASSING, (400, "RequestTimeout"), (400, "ExpiredToken")])
@pytest.mark.parametrize("times", [1, 2, 3, 4, 5])
def test_a_refusal_that_passes_lowers_nothing(times: int, answer: tuple[int, str], size: str, play: Play) -> None:
    store, server = play(checks=True, refusals=[answer] * times)
    for _ in range(times + 1):
        try:
            put(store, SIZES[size])
            break
        except StoreError:
            continue
    else:
        raise AssertionError("not taken, though the store takes it again")
    assert server.objects["/bucket/prefix/recordings/a.wav"][0] == SIZES[size]
    server.seen.clear()
    assert Archive(store).put("recordings/b.wav", iter([SMALL]), "audio/wav").proof.by == "checksum"
    (sent,) = (seen for seen in server.seen if seen["method"] == "PUT")
    assert "x-amz-checksum-sha256" in sent and sent["if-none-match"] == "*"


@pytest.mark.parametrize("size", SIZES)
def test_a_refused_feature_of_a_store_is_tried_again_after_a_while(
    size: str, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archive.stores.s3_fallbacks._AGAIN_SECONDS", 0)
    store, server = play(refuses=dict(REFUSALS["and one says not implemented"][0]))
    put(store, SMALL)
    server.manners.refuses.clear()
    server.seen.clear()
    Archive(store).put("recordings/c.wav", iter([SIZES[size]]), "audio/wav")
    assert all(
        "x-amz-checksum-sha256" in s or "x-amz-checksum-crc64nvme" in s for s in server.seen if s["method"] == "PUT"
    )


def test_a_store_that_refuses_conditions_takes_large_objects_too(play: Play) -> None:
    store, server = play(refuses={"if-none-match": (501, "NotImplemented")})
    put(store, LARGE)
    assert server.objects["/bucket/prefix/recordings/a.wav"][0] == LARGE
    assert server.uploads == {}
    with pytest.raises(ArchiveConflict):
        put(store, SMALL)


def test_an_upload_that_the_store_calls_damaged_is_not_completed_without_its_checksum(play: Play) -> None:
    store, server = play(checks=True, bad_digests=1)
    with pytest.raises(StoreError, match="damaged in transit"):
        put(store, LARGE)
    assert "/bucket/prefix/recordings/a.wav" not in server.objects
    assert server.uploads == {}
    put(store, LARGE)
    assert "x-amz-checksum-crc64nvme" in [s for s in server.seen if s["path"].endswith("a.wav")][-1]


def test_a_store_without_a_checksum_of_the_whole_is_detected(play: Play) -> None:
    store, server = play(bad_digests=100)
    assert put(store, LARGE).proof.by == "etag"
    assert server.objects["/bucket/prefix/recordings/a.wav"][0] == LARGE


@pytest.mark.parametrize("there", [None, b"another's", LARGE])
def test_after_another_writer_ended_an_upload_the_stored_object_decides(there: bytes | None, play: Play) -> None:
    store, server = play(forgets_uploads=1)

    def chunks() -> Iterator[bytes]:
        for i in range(0, len(LARGE), 65536):
            yield LARGE[i : i + 65536]
        if there is not None:
            store_there(server, there)

    if there is None:
        with pytest.raises(StoreError, match="the upload ended without an object"):
            Archive(store).put("recordings/a.wav", chunks(), "audio/wav")
        put(store, LARGE)
    elif there == LARGE:
        assert Archive(store).put("recordings/a.wav", chunks(), "audio/wav").size == len(LARGE)
    else:
        with pytest.raises(ArchiveConflict):
            Archive(store).put("recordings/a.wav", chunks(), "audio/wav")
        assert server.objects["/bucket/prefix/recordings/a.wav"][0] == there


def store_there(server: AwkwardS3, data: bytes) -> None:
    """Put another writer's object under the key."""
    server.objects["/bucket/prefix/recordings/a.wav"] = (data, {"ETag": '"another"'})


@pytest.mark.parametrize(("url", "prefix"), [("s3://bucket", ""), ("s3://bucket/prefix", "prefix/")])
def test_only_uploads_under_our_own_keys_are_aborted(url: str, prefix: str) -> None:
    ours = "recordings/2026/11/25/id/audio.wav", "recordings/2026/11/25/id/versions/v/audio.mp3"
    others = "backup.tar", "recordings/2026/interview.mov", "recordings/2026/11/25/id/video.mp4", "media/x/content"
    server = AwkwardS3(Manners(unfinished=tuple(prefix + key for key in (*ours, *others))))
    with environ(server.environment):
        assert open_store(url).remove_orphans() == len(ours)
    assert server.aborted == [f"/bucket/{prefix}{key}" for key in ours]
    server.stop()


@pytest.mark.parametrize("answer", [(503, "SlowDown"), (400, "RequestTimeout"), (403, "AccessDenied")])
def test_an_outage_during_the_checksum_probe_settles_nothing(
    answer: tuple[int, str], play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archive.stores.s3_checks._ASK_AGAIN_SECONDS", 0)
    store, server = play(checks=True, probe_failures=[answer] * 5)
    for number in range(5):
        with suppress(StoreError):
            Archive(store).put(f"recordings/{number}.wav", iter([SMALL]), "audio/wav")
    assert server.manners.probe_failures == []
    assert Archive(store).put("recordings/b.wav", iter([SMALL]), "audio/wav").proof.by == "checksum"


def test_without_a_checksum_header_the_bodys_hash_is_in_the_signature(play: Play) -> None:
    import hashlib

    store, server = play(refuses={"x-amz-checksum-sha256": (400, "InvalidArgument")})
    put(store, SMALL)
    last = [s for s in server.seen if s["path"].endswith("a.wav")][-1]
    assert last["x-amz-content-sha256"] == hashlib.sha256(SMALL).hexdigest()
    assert "x-amz-checksum-sha256" not in last


def test_wrong_credentials_raise_their_own_error_and_start_no_fallback(play: Play) -> None:
    store, _ = play(refuses={"authorization": (403, "InvalidAccessKeyId")})
    with pytest.raises(StoreRefused, match="InvalidAccessKeyId"):
        put(store, SMALL)


@pytest.mark.parametrize("size", SIZES)
def test_every_write_carries_its_condition_and_its_checksum(size: str, play: Play) -> None:
    store, server = play(checks=True)
    put(store, SIZES[size])
    writes = [s for s in server.seen if s["path"].endswith("a.wav")]
    final = writes[-1]
    assert final["if-none-match"] == "*"
    if size == "small":
        assert "x-amz-checksum-sha256" in final
    else:
        parts = [s for s in writes if "partNumber" in s["query"]]
        assert len(parts) == 3
        assert all("x-amz-checksum-crc64nvme" in s for s in parts)
        assert "x-amz-checksum-crc64nvme" in final
        assert {int(s["content-length"]) for s in parts[:-1]} == {PART}, "parts of equal size"


@pytest.mark.parametrize("label", ["metadata", "tags"])
@pytest.mark.parametrize("size", SIZES)
def test_the_users_protections_go_with_the_first_request_of_every_upload(size: str, label: Any) -> None:
    server = AwkwardS3(Manners(checks=True))
    options = replace(
        SMALL_PARTS, encryption_key="k", retention=timedelta(days=1), label=label, storage_class="GLACIER_IR"
    )
    with environ(server.environment):
        store = open_store("s3://bucket/prefix", options)
    store.put("a.wav", Source(iter([SIZES[size]])), "audio/wav", {"connection_id": "1"})
    first = next(s for s in server.seen if s["path"].endswith("a.wav"))
    assert first["x-amz-object-lock-mode"] == "GOVERNANCE"
    assert "x-amz-object-lock-retain-until-date" in first
    assert first["x-amz-server-side-encryption-aws-kms-key-id"] == "k"
    named = {"metadata": ("x-amz-meta-connection_id", "1"), "tags": ("x-amz-tagging", "connection_id=1")}[label]
    assert first[named[0]] == named[1]
    assert first["x-amz-storage-class"] == "GLACIER_IR"
    server.stop()


def test_a_409_is_retried(play: Play) -> None:
    store, server = play(conflicts=2)
    put(store, SMALL)
    assert server.manners.conflicts == 0
    store, _ = play(conflicts=100)
    with pytest.raises(StoreError, match="another write is in progress"):
        put(store, SMALL)


@pytest.mark.parametrize("status", [500, 502, 503])
@pytest.mark.parametrize("size", SIZES)
def test_transient_errors_are_retried_by_the_sdk(size: str, status: int, play: Play) -> None:
    store, _ = play(failures=[status, status])
    assert put(store, SIZES[size]).size == len(SIZES[size])


@pytest.mark.parametrize("size", SIZES)
def test_an_answer_lost_after_the_store_took_the_object_is_no_conflict(size: str, play: Play) -> None:
    """The SDK sends it again, the condition reports an existing object, and that object is ours."""
    store, server = play(loses_answers=1)
    archived = put(store, SIZES[size])
    assert archived.size == len(SIZES[size])
    assert server.objects["/bucket/prefix/recordings/a.wav"][0] == SIZES[size]


@pytest.mark.parametrize("tenth", range(10))
def test_a_connection_cut_at_every_tenth_of_the_upload_never_leaves_damage(tenth: int, play: Play) -> None:
    _, server = play(checks=True)
    with TcpProxy(server.port) as proxy:
        with environ(server.environment | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.port}"}):
            store = open_store("s3://bucket/prefix", SMALL_PARTS)
        store.stat("warm")
        proxy.cut_after = tenth * PART // 10 + 1
        try:
            archived = put(store, LARGE)
        except StoreError:
            assert "/bucket/prefix/recordings/a.wav" not in server.objects
            archived = put(store, LARGE)
        assert proxy.happened == 1
        assert archived.size == len(LARGE)
        assert server.objects["/bucket/prefix/recordings/a.wav"][0] == LARGE


def test_a_missing_permission_is_named(play: Play) -> None:
    store, _ = play(refuses={"if-none-match": (403, "AccessDenied"), "authorization": (403, "AccessDenied")})
    with pytest.raises(StoreRefused, match="s3:PutObject"):
        put(store, SMALL)


def test_a_bucket_that_no_store_can_have_is_refused_in_one_line(play: Play) -> None:
    _, server = play()
    with environ(server.environment):
        store = open_store("s3://$odd")
    with pytest.raises(StoreRefused) as raised:
        store.stat("a")
    assert "\n" not in str(raised.value)
