"""A time-stamping authority: `openssl ts` behind a real HTTP server (RFC 3161, section 3.4)."""

from __future__ import annotations

import subprocess
import tempfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Lock
from typing import Any

from lab.servers import HttpServer

_CONFIG = """
[tsa]
default_tsa = it
[it]
serial = {root}/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
[req]
distinguished_name = name
[name]
[signer]
extendedKeyUsage = critical, timeStamping
keyUsage = critical, digitalSignature
[root]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
"""


def openssl(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *arguments], cwd=cwd, capture_output=True, check=False, timeout=60)


class Authority:
    """Answers until a test stops it; `root` is its root certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root.pem"
        self.is_down = False
        self._lock = Lock()
        (folder / "config").write_text(_CONFIG.format(root=folder))
        (folder / "serial").write_text("01")
        new = ("req", "-newkey", "rsa:2048", "-nodes", "-sha256", "-config", "config")
        made = [
            openssl(*new, "-x509", "-days", "30", "-subj", "/CN=Root", "-extensions", "root", "-keyout", "root.key",
                    "-out", "root.pem", cwd=folder),
            openssl(*new, "-subj", "/CN=Stamps", "-keyout", "key.pem", "-out", "request.pem", cwd=folder),
            openssl("x509", "-req", "-in", "request.pem", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial",
                    "-days", "30", "-sha256", "-extfile", "config", "-extensions", "signer", "-out", "cert.pem", cwd=folder),
        ]  # fmt: skip
        assert all(done.returncode == 0 for done in made), [done.stderr for done in made]
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                answer = None if authority.is_down else authority.stamp(body)
                self.send_response(503 if answer is None else 200)
                self.send_header("content-type", "application/timestamp-reply")
                self.end_headers()
                self.wfile.write(answer or b"")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = HttpServer(Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def stamp(self, query: bytes) -> bytes:
        with self._lock, tempfile.TemporaryDirectory() as name:
            path = Path(name)
            (path / "query").write_bytes(query)
            made = openssl(
                "ts", "-reply", "-config", str(self.folder / "config"), "-section", "it", "-queryfile", f"{path}/query",
                "-signer", "cert.pem", "-inkey", "key.pem", "-chain", "root.pem", "-out", f"{path}/reply",
                cwd=self.folder,
            )  # fmt: skip
            assert made.returncode == 0, made.stderr
            return (path / "reply").read_bytes()

    def stop(self) -> None:
        self._server.stop()
