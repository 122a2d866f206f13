"""Sign-in and sign-out: the form for tokens, and the way to an OpenID provider and back."""

from __future__ import annotations

import hmac
import secrets
from urllib.parse import quote

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from archive.stores.store import StoreError
from process.logs import get_logger
from service.ops.access import HEADERS
from service.ops.accesses import log_refused_by_provider, log_refused_sign_in, log_sign_in
from service.ops.csrf import assert_of_these_pages
from service.ops.forms import read_change, read_form
from service.ops.parts import Ops
from service.ops.person import Refused, address_of
from service.ops.problems import answer_problem, is_of_api
from service.ops.rendering import render
from service.ops.sharing import whole_address
from text.one_line import one_line
from workers.access.log import NotWritten

CALLBACK = "/ops/sign-in/callback"  # the redirect URI that the provider must know

_ATTEMPT = "callvault_sign_in_"  # + the beginning of its state: the cookie of one attempt
_ATTEMPT_SECONDS = 600

log = get_logger()


def signed_out(request: Request) -> Response:
    """The answer to a request without a sign-in: a redirect to the sign-in page, or 401 from the API."""
    if is_of_api(request.scope["path"]):
        return answer_problem(
            request, 401, "no valid token; send a header `Authorization: Bearer TOKEN`, and see docs/access.md"
        )
    wanted = request.scope["path"] + (f"?{request.url.query}" if request.url.query else "")
    target = f"/ops/sign-in?next={quote(wanted)}" if request.method == "GET" else "/ops/sign-in"
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={"HX-Redirect": "/ops/sign-in"})
    return RedirectResponse(target, 303)


async def sign_in(request: Request) -> Response:
    """The form, and the answer to it."""
    ops: Ops = request.app.state.ops
    said, status = "", 200
    wanted = request.query_params.get("next", "/ops")
    try:
        if not ops.access.needs_token:
            return RedirectResponse("/ops", 303)
        if request.method == "POST":
            assert_of_these_pages(request)  # it would sign somebody in as another, or lock out their address
            form = await read_form(request)
            wanted = form.get("next", "/ops")
            person = await ops.access.sign_in(request, form)
            await log_sign_in(ops, request, person)
            response: Response = RedirectResponse(_page(wanted), 303)
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
    return _form(request, said, status, wanted)


async def start(request: Request) -> Response:
    """Send the browser to the OpenID provider."""
    from service.ops.oidc import ProviderAway, ProviderRefused

    ops: Ops = request.app.state.ops
    wanted = _page(request.query_params.get("next", "/ops"))
    if (provider := ops.access.provider) is None:
        return _with_headers(RedirectResponse("/ops/sign-in", 303))
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    try:
        there = await provider.address_to_sign_in(whole_address(request, CALLBACK), state, nonce, verifier)
    except (ProviderAway, ProviderRefused) as error:
        return _failed(request, error, wanted)
    response = RedirectResponse(there, 303)
    response.set_cookie(
        _ATTEMPT + state[:8],
        ops.access.sign(("sign-in", state, nonce, verifier, wanted)),
        max_age=_ATTEMPT_SECONDS,
        path="/ops/sign-in",
        httponly=True,
        samesite="lax",  # the provider's redirect must bring it
        secure=request.url.scheme == "https",
    )
    return _with_headers(response)


