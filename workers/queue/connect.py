"""Connections to Redis: plain, TLS, a Unix socket, or behind Sentinel; and how long a call is retried.

`arq.connections.RedisSettings.from_dsn` takes neither TLS options nor retries. A worker would stop when Redis goes away, unless
its connection also retries on OSError (a refused connect).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthenticationError, DataError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from config.values import REDIS_TLS_OPTIONS, sentinel_hosts

T = TypeVar("T")

_ends_at: ContextVar[float | None] = ContextVar("ends_at", default=None)
if TYPE_CHECKING:
    _Pool = ConnectionPool
else:
    _Pool = object

_OUTAGES: list[type[Exception]] = [RedisConnectionError, RedisTimeoutError, OSError]


class Patience(Retry):
    """Retries until a time limit.

    redis-py retries a command, within that its connection, and within that the health check of the connection, each by a count
    of its own. Twenty tries each take six minutes if the server stops during a command, and hours if it hangs. Here all
    retries of one call share the time limit of the outermost.

    Args:
        seconds: from the first try of a call to the start of its last.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(ExponentialBackoff(cap=1, base=0.05), -1)
        self._seconds = seconds

    async def call_with_retry(self, do: Callable[[], Awaitable[T]], fail: Callable[[RedisError], Awaitable[Any]]) -> T:
        """Call `do` until it succeeds or the time is over; call `fail` after each failure.

        Raises:
            Exception: what `do` raised last.
        """
        loop = asyncio.get_running_loop()
        outer = _ends_at.get()
        ends_at = loop.time() + self._seconds if outer is None else outer
        token = _ends_at.set(ends_at)
        failures = 0
        try:
            while True:
                try:
                    return await do()
                except self._supported_errors as error:
                    failures += 1
                    await fail(error)
                    pause = self._backoff.compute(failures)
                    if loop.time() + pause > ends_at:
                        raise
                await asyncio.sleep(pause)
        finally:
            _ends_at.reset(token)


def options_of(*, patience_seconds: float, timeout_seconds: float, connections: int) -> dict[str, Any]:
    """The options of a client: how long it retries a call, how long it waits for an answer, its most connections."""
    return {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Patience(patience_seconds),
        "retry_on_error": list(_OUTAGES),
        "max_connections": connections,
        "health_check_interval": 30,
    }


def _packed(*words: Any) -> list[bytes]:
    """The bytes of a command, by hiredis. redis-py does so in its synchronous client only; its asyncio client joins each word."""
    name = words[0].encode() if isinstance(words[0], str) else words[0]  # such as `SCRIPT LOAD`
    try:
        return [hiredis.pack_command((*name.split(), *words[1:]))]
    except TypeError as error:
        raise DataError(str(error)) from error


class _RetriesHandshakes(_Pool):
    """A pool that also retries the handshake of a connection. redis-py retries connecting and the command, not what is between:
    a server that stops in that moment would end a worker. Its connections encode commands by hiredis."""

    def make_connection(self) -> Any:
        """A new connection."""
        untyped: Any = super()
        connection = untyped.make_connection()
        connection.pack_command = _packed
        return connection

    async def ensure_connection(self, connection: Any) -> None:
        """Have a connection ready for a command."""
        refused: list[AuthenticationError] = []

        async def connect() -> None:
            try:
                await super(_RetriesHandshakes, self).ensure_connection(connection)
            except AuthenticationError as error:  # redis-py counts it as an outage
                refused.append(error)

        await connection.retry.call_with_retry(connect, lambda _: connection.disconnect())
        if refused:
            raise refused[0]


