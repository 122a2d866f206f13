"""Log a refused webhook and say why its signature may not match. Note the test webhooks of `callvault doctor`.

All of this happens after the refusal is decided and changes no answer: webhooks with a good signature never come here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import time
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError
from starlette.types import Scope

from process.logs import get_logger
from service.changed_body import NAMES, find_change, look_of
from service.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, OutsideWindow, SignatureRefused, Signatures
from workers.keys import PROBE, PROBED

PROBE_HEADER = "callvault-probe"
PROBE_SECONDS = 60
MOST_PROBES_AT_ONCE = 4  # that a receiver looks up: anyone may send a number
LARGEST_KEPT_BYTES = 16 * 1024  # of a test webhook's body; of a larger one only the hash is kept

_NUMBER = re.compile(r"[0-9a-f]{32}")
_EXPLAIN_EVERY_SECONDS = 1.0  # it takes milliseconds, and anyone may send an unsigned webhook

log = get_logger()


def client_of(scope: Scope) -> str | None:
    """The address of the client, as far as the receiver knows; only the characters of an address and a name."""
    client = scope.get("client")
    return re.sub(r"[^\w.:%\[\]-]", "?", str(client[0])[:100], flags=re.ASCII) if client else None


class Refusals:
    """Records refused webhooks; one per process.

    Args:
        signatures: with the keys of the account.
        redis: where `doctor` announces its test webhooks.
    """

    def __init__(self, signatures: Signatures, redis: Any) -> None:
        self._signatures, self._redis = signatures, redis
        self._explained_at = -math.inf
        self._looked_up = 0

    async def record(self, error: SignatureRefused, scope: Scope, body: bytes) -> None:
        """Log a refusal, unless it is a test webhook that `doctor` has announced."""
        headers = _read(scope)
        if await self._is_probe(headers, scope, body):
            log.info("test webhook of doctor", client=client_of(scope))
            return
        log.warning(
            "webhook refused", reason=str(error), client=client_of(scope), **self._explain(error, headers, body)
        )

    def _explain(self, error: SignatureRefused, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        now = time.monotonic()
        is_whole = all(headers.get(name) for name in (TIMESTAMP_HEADER, SIGNATURE_HEADER)) and not isinstance(
            error, OutsideWindow
        )
        if not is_whole or now - self._explained_at < _EXPLAIN_EVERY_SECONDS:
            return {}
        self._explained_at = now
        change = find_change(body, headers, self._signatures, time.time())
        return {**look_of(body, headers), "cause": change.what, "advice": change.advice}

    async def _is_probe(self, headers: dict[str, str], scope: Scope, body: bytes) -> bool:
        number = headers.pop(PROBE_HEADER, "")
        if not _NUMBER.fullmatch(number) or self._looked_up >= MOST_PROBES_AT_ONCE:
            return False
        self._looked_up += 1
        try:
            with suppress(RedisError, OSError):
                if await self._redis.delete(PROBE + number):
                    await self._redis.set(PROBED + number, _kept(headers, scope, body), ex=PROBE_SECONDS)
                    return True
        finally:
            self._looked_up -= 1
        return False


def _read(scope: Scope) -> dict[str, str]:
    wanted = {name.encode() for name in (*NAMES, PROBE_HEADER)}
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in wanted}


def _kept(headers: dict[str, str], scope: Scope, body: bytes) -> str:
    """A test webhook as it arrived; `doctor` compares it with what it sent."""
    return json.dumps(
        {
            "headers": {name: value[:300] for name, value in headers.items()},
            "client": client_of(scope),
            "scheme": scope.get("scheme"),
            "bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "body": base64.b64encode(body).decode() if len(body) <= LARGEST_KEPT_BYTES else None,
        }
    )
