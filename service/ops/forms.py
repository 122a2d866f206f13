"""Read what a request gives: the form of a change or of a sign-in, and the names of parameters and fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.requests import Request

from service.ops.person import Refused
from text.counts import many

if TYPE_CHECKING:
    from service.ops.parts import Ops

LONGEST_FIELD, LONGEST_IDS = 500, 30_000

_LARGEST_FORM_BYTES = 64 * 1024
_MOST_FIELDS = 2_000  # so many ids fit into it, and whoever reads them says how many are too many


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, 64 KiB at most; several `ids` come in one text, with spaces between them.

    Raises:
        Refused: the form is larger, is not text, or has another field twice.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_FORM_BYTES:
            raise Refused(413, "the form is larger than 64 KiB")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Refused(400, "the form cannot be read") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name == "ids":
            value = f"{fields.get(name, '')} {value}".strip()
        elif name in fields:
            raise Refused(400, f"{name[:40]}: given twice")
        fields[name] = value
    return fields


async def read_change(ops: Ops, request: Request, longest: Mapping[str, int]) -> dict[str, str]:
    """The form of a change, checked to come from our own pages.

    Args:
        ops: the parts of the pages.
        request: has the form.
        longest: the fields that it may have, with the most characters of each.

    Raises:
        Refused: it comes from elsewhere, or has another field or a longer one; as `read_form`.
    """
    form = await read_form(request)
    ops.access.check_change(request, request.state.person, form)
    check_names(form.items(), (*longest, "csrf"), "field")
    for name, most in longest.items():
        if len(value := form.get(name, "")) > most:
            raise Refused(400, f"{name}: {many(len(value), 'character')}; the maximum is {most}")
    return form


def check_names(given: Iterable[tuple[str, str]], known: Iterable[str], what: str) -> None:
    """Check that each name is known and given once. Ignoring an unknown one would hide a mistake.

    Raises:
        Refused: a name is unknown or given twice.
    """
    seen: set[str] = set()
    for name, _ in given:
        if name not in known:
            accepted = f"expected one of {', '.join(known)}" if known else f"this page takes no {what}"
            raise Refused(400, f"unknown {what} {name[:40]!r}; {accepted}")
        if name in seen:
            raise Refused(400, f"{name}: given twice")
        seen.add(name)
