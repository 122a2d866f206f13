"""The Telnyx client: one connection pool; it sends the declared operations, retries, and walks pages."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import httpx
import msgspec
import stamina
import stamina.instrumentation

from process.tasks import end_tasks
from telnyx_api.account import Account
from telnyx_api.errors import (
    Conflict,
    ConnectionFailed,
    RateLimited,
    ServerError,
    StatusError,
    TelnyxError,
    TimedOut,
    UnexpectedAnswer,
    UnreadableRow,
    UnreadableRows,
    error_of,
)
from telnyx_api.operation import Operation, Request, row_of
from telnyx_api.operations import (
    CivicAddresses,
    Connections,
    CustomStorage,
    Dialogflow,
    ExternalConnections,
    Locations,
    LogMessages,
    MediaFamily,
    OperatorConnect,
    PhoneNumbers,
    Recordings,
    RecordingTranscriptions,
    Releases,
    SiprecConnectors,
    Uploads,
    WebhookDeliveries,
)
from telnyx_api.pages import Page, items_of, meta_number, unreadable_row, unseen
from telnyx_api.transport import transport
from text.counts import many

T = TypeVar("T")

_Answer = tuple[int, bytes]  # status and body

# stamina would log each retry of each request: in an outage that fills the disk, and the job logs its failure anyway.
stamina.instrumentation.set_on_retry_hooks(())

_ATTEMPTS = 5
_BUDGET_SECONDS = 60.0
_FIRST_WAIT_SECONDS = 0.25
_LONGEST_WAIT_SECONDS = 8.0
_LONGEST_ASKED_WAIT_SECONDS = 60.0
_LARGEST_ANSWER_BYTES = 64 * 1024 * 1024  # the largest that is documented is a medium, of 20 MB
_LONGEST_ANSWER_SECONDS = 120.0
_SOON_SECONDS = 2.0
_NO_TOTAL = 1 << 62
_MOST_STALE_PAGES = 100  # a server that ignores page numbers would return the first page for ever


_ask_before: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar("ask_before", default=None)


@contextmanager
def asking(question: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Run a check before each request and retry of this task; an exception from it stops the request.

    For requests that cannot be undone: rate limits and retries may delay a request long after it was decided.
    """
    token = _ask_before.set(question)
    try:
        yield
    finally:
        _ask_before.reset(token)


class Limiter(Protocol):
    """Slows down all workers of an account together."""

    async def wait(self) -> None:
        """Return once requests may be sent."""

    async def pause(self, seconds: float) -> None:
        """Pause all workers, because Telnyx answered 429."""


class NoLimiter:
    """For a single process, such as a command."""

    async def wait(self) -> None:
        """Never waits."""

    async def pause(self, seconds: float) -> None:
        """Does nothing; the caller backs off itself."""


