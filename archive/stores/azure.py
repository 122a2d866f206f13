"""`az://container/prefix`: Azure Blob Storage, by azure-storage-blob.

Azure computes an MD5 of a blob that is put in one request, and refuses a body that does not match the MD5 it was sent. It
checks each block against its MD5 when the block is staged. The id of the block contains that MD5, so the committed list
shows which checked blocks the blob consists of. Azure does not check the MD5 property that a client sets when it commits,
so that proves nothing. Create-only is `If-None-Match: *` on the put and on the block list.
Sources: learn.microsoft.com/rest/api/storageservices/put-blob, put-block, put-block-list, specifying-conditional-headers
and blob-service-error-codes.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import (
    BlobBlock,
    BlobClient,
    BlobProperties,
    BlobSasPermissions,
    BlobServiceClient,
    ContentSettings,
    ExponentialRetry,
    ImmutabilityPolicy,
    RehydratePriority,
    generate_blob_sas,
)

from archive.layout import Outside, name_in_bucket
from archive.source import Source
from archive.stores import lines
from archive.stores.adapter import InPiecesAdapter
from archive.stores.asking import AsksInThreads
from archive.stores.azure_errors import Cold, Missing, NoBlocks, OutOfRange, store_errors
from archive.stores.azure_tiers import ARCHIVE, RESTORED, state_of, text_of, tier_of
from archive.stores.buffers import Buffers
from archive.stores.lifecycle import LifecycleRule
from archive.stores.next_part import parts_ahead
from archive.stores.store import (
    LEGAL_HOLD,
    Asked,
    KeyExists,
    RestoreWish,
    StoreCold,
    StoredObject,
    StoreError,
    StoreOptions,
    StoreRefused,
    Written,
    latest_of,
    read_one_by_one,
    split_url,
)
from text.counts import many

_BLOCKS = "md5-of-blocks"
_READ_BYTES = 4 * 1024 * 1024
_RETRIES = 5


class AzureStore(AsksInThreads):
    """An archive in a container; the account comes from `AZURE_STORAGE_CONNECTION_STRING`, else from
    `AZURE_STORAGE_ACCOUNT` with the default credential chain (managed identity, workload identity, environment)."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        super().__init__()
        self.url = url
        container, self._prefix = split_url(url)
        self._options = options
        self._buffers = Buffers(options)
        limits = {
            "connection_timeout": lines.CONNECT_SECONDS,
            "read_timeout": lines.SILENCE_SECONDS,
            "max_single_put_size": options.part_bytes,
            "max_block_size": options.part_bytes,
            "max_single_get_size": _READ_BYTES,
            "max_chunk_get_size": _READ_BYTES,
        }
        # The SDK's own wait before the second try is 15 s.
        retry = ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=_RETRIES, random_jitter_range=1)
        self._service = _service(url, limits | {"transport": _transport(), "retry_policy": retry})
        self._container = self._service.get_container_client(container)

    def create_place(self) -> None:
        """See `Store.create_place`. The owner creates the container."""

    def probe(self) -> None:
        """See `Store.probe`. Azure checks the MD5 that it is sent."""

    def put(self, key: str, source: Source, content_type: str, attributes: Mapping[str, str]) -> Written:
        """See `Store.put`. Up to a part in one request, more in blocks; staged blocks without a commit are not a blob."""
        blob = self._blob(key)
        with self._buffers.of(source):
            first = source.part(self._options.part_bytes)
            extra = self._extra(content_type, attributes, source)
            if len(first) < self._options.part_bytes:
                expected = self._put_whole(blob, key, first, extra)
            else:
                expected = self._put_blocks(blob, key, first, source, extra)
        stored = self.described(key, source)
        if stored is None:
            raise StoreError(f"{self._shown(key)}: the store took the object and does not show it")
        return Written(stored, expected)

    def _put_whole(self, blob: BlobClient, key: str, body: bytes, extra: dict[str, Any]) -> dict[str, str]:
        digest = hashlib.md5(body, usedforsecurity=False)
        try:
            with store_errors(self._shown(key), is_write=True):
                blob.upload_blob(body, length=len(body), overwrite=False, headers=_checked_by(digest), **extra)
        except KeyExists:
            if self.stat(key) is not None:
                raise
            # Staged blocks of an interrupted upload can block the put; a block list replaces them.
            return self._put_blocks(blob, key, body, Source(iter(())), extra)
        return {"md5": digest.hexdigest()}

    def _put_blocks(
        self, blob: BlobClient, key: str, first: bytes, source: Source, extra: dict[str, Any]
    ) -> dict[str, str]:
        ids: list[str] = []
        scope = {n: v for n, v in extra.items() if n == "encryption_scope"}
        with closing(parts_ahead(first, source, self._options.part_bytes, self._buffers)) as parts:
            for part in parts:
                digest = hashlib.md5(part, usedforsecurity=False)
                block_id = f"{len(ids):08d}-{digest.hexdigest()}"
                with store_errors(self._shown(key), is_write=True):
                    blob.stage_block(block_id, part, length=len(part), headers=_checked_by(digest), **scope)
                ids.append(block_id)
        try:
            with store_errors(self._shown(key), is_write=True):
                blob.commit_block_list(
                    [BlobBlock(block_id) for block_id in ids], match_condition=MatchConditions.IfMissing, **extra
                )
        except NoBlocks:  # another writer's object replaced them, or the answer of our own commit was lost
            if self.stat(key) is None:
                raise
            raise KeyExists(key) from None
        return {_BLOCKS: _of_blocks(ids)}

    def stat(self, key: str) -> StoredObject | None:
        """See `Store.stat`."""
        blob = self._blob(key)
        return self._stat(key, blob.get_blob_properties, lambda: blob.get_block_list("committed")[0])

    def described(self, key: str, source: Source) -> StoredObject | None:
        """Describe an object that was just written: Azure shows its blocks in another answer, asked for at the same time."""
        blob = self._blob(key)
        blocks = self.ask(blob.get_block_list, "committed")
        if source.meanwhile is None:
            return self._stat(key, blob.get_blob_properties, lambda: blocks()[0])
        about = self.ask(lambda one: one.get_blob_properties(), blob)
        source.meanwhile()
        return self._stat(key, about, lambda: blocks()[0])

    def _stat(self, key: str, asked: Asked[BlobProperties], blocks: Asked[list[BlobBlock]]) -> StoredObject | None:
        try:
            with store_errors(self._shown(key)):
                found = asked()
                state = state_of(found)
                # An archived blob does not show its blocks.
                is_listed = found.size > 0 and state == "readable"
                committed = blocks() if is_listed else []
        except Missing:
            return None
        checksums: dict[str, str] = {}
        if committed:  # the client set the MD5 property; Azure checked only the MD5s of the blocks
            if all(len(block.id) == 41 and block.id[8] == "-" for block in committed):
                checksums[_BLOCKS] = _of_blocks([block.id for block in committed])
        elif state == "readable" and found.content_settings.content_md5:
            checksums["md5"] = bytes(found.content_settings.content_md5).hex()
        lock, storage_class = found.immutability_policy.expiry_time, text_of(found.blob_tier)
        mark = found.etag.strip('"')
        about: dict[str, Any] = {"locked_until": lock, "storage_class": storage_class, "state": state}
        return StoredObject(key, found.size, mark, checksums, **about)

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See `Store.read`."""
        if end is not None and end <= start:
            return
        try:
            with store_errors(self._shown(key)):
                length = None if end is None else end - start
                stream = self._blob(key).download_blob(start, length, max_concurrency=1)
                left = stream.size
                for chunk in stream.chunks():
                    left -= len(chunk)
                    yield chunk
        except Missing:
            raise KeyError(key) from None
        except OutOfRange:
            return
        except Cold:
            raise self._cold(key) from None
        if left:
            raise StoreError(f"{self._shown(key)}: the answer ended {many(left, 'byte')} too early")

    def _cold(self, key: str) -> StoreCold:
        """The error about a blob that Azure would not give before it is rehydrated."""
        stored = self.stat(key)
        return StoreCold(key, ARCHIVE, is_restoring=stored is not None and stored.state == "restoring")

    read_small = read_one_by_one

    def restore(self, key: str, wish: RestoreWish) -> None:
        """See `Store.restore`. The blob moves to the tier Cool and keeps its ETag."""
        stored = self.stat(key)
        if stored is None:
            raise KeyError(key)
        if stored.state != "cold":
            return
        priority = RehydratePriority.HIGH if wish.speed == "expedited" else RehydratePriority.STANDARD
        try:
            with store_errors(self._shown(key)):
                self._blob(key).set_standard_blob_tier(RESTORED, rehydrate_priority=priority)
        except Missing:
            raise KeyError(key) from None
        except Cold:
            pass  # somebody else has asked meanwhile

    def lifecycle(self) -> tuple[LifecycleRule, ...] | None:
        """See `Store.lifecycle`. The rules belong to the account, and these credentials do not reach its management."""
        return None

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See `Store.list`."""
        with store_errors(self._shown(prefix)):
            for blob in self._container.list_blobs(name_starts_with=self._prefix + prefix):
                key = blob.name.removeprefix(self._prefix)
                yield StoredObject(key, blob.size, storage_class=text_of(blob.blob_tier))

    def presign(self, key: str, seconds: int) -> str | None:
        """See `Store.presign`. A shared access signature, by the account's key or a user delegation key."""
        blob = self._blob(key)
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        account_key = getattr(self._service.credential, "account_key", None)
        delegation = None
        if account_key is None:
            with store_errors(self._shown(key)):
                delegation = self._service.get_user_delegation_key(datetime.now(UTC) - timedelta(minutes=5), until)
        token = generate_blob_sas(
            account_name=str(self._service.account_name),
            container_name=self._container.container_name,
            blob_name=blob.blob_name,
            account_key=account_key,
            user_delegation_key=delegation,
            permission=BlobSasPermissions(read=True),
            expiry=until,
        )
        return f"{blob.url}?{token}"

    def key_of(self, url: str) -> str | None:
        """See `Store.key_of`."""
        here, there = urlsplit(self._container.url), urlsplit(url)
        path = here.path.rstrip("/") + "/"
        is_here = there.netloc == here.netloc and there.path.startswith(path)
        return Outside(unquote(there.path.removeprefix(path))).key if is_here else None

    def locked_until(self, key: str) -> datetime | None:
        """See `Store.locked_until`: of every version. A policy of the whole container is not among what Azure shows."""
        blob = self._blob(key)
        with store_errors(self._shown(key)):
            try:
                found = blob.get_blob_properties()
            except ResourceNotFoundError:
                found = None  # there may be earlier versions
            if found is not None and not found.version_id:
                return _lock_of(found)
            asked = ["versions", "immutabilitypolicy", "legalhold"]
            listed = list(self._container.list_blobs(name_starts_with=blob.blob_name, include=asked))
        return latest_of(_lock_of(one) for one in listed if one.name == blob.blob_name)

    def erase(self, key: str) -> None:
        """See `Store.erase`. Deletes its snapshots too; a container with soft delete keeps them for its own period.

        Azure deletes no current version by its id (learn.microsoft.com/azure/storage/blobs/versioning-overview): the deletion
        of the blob makes it an earlier one, which goes last.
        """
        blob, found = self._blob(key), None
        with suppress(Missing), store_errors(self._shown(key)):
            found = blob.get_blob_properties()
        if found is None or found.version_id:  # of one that is gone, it is not known whether it had versions
            self._erase_versions(blob, key, found)
        if found is not None:
            with suppress(Missing), store_errors(self._shown(key)):
                blob.delete_blob(delete_snapshots="include")
            if found.version_id:
                self._erase_versions(blob, key, found, is_deleted=True)

    def _erase_versions(
        self, blob: BlobClient, key: str, found: BlobProperties | None, *, is_deleted: bool = False
    ) -> None:
        """Delete the versions of a blob but the current one, and that one too once the blob is deleted."""
        current = None if found is None or is_deleted else found.version_id
        with store_errors(self._shown(key)):
            listed = self._with_versions(blob.blob_name, are_kept=found is not None)
            for version in [one.version_id for one in listed if one.name == blob.blob_name and one.version_id]:
                if version != current:
                    blob.delete_blob(version_id=version)

    def _with_versions(self, prefix: str, *, are_kept: bool = False) -> Iterator[BlobProperties]:
        """List blobs and their versions; nothing on an account that keeps none and so refuses to list them.

        With `are_kept` it is known to keep them, and a refusal is an error. A hierarchical namespace keeps none
        (learn.microsoft.com/azure/storage/blobs/storage-feature-support-in-storage-accounts).
        """
        try:
            yield from self._container.list_blobs(name_starts_with=prefix, include=["versions"])
        except HttpResponseError as error:
            if are_kept or error.status_code not in (400, 409):
                raise

    def remains(self, prefix: str) -> Sequence[str]:
        """See `Store.remains`."""
        there: dict[str, bool] = {}
        with store_errors(self._shown(prefix)):
            for blob in self._with_versions(self._prefix + prefix):
                is_current = bool(blob.is_current_version) or not blob.version_id
                there[blob.name] = is_current or there.get(blob.name, False)
        return [name.removeprefix(self._prefix) for name, is_there in there.items() if not is_there]

    def remove_orphans(self) -> int:
        """See `Store.remove_orphans`. Azure removes staged blocks without a commit after a week."""
        return 0

    def _extra(self, content_type: str, attributes: Mapping[str, str], source: Source) -> dict[str, Any]:
        options = self._options
        extra: dict[str, Any] = {"content_settings": ContentSettings(content_type=content_type)}
        if options.encryption_key:
            extra["encryption_scope"] = options.encryption_key
        if (storage_class := options.class_of(content_type)) is not None:
            extra["standard_blob_tier"] = tier_of(self.url, storage_class)
        if (until := options.lock_end(source)) is not None:
            mode = "locked" if options.retention_mode == "compliance" else "unlocked"
            extra["immutability_policy"] = ImmutabilityPolicy(expiry_time=until, policy_mode=mode)
        if options.label == "metadata" and attributes:
            extra["metadata"] = dict(attributes)
        if options.label == "tags" and attributes:
            extra["tags"] = dict(attributes)
        return extra

    def _blob(self, key: str) -> BlobClient:
        return self._container.get_blob_client(name_in_bucket(key, self._prefix))

    def _shown(self, key: str) -> str:
        return f"az://{self._container.container_name}/{name_in_bucket(key, self._prefix)}"


