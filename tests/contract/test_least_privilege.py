"""The rights that docs/stores.md asks for are enough; tested where an emulator enforces rights."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas

from archive.archive import Archive
from archive.stores.store import MIB, StoreError, StoreRefused, open_store
from lab.stores import AZURE_ACCOUNT, AZURE_KEY, BUCKET, azure, environ


def test_on_azure_create_write_read_and_list_are_enough() -> None:
    with azure() as emulator:
        endpoint = emulator.environment["AZURE_STORAGE_CONNECTION_STRING"].split("BlobEndpoint=")[1].strip(";")

        def connection(permission: ContainerSasPermissions) -> str:
            token = generate_container_sas(
                AZURE_ACCOUNT, BUCKET, AZURE_KEY, permission=permission, expiry=datetime.now(UTC) + timedelta(hours=1)
            )
            return f"BlobEndpoint={endpoint};SharedAccessSignature={token}"

        least = connection(ContainerSasPermissions(read=True, create=True, write=True, list=True))
        with environ({"AZURE_STORAGE_CONNECTION_STRING": least}):
            archive = Archive(open_store(emulator.url + "/p"))
        for key, size in (("small", 10), ("large", 11 * MIB)):
            archived = archive.put(key, iter([b"x" * size]), "audio/wav")
            assert archived.proof.by == "checksum"
            assert archive.prove_again(archived) == archived
        assert len(list(archive.store.list(""))) == 2
        with BlobServiceClient.from_connection_string(least) as service:
            blob = service.get_blob_client(BUCKET, "p/small")
            with pytest.raises(HttpResponseError):
                blob.delete_blob()

        too_little = connection(ContainerSasPermissions(read=True, list=True))
        with environ({"AZURE_STORAGE_CONNECTION_STRING": too_little}):
            archive = Archive(open_store(emulator.url + "/p"))
        with pytest.raises(StoreRefused, match="SAS with create, write, read and list"):
            archive.put("other", iter([b"x"]), "audio/wav")


def test_the_error_without_credentials_names_the_variables_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StoreRefused, match="AZURE_STORAGE_CONNECTION_STRING"):
        open_store("az://container")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID"):
        open_store("s3://bucket").stat("a")
