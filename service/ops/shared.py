"""What somebody without an account sees under an address that a person has shared: the evidence of a day (`sharing.py`), or a
bundle (`bundles.py`).

Of the evidence, it shows the seals of the day with their files, and an inventory: no audio, no transcript, and no number that is
not masked. Errors say little: a stranger reads them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import date

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from archive.records import UnreadableRecord
from archive.stores.store import StoreError
from process.logs import get_logger
from service.ops import accesses, bundles
from service.ops.access import HEADERS
from service.ops.accesses import Said
from service.ops.evidence import read_day
from service.ops.parts import Ops
from service.ops.person import Person, Refused
from service.ops.recordings import inventory_of
from service.ops.rendering import problem, render
from service.ops.seal import file_of_seal, look_at_seals
from service.ops.sharing import SharedAddress, read_share
from service.ops.view import View
from text.errors import UserError
from workers.access.log import NotWritten
from workers.catalogue.reach import EVERYTHING

log = get_logger()


async def _evidence(ops: Ops, request: Request, shared: SharedAddress) -> Response:
    day = await read_day(ops, date.fromisoformat(shared.of))
    values = {"shared": shared, "day": day, "seals": await look_at_seals(ops, day.links)}
    values |= {"base": request.scope["path"], "is_masked": ops.settings.ops_mask_numbers}
    return HTMLResponse(render("shared.html", request, None, f"Evidence of {shared.of}", **values))


async def _file_of_seal(ops: Ops, request: Request, shared: SharedAddress) -> Response:
    day = await read_day(ops, date.fromisoformat(shared.of))
    return await file_of_seal(ops, request.path_params["name"], day.links)


async def _inventory(ops: Ops, request: Request, shared: SharedAddress) -> Response:
    return await inventory_of(ops, View(ops, EVERYTHING), date.fromisoformat(shared.of), has_numbers=False)


async def _bundle(ops: Ops, request: Request, shared: SharedAddress) -> Response:
    _, end = await bundles.ready(ops, shared.of)
    values = {"shared": shared, "end": end, "base": request.scope["path"]}
    return HTMLResponse(render("bundle.html", request, None, "Call recordings", **values))


async def _file_of_bundle(ops: Ops, request: Request, shared: SharedAddress) -> Response:
    return await bundles.give(ops, request, shared.of)


class _Guest:
    """Lets in whoever has a valid address, and writes that into the access log before it shows anything.

    Args:
        read: reads the token of an address.
        inside: makes the answer.
        says: what the access log says of it; None: nothing.
    """

    def __init__(
        self,
        read: Callable[[Ops, str], SharedAddress],
        inside: Callable[[Ops, Request, SharedAddress], Awaitable[Response]],
        says: Callable[[Request, SharedAddress], Said] | None,
    ) -> None:
        self._read, self._inside, self._says = read, inside, says

    async def __call__(self, request: Request) -> Response:
        response = await self._answer(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["X-Robots-Tag"] = "noindex"
        return response

    async def _answer(self, request: Request) -> Response:
        ops: Ops = request.app.state.ops
        try:
            shared = self._read(ops, request.path_params["token"])
            await ops.open()
            response = await self._inside(ops, request, shared)
            if self._says is not None and response.status_code < 400:
                guest = Person(f"an address shared by {shared.by}", "", "shared address", ())
                await ops.accesses.write(accesses.line_of(request, guest, self._says(request, shared)))
            return response
        except Refused as error:
            return problem(request, None, error.status, str(error))
        except (StoreError, UnreadableRecord, UserError, NotWritten, RedisError, OSError) as error:
            log.error("what is shared could not be shown", error=f"{type(error).__name__}: {error}")
            return problem(request, None, 503, "this cannot be read now; try again later")
        except Exception as error:
            log.error("a shared address failed", error=f"{type(error).__name__}: {error}", exc_info=True)
            return problem(request, None, 500, "Callvault could not show this page; tell whoever sent you the address")


def routes() -> Sequence[Route]:
    """The routes of shared addresses, which need no sign-in: each checks its address itself."""
    evidence, bundle = "/ops/shared/{token}", "/ops/bundle/{token}"
    guests = {
        evidence: _Guest(read_share, _evidence, _of_evidence("evidence")),
        f"{evidence}/recordings.csv": _Guest(read_share, _inventory, _of_evidence("inventory")),
        f"{evidence}/seals/{{name}}": _Guest(read_share, _file_of_seal, _of_evidence("evidence")),
        bundle: _Guest(bundles.read_link, _bundle, None),  # a program that looks at every address takes nothing here
        f"{bundle}/file": _Guest(bundles.read_link, _file_of_bundle, lambda request, _: accesses.bundle(request)),
    }
    return [Route(path, guest.__call__, methods=["GET"]) for path, guest in guests.items()]


def _of_evidence(what: str) -> Callable[[Request, SharedAddress], Said]:
    return lambda _, shared: Said(what, about=f"evidence {shared.of}")
