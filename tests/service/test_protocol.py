"""The protocol of the receiver's connections, on a server of its own."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import uvicorn

from lab.processes import free_port
from service.protocol import PacedProtocol, answer_at_once, is_body_here

_REQUEST = b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\nhi"


async def test_an_answered_request_is_gone_without_the_collector() -> None:
    cycles: list[weakref.ref[Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        cycles.append(weakref.ref(receive.__self__))
        assert is_body_here(scope) and (await receive())["body"] == b"hi"
        assert answer_at_once(scope, b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n", b"ok\n")

    port = free_port()
    config = uvicorn.Config(app, port=port, http=PacedProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        gc.disable()
        try:
            for _ in range(5):
                writer.write(_REQUEST)
                assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 ")
            assert [cycle() for cycle in cycles[:-1]] == [None] * 4
        finally:
            gc.enable()
            writer.close()
            server.should_exit = True
