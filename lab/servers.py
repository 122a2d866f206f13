"""Servers that run in a thread of this process, so that the code around them sees their state."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import uvicorn

from lab.processes import wait_for
from sandbox.app import create_app
from sandbox.control import books
from sandbox.world import World

_LOOKS_SECONDS = 0.02  # so often a server looks whether it has to stop


class HttpServer(ThreadingHTTPServer):
    """An HTTP server on a free port; a client that hangs up causes no stack trace."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        threading.Thread(target=self.serve_forever, args=(_LOOKS_SECONDS,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the stack trace, except of a lost connection."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        """Stop serving."""
        self.shutdown()
        self.server_close()


class _Server(uvicorn.Server):
    """Stops at once; uvicorn looks every tenth of a second, and then waits another."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_closed = threading.Event()  # its sockets are; requests may still end

    async def main_loop(self) -> None:
        """Serve until it has to stop."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            await asyncio.sleep(_LOOKS_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the sockets, then wait for requests."""
        asyncio.get_running_loop().call_soon(self.is_closed.set)  # runs when uvicorn waits, so after it has closed them
        await super().shutdown(sockets)


class RunningSandbox:
    """A sandbox on a free port, with its world."""

    def __init__(self, world: World) -> None:
        self.world = world
        # asyncio sets TCP_NODELAY only on sockets with a named protocol; without it a kept connection adds 40 ms.
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(512)
        world.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # tests cut connections on purpose
        config = uvicorn.Config(create_app(world), http="httptools", ws="none", log_config=None, access_log=False)
        config.timeout_graceful_shutdown = 1
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        wait_for(lambda: self._server.started, what="the sandbox's start")

    def _run(self) -> None:
        asyncio.run(self._server.serve([self._socket]))

    @property
    def base_url(self) -> str:
        """The address of its API."""
        return self.world.base_url + "/v2"

    @property
    def public_key(self) -> str:
        """The key that verifies its webhooks."""
        return self.world.public_keys()["public_key"]

    @property
    def environment(self) -> dict[str, str]:
        """The settings that point Callvault at it."""
        return {
            "TELNYX_BASE_URL": self.base_url,
            "TELNYX_API_KEY": self.world.api_key,
            "TELNYX_PUBLIC_KEY": self.public_key,
        }

    def control(self, what: str, **body: Any) -> Any:
        """Send a request to its control API, and return the answer."""
        answer = httpx.post(f"{self.world.base_url}/_sandbox/{what}", json=body, timeout=60, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def books(self) -> dict[str, Any]:
        """Return what it has served, deleted and found wrong."""
        return books(self.world)

    def stop(self) -> None:
        """Stop serving, and wait for the requests under way."""
        self.leave()
        self._thread.join(10)

    def leave(self) -> None:
        """Stop serving; requests under way end by themselves."""
        self._server.should_exit = True
        self._server.is_closed.wait(10)
        self._socket.close()
