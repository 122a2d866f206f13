"""How to declare an operation: a typed signature with a decorator, which supplies the body.

In `@operation("GET /recordings/{recording_id}")`, parameters named in the path go into the path, other parameters of GET
and DELETE into the query, all others into the JSON body. The return annotation is the type of the answer. The method, the
command line and the documents come from the same declaration.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, cast, get_args, get_type_hints
from urllib.parse import quote

from msgspec import UNSET

from telnyx_api.errors import UnexpectedAnswer

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Envelope = Literal["data", "log_messages", "bare", "empty", "bytes"]
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_PAGING = ("page_number", "page_size")


class Pages(Protocol[T_co]):
    """A list that is walked: `async for item in client.recordings.list()` fetches pages as they are needed."""

    def __aiter__(self) -> AsyncIterator[T_co]: ...


@dataclass(frozen=True)
class Request:
    """A request without the base address and the API key."""

    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any] | None
    is_repeatable: bool


@dataclass(frozen=True)
class Operation(Generic[T]):
    """One row of the table of operations.

    Attributes:
        family: its family, as the command line writes it, such as `recording-transcriptions`.
        name: its name in the family, such as `bulk_delete`.
        method: HTTP method.
        path: path template, relative to the base address.
        envelope: what the answer is wrapped in.
        parameters: its parameters by name, in order.
        declared: the function that declares it.
        is_paged: whether it is a list in pages.
        is_repeatable: whether sending it twice does no more than sending it once.
        tells_id: whether the answer contains the requested id, the only parameter of the path.
        summary: one line.
    """

    family: str
    name: str
    method: str
    path: str
    envelope: Envelope
    parameters: Mapping[str, inspect.Parameter]
    declared: Callable[..., Any]
    is_paged: bool
    is_repeatable: bool
    tells_id: bool
    summary: str

    @functools.cached_property
    def hints(self) -> Mapping[str, Any]:
        """The types by parameter, the answer's as `return`. Resolved at first use, because a help text needs no models."""
        from telnyx_api import models

        return get_type_hints(self.declared, localns=vars(models))

    @property
    def _item(self) -> Any:
        returns = self.hints["return"]
        return get_args(returns)[0] if self.is_paged else returns

    @functools.cached_property
    def answer(self) -> TypeAdapter[T]:
        """Reads one item of the answer."""
        from pydantic import TypeAdapter

        return TypeAdapter(self._item)

    @property
    def answer_name(self) -> str:
        """The name of that item's type."""
        return getattr(self._item, "__name__", str(self._item))

    @functools.cached_property
    def path_parameters(self) -> tuple[str, ...]:
        """Names of the parameters in the path, in order."""
        return tuple(re.findall(r"{(\w+)}", self.path))

    @functools.cached_property
    def query_parameters(self) -> tuple[str, ...]:
        """Names of the parameters in the query."""
        rest = [name for name in self.parameters if name not in self.path_parameters]
        return tuple(rest) if self.method in ("GET", "DELETE") else ()

    @functools.cached_property
    def body_parameters(self) -> tuple[str, ...]:
        """Names of the fields of the JSON body."""
        taken = {*self.path_parameters, *self.query_parameters}
        return tuple(name for name in self.parameters if name not in taken)

    def request(self, arguments: Mapping[str, Any]) -> Request:
        """Turn arguments into a request. Every list accepts `page_number`, even if it is not documented.

        Raises:
            ValueError: a path parameter is empty or would change the path.
        """
        path = self.path
        for name in self.path_parameters:
            value = str(arguments[name])
            if value in ("", ".", ".."):
                raise ValueError(f"{name}: {value!r} is not a valid path segment")
            path = path.replace("{" + name + "}", quote(value, safe=""))
        query: dict[str, str] = {}
        undeclared = ("page_number",) if self.is_paged and "page_number" not in self.parameters else ()
        for name in (*self.query_parameters, *undeclared):
            key = f"page[{name.removeprefix('page_')}]" if name in _PAGING else name
            query.update(_flatten(key, arguments.get(name, UNSET)))
        fields = self.body_parameters
        body = {name: arguments[name] for name in fields if arguments.get(name, UNSET) is not UNSET}
        return Request(self.method, path, query, body if fields else None, self.is_repeatable)

    def read(self, body: Any) -> T:
        """Read an answer with a single item.

        Raises:
            UnexpectedAnswer: it does not match the API documentation.
        """
        if self.envelope == "log_messages":
            items = body.get("log_messages") if isinstance(body, dict) else None
            item = items[0] if isinstance(items, list) and items else None
        elif self.envelope == "data":
            item = body.get("data") if isinstance(body, dict) else None
        else:
            item = body
        return self.read_item(item)

    def assert_about(self, arguments: Mapping[str, Any], answer: Any) -> None:
        """Check that an answer is about the requested id. Another one, as from a broken cache, would be archived under it.

        Raises:
            UnexpectedAnswer: it is about another id.
        """
        if not self.tells_id:
            return
        asked = str(arguments[self.path_parameters[0]])
        if str(answer.id).lower() != asked.lower():
            raise UnexpectedAnswer(f"{self.method} {self.path}: asked for {asked}; Telnyx answered about {answer.id}")

    def read_item(self, item: Any) -> T:
        """Read one item; unwrap an item with a `data` of its own, as in a sample of the docs.

        Raises:
            UnexpectedAnswer: it does not match the API documentation.
        """
        from pydantic import ValidationError

        if self.envelope == "data" and isinstance(item, dict) and item.keys() == {"data"}:
            item = item["data"]
        try:
            return self.answer.validate_python(item)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "all of it"
            why = f"{where}: {first['msg']}"
            message = f"{self.method} {self.path}: the answer does not match the API documentation ({why})"
            raise UnexpectedAnswer(message, why) from None