class TelnyxClient:
    """All operations, by family. Create it inside a running loop, and close it.

    A failed call raises a `TelnyxError`: connection, timeout, error status, or an unexpected answer.
    """

    def __init__(
        self,
        account: Account,
        limiter: Limiter | None = None,
        *,
        connections: int = 32,
        timeout_seconds: float = 30.0,
        budget_seconds: float = _BUDGET_SECONDS,
    ) -> None:
        self._limiter = limiter or NoLimiter()
        self._budget_seconds = budget_seconds
        self._following: set[asyncio.Task[Any]] = set()
        direct = transport(connections)
        self._http = httpx.AsyncClient(
            base_url=account.base_url,
            headers={"Authorization": f"Bearer {account.api_key}", "Accept": "application/json"},
            timeout=httpx.Timeout(timeout_seconds, connect=5.0),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            transport=direct,
            follow_redirects=False,
        )
        self._direct = direct
        self._address = f"{str(self._http.base_url).rstrip('/')}/"
        self.custom_storage_credentials = CustomStorage(self)
        self.dialogflow_connections = Dialogflow(self)
        self.external_connections = ExternalConnections(self)
        self.log_messages = LogMessages(self)
        self.civic_addresses = CivicAddresses(self)
        self.locations = Locations(self)
        self.phone_numbers = PhoneNumbers(self)
        self.releases = Releases(self)
        self.uploads = Uploads(self)
        self.media = MediaFamily(self)
        self.operator_connect = OperatorConnect(self)
        self.recording_transcriptions = RecordingTranscriptions(self)
        self.recordings = Recordings(self)
        self.siprec_connectors = SiprecConnectors(self)
        self.webhook_deliveries = WebhookDeliveries(self)
        self.connections = Connections(self)

    async def close(self) -> None:
        """Close the connection pool, after ending the prefetch of walks that were left early."""
        await end_tasks(self._following)
        await self._http.aclose()

    async def __aenter__(self) -> TelnyxClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(self, operation: Operation[T], arguments: Mapping[str, Any]) -> T:
        """Send an operation whose answer is a single item.

        Raises:
            TelnyxError: it failed after retries, or the answer is about another item.
            ValueError: an argument cannot be sent.
        """
        status, body = await self._send(operation.request(arguments))
        if operation.envelope == "bytes":
            return operation.read(body)
        if operation.envelope == "empty":
            return operation.read(None)
        if status == 204:  # the older API answers a bulk deletion so
            return operation.read({})
        answer = operation.read(_json(operation, body))
        operation.assert_about(arguments, answer)
        return answer

    async def pages(self, operation: Operation[T], arguments: Mapping[str, Any]) -> AsyncIterator[T]:
        """Walk a list, fetching the next page while the current one is consumed.

        The walk ends at the last page by `meta` or at an empty page; if `meta` has no total, also at a page without new items.
        A list without documented pages (`GET /media`, whose sample answer has three) is walked too if `meta` reports more.
        Page numbers shift while rows arrive, so an item is yielded once by its id, and a page of known items is skipped.
        An unreadable item does not stop the walk.

        Raises:
            UnreadableRows: after the last item: some items were unreadable, so the walk is incomplete.
            TelnyxError: a page failed after retries; or a list without documented pages reports more and returns none.
        """
        unreadable: list[UnreadableRow] = []
        async with aclosing(self._walk(operation, arguments)) as items:
            async for item in items:
                try:
                    row = operation.read_item(item)
                except UnexpectedAnswer as error:
                    unreadable.append(unreadable_row(item, error))
                else:
                    yield row
        if unreadable:
            raise UnreadableRows(operation.path, unreadable)

    async def _walk(self, operation: Operation[Any], arguments: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """The items of all pages, as received."""
        number = arguments.get("page_number", msgspec.UNSET)
        number = 1 if number is msgspec.UNSET else number
        is_declared = "page_number" in operation.parameters
        seen: set[int] = set()
        stale_pages = 0
        following: asyncio.Task[tuple[list[Any], int]] | None = None
        first = dict(arguments)
        try:
            items, total = await self._page(operation, first)
            while items:
                more = number < total and (is_declared or total != _NO_TOTAL)
                if more:
                    following = asyncio.create_task(self._page(operation, {**first, "page_number": number + 1}))
                    self._following.add(following)
                    following.add_done_callback(self._following.discard)
                fresh = unseen(items, seen)
                stale_pages = 0 if fresh else stale_pages + 1
                if stale_pages and not is_declared:
                    what = (
                        f"GET {operation.path}: meta reports {many(total, 'page')}, but page {number} has no new rows"
                    )
                    raise UnexpectedAnswer(f"{what}, so the rest of the list cannot be read")
                if stale_pages and (total == _NO_TOTAL or stale_pages > _MOST_STALE_PAGES):
                    return
                for item in fresh:
                    yield item
                if following is None or not more:
                    return
                items, total = await following
                number += 1
        finally:
            if following is not None:
                await end_tasks([following])

    async def count(self, listed: Any, **arguments: Any) -> int | None:
        """How many items a list has, from one small page; None if the answer does not say.

        Args:
            listed: the list method of a family, such as `client.recordings.list`.
            arguments: its filter.

        Raises:
            TelnyxError: the page failed after retries.
        """
        operation = row_of(listed)
        return meta_number(await self._answer_of(operation, {**arguments, "page_size": 1}), "total_results")

    async def first_page(self, listed: Any, **arguments: Any) -> Page:
        """The first page of a list, with its unreadable items.

        Args:
            listed: the list method of a family, such as `client.recordings.list`.
            arguments: its filter and page size.

        Raises:
            TelnyxError: the page failed after retries.
        """
        operation = row_of(listed)
        body = await self._answer_of(operation, arguments)
        items: list[Any] = []
        unreadable: list[UnreadableRow] = []
        for item in items_of(operation, body):
            try:
                items.append(operation.read_item(item))
            except UnexpectedAnswer as error:
                unreadable.append(unreadable_row(item, error))
        return Page(items, unreadable, meta_number(body, "total_results"))

    async def _page(self, operation: Operation[Any], arguments: Mapping[str, Any]) -> tuple[list[Any], int]:
        body = await self._answer_of(operation, arguments)
        total = meta_number(body, "total_pages")
        return items_of(operation, body), _NO_TOTAL if total is None else total

    async def _answer_of(self, operation: Operation[Any], arguments: Mapping[str, Any]) -> Any:
        return _json(operation, (await self._send(operation.request(arguments)))[1])

    async def _send(self, request: Request) -> _Answer:
        attempt = 0

        def wait_or_give_up(error: Exception) -> bool | float:
            return isinstance(error, TelnyxError) and _is_retried(error, request) and _wait_seconds(error, attempt)

        async for try_ in stamina.retry_context(
            on=wait_or_give_up, attempts=_ATTEMPTS, timeout=self._budget_seconds, wait_max=_LONGEST_ASKED_WAIT_SECONDS
        ):
            with try_:
                attempt = try_.num
                await self._limiter.wait()
                if (question := _ask_before.get()) is not None:
                    await question()
                try:
                    return await self._once(request)
                except RateLimited as error:
                    await self._limiter.pause(_wait_seconds(error, attempt))
                    raise
        raise AssertionError("stamina returns or raises")  # pragma: no cover

    async def _once(self, request: Request) -> _Answer:
        where = f"{request.method} {request.path}"
        try:
            async with asyncio.timeout(_LONGEST_ANSWER_SECONDS):
                return await self._answer(request)
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise TimedOut(f"{where}: no connection in time", was_sent=False) from error
        except (httpx.TimeoutException, TimeoutError) as error:
            raise TimedOut(f"{where}: no answer in time", was_sent=True) from error
        except httpx.ConnectError as error:
            raise ConnectionFailed(f"{where}: cannot connect to {error}", was_sent=False) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:  # InvalidURL: from a redirect
            raise ConnectionFailed(f"{where}: {type(error).__name__} {error}".rstrip(), was_sent=True) from error

    async def _answer(self, request: Request) -> _Answer:
        """Send a request and read the answer, in bounded memory.

        Raises:
            StatusError: the answer has an error status.
            UnexpectedAnswer: the answer is too large.
            httpx.HTTPError: no complete answer came.
        """
        timeout = self._http.timeout
        if _ask_before.get() is not None:  # the check ages quickly, so the connection must be free at once
            timeout = httpx.Timeout(timeout.read, connect=_SOON_SECONDS, pool=_SOON_SECONDS)
        url = self._address + request.path.lstrip("/")  # whole: httpx reads a relative one three times
        response = await self._sent(
            httpx.Request(
                request.method,
                url,
                params=request.query or None,
                headers=self._http.headers,
                json=request.body,
                extensions={"timeout": timeout.as_dict()},
            )
        )
        body = bytearray()
        try:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _LARGEST_ANSWER_BYTES:
                    what = f"{request.method} {request.path}: the answer is larger than {_LARGEST_ANSWER_BYTES} bytes"
                    raise UnexpectedAnswer(what)
        finally:
            await response.aclose()
        if not response.is_success:
            raise error_of(response, bytes(body))
        return response.status_code, bytes(body)

    async def _sent(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return the answer once its head has arrived.

        httpx's client takes as long for a request as building and sending it: it looks for cookies and redirects, which the
        API does not use.
        """
        if self._direct is None:  # through a proxy
            return await self._http.send(request, stream=True)
        response = await self._direct.handle_async_request(request)
        response.request = request
        return response


def _json(operation: Operation[Any], body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnexpectedAnswer(f"{operation.method} {operation.path}: the answer is not JSON") from None


def _is_retried(error: TelnyxError, request: Request) -> bool:
    if isinstance(error, ConnectionFailed):
        return request.is_repeatable or not error.was_sent
    if isinstance(error, RateLimited):
        return True  # Telnyx did not execute it
    return request.is_repeatable and isinstance(error, Conflict | ServerError)


def _wait_seconds(error: TelnyxError, attempt: int) -> float:
    """The wait that Telnyx asks for, else exponential backoff with full jitter."""
    asked = error.retry_after_seconds if isinstance(error, StatusError) else None
    longest = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2 ** max(0, attempt - 1))
    jitter = random.uniform(0, longest)  # noqa: S311
    if asked is None:
        return jitter
    return min(asked, _LONGEST_ASKED_WAIT_SECONDS) + random.uniform(0, 0.25)  # noqa: S311
