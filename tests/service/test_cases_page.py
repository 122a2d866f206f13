"""The pages of cases: who may open, close and see them, and what every page says of what they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from archive import layout
from lab.processes import receiver, wait_for
from tests.seals.small import SmallArchive, ago
from tests.service.test_access_log import ARCHIVE_ID, TOKEN, environment, in_redis, signed_in
from tests.service.test_roles import make_token

NAME = 'Doe v. Example & "Sons"'
ASKS = "connection:7 since:2026-01-01"


@pytest.fixture
def small(tmp_path: Path) -> SmallArchive:
    """Two recordings of connection 7 and six others."""
    one = SmallArchive(tmp_path / "archive", {"id": ARCHIVE_ID})
    for days in (11, 9, 7, 5):
        for name, connection in ((f"{days}-one", "7" if days > 8 else "8"), (f"{days}-two", "8")):
            key = layout.commit_key(one.folder(days, name))
            record = one.read(key)
            began = {"recording_started_at": f"{ago(days)}T10:00:00Z"}
            record["recording"] |= began | {"connection_id": connection, "from": "+13125550100", "to": "+4930555"}
            one.write(key, record)
    return one


def in_page(text: str) -> str:
    return httpx.Response(200, text=text).text.replace("&#34;", '"').replace("&amp;", "&")


def test_a_case_is_opened_and_closed_on_the_pages_and_every_page_names_it(
    redis_url: str, redis: Any, small: SmallArchive
) -> None:
    settings = environment(redis_url, small)
    other = settings | {"CALLVAULT_DATA": str(small.root.parent / "other")}
    with (
        receiver(settings) as (_, process),
        receiver(other) as (elsewhere, _),
        signed_in(process) as (client, csrf),
    ):
        elsewhere.headers["Authorization"] = f"Bearer {TOKEN}"
        page = in_page(client.get("/ops/recordings?connection=7&since=2026-01-01").text)
        assert "/ops/cases?query=since%3A2026-01-01+connection%3A7" in page
        assert "Open a case" not in client.get("/ops/recordings?q=refund+connection:7").text, "words hold nothing"
        assert f'value="{ASKS}"' in client.get("/ops/cases", params={"query": ASKS}).text

        form = {"csrf": csrf, "name": NAME, "query": ASKS, "why": "a letter"}
        assert client.post("/ops/cases/open", data=form).status_code == 303
        assert client.post("/ops/cases/open", data=form | {"query": "refund"}).status_code == 400
        assert client.post("/ops/cases/open", data=form | {"why": " "}).status_code == 400
        (shown,) = elsewhere.get("/api/cases").raise_for_status().json()["cases"]
        case_id = shown["case"]["id"]
        assert (shown["case"]["name"], shown["case"]["opened_by"], shown["counts"]["recordings"]) == (NAME, "Ann", 2)

        for who in (client, elsewhere):
            page = in_page(who.get(f"/ops/cases/{case_id}").text)
            assert "2 recordings" in page and "11-one" in page and "9-one" in page and "5-one" not in page
            found = who.get("/api/recordings", params={"q": "state:held"}).json()
            assert {hit["row"]["recording_id"]: hit["cases"] for hit in found["hits"]} == {
                "11-one": [case_id],
                "9-one": [case_id],
            }
            page = in_page(who.get("/ops/recordings", params={"q": "state:held"}).text)
            assert f">case {NAME}</a>" in page and f">case {case_id}<" not in page
            page = in_page(who.get("/ops/recordings/11-one").text)
            assert "on hold" in page and f'href="/ops/cases/{case_id}"' in page and NAME in page
            assert "Only closing the case ends this" in page and NAME not in who.get("/ops/recordings/11-two").text
            page = in_page(who.get("/ops/deletions").text)
            assert f'href="/ops/cases/{case_id}"' in page and f'held by case "{NAME}" ({case_id})' in page
        assert client.get("/ops/recordings?case=nope").status_code == 400
        assert client.get("/ops/cases/nope").status_code == 404

        closing = {"csrf": csrf, "id": case_id, "why": "settled"}
        assert client.post("/ops/cases/close", data=closing).status_code == 303
        assert client.post("/ops/cases/close", data=closing).status_code == 400
        held = {"q": "state:held"}
        assert client.get("/api/recordings", params=held).json()["total"] == 0
        wait_for(lambda: elsewhere.get("/api/recordings", params=held).json()["total"] == 0, 20, "the other receiver")
        detail = elsewhere.get(f"/api/cases/{case_id}").raise_for_status().json()
        assert (detail["case"]["case"]["is_open"], detail["case"]["case"]["closed_why"]) == (False, "settled")
        assert len(detail["hits"]) == 2, "it still says what it held"
    said = [(row["what"], row["about"], row.get("query"), row["why"]) for row in in_redis(redis) if "why" in row]
    assert ("open", f"case {NAME}", ASKS, "a letter") in said and ("close", f"case {case_id}", None, "settled") in said
    assert {"search"} >= {row["what"] for row in in_redis(redis) if row.get("query") == f"case:{case_id}"} > set()


def test_an_officer_decides_an_auditor_sees_and_nobody_else(redis_url: str, small: SmallArchive) -> None:
    settings = environment(redis_url, small, CALLVAULT_OPS_MASK_NUMBERS="true")
    row = {"schema": "callvault.case/1", "id": "c1", "number": 1, "state": "open", "name": "Doe v. Example"}
    row |= {"query": {"number": "+13125550100"}, "why": "a letter", "by": "ann", "at": "2026-11-25T10:00:00Z"}
    small.write(layout.case_key("c1", 1), row)
    with receiver(settings) as (client, _):
        answers = {}
        for role in ("listener", "operator", "officer", "auditor"):
            client.headers["Authorization"] = f"Bearer {make_token(settings, role)['token']}"
            listed, one = client.get("/api/cases"), client.get("/api/cases/c1")
            opened = client.post("/ops/cases/open", data={"name": "x", "query": "leg:l", "why": "y"})
            closed = client.post("/ops/cases/close", data={"id": "c1", "why": ""})
            answers[role] = [answer.status_code for answer in (listed, one, opened, closed)]
            if role == "auditor":
                assert one.json()["hits"] is None and one.json()["case"]["counts"]["recordings"] == 8
            if listed.status_code == 200:
                assert "3125550100" not in listed.text + one.text, "numbers are masked"
        assert answers["listener"] == answers["operator"] == [403, 403, 403, 403]
        assert answers["officer"][:2] == answers["auditor"][:2] == [200, 200]
        assert answers["auditor"][2:] == [403, 403] and 403 not in answers["officer"]


def test_a_case_that_cannot_be_read_is_shown_as_one_that_holds_everything(redis_url: str, small: SmallArchive) -> None:
    small.write(layout.case_key("c1", 1), b"{")
    with receiver(environment(redis_url, small)) as (client, _):
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        assert client.get("/api/recordings", params={"q": "state:held"}).json()["total"] == 8
        for path in ("/ops/cases", "/ops/cases/c1"):
            page = client.get(path).raise_for_status().text
            assert "cannot be read" in page and "cases/c1/00000001.json" in page
        assert json.loads(client.get("/api/cases/c1").text)["case"]["case"]["is_open"] is True
