"""Telnyx's errors, as the API writes them: `{"errors": [{code, title, detail, source: {pointer}, meta: {url}}]}`."""

from __future__ import annotations

from typing import Any

_DOCS = "https://developers.telnyx.com/docs/overview/errors/"


class ApiError(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, code: str, title: str, detail: str = "", pointer: str = "") -> None:
        super().__init__(detail or title)
        self.status = status
        error: dict[str, Any] = {"code": code, "title": title, "detail": detail or title, "meta": {"url": _DOCS + code}}
        if pointer:
            error["source"] = {"pointer": pointer}
        self.body = {"errors": [error]}


def not_found(what: str = "The requested resource or URL could not be found.") -> ApiError:
    """404."""
    return ApiError(404, "10005", "Resource not found", what)


def invalid(pointer: str, detail: str) -> ApiError:
    """422: a field of the body or the query is wrong."""
    return ApiError(422, "10015", "Invalid attribute", detail, pointer)


def unauthorized() -> ApiError:
    """401."""
    return ApiError(401, "10009", "Authentication failed", "The required authentication headers were invalid.")


def too_many() -> ApiError:
    """429."""
    return ApiError(429, "10011", "Too many requests", "You have exceeded the rate limit.")
