"""Send a signed test webhook through a webhook URL, and compare what the receiver got.

`doctor` makes a key and signs with it. The receiver does not know that key, so it refuses the webhook and stores no event.
But `doctor` has announced a one-time number in Redis, and for it the receiver puts there what it got. The answer shows
nothing of that to anyone else.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from nacl.signing import SigningKey
from redis.exceptions import RedisError

from service.app import WEBHOOK_PATH
from service.changed_body import UNCHANGED, find_change
from service.refusals import MOST_PROBES_AT_ONCE, PROBE_HEADER, PROBE_SECONDS
from service.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, Signatures
from text.counts import many
from text.one_line import one_line
from workers.keys import PROBE, PROBED

_LARGE_BYTES = 2 * 1024 * 1024  # an event holds its whole transcription: 1.4 MB for some hours of speech
_LARGE_SECONDS = 8.0
_URL_ADVICE = f"set https://your.host{WEBHOOK_PATH} as the connections' webhook URL"
# Without spaces, with a slash and characters outside ASCII: whoever parses and writes it changes it.
_TEXT = '{"data":{"event_type":"callvault.test","note":"für / €","number":1.1},"filler":"FILLER"}'


@dataclass(frozen=True)
class Finding:
    """What is wrong at a URL, or only worth knowing, and what to do."""

    what: str
    advice: str
    is_wrong: bool = True


async def look_at_all(redis: Any, urls: Sequence[str]) -> dict[str, Finding]:
    """What is wrong at webhook URLs. A URL where a signed webhook reaches a receiver unchanged is not in the result.

    Args:
        redis: of the receivers.
        urls: as Telnyx has them.
    """
    at_once = asyncio.Semaphore(MOST_PROBES_AT_ONCE)  # a receiver takes more for ordinary unsigned webhooks

    async def look(url: str) -> Finding | None:
        async with at_once:
            return await _look_at(http, redis, url)

    async with httpx.AsyncClient(timeout=5, follow_redirects=False) as http:
        findings = await asyncio.gather(*map(look, urls))
    return {url: finding for url, finding in zip(urls, findings, strict=True) if finding is not None}


async def _look_at(http: httpx.AsyncClient, redis: Any, url: str) -> Finding | None:
    if urlsplit(url).path != WEBHOOK_PATH:
        return Finding(f"the path must be {WEBHOOK_PATH}", _URL_ADVICE)
    try:
        return await _try(http, redis, url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Finding(f"cannot be reached from this machine ({one_line(error)})", _URL_ADVICE)


async def _try(http: httpx.AsyncClient, redis: Any, url: str) -> Finding | None:
    key = SigningKey.generate()
    body = _TEXT.replace("FILLER", "x" * 1000).encode()
    status, got = await _send(http, redis, url, key, body)
    if status != 401:
        return Finding(f"answers {status} to an unsigned webhook; a receiver answers 401", _URL_ADVICE)
    if not isinstance(got, dict):
        return _unknown(got, "the test webhook")
    if finding := _compare(key, body, got, url):
        return finding
    return await _try_large(http, redis, url, key)


async def _try_large(http: httpx.AsyncClient, redis: Any, url: str, key: SigningKey) -> Finding | None:
    """An event with a long transcription must get through, too."""
    body = _TEXT.replace("FILLER", "x" * _LARGE_BYTES).encode()
    try:
        status, got = await _send(http, redis, url, key, body, timeout_seconds=_LARGE_SECONDS)
    except httpx.HTTPError as error:
        return Finding(
            f"a webhook of 2 MiB does not arrive from this machine ({one_line(error)})",
            "if the line of this machine is fast, raise the proxy's limit of a body to 4 MiB",
            is_wrong=False,
        )
    if status != 401:
        return Finding(
            f"answers {status} to a webhook of 2 MiB",
            "raise the proxy's limit of a body to 4 MiB: an event holds its whole transcription",
        )
    if not isinstance(got, dict):
        return _unknown(got, "the test webhook of 2 MiB")
    if (got["bytes"], got["sha256"]) != (len(body), hashlib.sha256(body).hexdigest()):
        return Finding(
            f"of a webhook of {many(len(body), 'byte')} the receiver got {got['bytes']}, and not the same",
            "raise the proxy's limit of a body to 4 MiB, and set it up to pass the body on as it is",
        )
    return None


def _unknown(why: RedisError | OSError | None, what: str) -> Finding:
    """It is not known what a receiver got, so the URL is neither good nor wrong."""
    if why is not None:
        return Finding(
            "answers 401; whether webhooks arrive unchanged is unknown, because Redis does not answer",
            "make Redis answer first, then run `callvault doctor` again",
            is_wrong=False,
        )
    return Finding(
        f"answers 401, but no receiver of this Redis got {what}",
        "if it leads to another deployment, run `callvault doctor` there; if not, something in front of the receiver "
        "answers, or the receiver is of an older version",
        is_wrong=False,
    )


async def _send(
    http: httpx.AsyncClient, redis: Any, url: str, key: SigningKey, body: bytes, timeout_seconds: float = 5
) -> tuple[int, dict[str, Any] | RedisError | OSError | None]:
    """Send a test webhook; returns the status of the answer, and what a receiver got, or why that is not known."""
    number = secrets.token_hex(16)
    failed: RedisError | OSError | None = None
    try:
        await redis.set(PROBE + number, "1", ex=PROBE_SECONDS)
    except (RedisError, OSError) as error:
        failed = error
    now = str(int(time.time()))
    headers = {
        "content-type": "application/json",
        PROBE_HEADER: number,
        TIMESTAMP_HEADER: now,
        SIGNATURE_HEADER: base64.b64encode(key.sign(f"{now}|".encode() + body).signature).decode(),
    }
    answer = await http.post(url, content=body, headers=headers, timeout=timeout_seconds)
    if failed is not None:
        return answer.status_code, failed
    try:
        kept = await redis.get(PROBED + number)
        await redis.delete(PROBE + number, PROBED + number)
    except (RedisError, OSError) as error:
        return answer.status_code, error
    return answer.status_code, None if kept is None else json.loads(kept)


def _compare(key: SigningKey, sent: bytes, got: dict[str, Any], url: str) -> Finding | None:
    if lost := [name for name in (TIMESTAMP_HEADER, SIGNATURE_HEADER) if not got["headers"].get(name)]:
        return Finding(f"the header {' and '.join(lost)} does not arrive", "set up the proxy to pass every header on")
    arrived = base64.b64decode(got["body"]) if got["body"] is not None else b""
    if arrived != sent:
        signatures = Signatures([base64.b64encode(key.verify_key.encode()).decode()])
        change = find_change(arrived, got["headers"], signatures, time.time())
        what = "its bytes were changed" if change == UNCHANGED else change.what
        advice = "set up the proxy to pass the body on as it is" if change == UNCHANGED else change.advice
        return Finding(
            f"of a test webhook of {many(len(sent), 'byte')} the receiver got {got['bytes']}: {what}", advice
        )
    if url.startswith("https:") and got["scheme"] != "https":
        return Finding(
            f"the receiver takes {got['client']}, which is the proxy, for every client",
            "have the proxy send X-Forwarded-For and X-Forwarded-Proto, and put its address into FORWARDED_ALLOW_IPS",
            is_wrong=False,
        )
    return None
