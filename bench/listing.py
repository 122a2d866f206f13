"""An account of a million recordings that answers lists as Telnyx does, computed to save memory.

Run by uvicorn for `bench/sweep.py`. Ten thousand recordings a day, a hundred days up to LAST_DAY.
"""

from __future__ import annotations

from datetime import date, timedelta
from urllib.parse import parse_qs
from uuid import UUID

from starlette.types import Receive, Scope, Send

LAST_DAY = date(2026, 11, 20)
DAYS = 100
A_DAY = 10_000

_ROW = (
    '{"id":"%s","record_type":"recording","call_leg_id":"%s","call_session_id":"%s","channels":"dual",'
    '"connection_id":"1700000000000000000","created_at":"%sT10:00:00.000000Z","recording_started_at":"%sT10:00:00.000000Z",'
    '"recording_ended_at":"%sT10:00:33.000000Z","duration_millis":33000,"from":"+13125550100","to":"+14155550100",'
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
        day = date.fromisoformat(query["filter[created_at][gte]"][0][:10])
        total = A_DAY if timedelta(0) <= LAST_DAY - day < timedelta(DAYS) else 0
        for n in range((number - 1) * size, min(number * size, total)):
            one = recording_id(day, n)
            rows.append(_ROW % (one, one, one, day, day, day))
    pages = -(-total // size)
    meta = f'{{"page_number":{number},"page_size":{size},"total_pages":{pages},"total_results":{total}}}'
    body = f'{{"data":[{",".join(rows)}],"meta":{meta}}}'.encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
