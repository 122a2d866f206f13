"""The OpenAPI 3.1 document of `/api/`, made from the table of pages and the types of what they show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from service.ops.page import Page

_BEARER = "`CALLVAULT_OPS_TOKEN`, or an API token of `callvault tokens create`"
_ERRORS = {
    "400": "The query is not valid",
    "401": "The request has no valid token",
    "403": "The request is not allowed from this address, or not with this role",
    "404": "Not found",
    "429": "Too many failed sign-ins from this address",
    "502": "Telnyx does not answer, or refuses the request",
    "503": "Redis or the archive does not answer",
}


def document(pages: Sequence[Page]) -> dict[str, Any]:
    """The document.

    Args:
        pages: each an answer of the API.
    """
    _, components = msgspec.json.schema_components(
        [page.answer for page in pages], ref_template="#/components/schemas/{name}"
    )
    error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Callvault",
            "version": "1",
            "description": "The content of the ops pages as JSON, read-only.",
        },
        "security": [{"token": []}],
        "paths": {f"/api{page.path or '/overview'}": {"get": _operation(page)} for page in pages},
        "components": {
            "schemas": components | {"Error": error},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": _BEARER}},
        },
    }


def _operation(page: Page) -> dict[str, Any]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", page.path)
    ]
    in_query = [
        {"name": name, "in": "query", "description": line, "schema": {"type": "string"}} for name, line in page.query
    ]
    refusal = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    answer = {"application/json": {"schema": {"$ref": f"#/components/schemas/{page.answer.__name__}"}}}
    return {
        "summary": page.title,
        "operationId": page.answer.__name__[0].lower() + page.answer.__name__[1:],
        "parameters": in_path + in_query,
        "responses": {"200": {"description": page.title, "content": answer}}
        | {status: {"description": text, "content": refusal} for status, text in _ERRORS.items()},
    }
