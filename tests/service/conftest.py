"""A receiver that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from lab.processes import callvault, free_port
from lab.webhooks import Signer
from workers.queue.embedded import EmbeddedServer


@pytest.fixture(scope="module")
def signers() -> tuple[Signer, Signer]:
    return Signer(), Signer()


@pytest.fixture(scope="module")
def receiver(valkey: EmbeddedServer, signers: tuple[Signer, Signer]) -> Iterator[httpx.Client]:
    """A receiver process that knows two keys, as while keys rotate."""
    port = free_port()
    environment = {
        "REDIS_URL": valkey.url,
        "TELNYX_PUBLIC_KEY": ",".join(signer.public_key for signer in signers),
    }
    with (
        callvault(["serve", "--port", str(port)], environment, "Uvicorn running"),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client