def _flatten(key: str, value: Any) -> dict[str, str]:
    """Write a query parameter as the SDK does: nested names in brackets, several values joined by commas."""
    if value is UNSET or value is None:
        return {}
    if isinstance(value, Mapping):
        return {k: v for name, item in value.items() for k, v in _flatten(f"{key}[{name}]", item).items()}
    if isinstance(value, (list, tuple)):
        return {key: ",".join(map(_text, value))}
    return {key: _text(value)}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def operation(
    route: str, *, envelope: Envelope = "data", repeatable: bool | None = None, tells_id: bool = False
) -> Callable[[F], F]:
    """Declare an operation on a family's method.

    Args:
        route: method and path template, such as `GET /recordings/{recording_id}`.
        envelope: what the answer is wrapped in: `data`, `log_messages`, or nothing (`bare`, `empty`, `bytes`).
        repeatable: whether it may be sent again after a lost answer; by default all but POST.
        tells_id: see `Operation`; an answer about another id is refused.
    """

    def declare(function: F) -> F:
        signature = inspect.signature(function)

        @functools.cache  # type hints are resolved at the first call, not at import
        def operation_of(family: str) -> Operation[Any]:
            return _build(family, function, route, envelope, repeatable, tells_id=tells_id)

        @functools.wraps(function)
        def call(self: Family, *args: Any, **kwargs: Any) -> Any:
            arguments = dict(signature.bind(self, *args, **kwargs).arguments)
            del arguments["self"]
            row = operation_of(self.name)
            return self.client.pages(row, arguments) if row.is_paged else self.client.call(row, arguments)

        made: Any = call  # it has the declared signature, and its row of the table beside it
        made.operation_of = operation_of
        return cast(F, made)

    return declare


def row_of(declared: Any) -> Operation[Any]:
    """The row of a declared method, such as `client.recordings.list`."""
    row: Operation[Any] = declared.operation_of(declared.__self__.name)
    return row


def _build(
    family: str,
    function: Callable[..., Any],
    route: str,
    envelope: Envelope,
    repeatable: bool | None,
    *,
    tells_id: bool,
) -> Operation[Any]:
    method, path = route.split(" ")
    signature = inspect.signature(function)
    parameters = dict(signature.parameters)
    del parameters["self"]
    return Operation(
        family=family,
        name=function.__name__.rstrip("_"),
        method=method,
        path=path,
        envelope=envelope,
        parameters=parameters,
        declared=function,
        is_paged=str(signature.return_annotation).startswith(f"{Pages.__name__}["),
        is_repeatable=method != "POST" if repeatable is None else repeatable,
        tells_id=tells_id,
        summary=(function.__doc__ or "").strip().splitlines()[0],
    )


class Caller(Protocol):
    """The client: it sends operations."""

    def call(self, operation: Operation[Any], arguments: Mapping[str, Any], /) -> Awaitable[Any]:
        """Send an operation whose answer is a single item."""

    def pages(self, operation: Operation[Any], arguments: Mapping[str, Any], /) -> AsyncIterator[Any]:
        """Walk a list."""


class Family:
    """A family of operations, declared by a subclass. `name` is its name on the command line."""

    name: str

    def __init__(self, client: Caller) -> None:
        self.client = client
