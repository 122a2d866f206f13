"""Find out what a proxy did to the body of a webhook whose signature does not match.

Telnyx signs the body to the byte. A proxy that encodes the JSON anew, adds a line end or decompresses the body makes every
webhook unsigned. Here each such change is undone, and the signature says whether that was it. Where none matches, the look
of the body gives a hint. The texts hold numbers and words of this module only, never anything of the request.
"""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from service.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, OutsideWindow, SignatureRefused, Signatures

LARGEST_UNDONE_BYTES = 64 * 1024  # a larger body is only looked at
NAMES = ("content-length", "content-type", "content-encoding", TIMESTAMP_HEADER, SIGNATURE_HEADER)  # of what is read

_GZIP = b"\x1f\x8b"
_CHARSET = re.compile(r"charset=\"?([A-Za-z0-9._-]{1,30})\"?\s*(;|$)", re.IGNORECASE)
_KNOWN_ENCODINGS = ("gzip", "x-gzip", "deflate", "br", "zstd", "identity")
_AS_IT_IS = "set up the proxy to pass the body on as it is"
_COMPRESSION = f"switch off decompression and compression of requests in the proxy, or {_AS_IT_IS}"
_JSON = f"{_AS_IT_IS}; no plugin, function or gateway may parse and write its JSON"


class Change(NamedTuple):
    """What happened to a body, and what to do."""

    what: str
    advice: str


class _Kind(NamedTuple):
    change: Change
    undo: Callable[[bytes], Iterator[bytes]]


def _without_line_end(body: bytes) -> Iterator[bytes]:
    for end in (b"\r\n", b"\n"):
        if body.endswith(end):
            yield body.removesuffix(end)


def _with_line_end(body: bytes) -> Iterator[bytes]:
    yield body + b"\n"
    yield body + b"\r\n"


def _other_line_ends(body: bytes) -> Iterator[bytes]:
    if b"\r\n" in body:
        yield body.replace(b"\r\n", b"\n")
    elif b"\n" in body:
        yield body.replace(b"\n", b"\r\n")


def _other_json(body: bytes) -> Iterator[bytes]:
    try:
        document = json.loads(body)
        for is_ascii in (True, False):
            for separators in ((",", ":"), (", ", ": ")):
                text = json.dumps(document, ensure_ascii=is_ascii, separators=separators)
                for one in (text, text.replace("/", "\\/")):  # PHP escapes slashes
                    yield one.encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return


def _other_charset(body: bytes) -> Iterator[bytes]:
    yield body.removeprefix(codecs.BOM_UTF8)
    for wrong, right in (("utf-8", "latin-1"), ("utf-8", "cp1252"), ("latin-1", "utf-8"), ("cp1252", "utf-8")):
        try:
            yield body.decode(wrong).encode(right)
        except UnicodeError:
            continue
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield body.decode("utf-16", "replace").encode("utf-8", "replace")


def _decompressed(body: bytes) -> Iterator[bytes]:
    if body.startswith(_GZIP):
        try:
            yield zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, 4 * LARGEST_UNDONE_BYTES)
        except zlib.error:
            return


_KINDS = (
    _Kind(Change("a line end was added after the body", _AS_IT_IS), _without_line_end),
    _Kind(Change("the line end after the body was removed", _AS_IT_IS), _with_line_end),
    _Kind(Change("the line ends in the body were changed", _AS_IT_IS), _other_line_ends),
    _Kind(Change("the body was converted to another charset", _AS_IT_IS), _other_charset),
    _Kind(Change("the JSON was parsed and written anew", _JSON), _other_json),
    _Kind(Change("the body was compressed", _COMPRESSION), _decompressed),
)

UNCHANGED = Change(
    "the body looks unchanged",
    "compare TELNYX_PUBLIC_KEY with the portal: it may belong to another account. "
    "A request that Telnyx did not send looks the same",
)


def look_of(body: bytes, headers: Mapping[str, str]) -> dict[str, str | int | None]:
    """The facts about a body that show a change, for a line of the log.

    Args:
        body: as it arrived.
        headers: those in `NAMES`, names in lower case.
    """
    length = headers.get("content-length", "")
    charset = _CHARSET.search(headers.get("content-type", ""))
    return {
        "body_bytes": len(body),
        "content_length": int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None,
        "body_is": _form(body),
        "line_end": "CRLF" if body.endswith(b"\r\n") else "LF" if body.endswith(b"\n") else "none",
        "charset": charset[1].lower() if charset else "not given",
        "encoding": _encoding(headers),
    }


def _encoding(headers: Mapping[str, str]) -> str:
    given = headers.get("content-encoding", "").strip().lower()
    return "none" if not given else given if given in _KNOWN_ENCODINGS else "unknown"


def _form(body: bytes) -> str:
    if not body:
        return "empty"
    if body.startswith(_GZIP):
        return "compressed with gzip"
    try:
        body.decode()
        msgspec.json.decode(body, type=msgspec.Raw)  # checks it and makes no objects: 4 MiB could be a million
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "incomplete JSON" if body.lstrip()[:1] in (b"{", b"[") else "not JSON"
    if re.search(rb"[{\[,]\s*\n", body):
        return "JSON on several lines"
    return "JSON with spaces" if b'": ' in body else "JSON without spaces"


def find_change(body: bytes, headers: Mapping[str, str], signatures: Signatures, now: float) -> Change:
    """What happened to a body whose signature does not match.

    Args:
        body: as it arrived.
        headers: those in `NAMES`, names in lower case.
        signatures: with the keys that may have signed it.
        now: seconds since the epoch.

    Returns:
        A change that, undone, makes the signature match; otherwise what the look of the body suggests, or `UNCHANGED`.
    """
    if len(body) <= LARGEST_UNDONE_BYTES:
        for kind in _KINDS:
            for before in kind.undo(body):
                if before != body and _is_signed(before, headers, signatures, now):
                    return kind.change
    return _suspected(body, headers)


def _is_signed(body: bytes, headers: Mapping[str, str], signatures: Signatures, now: float) -> bool:
    try:
        signatures.verify(headers.get(TIMESTAMP_HEADER), headers.get(SIGNATURE_HEADER), body, now)
    except OutsideWindow:
        return True
    except SignatureRefused:
        return False
    return True


def _suspected(body: bytes, headers: Mapping[str, str]) -> Change:
    look = look_of(body, headers)
    is_compressed, is_named = look["body_is"] == "compressed with gzip", look["encoding"] not in ("none", "identity")
    if look["content_length"] not in (None, len(body)):
        return Change("the body has another length than Content-Length says", f"something cut it: {_AS_IT_IS}")
    if is_compressed and not is_named:
        return Change("the body is compressed and has no Content-Encoding", _COMPRESSION)
    if is_named and look["encoding"] in ("gzip", "x-gzip") and not is_compressed:
        return Change("the body was decompressed, and Content-Encoding still says gzip", _COMPRESSION)
    if look["body_is"] == "empty":
        return Change("the body is empty", f"a redirect or a check before the proxy may drop it: {_AS_IT_IS}")
    if look["body_is"] == "incomplete JSON":
        return Change(
            "the JSON does not end", f"something cut it: raise the proxy's limit of a body to 4 MiB, and {_AS_IT_IS}"
        )
    if look["body_is"] == "JSON on several lines":
        return Change("the JSON is indented, which Telnyx does not do", _JSON)
    if look["charset"] not in ("not given", "utf-8", "utf8", "us-ascii"):
        return Change("the Content-Type names a charset other than UTF-8", _AS_IT_IS)
    return UNCHANGED