def _transport() -> RequestsTransport:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, InPiecesAdapter())
    return RequestsTransport(session=session)


def _service(url: str, options: dict[str, Any]) -> BlobServiceClient:
    if connection := os.environ.get("AZURE_STORAGE_CONNECTION_STRING"):
        try:
            return BlobServiceClient.from_connection_string(connection, **options)
        except ValueError as error:
            raise StoreRefused(f"{url}: AZURE_STORAGE_CONNECTION_STRING: {error}") from None
    account = os.environ.get("AZURE_STORAGE_ACCOUNT")
    if not account:
        raise StoreRefused(
            f"{url}: no credentials; set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT and an identity"
        )
    from azure.identity import DefaultAzureCredential

    address = f"https://{account}.blob.core.windows.net"
    return BlobServiceClient(address, DefaultAzureCredential(), **options)


def _checked_by(digest: hashlib._Hash) -> dict[str, str]:
    """The header with the MD5 that Azure checks. The SDK's own option (`validate_content`) would hash the body again."""
    return {"Content-MD5": base64.b64encode(digest.digest()).decode()}


def _lock_of(blob: BlobProperties) -> datetime | None:
    """The end of the lock of one version."""
    end: datetime | None = blob.immutability_policy.expiry_time
    return LEGAL_HOLD if blob.has_legal_hold else end


def _of_blocks(ids: list[str]) -> str:
    """One value for a list of blocks: the MD5 of their MD5s, and their count; as S3 writes it for parts."""
    md5s = b"".join(bytes.fromhex(block_id[9:]) for block_id in ids)
    return f"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(ids)}"
