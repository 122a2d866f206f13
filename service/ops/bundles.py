"""Give the finished bundle of an export: to a person who has signed in, or under a signed address that ends.

The address is for somebody without an account, such as a court. It shows a page with what the bundle is, so that a program that
looks at every address it is sent downloads nothing. It is signed as sessions are: a new `CALLVAULT_OPS_TOKEN`, or without one a
new secret of the OpenID client, ends all, and to remove the export ends its own. `shared.py` answers there.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response

from service.ops.bulk import Shared
from service.ops.parts import Ops
from service.ops.person import Refused
from service.ops.ranges import Bytes, asked_part, begun
from service.ops.sharing import SharedAddress, assert_can_share, ended, reading
from service.ops.view import view_of
from text.times import format_instant, parse_instant, utc_now
from workers.export.place import End, Export

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
    name = f"export-{end.key[:15]}.zip" + (".age" if end.key.endswith(".age") else "")
    part, kind = asked_part(request, end.size_bytes, end.sha256, name), "application/octet-stream"
    if isinstance(part, Response):
        return part
    if request.method == "HEAD":
        return Response(None, part.status, part.headers, kind)
    try:
        chunks = await begun(exports.store.read(end.key, part.start, part.end))
    except KeyError:
        raise Refused(404, "the bundle of this export is gone; ask for a new one") from None
    return Bytes(chunks, part, kind, "download of an export cut off", export_id=export_id)
