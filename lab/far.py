"""A server that is far away: a proxy that passes bytes on half a round trip later, in each direction.

`python -m lab.far LISTEN_PORT SERVER_PORT ROUND_TRIP_MS` serves until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from lab.processes import free_port, listens, running

_READ_BYTES = 1 << 20


@contextmanager
def far(url: str, round_trip_ms: float) -> Iterator[str]:
    """Put this distance in front of the server of a URL; gives the URL of the proxy."""
    port = free_port()
    server = url.rpartition(":")[2]
    # The check opens a connection and asks for nothing: a store may remember what it has answered.
    with running([sys.executable, "-m", "lab.far", str(port), server, str(round_trip_ms)], lambda: listens(port)):
        yield f"http://127.0.0.1:{port}"


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_seconds: float) -> None:
    """Pass on each piece `delay_seconds` after it came, then the end; many pieces may be on their way."""
    loop = asyncio.get_running_loop()
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)

    async def arrive() -> None:
        while True:
            due, data = await on_the_way.get()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            if not data:
                return
            writer.write(data)
            await writer.drain()

    arriving = asyncio.create_task(arrive())
    try:
        while not arriving.done():
            data = await reader.read(_READ_BYTES)
            await on_the_way.put((loop.time() + delay_seconds, data))
            if not data:
                await arriving
    except OSError:
        arriving.cancel()
    finally:
        writer.close()


async def _serve(listen_port: int, server_port: int, delay_seconds: float) -> None:
    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * delay_seconds)  # the handshake's round trip
        try:
            there, back = await asyncio.open_connection("127.0.0.1", server_port, limit=_READ_BYTES)
        except OSError:
            writer.close()
            return
        both = _pass(reader, back, delay_seconds), _pass(there, writer, delay_seconds)
        await asyncio.gather(*both, return_exceptions=True)

    server = await asyncio.start_server(meet, "127.0.0.1", listen_port, limit=_READ_BYTES, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 2_000))
