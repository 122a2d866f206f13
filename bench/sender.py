"""Sends webhooks as Telnyx does, over connections that are kept, and takes little from the processors that it shares."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection

_LIMIT_SECONDS = 120


def post(port: int, events: Iterable[tuple[dict[str, str], bytes]], connections: int) -> None:
    """Send events to a receiver of this machine, and wait for their answers.

    Args:
        port: the receiver's.
        events: headers and bodies.
        connections: how many events are on their way at once.

    Raises:
        AssertionError: an answer was not 200.
    """
    left = iter([*events])

    def send() -> None:
        with closing(HTTPConnection("127.0.0.1", port, timeout=_LIMIT_SECONDS)) as connection:
            for headers, body in left:  # `next` of a list's iterator is one step: each event is taken once
                connection.request("POST", "/webhooks/telnyx", body, headers)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200, answer.status

    with ThreadPoolExecutor(connections) as threads:
        for sent in [threads.submit(send) for _ in range(connections)]:
            sent.result()
