"""The client's CPU for each small request of S3: as a worker sends it, and by boto3."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from archive.stores.s3_fallbacks import FALLBACKS
from archive.stores.store import open_store
from bench.pairs import Result, alternate
from lab.awkward import AwkwardS3, Manners
from lab.stores import by_boto3, environ

_TIMES = 100


def run() -> Iterator[Result]:
    """Measure, one row after the other."""
    server = AwkwardS3(Manners(conditions=False))
    try:
        with environ(server.environment):
            ours: Any = open_store("s3://bucket/prefix")
            theirs: Any = by_boto3(open_store("s3://bucket/prefix"))
        for what, goal, ask in (
            ("put of 1 KB", "<= 0.4", _put(1_000)),
            ("put of 1 MB", "<= 0.6", _put(1_000_000)),
            ("HEAD", "<= 0.4", lambda bucket: bucket.head("a")),
        ):
            yield _row(what, goal, ask, ours._bucket, theirs._bucket)
    finally:
        server.stop()


def _put(size_bytes: int) -> Callable[[Any], object]:
    body = b"x" * size_bytes
    digest = hashlib.sha256(body).hexdigest()
    return lambda bucket: bucket.put("a", body, digest, FALLBACKS[0], {"ContentType": "audio/wav"})


def _row(what: str, goal: str, ask: Callable[[Any], object], ours: Any, theirs: Any) -> Result:
    def milliseconds(bucket: Any) -> float:
        began = time.thread_time()
        for _ in range(_TIMES):
            ask(bucket)
        return (time.thread_time() - began) / _TIMES * 1000

    return alternate(
        f"CPU of a {what} to S3",
        "the same by boto3",
        lambda: milliseconds(ours),
        lambda: milliseconds(theirs),
        unit="ms",
        goal=goal,
        note=f"`python -m bench requests`; CPU time of the sending thread, {_TIMES} requests a run; the server is another thread",
    )
