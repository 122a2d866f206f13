"""Access to the ops pages: sign-in by token, signed session cookies, CSRF tokens, security headers.

An API token is accepted from anywhere. Whoever signs in with one has its name and role, for as long as it works.

Without `CALLVAULT_OPS_TOKEN` the pages answer only on this machine: to a loopback address, under a loopback name (which
defeats DNS rebinding) and never through a proxy.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from itsdangerous import BadSignature, URLSafeSerializer
from starlette.requests import Request
from starlette.responses import Response

from archive.decision_records import ApiToken
from config.scopes import Grant
from config.settings import Settings
from config.sign_in import SignIn
from process.logs import get_logger
from service.ops.csrf import assert_of_these_pages, unmasked
from service.ops.guesses import Guesses
from service.ops.person import How, Person, Refused, address_of, bearer_of, text_of_header
from service.ops.signed import SignedFor, key_of_machine
from service.protocol import peer_of
from text.counts import many
from workers.api_tokens import PREFIX, KnownTokens, grant_of

if TYPE_CHECKING:
    from service.ops.oidc import Granted, Provider
    from service.ops.sessions import Sessions

COOKIE = "callvault_session"

_ALL = (Grant("admin"),)  # of the ops token, and of whoever uses this machine
_SESSION_SECONDS = 12 * 3600
_LONGEST_NAME = 60
_LOOPBACK_CLIENTS = ("127.0.0.1", "::1")
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

log = get_logger()


class Access:
    """Decides who may enter.

    Args:
        settings: with the token, and the data folder, which holds the session key if no secret is set.
        ways: how people sign in besides tokens.
        redis: counts failed sign-ins for all receivers; without Redis, each receiver counts its own.
        tokens: the API tokens.

    Attributes:
        guesses: the failed sign-ins by token, by address; codes: those with a code of the OpenID provider.
    """

    def __init__(self, settings: Settings, ways: SignIn, redis: Any, tokens: KnownTokens) -> None:
        self._token = settings.ops_token.get_secret_value() if settings.ops_token else None
        self._ways = ways
        self._provider: Provider | None = None
        self._open: Sessions | None = None
        secret = self._token
        if ways.openid is not None:
            from service.ops.oidc import Provider
            from service.ops.sessions import Sessions

            self._provider = Provider(ways.openid)
            self._open = Sessions(self._provider, redis)
            secret = secret or ways.openid.client_secret.get_secret_value()  # all receivers have it
        key = secret or key_of_machine(settings.data_folder)
        self._sessions = SignedFor(key, salt="callvault ops session")
        self._attempts = SignedFor(key, salt="callvault attempt to sign in")
        self._addresses = URLSafeSerializer(key, salt="callvault address of audio")
        self._tokens = tokens
        self.guesses, self.codes = Guesses(redis), Guesses(redis, "code")
        self.shares = SignedFor(key, salt="callvault shared evidence")  # signs addresses: `shared.py`
        self.bundles = URLSafeSerializer(key, salt="callvault bundle")  # likewise: `bundles.py`

    @property
    def needs_token(self) -> bool:
        """Whether a person has to sign in."""
        return self._token is not None or self._provider is not None or self._ways.proxy is not None

    @property
    def provider(self) -> Provider | None:
        """The OpenID provider that people sign in at; None without one."""
        return self._provider

    @property
    def _how(self) -> How:
        return "local" if self._token is None else "token"

    async def person(self, request: Request) -> Person | None:
        """The person or program that sends a request; None if it has not signed in.

        Raises:
            Refused: no token is set and the request is not from this machine, its API token does not work, or its
                address failed too often, or the OpenID provider has not answered for minutes.
            StoreError: the archive, which holds the API tokens, does not answer.
            redis.exceptions.RedisError: Redis, which holds the sessions of the OpenID provider, does not answer.
        """
        bearer = bearer_of(request)
        if bearer.startswith(PREFIX):
            if (row := await self._api_token(request, bearer)) is None:
                raise Refused(401, "the API token is unknown, revoked, or past its end")
            return _of_token(row, "")
        if (person := self._of_proxy(request)) is not None:
            return person
        if not self.needs_token:
            _must_be_local(request)
            if bearer:
                raise Refused(401, "the token is wrong: no CALLVAULT_OPS_TOKEN is set, and API tokens begin with cvt_")
        elif bearer:
            if not await self._is_let_in(request, bearer):
                raise Refused(401, "the token is wrong: it is not the ops token, and API tokens begin with cvt_")
            return Person("api", "", "token", _ALL)
        match self._cookie(request):
            case {"session": str(secret), "csrf": str(csrf)} if self._open is not None:
                return await self._of_session(self._open, secret, csrf)
            case [str(name), str(csrf)] if self._token is not None or not self.needs_token:
                return Person(name, csrf, self._how, _ALL)
            case [str(_), str(csrf), str(token_id)]:
                row = await self._tokens.of_id(token_id)
                return None if row is None else _of_token(row, csrf)
        return None

    def _of_proxy(self, request: Request) -> Person | None:
        """The person whom the proxy names; None if the request does not come from it, or it names nobody.

        Raises:
            Refused: no entry of the access file gives this person a role, or a header comes twice.
        """
        proxy, access = self._ways.proxy, self._ways.access
        if proxy is None or access is None or not proxy.is_at(peer_of(request.scope)):
            return None
        for header in filter(None, (proxy.user_header, proxy.groups_header)):
            if len(request.headers.getlist(header)) > 1:
                raise Refused(400, f"the header {header} comes twice; the proxy must replace it")
        user = text_of_header(request.headers.get(proxy.user_header, ""))
        if not user:
            return None
        given = text_of_header(request.headers.get(proxy.groups_header, "")) if proxy.groups_header else ""
        groups = [group.strip() for group in given.split(",") if group.strip()]
        csrf = secrets.token_urlsafe(18)
        match self._cookie(request):
            case {"proxy": str(name), "csrf": str(known)} if name == user:
                csrf = known
            case _:
                request.state.is_new = True
        person = Person(_printable(user), csrf, "proxy", access.grants([user], groups), user)
        if not person.roles:
            log.warning("sign-in refused", who=person.name, how="proxy", groups=len(groups))
            request.state.has_no_role = person
            raise Refused(403, _no_role(person.name, len(groups)))
        return person

    async def _of_session(self, sessions: Sessions, secret: str, csrf: str) -> Person | None:
        """The person of a session that the OpenID provider confirms; whoever has no role any more is signed out."""
        from service.ops.sessions import NotConfirmed

        try:
            granted = await sessions.of(secret)
        except NotConfirmed as error:
            raise Refused(503, str(error)) from None
        if granted is None:
            return None
        person = self.person_of(granted, csrf)
        if person.roles:
            return person
        log.info("a sign-in has ended", who=person.name, why="no role is left")
        await sessions.end(secret)
        return None

    def _cookie(self, request: Request) -> Any:
        """What the session cookie says; None without one of ours that is young enough."""
        try:
            return self._sessions.loads(request.cookies.get(COOKIE, ""), _SESSION_SECONDS)[0]
        except BadSignature:
            return None

    def person_of(self, granted: Granted, csrf: str) -> Person:
        """A person as the OpenID provider describes them, with what the access file grants."""
        grants = self._ways.access.grants(granted.names, granted.groups) if self._ways.access else ()
        return Person(_printable(granted.name), csrf, "oidc", grants, granted.subject)

    def new_person_of(self, granted: Granted) -> Person:
        """A new session of a person who has signed in at the OpenID provider.

        Raises:
            Refused: no entry of the access file gives this person a role.
        """
        person = self.person_of(granted, secrets.token_urlsafe(18))
        if not person.roles:
            log.warning("sign-in refused", who=person.name, how="oidc", groups=len(granted.groups))
            raise Refused(403, _no_role(person.name, len(granted.groups)))
        return person

    async def admit(self, response: Response, person: Person, granted: Granted, request: Request) -> None:
        """Start that session, and set its cookie.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        assert self._open is not None  # noqa: S101 whoever signed in there, did so at our provider
        secret = await self._open.start(granted)
        self._set_cookie(response, {"session": secret, "csrf": person.csrf}, request, samesite="lax")
        log.info("signed in", who=person.name, role=person.role, how=person.how, client=address_of(request))

    async def sign_out(self, request: Request, response: Response) -> None:
        """End the session of a browser.

        Raises:
            redis.exceptions.RedisError: Redis does not answer; a session of the OpenID provider goes on.
        """
        match self._cookie(request):
            case {"session": str(secret)} if self._open is not None:
                await self._open.end(secret)
        response.delete_cookie(COOKIE)

    async def sign_in(self, request: Request, form: Mapping[str, str]) -> Person:
        """Check the sign-in form.

        Raises:
            Refused: the token is wrong, or the address failed too often.
        """
        name = _printable(form.get("name", ""))
        given, person = form.get("token", ""), None
        if given.startswith(PREFIX):
            row = await self._api_token(request, given)
            person = None if row is None else _of_token(row, secrets.token_urlsafe(18))
        elif await self._is_let_in(request, given):
            person = self.new_person(name)
        if person is None:
            log.warning("sign-in refused", who=name, client=address_of(request))
            raise Refused(401, "wrong token")
        log.info("signed in", who=person.name, role=person.role, how=person.how, client=address_of(request))
        return person

    def new_person(self, name: str) -> Person:
        """A new session."""
        return Person(name, secrets.token_urlsafe(18), self._how, _ALL)

    def remember(self, response: Response, person: Person, request: Request) -> None:
        """Set the session cookie."""
        session: Any = (person.name, person.csrf, *([person.id] if person.id else []))
        if person.how == "proxy":
            session = {"proxy": person.id, "csrf": person.csrf}
        self._set_cookie(response, session, request)

    def _set_cookie(
        self, response: Response, session: Any, request: Request, samesite: Literal["lax", "strict"] = "strict"
    ) -> None:
        response.set_cookie(
            COOKIE,
            self._sessions.dumps(session),
            max_age=_SESSION_SECONDS,
            httponly=True,
            samesite=samesite,  # lax if another site sends the browser here, as an OpenID provider does
            secure=request.url.scheme == "https",
        )

    def sign_address(self, value: list[object]) -> str:
        """A value that comes back by `unsign_address`; it says itself when it ends, since clocks of receivers differ."""
        return str(self._addresses.dumps(value))

    def unsign_address(self, text: str) -> Any:
        """A value that this or another receiver has signed.

        Raises:
            itsdangerous.BadData: nobody has, or with another key.
        """
        return self._addresses.loads(text)

    async def bearer_of_address(self, token_id: str) -> Person | None:
        """Who made an address of audio, as the token stands now; None if it does not work any more.

        Args:
            token_id: of the API token; empty: the ops token, whose change ends the signature too.

        Raises:
            StoreError: the archive, which holds the API tokens, does not answer.
        """
        if not token_id:
            return Person("api", "", "audio address", _ALL) if self._token is not None else None
        row = await self._tokens.of_id(token_id)
        return None if row is None else replace(_of_token(row, ""), how="audio address")

    async def close(self) -> None:
        """Close the connections to the OpenID provider."""
        if self._provider is not None:
            await self._provider.close()

    def sign(self, value: Any) -> str:
        """A value that comes back by `unsign` unchanged, such as in a cookie."""
        return str(self._attempts.dumps(value))

    def unsign(self, text: str, seconds: int) -> Any:
        """A value that this or another receiver has signed; None if nobody has, or longer ago."""
        try:
            return self._attempts.loads(text, seconds)[0]
        except BadSignature:
            return None

    def check_change(self, request: Request, person: Person, form: Mapping[str, str]) -> None:
        """Check that a change comes from our own pages.

        Raises:
            Refused: it does not.
        """
        if not person.csrf:  # the request carries the ops token, which no browser adds by itself
            return
        given = unmasked(request.headers.get("x-csrf-token") or form.get("csrf", ""))
        if not hmac.compare_digest(given.encode(), person.csrf.encode()):
            raise Refused(403, "the page has expired or the request comes from another site; reload the page")
        assert_of_these_pages(request)

    async def _api_token(self, request: Request, given: str) -> ApiToken | None:
        """The API token that is given, if it works; failures are counted by address.

        One that works is let in whatever failed before it: nobody guesses 32 random bytes, and a program with an old token must
        not lock out those beside it.
        """
        row = await self._tokens.of_secret(given)
        if row is None:
            await self.guesses.check(address_of(request))
            await self.guesses.add(address_of(request))
        return row

    async def _is_let_in(self, request: Request, given: str) -> bool:
        """Whether the ops token is right; failures are counted by address."""
        await self.guesses.check(address_of(request))
        is_it = self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())
        if not is_it:
            await self.guesses.add(address_of(request))
        return is_it


def _printable(name: str) -> str:
    """A name as it is recorded: one line, not too long."""
    return "".join(c for c in name if c.isprintable())[:_LONGEST_NAME].strip() or "somebody"


def _no_role(name: str, groups: int) -> str:
    return (
        f"your sign-in as {name} is good, but neither you nor one of your {many(groups, 'group')} has a role here; "
        "ask an admin of Callvault for one"
    )


def _of_token(row: ApiToken, csrf: str) -> Person:
    """Whoever sends an API token; one with a role or a scope that this version does not know lets nobody do anything."""
    grant = grant_of(row)
    return Person(row.name, csrf, "api token", () if grant is None else (grant,), row.id)


def _must_be_local(request: Request) -> None:
    name = urlsplit(f"//{request.headers.get('host', '')}").hostname
    is_forwarded = any(header in request.headers for header in _FORWARDED)
    if address_of(request) in _LOOPBACK_CLIENTS and name in _LOOPBACK_NAMES and not is_forwarded:
        return
    raise Refused(403, "CALLVAULT_OPS_TOKEN is not set, so the ops pages answer only on this machine")
