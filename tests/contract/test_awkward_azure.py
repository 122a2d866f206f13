"""Rare answers of Azure Blob Storage: each is a conflict, or a reason to retry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.storage.blob import BlobServiceClient

from archive.archive import Archive, ArchiveConflict
from archive.source import Source
from archive.stores.store import LEGAL_HOLD, MIB, RestoreWish, Store, StoreError, StoreRefused, open_store
from lab import stores
from lab.stores import AZURE_ACCOUNT, AZURE_KEY, BUCKET, Emulator, behind, environ
from tests.contract.test_stores import chunks_of, data_of, overwrite

pytestmark = pytest.mark.usefixtures("quick_azure")

_UNTIL = (
    "<ImmutabilityPolicyUntilDate>Thu, 27 Nov 2031 10:00:00 GMT</ImmutabilityPolicyUntilDate>"
    "<ImmutabilityPolicyMode>unlocked</ImmutabilityPolicyMode>"
)
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


@contextmanager
def conflicting(
    code: str, shown: dict[str, str] | None, listed: str = "", part: str = "", *, deletes: bool = False
) -> Iterator[tuple[Store, list[str]]]:
    """A server that shows one blob, with these headers, lists what `listed` has as List Blobs does, and refuses each change with
    409 and a code of blob-service-error-codes. Gives its store, and the method of each change that was asked for.

    To whoever reads the blob it sends ten bytes, with `part` as their Content-Range. Without `shown` the blob is gone. With
    `deletes` it deletes, and a change of a version is given with its id.
    """
    asked: list[str] = []

    class Conflicting(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(404, {"x-ms-error-code": "BlobNotFound"}) if shown is None else self._answer(200, shown)

        def do_GET(self) -> None:
            if part:
                self._answer(206, {"Content-Length": "10", "Content-Range": part, "ETag": '"1"'})
                self.wfile.write(b"0123456789")
                return
            assert "include=versions" in self.path
            if listed == "refused":
                self._answer(409, {"x-ms-error-code": code})
                return
            blobs = listed if "immutabilitypolicy" in self.path and "legalhold" in self.path else _without_locks(listed)
            body = f"<?xml version='1.0'?><EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>"
            self._answer(200, {"Content-Type": "application/xml", "Content-Length": str(len(body))})
            self.wfile.write(body.encode())

        def do_DELETE(self) -> None:
            lock = [f" {value}" for name, value in self.headers.items() if "immutability" in name.lower()]
            of_version = [f" {one}" for one in parse_qs(urlsplit(self.path).query).get("versionid", ())]
            asked.append("".join([self.command, *lock, *of_version]))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(202, {}) if deletes else self._answer(409, {"x-ms-error-code": code})

        do_PUT = do_DELETE

        def _answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": "0"} | headers).items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Conflicting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}/{AZURE_ACCOUNT}"
        account = f"AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY}"
        connection = f"DefaultEndpointsProtocol=http;{account};BlobEndpoint={endpoint};"
        try:
            with environ({"AZURE_STORAGE_CONNECTION_STRING": connection}):
                yield open_store(f"az://{BUCKET}"), asked
        finally:
            server.shutdown()


def test_another_part_than_was_asked_for_is_reported() -> None:
    with conflicting("", {}, part="bytes 100-109/1000") as (store, _):
        assert b"".join(store.read("a", 100, 110)) == b"0123456789"
    answered = rf"^az://{BUCKET}/a: the store answered with Content-Range 'bytes 90-99"
    with conflicting("", {}, part="bytes 90-99/1000") as (store, _), pytest.raises(StoreError, match=answered):
        b"".join(store.read("a", 100, 110))


@pytest.mark.parametrize(
    ("code", "is_refused"),
    [("BlobImmutableDueToPolicy", True), ("BlobImmutableDueToLegalHold", True), ("PendingCopyOperation", False)],
)
def test_an_erasure_that_a_lock_forbids_is_refused_and_not_retried(code: str, is_refused: bool) -> None:
    """Azurite has no locks."""
    with conflicting(code, {}) as (store, asked), pytest.raises(StoreError) as raised:
        store.erase("recordings/a")
    assert (isinstance(raised.value, StoreRefused), asked) == (is_refused, ["DELETE"]), raised.value


def test_a_restore_that_somebody_else_asked_for_meanwhile_is_asked_for() -> None:
    """Azurite rehydrates at once."""
    with conflicting("BlobBeingRehydrated", {"x-ms-access-tier": "Archive", "ETag": '"1"'}) as (store, asked):
        store.restore("recordings/a", RestoreWish())
        assert asked == ["PUT"]


def version(name: str, properties: str, *, is_current: bool = False) -> str:
    """A blob as List Blobs shows it (learn.microsoft.com/rest/api/storageservices/list-blobs, response body)."""
    current = "<IsCurrentVersion>true</IsCurrentVersion>" if is_current else ""
    about = "<Content-Length>1</Content-Length><BlobType>BlockBlob</BlobType>"
    return (
        f"<Blob><Name>{name}</Name><VersionId>2026-11-27T10:00:0{int(is_current)}.0000000Z</VersionId>{current}"
        f"<Properties>{about}{properties}</Properties></Blob>"
    )


def _without_locks(listed: str) -> str:
    return listed.replace(_UNTIL, "").replace("<LegalHold>true</LegalHold>", "")


@pytest.mark.parametrize(
    ("earlier", "locked_until"),
    [
        ("", None),
        (_UNTIL, datetime(2031, 11, 27, 10, tzinfo=UTC)),
        ("<LegalHold>true</LegalHold>", LEGAL_HOLD),
    ],
)
def test_the_lock_of_an_earlier_version_counts(earlier: str, locked_until: datetime | None) -> None:
    """Disposal deletes every version, so it must not begin while one of them is locked. Azurite has neither."""
    listed = version("a", earlier) + version("a", "", is_current=True) + version("ab", "<LegalHold>true</LegalHold>")
    with conflicting("", {"x-ms-version-id": "2026-11-27T10:00:01.0000000Z"}, listed) as (store, _):
        assert store.locked_until("a") == locked_until


def test_a_blob_of_which_only_an_earlier_version_is_left_is_found_and_its_version_is_deleted() -> None:
    """A killed deletion leaves it: Azure deletes no current version by its id. Azurite keeps no versions."""
    gone = version("recordings/a", "")
    listed = gone + version("recordings/b", "") + version("recordings/b", "", is_current=True)
    with conflicting(
        "", {}, listed + "<Blob><Name>recordings/c</Name><Properties><BlobType>BlockBlob</BlobType></Properties></Blob>"
    ) as (store, _):
        assert store.remains("recordings/") == ["recordings/a"]


def test_an_account_that_refuses_to_list_versions_has_none() -> None:
    with conflicting("FeatureNotYetSupportedForHierarchicalNamespaceAccounts", None, listed="refused") as (store, _):
        assert store.remains("recordings/") == []


@pytest.mark.parametrize("is_there", [True, False])
def test_earlier_versions_go_first_and_then_the_blob_and_the_version_that_it_has_become(is_there: bool) -> None:
    """Whoever is stopped in between leaves the blob whole, or one version that `remains` finds."""
    old, current = "2026-11-27T10:00:00.0000000Z", "2026-11-27T10:00:01.0000000Z"
    listed = version("a", "") + version("a", "", is_current=is_there)
    shown = {"x-ms-version-id": current} if is_there else None
    with conflicting("", shown, listed, deletes=True) as (store, asked):
        store.erase("a")
    whole = [f"DELETE {old}", "DELETE", f"DELETE {old}", f"DELETE {current}"]
    assert asked == (whole if is_there else [f"DELETE {old}", f"DELETE {old}"])


def test_the_lock_of_a_blob_without_versions_is_the_one_in_its_headers() -> None:
    """Source: learn.microsoft.com/rest/api/storageservices/get-blob-properties, response headers."""
    until = {"x-ms-immutability-policy-until-date": "Thu, 27 Nov 2031 10:00:00 GMT"}
    for headers, locked_until in (
        (until, datetime(2031, 11, 27, 10, tzinfo=UTC)),
        ({"x-ms-legal-hold": "true"}, LEGAL_HOLD),
    ):
        with conflicting("", headers) as (store, _):
            assert store.locked_until("a") == locked_until


def test_the_lock_of_an_object_is_in_the_request_that_writes_it() -> None:
    """Source: learn.microsoft.com/rest/api/storageservices/put-blob, request headers. Azurite ignores them."""
    until = datetime(2031, 11, 27, 10, tzinfo=UTC)
    with conflicting("PendingCopyOperation", {}) as (store, asked), pytest.raises(StoreError):
        store.put("a", Source(b"x", (), until), "audio/wav", {})
    assert asked[0] == "PUT Thu, 27 Nov 2031 10:00:00 GMT unlocked"
