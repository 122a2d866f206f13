"""An account of a million recordings that answers lists as Telnyx does, computed to save memory.

Run by uvicorn for `bench/reconcile.py`. Ten thousand recordings a day, evenly spread, a hundred days up to LAST_DAY.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from urllib.parse import parse_qs
from uuid import UUID

from starlette.types import Receive, Scope, Send

from text.times import format_instant

LAST_DAY = date(2026, 11, 20)
DAYS = 100
A_DAY = 10_000

_FIRST = datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day, tzinfo=UTC) - timedelta(days=DAYS - 1)
_EVERY = timedelta(days=1) / A_DAY

_ROW = (
    '{"id":"%s","record_type":"recording","call_leg_id":"%s","call_session_id":"%s","channels":"dual",'
    '"connection_id":"1700000000000000000","created_at":"%s","recording_started_at":"%s",'
    '"recording_ended_at":"%s","duration_millis":33000,"from":"+13125550100","to":"+14155550100",'
    '"status":"completed","download_urls":{"wav":"https://example.com/a.wav"}}'
)


def recording_id(day: date, n: int) -> str:
    """The id of a day's n-th recording."""
    return str(UUID(int=(day.toordinal() << 64) + n))


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    query = parse_qs(scope["query_string"].decode())
    size, number = int(query.get("page[size]", ["20"])[0]), int(query.get("page[number]", ["1"])[0])
    rows: list[str] = []
    total = 0
    if scope["path"] == "/v2/recordings":
        gte, lte = (datetime.fromisoformat(query[f"filter[created_at][{name}]"][0]) for name in ("gte", "lte"))
        first = max(0, math.ceil((gte - _FIRST) / _EVERY))
        total = max(0, min(DAYS * A_DAY, math.floor((lte - _FIRST) / _EVERY) + 1) - first)
        for n in range(first + (number - 1) * size, first + min(number * size, total)):
            at = _FIRST + n * _EVERY
            one, created = recording_id(at.date(), n % A_DAY), format_instant(at)
            rows.append(_ROW % (one, one, one, created, created, format_instant(at + timedelta(seconds=33))))
    pages = -(-total // size)
    meta = f'{{"page_number":{number},"page_size":{size},"total_pages":{pages},"total_results":{total}}}'
    body = f'{{"data":[{",".join(rows)}],"meta":{meta}}}'.encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
