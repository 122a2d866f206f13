"""What whoever has the address of an export sees (`bundles.py`): what it is, and a button that downloads it.

Errors say little: a stranger reads them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from archive.access import new_line
from archive.records import UnreadableRecord
from archive.stores.store import StoreError
from process.logs import get_logger
from service.ops.access import HEADERS
from service.ops.bundles import Link, answer, read_link, ready
from service.ops.parts import Ops
from service.ops.person import Refused, address_of
from service.ops.rendering import problem, render
from text.errors import UserError
from text.times import format_instant
from workers.access.log import NotWritten

log = get_logger()


async def _page(ops: Ops, request: Request, link: Link) -> Response:
    export, end = await ready(ops, link.export_id)
    shown = {"link": link, "ends_at": format_instant(link.ends_at), "end": end, "base": request.scope["path"]}
    return HTMLResponse(render("bundle.html", request, None, "Call recordings", export=export, **shown))


async def _file(ops: Ops, request: Request, link: Link) -> Response:
    export, end = await ready(ops, link.export_id)
    response = await answer(ops, request, end)
    who, about = f"an address shared by {link.by}", f"export {link.export_id}"
    query = export.request.query if export.request else ""
    line = new_line(
        "download", who, "shared address", address_of(request), about=about, query=query, found=end.recordings
    )
    await ops.accesses.write(line)
    return response


class _Guest:
    """Lets in whoever has a valid address."""

    def __init__(self, inside: Callable[[Ops, Request, Link], Awaitable[Response]]) -> None:
        self._inside = inside

    async def __call__(self, request: Request) -> Response:
        response = await self._answer(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["X-Robots-Tag"] = "noindex"
        return response

    async def _answer(self, request: Request) -> Response:
        ops: Ops = request.app.state.ops
        try:
            link = read_link(ops, request.path_params["token"])
            await ops.open()
            return await self._inside(ops, request, link)
        except Refused as error:
            return problem(request, None, error.status, str(error))
        except (StoreError, UnreadableRecord, UserError, NotWritten, RedisError, OSError) as error:
            log.error("a shared export could not be given", error=f"{type(error).__name__}: {error}")
            return problem(request, None, 503, "the recordings cannot be read now; try again later")
        except Exception as error:
            log.error("a shared export failed", error=f"{type(error).__name__}: {error}", exc_info=True)
            return problem(request, None, 500, "Callvault could not show this page; tell whoever sent you the address")


def routes() -> Sequence[Route]:
    """The routes of shared exports, which need no sign-in: each checks its address itself."""
    root = "/ops/bundle/{token}"
    return [
        Route(root, _Guest(_page).__call__, methods=["GET"]),
        Route(f"{root}/file", _Guest(_file).__call__, methods=["GET"]),
    ]
