"""The evidence of one day for somebody without an account, under an address that a person has shared (`sharing.py`).

It shows the seals of the day with their files, and an inventory: no audio, no transcript, and no number that is not masked.
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
from service.ops.evidence import read_day
from service.ops.parts import Ops
from service.ops.person import Refused, address_of
from service.ops.recordings import inventory_of
from service.ops.rendering import problem, render
from service.ops.seal import file_of_seal, look_at_seals
from service.ops.sharing import Share, read_share
from service.ops.view import View
from text.errors import UserError
from workers.access.log import NotWritten
from workers.catalogue.reach import EVERYTHING

log = get_logger()


async def _page(ops: Ops, request: Request, share: Share) -> Response:
    found = await read_day(ops, share.day)
    seals = await look_at_seals(ops, found.links)
    shown = {"share": share, "day": found, "seals": seals, "base": request.scope["path"]}
    shown["is_masked"] = ops.settings.ops_mask_numbers
    return HTMLResponse(render("shared.html", request, None, f"Evidence of {share.day}", **shown))


async def _file(ops: Ops, request: Request, share: Share) -> Response:
    return await file_of_seal(ops, request.path_params["name"], (await read_day(ops, share.day)).links)


async def _inventory(ops: Ops, request: Request, share: Share) -> Response:
    return await inventory_of(ops, View(ops, EVERYTHING), share.day, has_numbers=False)


class _Guest:
    """Lets in whoever has a valid address, and writes that into the access log before it shows anything."""

    def __init__(self, what: str, inside: Callable[[Ops, Request, Share], Awaitable[Response]]) -> None:
        self._what, self._inside = what, inside

    async def __call__(self, request: Request) -> Response:
        response = await self._answer(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["X-Robots-Tag"] = "noindex"
        return response

    async def _answer(self, request: Request) -> Response:
        ops: Ops = request.app.state.ops
        try:
            share = read_share(ops, request.path_params["token"])
            await ops.open()
            response = await self._inside(ops, request, share)
            who, about = f"an address shared by {share.by}", f"evidence {share.day}"
            await ops.accesses.write(new_line(self._what, who, "shared address", address_of(request), about=about))
            return response
        except Refused as error:
            return problem(request, None, error.status, str(error))
        except (StoreError, UnreadableRecord, UserError, NotWritten, RedisError, OSError) as error:
            log.error("shared evidence could not be shown", error=f"{type(error).__name__}: {error}")
            return problem(request, None, 503, "the evidence cannot be read now; try again later")
        except Exception as error:
            log.error("shared evidence failed", error=f"{type(error).__name__}: {error}", exc_info=True)
            return problem(request, None, 500, "Callvault could not show this page; tell whoever sent you the address")


def routes() -> Sequence[Route]:
    """The routes of shared evidence, which need no sign-in: each checks its address itself."""
    root = "/ops/shared/{token}"
    return [
        Route(root, _Guest("evidence", _page).__call__, methods=["GET"]),
        Route(f"{root}/recordings.csv", _Guest("inventory", _inventory).__call__, methods=["GET"]),
        Route(f"{root}/seals/{{name}}", _Guest("evidence", _file).__call__, methods=["GET"]),
    ]
