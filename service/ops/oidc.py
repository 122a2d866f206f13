"""The client of an OpenID provider: authorization code with PKCE, state and nonce (OpenID Connect Core 1.0, RFC 7636).

PyJWT checks the signatures and claims of id tokens. Importing this module takes some 100 ms, so only a receiver with
`CALLVAULT_OIDC_ISSUER` does it, in the thread that loads the pages.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import jwt

from config.sign_in import OpenId

_SECONDS = httpx.Timeout(5.0)  # for each step of a request; people wait for it
_WHOLE_SECONDS = 10.0  # for a whole request
_LARGEST_ANSWER_BYTES = 1024 * 1024
_KNOWN_SECONDS = 3600.0  # of the discovery document
_AWAY_SECONDS = 5.0  # before a discovery document is asked for again that could not be read
_KEYS_AGAIN_SECONDS = 10.0  # after a key id that is not known: the provider may have new keys
_LEEWAY_SECONDS = 60
_MOST_GROUPS = 1_000
# Signatures with a public key only, by the type of the key: with a shared secret, whoever knows it could make id tokens.
_ALGORITHMS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
}


class ProviderAway(Exception):
    """The provider does not answer, or answers that it cannot now; the text says why.

    Attributes:
        renewed: the new tokens, if it gave those and then did not answer: the earlier refresh token may be used up.
    """

    renewed: Granted | None = None


class ProviderRefused(Exception):
    """The provider refuses, or what it sends does not check out; the text says why, and holds no secret."""


@dataclass(frozen=True)
class Granted:
    """What the provider says of a person who signed in.

    Attributes:
        subject: its id of the person; it never changes.
        name: to show and to record.
        email: an address that the provider has verified; empty without one.
        groups: of the person.
        are_in_token: whether the id token names the groups; otherwise the userinfo endpoint does.
        refresh_token: renews this; empty if the provider gave none.
        access_token: for the userinfo endpoint.
        ends_at: when it ends because nothing renews it, in seconds since the epoch; None: once the provider refuses.
    """

    subject: str
    name: str
    email: str
    groups: tuple[str, ...]
    are_in_token: bool
    refresh_token: str = field(repr=False)
    access_token: str = field(repr=False)
    ends_at: float | None

    @property
    def names(self) -> tuple[str, ...]:
        """What the access file may call the person by."""
        return tuple(filter(None, (self.subject, self.email)))


def challenge_of(verifier: str) -> str:
    """The code challenge of a code verifier, by the method S256 (RFC 7636, section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


class Provider:
    """The provider of the settings. Its documents are read at the first use, and again from time to time.

    Each method raises ProviderAway, or ProviderRefused.
    """

    def __init__(self, settings: OpenId) -> None:
        self._settings = settings
        self._client = httpx.AsyncClient(
            timeout=_SECONDS, follow_redirects=False, headers={"Accept-Encoding": "identity"}
        )
        self._document: tuple[float, dict[str, Any]] | None = None
        self._away: tuple[float, str] | None = None  # when its document could not be read, and why
        self._keys: tuple[float, list[jwt.PyJWK]] | None = None
        self._reading = asyncio.Lock()

    @property
    def host(self) -> str:
        """The name of its host, to show."""
        return urlsplit(self._settings.issuer).netloc

    async def check(self) -> None:
        """Check that it answers, and has what a sign-in needs."""
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            await self._endpoint(name)

    async def address_to_sign_in(self, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Where the browser goes to sign in."""
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._settings.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        return _with_query(await self._endpoint("authorization_endpoint"), query)

    async def address_to_sign_out(self, back_to: str) -> str | None:
        """Where the browser goes to sign out at the provider too; None if it has no such page.

        Without `id_token_hint`, so that no token is in an address (RP-Initiated Logout 1.0, section 2).
        """
        endpoint = (await self._discovered()).get("end_session_endpoint")
        if not isinstance(endpoint, str):
            return None
        return _with_query(endpoint, {"client_id": self._settings.client_id, "post_logout_redirect_uri": back_to})

    async def redeem(self, code: str, issuer: str | None, redirect_uri: str, nonce: str, verifier: str) -> Granted:
        """Exchange the code that came with a browser.

        Args:
            code: as it came.
            issuer: who sent it, if the answer says so (RFC 9207).
            redirect_uri, nonce, verifier: of the request that it answers.
        """
        if issuer is not None and not _is_same(issuer, self._settings.issuer):
            raise ProviderRefused("another provider answered")
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        answer = await self._ask_for_tokens(form | {"code_verifier": verifier})
        claims = await self._checked(answer.get("id_token"))
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise ProviderRefused("its id token belongs to another sign-in (nonce)")
        return await self._granted(claims, answer, None)

    async def renew(self, before: Granted) -> Granted:
        """Ask anew what the provider says of a person, such as after a group was taken away."""
        if not before.refresh_token:
            return await self._granted({}, {}, before)
        answer = await self._ask_for_tokens({"grant_type": "refresh_token", "refresh_token": before.refresh_token})
        claims = await self._checked(token) if (token := answer.get("id_token")) else {}
        if claims and claims["sub"] != before.subject:
            raise ProviderRefused("its new id token is of another person")
        try:
            return await self._granted(claims, answer, before)
        except ProviderAway as error:
            refresh_token = str(answer.get("refresh_token") or before.refresh_token)
            access_token = str(answer.get("access_token") or before.access_token)
            error.renewed = replace(before, refresh_token=refresh_token, access_token=access_token)
            raise

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def _granted(self, claims: Mapping[str, Any], answer: Mapping[str, Any], before: Granted | None) -> Granted:
        """What the claims of a new id token say, and the userinfo endpoint where they do not name groups.

        Args:
            claims: of the new id token; empty without one.
            answer: of the token endpoint; empty if it was not asked.
            before: what was known; None at the sign-in.
        """
        wanted = self._settings.groups_claim
        subject = str(claims.get("sub") or (before.subject if before else ""))
        access_token = str(answer.get("access_token") or (before.access_token if before else ""))
        refresh_token = str(answer.get("refresh_token") or (before.refresh_token if before else ""))
        info = None if wanted in claims else await self._userinfo(access_token, subject)
        said = {**(info or {}), **claims}
        are_in_token = wanted in claims if claims or before is None else before.are_in_token
        groups = said.get(wanted, ())
        if before is not None and not claims and wanted not in said and before.are_in_token:
            groups = before.groups  # nothing newer is known, so this ends with the id token that named them
        is_denied = claims.get("email_verified", True) is not True
        email = "" if is_denied else _verified_email(claims) or _verified_email(info or {})
        if before is not None and "email" not in said:
            email = before.email
        name = email or str(said.get("preferred_username") or said.get("name") or (before.name if before else subject))
        is_renewed = bool(refresh_token) or (info is not None and not are_in_token)
        end = claims.get("exp", before.ends_at if before else None)
        groups = [groups] if isinstance(groups, str) else groups if isinstance(groups, list | tuple) else []
        return Granted(
            subject=subject,
            name=name,
            email=email,
            groups=tuple(str(group) for group in groups[:_MOST_GROUPS]),
            are_in_token=are_in_token,
            refresh_token=refresh_token,
            access_token=access_token,
            ends_at=None if is_renewed or end is None else float(end),
        )

    async def _userinfo(self, access_token: str, subject: str) -> dict[str, Any] | None:
        """The answer of the userinfo endpoint; None if there is no endpoint."""
        endpoint = (await self._discovered()).get("userinfo_endpoint")
        if not isinstance(endpoint, str) or not access_token:
            return None
        said = await self._read("GET", endpoint, headers={"Authorization": f"Bearer {access_token}"})
        if said.get("sub") != subject:
            raise ProviderRefused("its userinfo endpoint answers about another person")
        return said

    async def _ask_for_tokens(self, form: dict[str, str]) -> dict[str, Any]:
        """Ask the token endpoint, as the client that we are (RFC 6749, section 2.3.1)."""
        methods = (await self._discovered()).get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        secret = self._settings.client_secret.get_secret_value()
        headers = {"Accept": "application/json"}
        if "client_secret_basic" in methods:
            pair = f"{quote(self._settings.client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form = form | {"client_id": self._settings.client_id, "client_secret": secret}
        endpoint = await self._endpoint("token_endpoint")
        return await self._read("POST", endpoint, data=form, headers=headers)

    async def _checked(self, token: object) -> dict[str, Any]:
        """The claims of an id token whose signature, issuer, audience and times are right (Core, section 3.1.3.7)."""
        if not isinstance(token, str):
            raise ProviderRefused("it sent no id token; is openid among the scopes?")
        document = await self._discovered()
        try:
            header = jwt.get_unverified_header(token)
            algorithm, key_id = header.get("alg"), header.get("kid")
            if algorithm not in _ALGORITHMS:
                raise ProviderRefused(f"its id token is signed with {str(algorithm)[:20]!r}, not with a public key")
            claims: dict[str, Any] = jwt.decode(
                token,
                (await self._key(key_id, str(algorithm))).key,
                algorithms=[str(algorithm)],
                audience=self._settings.client_id,
                issuer=str(document["issuer"]),
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "aud", "iss", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise ProviderRefused(f"its id token does not check out: {error}") from None
        audience = claims["aud"]
        is_shared = isinstance(audience, list) and len(audience) > 1
        if claims.get("azp", None if is_shared else self._settings.client_id) != self._settings.client_id:
            raise ProviderRefused("its id token is for another client")
        return claims

    async def _key(self, key_id: object, algorithm: str) -> jwt.PyJWK:
        """The key with an id; without an id, the only one of its type. New keys are looked for at most every 10 s."""
        for again in (False, True):
            keys = [key for key in await self._known_keys(again=again) if key.key_type == _ALGORITHMS[algorithm]]
            keys = [key for key in keys if key.public_key_use in (None, "sig") and key_id in (None, key.key_id)]
            if len(keys) == 1 or (keys and key_id is not None):
                return keys[0]
        raise ProviderRefused("its id token is signed with a key that it does not publish")

    async def _known_keys(self, *, again: bool) -> list[jwt.PyJWK]:
        async with self._reading:
            age = _KNOWN_SECONDS + 1 if self._keys is None else time.monotonic() - self._keys[0]
            if self._keys is None or age > _KNOWN_SECONDS or (again and age > _KEYS_AGAIN_SECONDS):
                rows = (await self._read("GET", await self._endpoint("jwks_uri"))).get("keys")
                self._keys = time.monotonic(), _keys_of(rows)
            return self._keys[1]

    async def _endpoint(self, name: str) -> str:
        found = (await self._discovered()).get(name)
        if not isinstance(found, str):
            raise ProviderRefused(f"its discovery document has no {name}")
        return found

    async def _discovered(self) -> dict[str, Any]:
        """The discovery document (OpenID Connect Discovery 1.0, section 4)."""
        if self._document is None or time.monotonic() - self._document[0] > _KNOWN_SECONDS:
            address = self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
            if self._away is not None and time.monotonic() - self._away[0] < _AWAY_SECONDS:
                raise ProviderAway(self._away[1])
            try:
                document = await self._read("GET", address)
            except (ProviderAway, ProviderRefused) as error:
                if self._document is None:
                    self._away = time.monotonic(), str(error)
                    raise
                # It is old, and still the best that is known.
                self._document = time.monotonic() - _KNOWN_SECONDS + _AWAY_SECONDS, self._document[1]
                return self._document[1]
            if not _is_same(str(document.get("issuer")), self._settings.issuer):
                raise ProviderRefused(
                    f"its discovery document names the issuer {str(document.get('issuer'))[:200]!r}; "
                    "set CALLVAULT_OIDC_ISSUER to that, if it is right"
                )
            for name, value in document.items():
                if name.endswith(("_endpoint", "jwks_uri")) and not _is_as_safe(str(value), self._settings.issuer):
                    raise ProviderRefused(f"its discovery document has a {name[:40]} without https")
            self._document = time.monotonic(), document
        return self._document[1]

    async def _read(self, method: str, address: str, **request: Any) -> dict[str, Any]:
        """The JSON object that a request gets, 1 MiB at most; errors quote the provider's error code, and never a token."""
        body = b""
        try:
            async with asyncio.timeout(_WHOLE_SECONDS), self._client.stream(method, address, **request) as answer:
                if answer.status_code >= 500 or answer.status_code == 429:
                    raise ProviderAway(f"{self.host} answers {answer.status_code}")
                async for chunk in answer.aiter_raw():  # not decompressed: a small answer must not become a large one
                    body += chunk
                    if len(body) > _LARGEST_ANSWER_BYTES:
                        raise ProviderRefused(f"{self.host} sends more than 1 MiB")
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise ProviderAway(f"{self.host} does not answer ({type(error).__name__})") from None
        try:
            said = json.loads(body)
        except (ValueError, RecursionError):
            said = None
        if answer.status_code != 200 or not isinstance(said, dict):
            code = said.get("error") if isinstance(said, dict) else None
            raise ProviderRefused(f"{self.host} answers {answer.status_code}{in_words(code)}")
        return said


def in_words(code: object) -> str:
    """An error code of a provider as it may be shown and logged; empty for anything else."""
    is_code = isinstance(code, str) and len(code) <= 60 and code.isascii() and code.replace("_", "").isalnum()
    return f" ({code})" if is_code else ""


def _verified_email(said: Mapping[str, Any]) -> str:
    """The address that one answer names and calls verified; the word of one answer never covers the address of another."""
    return str(said.get("email") or "") if said.get("email_verified") is True else ""


def _keys_of(rows: object) -> list[jwt.PyJWK]:
    """The keys that this version can use; a provider may publish others too."""
    found = []
    for row in rows if isinstance(rows, list) else []:
        try:
            found.append(jwt.PyJWK.from_dict(row))
        except (jwt.PyJWTError, TypeError, ValueError, AttributeError, KeyError):
            continue
    return found


def _is_same(issuer: str, other: str) -> bool:
    return issuer.rstrip("/") == other.rstrip("/")


def _is_as_safe(address: str, issuer: str) -> bool:
    """Whether an address has https, if the issuer has."""
    return urlsplit(address).scheme == "https" or urlsplit(issuer).scheme == "http"


def _with_query(address: str, query: Mapping[str, str]) -> str:
    return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"
