"""Id tokens and answers that an OpenID provider never should send, from a server that sends them."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from config.setting import Secret
from config.sign_in import OpenId
from lab.servers import HttpServer
from service.ops.oidc import Granted, Provider, ProviderAway, ProviderRefused

NONCE = "the nonce of this sign-in"
SECRET = "a-secret-of-the-client-that-is-long-enough-for-hs256"
KEY, OTHER, CURVE = (
    rsa.generate_private_key(65537, 2048),
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP256R1()),
)
REFUSED = "a token that no error may quote"


class BadProvider:
    """A provider of one's own making.

    Attributes:
        document: what is added to its discovery document.
        tokens: the answer of its token endpoint.
        userinfo: the answer of its userinfo endpoint.
        keys: what it publishes.
    """

    def __init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(outer.answer(urlsplit(self.path).path))

            def do_POST(self) -> None:
                outer.asked.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                self._answer(outer.answer(self.path))

            def _answer(self, answer: tuple[int, Any]) -> None:
                body = answer[1] if isinstance(answer[1], bytes) else json.dumps(answer[1]).encode()
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.server = HttpServer(Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        self.asked: list[dict[str, list[str]]] = []
        self.document: dict[str, Any] = {}
        self.tokens: tuple[int, Any] = 200, {}
        self.userinfo: tuple[int, Any] = 200, {"sub": "ada", "groups": ["staff"]}
        self.keys: list[dict[str, Any]] = [jwk(KEY, "rsa"), jwk(CURVE, "curve")]

    def answer(self, path: str) -> tuple[int, Any]:
        names = {"authorization_endpoint": "/auth", "token_endpoint": "/token", "userinfo_endpoint": "/me"}
        document = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/jwks"}
        document |= {name: self.issuer + place for name, place in names.items()} | self.document
        known: dict[str, tuple[int, Any]] = {
            "/.well-known/openid-configuration": (200, document),
            "/jwks": (200, {"keys": self.keys}),
        }
        known |= {"/token": self.tokens, "/me": self.userinfo}
        return known.get(path, (404, {}))

    def claims(self, **other: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": "ada", "aud": "callvault", "iat": now, "exp": now + 600, "nonce": NONCE}
        return {name: value for name, value in (claims | other).items() if value is not None}

    async def sign_in(self, token: str | None, **options: Any) -> Granted:
        if token is not None:
            self.tokens = 200, {"id_token": token, "access_token": REFUSED}
        provider = Provider(OpenId(self.issuer, "callvault", Secret(SECRET), ("openid",), "groups"))
        try:
            return await provider.redeem("code", options.get("issuer"), "http://x/callback", NONCE, "verifier")
        finally:
            await provider.close()


def jwk(key: Any, key_id: str, **other: Any) -> dict[str, Any]:
    algorithm: Any = jwt.algorithms.ECAlgorithm if key_id == "curve" else jwt.algorithms.RSAAlgorithm
    return dict(algorithm.to_jwk(key.public_key(), as_dict=True)) | {"kid": key_id, "use": "sig"} | other


def signed(claims: dict[str, Any], key: Any = KEY, algorithm: str = "RS256", key_id: str | None = "rsa") -> str:
    return jwt.encode(claims, key, algorithm, headers={} if key_id is None else {"kid": key_id})


@pytest.fixture
def bad() -> Iterator[BadProvider]:
    made = BadProvider()
    yield made
    made.server.stop()


@pytest.mark.parametrize(
    ("algorithm", "key", "key_id"), [("RS256", KEY, "rsa"), ("PS384", KEY, "rsa"), ("ES256", CURVE, None)]
)
async def test_a_token_that_is_right_is_accepted(
    algorithm: str, key: Any, key_id: str | None, bad: BadProvider
) -> None:
    granted = await bad.sign_in(signed(bad.claims(aud=["callvault"]), key, algorithm, key_id))
    assert (granted.subject, granted.groups, granted.are_in_token) == ("ada", ("staff",), False)
    assert REFUSED not in repr(granted) and bad.asked[0]["code_verifier"] == ["verifier"]


def _unsigned(claims: dict[str, Any]) -> str:
    parts = ({"alg": "none", "kid": "rsa"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts) + "."


FORGED: dict[str, tuple[Callable[[BadProvider], str], str]] = {
    "not signed": (lambda bad: _unsigned(bad.claims()), "signed with 'none'"),
    "with the shared secret": (lambda bad: signed(bad.claims(), SECRET, "HS256"), "signed with 'HS256'"),
    "with another key": (lambda bad: signed(bad.claims(), OTHER), "Signature verification failed"),
    "with a key that is not published": (lambda bad: signed(bad.claims(), OTHER, key_id="new"), "does not publish"),
    "with a key of another type": (lambda bad: signed(bad.claims(), CURVE, "ES256", "rsa"), "does not publish"),
    "of another issuer": (lambda bad: signed(bad.claims(iss="https://evil.example")), "Invalid issuer"),
    "for another client": (lambda bad: signed(bad.claims(aud="another")), "Audience doesn't match"),
    "for several, none named": (lambda bad: signed(bad.claims(aud=["callvault", "b"])), "is for another client"),
    "for several, another named": (lambda bad: signed(bad.claims(aud=["callvault", "b"], azp="b")), "another client"),
    "past its end": (lambda bad: signed(bad.claims(exp=int(time.time()) - 120)), "expired"),
    "without an end": (lambda bad: signed(bad.claims(exp=None)), 'missing the "exp" claim'),
    "of nobody": (lambda bad: signed(bad.claims(sub=None)), 'missing the "sub" claim'),
    "of the future": (lambda bad: signed(bad.claims(iat=int(time.time()) + 3600)), "not yet valid"),
    "of another sign-in": (lambda bad: signed(bad.claims(nonce="x")), "belongs to another sign-in"),
    "without a nonce": (lambda bad: signed(bad.claims(nonce=None)), "belongs to another sign-in"),
    "of another person than the userinfo": (lambda bad: signed(bad.claims(sub="eve")), "answers about another person"),
    "nonsense": (lambda bad: REFUSED, "does not check out"),
}


@pytest.mark.parametrize("how", FORGED)
async def test_a_token_that_is_not_right_is_refused(how: str, bad: BadProvider) -> None:
    make, why = FORGED[how]
    with pytest.raises(ProviderRefused) as caught:
        await bad.sign_in(make(bad))
    assert why in str(caught.value) and REFUSED not in str(caught.value), caught.value


async def test_a_new_key_of_the_provider_is_found_and_asked_for_once_in_ten_seconds(bad: BadProvider) -> None:
    provider = Provider(OpenId(bad.issuer, "callvault", Secret(SECRET), ("openid",), "groups"))
    bad.tokens = 200, {"id_token": signed(bad.claims()), "access_token": "x"}
    assert (await provider.redeem("code", bad.issuer, "http://x", NONCE, "v")).subject == "ada"
    bad.keys, bad.tokens = (
        [jwk(OTHER, "new")],
        (200, {"id_token": signed(bad.claims(), OTHER, key_id="new"), "access_token": "x"}),
    )
    with pytest.raises(ProviderRefused, match="does not publish"):
        await provider.redeem("code", None, "http://x", NONCE, "v")
    provider._keys = time.monotonic() - 11, provider._keys[1] if provider._keys else []
    assert (await provider.redeem("code", None, "http://x", NONCE, "v")).subject == "ada"
    await provider.close()


@pytest.mark.parametrize(
    ("change", "error", "why"),
    [
        ({"document": {"issuer": "https://evil.example"}}, ProviderRefused, "names the issuer 'https://evil.example'"),
        ({"document": {"token_endpoint": None}}, ProviderRefused, "has no token_endpoint"),
        ({"tokens": (500, {})}, ProviderAway, "answers 500"),
        ({"tokens": (429, {})}, ProviderAway, "answers 429"),
        (
            {"tokens": (400, {"error": "invalid_grant", "error_description": REFUSED})},
            ProviderRefused,
            "(invalid_grant)",
        ),
        ({"tokens": (400, {"error": f"<{REFUSED}>"})}, ProviderRefused, "answers 400"),
        ({"tokens": (200, b"<html>")}, ProviderRefused, "answers 200"),
        ({"tokens": (200, [1])}, ProviderRefused, "answers 200"),
        ({"tokens": (302, {})}, ProviderRefused, "answers 302"),
        ({"tokens": (200, {"access_token": REFUSED})}, ProviderRefused, "sent no id token"),
        ({"keys": [{"kty": "oct", "k": "AAAA"}, "x", {"kty": "RSA"}]}, ProviderRefused, "does not publish"),
        ({"userinfo": (401, {"error": "invalid_token"})}, ProviderRefused, "answers 401 (invalid_token)"),
    ],
)
async def test_an_answer_that_cannot_be_used_is_an_error_in_one_line(
    change: dict[str, Any], error: type[Exception], why: str, bad: BadProvider
) -> None:
    bad.tokens = 200, {"id_token": signed(bad.claims()), "access_token": REFUSED}
    for name, value in change.items():
        setattr(bad, name, value)
    with pytest.raises(error) as caught:
        await bad.sign_in(None)
    assert why in str(caught.value) and REFUSED not in str(caught.value) and "\n" not in str(caught.value)


async def test_a_provider_that_is_away_is_asked_for_its_document_once_in_five_seconds(bad: BadProvider) -> None:
    bad.server.stop()
    provider = Provider(OpenId(bad.issuer, "callvault", Secret(SECRET), ("openid",), "groups"))
    for _ in range(2):
        with pytest.raises(ProviderAway, match="does not answer"):
            await provider.address_to_sign_in("http://x", "state", NONCE, "v")
    assert provider._away is not None
    since = provider._away[0]
    with pytest.raises(ProviderAway):
        await provider.check()
    assert provider._away[0] == since, "it was not asked again"
    await provider.close()


async def test_new_tokens_are_kept_when_the_provider_falls_silent_after_it_gave_them(bad: BadProvider) -> None:
    """The earlier refresh token may be used up; to send it again could end the session."""
    bad.tokens = 200, {"id_token": signed(bad.claims()), "access_token": "a", "refresh_token": "first"}
    provider = Provider(OpenId(bad.issuer, "callvault", Secret(SECRET), ("openid",), "groups"))
    granted = await provider.redeem("code", None, "http://x", NONCE, "v")
    bad.tokens, bad.userinfo = (200, {"access_token": "b", "refresh_token": "second"}), (503, {})
    with pytest.raises(ProviderAway) as caught:
        await provider.renew(granted)
    assert caught.value.renewed is not None
    assert (caught.value.renewed.refresh_token, caught.value.renewed.groups) == ("second", ("staff",))
    bad.userinfo = 200, {"sub": "ada", "groups": ["others"]}
    assert (await provider.renew(caught.value.renewed)).groups == ("others",)
    assert bad.asked[-1]["refresh_token"] == ["second"]
    await provider.close()


async def test_a_code_of_another_provider_is_sent_to_none(bad: BadProvider) -> None:
    with pytest.raises(ProviderRefused, match="another provider answered"):
        await bad.sign_in(signed(bad.claims()), issuer="https://evil.example")
    assert not bad.asked


@pytest.mark.parametrize(
    ("in_token", "in_userinfo", "email"),
    [
        ({"email": "grace@x.example"}, {"email": "ada@x.example", "email_verified": True}, "ada@x.example"),
        ({"email_verified": True}, {"email": "grace@x.example"}, ""),
        ({"email": "ada@x.example"}, {"email": "ada@x.example", "email_verified": True}, "ada@x.example"),
        ({"email_verified": False}, {"email": "grace@x.example", "email_verified": True}, ""),
        ({"email": "ada@x.example", "email_verified": True}, {"email": "grace@x.example"}, "ada@x.example"),
    ],
)
async def test_an_address_is_verified_only_by_the_answer_that_names_it(
    in_token: dict[str, Any], in_userinfo: dict[str, Any], email: str, bad: BadProvider
) -> None:
    bad.userinfo = 200, {"sub": "ada", "groups": ["staff"]} | in_userinfo
    assert (await bad.sign_in(signed(bad.claims(**in_token)))).email == email


async def test_an_answer_without_an_end_is_refused_while_it_arrives() -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{")
        with suppress(ConnectionError):
            while True:
                writer.write(b" " * 65_536)
                await writer.drain()
                sent += 65_536

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    provider = Provider(OpenId(f"http://127.0.0.1:{port}", "callvault", Secret(SECRET), ("openid",), "groups"))
    async with server:
        with pytest.raises(ProviderRefused, match="sends more than 1 MiB"):
            await provider.check()
        await provider.close()
    assert sent < 16 * 1024 * 1024, "what the network holds, and no more"


async def test_an_answer_is_not_decompressed(bad: BadProvider) -> None:
    """A small one could become a large one. Callvault asks for none that is compressed."""
    bad.tokens = 200, gzip.compress(b" " * 50_000_000 + b"{}")
    with pytest.raises(ProviderRefused, match="answers 200"):
        await bad.sign_in(None)
