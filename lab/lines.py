"""What lies between a client and a server: a proxy that is slow, cuts or loses on demand, and TLS."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_THIN_BYTES = 16 * 1024


def server_context(folder: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    """Make a throw-away certificate; returns a server's TLS context, and the file that clients have to trust.

    Args:
        folder: where the certificate and its key are written.
        name: a host name or an address.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    now, a_day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - a_day)
        .not_valid_after(now + a_day)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "certificate.pem", folder / "key.pem"
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    written = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key_path.write_bytes(key.private_bytes(*written))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_path, key_path)
    return context, cert_path


@contextmanager
def tls_proxy(port: int, folder: Path) -> Iterator[tuple[int, Path]]:
    """Put TLS in front of a plain port; gives the port of TLS and the certificate."""
    wrap, certificate = tls_wrap(folder)
    with TcpProxy(port, wrap) as proxy:
        yield proxy.port, certificate


def tls_wrap(folder: Path) -> tuple[Callable[[socket.socket], socket.socket], Path]:
    """Return a function that wraps a client's connection in TLS, and the certificate."""
    context, certificate = server_context(folder, "127.0.0.1")
    return lambda s: context.wrap_socket(s, server_side=True), certificate


class TcpProxy:
    """Passes bytes between a client and a server, and fails on demand.

    Args:
        port: of the server.
        wrap: wraps the client's connection, for instance in TLS.
        bytes_a_second: the bandwidth to the server, which all connections share; None: unlimited. With a limit
            the kernel's receive buffer is small, so that the sender is as slow as the line.

    Attributes:
        bytes_a_second: the same, while it runs.
        cut_after: close the connection after so many bytes to the server; None: never. One cut resets it.
        cut_answers_after: close every connection after so many bytes of answers; None: never.
        lose_answer: close the connection instead of passing on the next answer. One loss resets it.
        damages: eight bytes that reach the server reversed, wherever they occur; None: none.
        happened: how many cuts, losses and damages there were.
        sent: bytes that have gone to the server.
        flows: whether anything goes to the server; cleared, connections stay open and silent.
    """

    def __init__(
        self,
        port: int,
        wrap: Callable[[socket.socket], socket.socket] = lambda s: s,
        bytes_a_second: float | None = None,
    ) -> None:
        self._target = port
        self._wrap = wrap
        self.bytes_a_second = bytes_a_second
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

    def _wait_for_bandwidth(self, size: int) -> None:
        self.flows.wait()
        with self._line:
            self.sent += size
            if (rate := self.bytes_a_second) is not None:
                time.sleep(size / rate)

    def _pass(self, source: socket.socket, sink: socket.socket, is_upward: bool) -> None:
        passed = 0
        try:
            while data := source.recv(65536 if self.bytes_a_second is None else _THIN_BYTES):
                if is_upward:
                    self._wait_for_bandwidth(len(data))
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
