"""Sign-in and sign-out: the form and its answers."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from archive.stores.store import StoreError
from service.ops.access import COOKIE, HEADERS, Refused, read_form
from service.ops.accesses import log_refused_sign_in, log_sign_in
from service.ops.parts import Ops
from service.ops.rendering import render
from workers.access.log import NotWritten


async def sign_in(request: Request) -> Response:
    """The form, and the answer to it."""
    ops: Ops = request.app.state.ops
    said, status = "", 200
    wanted = request.query_params.get("next", "/ops")
    try:
        if not ops.access.needs_token:
            return RedirectResponse("/ops", 303)
        if request.method == "POST":
            form = await read_form(request)
            wanted = form.get("next", "/ops")
            person = await ops.access.sign_in(request, form)
            await log_sign_in(ops, request, person)
            response: Response = RedirectResponse(wanted if wanted.startswith("/ops") else "/ops", 303)
            ops.access.remember(response, person, request)
            return _with_headers(response)
    except Refused as refused:
        said, status = str(refused), refused.status
        try:
            if status == 401:
                await log_refused_sign_in(ops, request, form.get("name", ""))
        except NotWritten as error:
            said, status = str(error), 503
    except NotWritten as error:
        said, status = str(error), 503
    except StoreError as error:  # API tokens are kept there
        said, status = f"The archive: {error}", 503
    page = render("sign-in.html", request, None, "Sign in", said=said, next=wanted)
    return _with_headers(HTMLResponse(page, status))


async def sign_out(ops: Ops, request: Request) -> Response:
    """End the session of this browser."""
    ops.access.check_change(request, request.state.person, await read_form(request))
    response = RedirectResponse("/ops/sign-in", 303)
    response.delete_cookie(COOKIE)
    return response


def _with_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    return response
