"""Give the finished bundle of an export: to a person who has signed in, or under a signed address that ends.

The address is for somebody without an account, such as a court. It shows a page with what the bundle is, so that a program that
looks at every address it is sent downloads nothing. It is signed as sessions are: a new `CALLVAULT_OPS_TOKEN`, or without one a
new secret of the OpenID client, ends all, and to remove the export ends its own. `shared.py` answers there.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from archive.stores.store import StoreError
from process.logs import get_logger
from service.ops.bulk import Shared
from service.ops.parts import Ops
from service.ops.person import Refused
from service.ops.ranges import NOTHING, asked_range, chunks_of, span_of
from service.ops.sharing import SharedAddress, assert_can_share, ended, reading
from service.ops.view import view_of
from service.protocol import close_early
from text.times import format_instant, parse_instant, utc_now
from workers.export.place import End, Export

log = get_logger()

SHARED_HOURS = 24


async def link(ops: Ops, form: dict[str, str]) -> Shared:
    """Make an address of a finished export, which ends after a day, or with the export.

    Raises:
        UserError: the pages answer on this machine only.
        Refused: there is nothing to download.
        StoreError: the place of exports cannot be read now.
    """
    assert_can_share(ops, "exports")
    _, end = await ready(ops, form["id"])
    ends_at = min(utc_now() + timedelta(hours=SHARED_HOURS), parse_instant(end.ends_at))
    token = str(ops.access.bundles.dumps([form["id"], form["by"], int(ends_at.timestamp())]))
    text = f"Whoever has this address can download the export until {ends_at:%Y-%m-%d %H:%M} UTC, without signing in"
    return Shared(text, f"/ops/bundle/{token}")


def read_link(ops: Ops, token: str) -> SharedAddress:
    """Check the signature and the end of an address.

    Raises:
        Refused: it is not valid, or it has ended.
    """
    with reading(ops):
        export_id, by, ends = ops.access.bundles.loads(token)
        ends_at = datetime.fromtimestamp(int(ends), UTC)
    if ends_at <= utc_now():
        raise ended(ends_at)
    return SharedAddress(str(export_id), str(by), format_instant(ends_at))


async def download(ops: Ops, request: Request) -> Response:
    """The bundle of an export for a person; raises as `give`, and if the person does not see all recordings in full."""
    view_of(request).assert_bundles()
    return await give(ops, request, request.path_params["export_id"])


async def ready(ops: Ops, export_id: str) -> tuple[Export, End]:
    """A finished export that has not ended, and how it was finished.

    Raises:
        Refused: it does not exist, is not ready, or has ended.
    """
    exports = await ops.exports()
    found = await asyncio.to_thread(exports.read, export_id)
    if found is None or found.request is None:
        raise Refused(404, "this export is not there any more: it was removed after its end, or by a person")
    if found.is_over:
        raise Refused(410, "this export has ended; ask for a new one")
    if found.end is None or found.end.state != "ready":
        raise Refused(409, "this export is not ready")
    return found, found.end


async def give(ops: Ops, request: Request, export_id: str) -> Response:
    """The bundle of an export, whole or a range.

    Raises:
        Refused: there is nothing to download.
        StoreError: the place of exports cannot be read now.
    """
    export, end = await ready(ops, export_id)
    request.state.shown = export
    exports = await ops.exports()
    etag = f'"{end.sha256}"'
    span = span_of(asked_range(request.headers, etag), end.size_bytes)
    name = f"export-{end.key[:15]}.zip" + (".age" if end.key.endswith(".age") else "")
    headers = {"Accept-Ranges": "bytes", "ETag": etag}
    headers["Content-Disposition"] = f'attachment; filename="{name}"'
    if span is None:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{end.size_bytes}"})
    start, stop = span
    is_part = (start, stop) != (0, end.size_bytes)
    headers["Content-Length"] = str(stop - start)
    if is_part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{end.size_bytes}"
    kind, status = "application/octet-stream", 206 if is_part else 200
    if request.method == "HEAD":
        return Response(None, status, headers, kind)
    source = exports.store.read(end.key, start, stop)
    try:
        first = await asyncio.to_thread(next, source, NOTHING)
    except KeyError:
        raise Refused(404, "the bundle of this export is gone; ask for a new one") from None
    return _Bundle(chunks_of(first, source), status, headers, kind)


class _Bundle(StreamingResponse):
    """Closes the connection early if the store fails while the bundle is sent, so that nobody takes a part for the whole."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the bundle."""
        try:
            await super().__call__(scope, receive, send)
        except (StoreError, KeyError) as error:
            log.error("download of an export cut off", error=str(error))
            await close_early(scope, receive)