class _DirectPool(_RetriesHandshakes, ConnectionPool):
    """Connections to one server, at most so many; a command waits for a free one.

    redis-py's own `BlockingConnectionPool` takes a third of the CPU of a command, for a condition, a lock and two timers. Here
    a command takes the free connection that was used last, and looks whether it is quiet.

    Args:
        timeout: how long a command waits for a connection, in seconds.
        max_connections: how many there are at most.
        options: of the connections.
    """

    def __init__(self, *, timeout: float, max_connections: int, **options: Any) -> None:
        super().__init__(max_connections=max_connections, **options)
        self._timeout_seconds = timeout
        self._places = asyncio.Semaphore(max_connections)

    async def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> Any:
        """A connection that is ready for a command.

        Raises:
            redis.exceptions.ConnectionError: none was free in time, or the server does not answer.
        """
        if self._places.locked():
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await self._places.acquire()
            except TimeoutError:
                raise RedisConnectionError("every connection was in use") from None
        else:
            await self._places.acquire()  # returns at once
        try:
            connection = self._free_or_new()
        except BaseException:
            self._places.release()
            raise
        try:
            if not _is_quiet(connection):
                await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    def _free_or_new(self) -> Any:
        untyped: Any = self
        return untyped.get_available_connection()

    async def release(self, connection: Any) -> None:
        """Return a connection to the pool."""
        self._in_use_connections.remove(connection)
        self._available_connections.append(connection)
        self._places.release()


def _is_quiet(connection: Any) -> bool:
    """Whether a connection is open and nothing waits to be read; redis-py finds that out by a read with a timer."""
    if not connection.is_connected:
        return False
    came = connection._reader
    return not (came._buffer or came.at_eof() or came.exception() or connection._parser._reader.has_data())


class _PrimaryPool(_RetriesHandshakes, SentinelConnectionPool):
    """Connections to the primary that Sentinel names. Those to a former primary are closed."""

    async def release(self, connection: Any) -> None:
        """Return a connection to the pool; close it if another server has become the primary."""
        if self.is_master and (connection.host, connection.port) != self.master_address:
            await connection.disconnect()
        await super().release(connection)


def client_of(url: str, kind: Any, made_with: dict[str, Any], options: dict[str, Any]) -> Any:
    """A client of a kind (a class of redis-py or arq), made with further arguments, for any URL that Callvault takes."""
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if parts.scheme != "redis+sentinel":
        tls = _tls_options(query) if parts.scheme == "rediss" else {}
        pool = _DirectPool.from_url(url, timeout=options["socket_timeout"], **options, **tls)
        return kind(connection_pool=pool, **made_with)
    path = parts.path.strip("/").split("/")
    tls = {"ssl": True} | _tls_options(query) if query.get("tls") == "true" else {}
    sentinel = Sentinel(
        sentinel_hosts(parts.netloc),
        sentinel_kwargs={
            "socket_timeout": options["socket_timeout"],
            "socket_connect_timeout": options["socket_connect_timeout"],
            "username": query.get("sentinel_username"),
            "password": query.get("sentinel_password"),
            **tls,
        },
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        db=int(path[1]) if len(path) > 1 else 0,
        **tls,
        **options,
    )
    client = sentinel.master_for(path[0] or "mymaster", redis_class=kind, connection_pool_class=_PrimaryPool)
    for name, value in made_with.items():
        setattr(client, name, value)
    return client


def _tls_options(query: dict[str, str]) -> dict[str, Any]:
    """The TLS options of the URL. The server's name is checked, which redis-py 5 does not do by default."""
    given: dict[str, Any] = {name: query[name] for name in REDIS_TLS_OPTIONS if name in query}
    is_checked = given.get("ssl_cert_reqs") != "none" and given.get("ssl_check_hostname") != "false"
    return given | {"ssl_check_hostname": is_checked}


def has_replicas(client: Any) -> bool:
    """Whether a client connects through Sentinel, which may promote a replica."""
    return isinstance(client.connection_pool, SentinelConnectionPool)


def connect_receiver(url: str) -> Redis:
    """A client for the receiver: two tries of at most a second, since Telnyx waits two seconds and then retries.

    Args:
        url: `redis://`, `rediss://`, `unix://` or `redis+sentinel://host:port,host:port/master-name/db`, with the
            options that `docs/redis.md` lists.
    """
    client: Redis = client_of(url, Redis, {}, options_of(patience_seconds=0.2, timeout_seconds=1.0, connections=16))
    return client
