"""A receiver that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.processes import receiver as start_receiver
from lab.webhooks import Signer
from tests.service.company import Company, make_company
from workers.queue.embedded import EmbeddedServer


@pytest.fixture(scope="module")
def signers() -> tuple[Signer, Signer]:
    return Signer(), Signer()


@pytest.fixture(scope="module")
def receiver(valkey: EmbeddedServer, signers: tuple[Signer, Signer]) -> Iterator[httpx.Client]:
    """A receiver process that knows two keys, as while keys rotate."""
    environment = {
        "REDIS_URL": valkey.url,
        "TELNYX_PUBLIC_KEY": ",".join(signer.public_key for signer in signers),
    }
    with start_receiver(environment, answer_seconds=5) as (client, _):
        yield client


@pytest.fixture
def company(redis_url: str, redis: Any, tmp_path: Path) -> Iterator[Company]:
    """A receiver on an archive with recordings inside and outside the scope of a role."""
    with make_company(redis_url, redis, tmp_path) as made:
        yield made