async def callback(request: Request) -> Response:
    """The browser comes back from the OpenID provider."""
    from service.ops.oidc import ProviderAway, ProviderRefused, in_words

    ops: Ops = request.app.state.ops
    said, wanted = request.query_params, "/ops"
    if (provider := ops.access.provider) is None:
        return _with_headers(RedirectResponse("/ops/sign-in", 303))
    try:
        await ops.access.codes.check(address_of(request))
        nonce, verifier, wanted = _attempt_of(ops, request)
        if "code" not in said:  # many of one office may be refused, so it counts as no guess of theirs
            refused = ProviderRefused(f"{provider.host} refused the sign-in{in_words(said.get('error'))}")
            await log_refused_by_provider(ops, request, str(refused))
            return _failed(request, refused, wanted)
        granted = await provider.redeem(
            said["code"], said.get("iss"), whole_address(request, CALLBACK), nonce, verifier
        )
        try:
            person = ops.access.new_person_of(granted)
        except Refused as refused:
            await log_refused_sign_in(ops, request, granted.name, "oidc", subject=granted.subject)
            return _form(request, str(refused), refused.status, wanted)
        await log_sign_in(ops, request, person)
        response = RedirectResponse(_page(wanted), 303)
        await ops.access.admit(response, person, granted, request)
    except Refused as refused:
        return _form(request, str(refused), refused.status, wanted)
    except (ProviderAway, ProviderRefused, NotWritten, RedisError, OSError) as error:
        if isinstance(error, ProviderRefused):
            await ops.access.codes.add(address_of(request))  # so that nobody has us send it codes without end
            try:
                await log_refused_sign_in(ops, request, "somebody", "oidc", error=one_line(error))
            except NotWritten as not_written:
                return _failed(request, not_written, wanted)
        return _failed(request, error, wanted)
    response.delete_cookie(_name_of_attempt(request), path="/ops/sign-in")
    return _with_headers(response)


def _name_of_attempt(request: Request) -> str:
    """The cookie of the attempt that the provider answers."""
    return _ATTEMPT + request.query_params.get("state", "")[:8]


def _attempt_of(ops: Ops, request: Request) -> tuple[str, str, str]:
    """The nonce, the verifier and the wanted page of the attempt that the provider answers.

    Raises:
        Refused: this browser has made none; another site can send it here, so that counts as no failed sign-in.
    """
    state = request.query_params.get("state", "")
    match ops.access.unsign(request.cookies.get(_name_of_attempt(request), ""), _ATTEMPT_SECONDS):
        case ["sign-in", str(ours), str(nonce), str(verifier), str(wanted)] if hmac.compare_digest(
            ours.encode(), state.encode()
        ):
            return nonce, verifier, wanted
    why = "this sign-in is older than ten minutes, or began in another browser"
    raise Refused(401, f"Callvault could not sign you in: {why}; try again")


async def sign_out(ops: Ops, request: Request) -> Response:
    """End the session of this browser, and the one at the OpenID provider."""
    await read_change(ops, request, {})
    there = None
    if ops.access.provider is not None and request.state.person.how == "oidc":
        from service.ops.oidc import ProviderAway, ProviderRefused

        try:
            there = await ops.access.provider.address_to_sign_out(whole_address(request, "/ops/sign-in"))
        except (ProviderAway, ProviderRefused) as error:
            log.warning("could not sign out at the provider", error=str(error))
    # A page of its own sends the browser on: the content security policy keeps a form from leading to another host.
    response: Response = RedirectResponse("/ops/sign-in", 303)
    if there is not None:
        response = HTMLResponse(render("signed-out.html", request, None, "Signed out", there=there))
    await ops.access.sign_out(request, response)
    return response


def _form(request: Request, said: str, status: int, wanted: str) -> Response:
    provider = request.app.state.ops.access.provider
    host = "" if provider is None else provider.host
    page = render("sign-in.html", request, None, "Sign in", said=said, next=wanted, provider=host)
    return _with_headers(HTMLResponse(page, status))


def _failed(request: Request, error: Exception, wanted: str) -> Response:
    """The form again, since a sign-in at the OpenID provider failed."""
    from service.ops.oidc import ProviderAway, ProviderRefused

    status = {ProviderRefused: 401, ProviderAway: 502}.get(type(error), 503)
    log.warning("sign-in refused", how="oidc", why=one_line(error))
    return _form(request, f"Callvault could not sign you in: {one_line(error)}; try again", status, wanted)


def _page(wanted: str) -> str:
    """Where to go after a sign-in; only to a page of ours."""
    return wanted if wanted.startswith("/ops") else "/ops"


def _with_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    return response
