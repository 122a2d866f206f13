"""The OpenAPI 3.1 document of `/api/`, made from the tables of pages, operations and problems and from the types they name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from service.ops import audio_address
from service.ops.examples import ANSWERS, BODIES, DETAILS, PARAMETERS
from service.ops.page import Operation, Page
from service.ops.problems import PROBLEMS, Problem, example

_BEARER = "`CALLVAULT_OPS_TOKEN`, or an API token of `callvault tokens create`"
_ABOUT = """\
Put a call next to its customer: find it, hear it, read what was said, hold it. The content of the ops pages as JSON.

Send a token with each request. Errors are problem documents (RFC 9457). docs/api.md leads from a token to an `<audio>`
element."""
_ALWAYS = (400, 401, 403, 429, 500, 503)
_BYTES = {"type": "string", "format": "binary"}
_RANGE = {
    "name": "Range",
    "in": "header",
    "description": "a part of the audio (RFC 9110), such as bytes=0-65535",
    "schema": {"type": "string"},
}
_WHY = {
    "name": "why",
    "in": "query",
    "description": "the reason, for the access log; CALLVAULT_ASK_WHY may ask for one",
    "schema": {"type": "string"},
    "example": "ticket 17",
}
_HEADERS = {
    "RateLimit": "the requests that this token has left (`r`), and the seconds until it has all again (`t`)",
    "RateLimit-Policy": "how many requests (`q`) of a token are answered in how many seconds (`w`)",
    "Link": 'the next page: `<path>; rel="next"`; missing at the end',
    "Retry-After": "the seconds to wait before the request is sent again",
}


def document(pages: Sequence[Page], operations: Sequence[Operation]) -> dict[str, Any]:
    """The document.

    Args:
        pages: each an answer of the API.
        operations: what it does besides.
    """
    answers = [row.answer for row in operations if isinstance(row.answer, type)]
    bodies = [row.body for row in operations if row.body is not None]
    types = list(dict.fromkeys([*(page.answer for page in pages), *answers, *bodies, Problem]))
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {f"/api{page.path or '/overview'}": {"get": _of_page(page)} for page in pages}
    for row in operations:
        paths.setdefault(row.path, {})[row.method.lower()] = _of_operation(row)
    paths[audio_address.PATH] = {"get": _OF_ADDRESS}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Callvault", "version": "1", "description": _ABOUT},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()},
            "responses": {str(status): _failure(status) for status in {known.status for known in PROBLEMS.values()}},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": _BEARER}},
        },
    }


def _of_page(page: Page) -> dict[str, Any]:
    name = f"get{page.title.title().replace(' ', '')}"
    is_paged = "after" in dict(page.query)
    done = _success(name, page.title, {"application/json": {"schema": _ref(page.answer)}}, ["Link"] if is_paged else [])
    why = [_WHY] if page.log is not None else []
    failures = (*_ALWAYS, 404, 502, *([428] if why else []))
    return {
        "summary": page.title,
        "operationId": name,
        "parameters": [*_in_path(page.path), *_in_query(page.query), *why],
        "responses": {"200": done} | _failures(failures),
    }


def _of_operation(row: Operation) -> dict[str, Any]:
    schema = _ref(row.answer) if isinstance(row.answer, type) else {"type": "string"}
    media_type = "application/json" if isinstance(row.answer, type) else row.answer
    what = f"{row.what[0].upper()}{row.what[1:]}"
    is_audio = media_type.startswith("audio/")
    done = _audio_answers() if is_audio else {"200": _success(row.name, what, {media_type: {"schema": schema}})}
    found: dict[str, Any] = {"summary": what, "operationId": row.name}
    why = [_WHY] if row.log is not None else []
    found["parameters"] = [*_in_path(row.path), *_in_query(row.query), *why, *([_RANGE] if is_audio else [])]
    if row.body is not None:
        content = {"schema": _ref(row.body), "example": BODIES[row.name]}
        is_needed = any(field.required for field in msgspec.structs.fields(row.body))
        found["requestBody"] = {"required": is_needed, "content": {"application/json": content}}
    found["responses"] = done | _failures((*_ALWAYS, *row.refusals, *([428] if why else [])))
    return found


def _audio_answers() -> dict[str, Any]:
    content = {"audio/wav": {"schema": _BYTES}, "audio/mpeg": {"schema": _BYTES}}
    return {
        "200": {
            "description": "The whole audio; a client that gets less than its length must not use it",
            "content": content,
        },
        "206": {"description": "The part that was asked for", "content": content},
    }


_OF_ADDRESS: dict[str, Any] = {
    "summary": "Play an address of audio",
    "description": "It needs no token: the address itself lets in, until it ends.",
    "operationId": "playAudio",
    "security": [],
    "parameters": [
        {"name": "address", "in": "path", "required": True, "schema": {"type": "string"}},
        {"name": "download", "in": "query", "description": "have a browser save it", "schema": {"type": "string"}},
        _RANGE,
    ],
}


def _in_path(path: str) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", path):
        schema: dict[str, Any] = {"type": "string"}
        if name == "audio_format":
            schema["enum"] = ["wav", "mp3"]
        yield {"name": name, "in": "path", "required": True, "schema": schema, "example": PARAMETERS[name]}


def _in_query(query: Sequence[tuple[str, str]]) -> Iterable[dict[str, Any]]:
    for name, line in query:
        shown = {"example": PARAMETERS[name]} if name in PARAMETERS else {}
        yield {"name": name, "in": "query", "description": line, "schema": {"type": "string"}} | shown


def _success(name: str, text: str, content: dict[str, Any], headers: Sequence[str] = ()) -> dict[str, Any]:
    if name in ANSWERS:
        content = {kind: one | {"example": ANSWERS[name]} for kind, one in content.items()}
    shown = {one: {"$ref": f"#/components/headers/{one}"} for one in ("RateLimit", "RateLimit-Policy", *headers)}
    return {"description": text, "headers": shown, "content": content}


def _failures(statuses: Iterable[int]) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(set(statuses))}


def _failure(status: int) -> dict[str, Any]:
    kinds = [kind for kind, known in PROBLEMS.items() if known.status == status]
    text = "; ".join(f"{PROBLEMS[kind].title} (`{kind}`)" for kind in kinds)
    headers = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}} if status in (429, 503) else {}
    shown = example(kinds[0], DETAILS.get(status, PROBLEMS[kinds[0]].title), "/api/recordings")
    content = {"application/problem+json": {"schema": _ref(Problem), "example": msgspec.to_builtins(shown)}}
    return {"description": text, "headers": headers, "content": content}


def _ref(kind: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


_OF_ADDRESS["responses"] = _audio_answers() | _failures((400, 404, 409, 410, 416, 428, 500, 503))
