"""Read the form of a change or of a sign-in."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

from service.ops.person import Refused

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
