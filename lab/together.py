"""A proxy that answers the requests of a step only once all of them have been sent; so it shows what a client does at once."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from lab.servers import HttpServer

_LIMIT_SECONDS = 20


class Steps:
    """The steps that a client must go, each a set of requests such as `HEAD audio.wav`: the method, and the end of the path.

    Attributes:
        missed: what was wrong: a request that came in another step, or the requests that a step waited for in vain.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._steps: list[Counter[str]] = []
        self._is_watching = False
        self.missed: list[str] = []

    @contextmanager
    def watched(self, steps: Sequence[Sequence[str]]) -> Iterator[None]:
        """Hold the answers back from now on; at the end, every step must have been gone."""
        self._steps, self._is_watching = [Counter(step) for step in steps], True
        try:
            yield
        finally:
            self._is_watching = False
        self.missed += [f"never sent: {dict(step)}" for step in self._steps]

    def arrive(self, request: str) -> None:
        """Wait until all requests of the step have arrived."""
        with self._changed:
            if not self._is_watching:
                return
            if not self._steps or request not in self._steps[0]:
                self.missed.append(
                    f"{request} came when the step was {dict(self._steps[0]) if self._steps else 'over'}"
                )
                return
            mine = self._steps[0]
            mine[request] -= 1
            mine += Counter()  # drops what has come
            if not mine:
                self._steps.pop(0)
                self._changed.notify_all()
            elif not self._changed.wait_for(lambda: not mine, _LIMIT_SECONDS):
                self.missed.append(f"{request} waited in vain for {dict(mine)}")


@contextmanager
def together(url: str, steps: Steps) -> Iterator[str]:
    """Put steps in front of the server of a URL; gives the URL of the proxy."""
    host = urlsplit(url).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._pass_on()

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            steps.arrive(f"{self.command} {urlsplit(self.path).path.rpartition('/')[2]}")
            server = http.client.HTTPConnection(host, timeout=_LIMIT_SECONDS)
            try:
                server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    server.putheader(name, value)
                server.endheaders(body)
                answer = server.getresponse()
                data = answer.read()
            finally:
                server.close()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            if answer.getheader("content-length") is None:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = HttpServer(Handler)
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.stop()
