"""Alerts: grouped, counted, quiet, delivered to a real HTTP receiver and a real SMTP server."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from config.values import QuietHours
from workers.alerts.alerts import Alerts
from workers.keys import ALERTS


async def test_alerts_are_grouped_counted_quiet_and_of_the_users_own_severity(
    async_redis: Any, redis: Any, receiver_of_alerts: Any
) -> None:
    told = receiver_of_alerts.texts
    made = Alerts(async_redis, [receiver_of_alerts.url])
    for n in range(50):
        await made.send("log-message", "10015 7", f"message {n}", "look")
    await made.close()
    assert len(told) == 1
    redis.delete("callvault:alert-group:log-message:10015 7")  # the window is over
    await made.send("log-message", "10015 7", "message 50", "look")
    await made.close()
    assert "49 earlier alerts of this group since 20" in told[1], "with the time of the first of them"

    always = QuietHours(0, 24)
    quiet = Alerts(async_redis, [receiver_of_alerts.url], always, {"audio-finding": "critical", "pressure": "off"})
    await quiet.send("a", "g", "not at night", "")
    await quiet.send("b", "g", "even at night", "", "critical")
    await quiet.send("audio-finding", "g", "raised by the user", "")
    await quiet.send("pressure", "g", "switched off by the user", "")
    await quiet.close()
    assert len(told) == 4
    assert "even at night" in "".join(told)
    assert "raised by the user" in "".join(told)
    assert redis.llen(ALERTS) == 55, "all are remembered"
    for n in range(200):
        await made.send("jobs-fail", "outage", f"every job tells of it: {n}", "")
    assert redis.llen(ALERTS) == 55 + 51, "and still there"
    assert redis.hget("callvault:alert-counts", "jobs-fail:outage") == "199"
    assert [QuietHours(22, 6).holds(h) for h in (21, 22, 3, 6)] == [False, True, True, False]


async def test_an_alert_arrives_by_mail(async_redis: Any) -> None:
    """A minimal, real SMTP server."""
    mails: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                mails.append((await reader.readuntil(b"\r\n.\r\n")).decode())
            writer.write(b"250 good\r\n" if verb != b"QUIT" else b"221 bye\r\n")
            if verb == b"QUIT":
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"mailto://127.0.0.1:{port}?from=callvault@example.com&to=duty@example.com&mode=insecure"
    made = Alerts(async_redis, [url])
    await made.send("dead-letter", "outage", "A recording was given up.", "See the list.")
    await made.close()
    server.close()
    assert len(mails) == 1
    assert "Callvault: dead-letter" in mails[0]


async def test_an_alert_that_cannot_be_delivered_breaks_nothing(async_redis: Any) -> None:
    made = Alerts(async_redis, ["json://127.0.0.1:1/"])
    started = time.monotonic()
    await made.send("a", "g", "text", "advice")
    assert time.monotonic() - started < 8, "six attempts with their waits would take longer"
