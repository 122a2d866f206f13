"""The data of the pages as JSON, and that nobody reads it without a sign-in; over HTTP, without a browser."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.processes import CLEAN, callvault, callvault_here, wait_for
from lab.servers import RunningSandbox
from lab.stores import make_archive, s3_weak
from sandbox.world import World
from tests.browser.conftest import TOKEN, Deployment, deployed_with_calls
from tests.workers.steps import pages
from workers.keys import ALERTS, ARCHIVE, DELETIONS_PAUSED, DELETIONS_PAUSED_BY, HISTORY, SIGN_INS, UNSEALED
from workers.queue.embedded import EmbeddedServer

PATHS = (
    *("/api/overview", "/api/recordings", "/api/evidence", "/api/connections"),
    *("/api/dead-letters", "/api/deletions", "/api/quarantine"),
)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One of these tests alone, for schemathesis changes what it likes."""
    with deployed_with_calls(tmp_path_factory.mktemp("deployment")) as made:
        yield made


def test_the_api_matches_its_openapi_document(deployment: Deployment, api: httpx.Client, tmp_path: Path) -> None:
    document = api.get("/api/openapi.json").json()
    assert document["openapi"] == "3.1.0" and set(PATHS) < set(document["paths"])
    command = [
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("run", f"{deployment.url}/api/openapi.json", "--header", f"Authorization: Bearer {TOKEN}"),
        *("--max-examples", "15", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--no-color"),
        *("--exclude-checks", "positive_data_acceptance,ignored_auth"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, env=CLEAN, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert deployment.redis.get(SIGN_INS + "127.0.0.1") is None  # otherwise most answers are 429 and show nothing


def test_a_recording_as_json_is_what_the_archive_holds(deployment: Deployment, api: httpx.Client) -> None:
    recording_id, word = deployment.spoken
    found = api.get("/api/recordings", params={"q": f'text:"{word}"'}).raise_for_status().json()
    assert recording_id in [hit["row"]["recording_id"] for hit in found["hits"]]
    assert all(hit["words"].isprintable() and f"[{word}]".lower() in hit["words"].lower() for hit in found["hits"])
    one = api.get(f"/api/recordings/{recording_id}").raise_for_status().json()
    lies = json.loads(next(deployment.archive.glob(f"recordings/*/*/*/{recording_id}/recording.json")).read_text())
    assert one["record"] == lies
    assert [step["what"] for step in one["history"]][:2] == ["call began", "call ended"]
    assert not one["needs_approval"]
    silent = api.get("/api/recordings", params={"state": "kept"}).json()["hits"][0]["row"]["recording_id"]
    assert api.get(f"/api/recordings/{silent}").json()["needs_approval"]
    assert api.get("/api/recordings/none-such").status_code == 404


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/recordings?limit=2&foo=1", "unknown parameter 'limit'; expected one of q, number, since,"),
        ("/api/recordings?state=held&state=kept", "state: given twice"),
        ("/api/recordings?state=held&q=state:kept", "state: given twice"),
        ("/api/recordings?q=colour:red", "unknown field 'colour'; expected one of number,"),
        ("/api/recordings?number=abc", "number: 'abc' is neither a telephone number nor a SIP address"),
        ("/api/recordings?findings=maybe", "findings: 'maybe' is not 1 or 0"),
        ("/api/recordings?since=2026-11-26T7h", "since: "),
        ("/api/recordings?since=2026-11-26T07:30+01:00", "since: "),
        ("/api/recordings?after=x", "after: not a value"),
        ("/api/overview?since=7d", "unknown parameter 'since'; this page takes no parameter"),
        ("/api/evidence?day=2026-11-25", "unknown parameter 'day'"),
        ("/api/evidence/2026-11-25?x=1", "unknown parameter 'x'"),
        ("/api/connections?since=2026-11-26T07:30", "since: "),
        ("/api/connections?since=2020-01-01", "since: at most 366 days ago"),
        ("/api/connections?connection=a%20b", "connection: not an id"),
        ("/api/connections?colour=red", "unknown parameter 'colour'; expected one of connection, code, since"),
        ("/api/dead-letters?id=1", "unknown parameter 'id'"),
        ("/api/deletions?limit=1", "unknown parameter 'limit'"),
        ("/api/openapi.json?v=2", "unknown parameter 'v'"),
    ],
)
def test_a_parameter_that_is_not_understood_is_refused(path: str, expected: str, api: httpx.Client) -> None:
    answer = api.get(path)
    assert (answer.status_code, expected in answer.json()["error"]) == (400, True), answer.text
    page = api.get(path.replace("/api/overview", "/ops").replace("/api/", "/ops/"))
    assert page.status_code == (404 if "openapi" in path else 400)


@pytest.mark.parametrize("path", ["/ops/none-such", "/ops/evidence/", "/ops/recordings/a/b?c=1"])
def test_an_unknown_page_is_answered_by_a_page_with_the_menu(path: str, api: httpx.Client) -> None:
    answer = api.get(path)
    assert answer.status_code == 404 and answer.headers["content-type"].startswith("text/html")
    assert f"There is nothing at {path.partition('?')[0]}" in answer.text and 'href="/ops/deletions"' in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_an_unknown_static_file_is_answered_by_a_page_too(deployment: Deployment) -> None:
    for method, path, status in (("GET", "a/none-such", 404), ("POST", "ops.css", 405), ("GET", "ops.css", 200)):
        answer = httpx.request(method, f"{deployment.url}/ops/static/{path}", trust_env=False)
        assert answer.status_code == status, path
    answer = httpx.get(f"{deployment.url}/ops/static/none-such.css", trust_env=False)
    assert "There is nothing at /ops/static/none-such.css" in answer.text and "<h1>Not found</h1>" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_an_unknown_path_of_the_api_is_answered_in_json_and_the_root_of_the_pages_leads_there(
    deployment: Deployment, api: httpx.Client
) -> None:
    for path in ("/api/none-such", "/api/", "/api/recordings/a/b"):
        answer = api.get(path)
        assert answer.status_code == 404 and f"there is nothing at {path}" in answer.json()["error"]
    assert httpx.get(deployment.url + "/api/none-such", trust_env=False).status_code == 401
    assert api.get("/ops/").headers["location"] == "/ops"
    assert api.post("/api/recordings").status_code == 405


def test_an_instant_is_honoured_by_the_api(deployment: Deployment, api: httpx.Client) -> None:
    first, second = (deployment.calls[n]["recording_started_at"] for n in (3, 4))
    found = api.get("/api/recordings", params={"since": first, "until": second}).raise_for_status().json()
    assert [hit["row"]["recording_id"] for hit in found["hits"]] == [deployment.calls[3]["id"]]
    assert found["query"]["since"].startswith(first[:19])


def test_a_change_with_a_field_that_is_not_understood_changes_nothing(deployment: Deployment) -> None:
    with httpx.Client(base_url=deployment.url, trust_env=False) as client:
        client.post("/ops/sign-in", data={"name": "Eve", "token": TOKEN})
        token = client.get("/ops").text.partition('X-CSRF-Token": "')[2].partition('"')[0]
        for fields, expected in (
            ({"reason": "moving"}, "Unknown field &#39;reason&#39;; expected one of why, csrf"),
            ({"why": ["moving", "not moving"]}, "why: given twice"),
            ({"why": "x" * 501}, "why: 501 characters; the maximum is 500"),
        ):
            answer = client.post("/ops/deletions/pause", data={"csrf": token} | fields)
            assert answer.status_code == 400 and expected in answer.text, (expected, answer.text)
        assert deployment.redis.get("callvault:deletions:paused") is None


def test_pages_of_a_search_follow_one_another(deployment: Deployment, api: httpx.Client) -> None:
    deployment.sandbox.control(
        "calls", count=60, seconds=0.2, started_at="2026-11-01T10:00:00Z", webhook_url=deployment.webhooks
    )
    wait_for(lambda: len(list(deployment.archive.glob("recordings/2026/11/01/*/recording.json"))) == 60, 60)

    def pages() -> list[list[str]] | None:
        """The ids of each page, once the catalogue is complete."""
        found: list[list[str]] = []
        query = {"since": "2026-11-01", "until": "2026-11-01"}
        while True:
            page = api.get("/api/recordings", params=query).raise_for_status().json()
            found.append([hit["row"]["recording_id"] for hit in page["hits"]])
            if page["after"] is None:
                return found if sum(map(len, found)) >= 60 else None
            query["after"] = page["after"]

    first, second = wait_for(pages, 60)
    assert (len(first), len(second), len({*first, *second})) == (50, 10, 60)
    query = {"since": "2026-11-01", "until": "2026-11-01"}
    answer = api.get("/api/recordings", params=query)
    after = {"after": answer.json()["after"]}
    deployment.sandbox.control(
        "calls", count=3, seconds=0.2, started_at="2026-11-01T23:00:00Z", webhook_url=deployment.webhooks
    )
    wait_for(lambda: api.get("/api/recordings", params=query).json()["total"] == 63, 60, "the new calls")
    again = api.get("/api/recordings", params=query | after).json()["hits"]
    assert [hit["row"]["recording_id"] for hit in again] == second, "what came in meanwhile moves nothing"
    following = answer.headers["link"].partition("<")[2].partition(">")[0]
    assert api.get(following).json()["hits"] == again


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        (None, 200, 0, None),
        ("bytes=0-9", 206, 0, 10),
        ("bytes=100-", 206, 100, None),
        ("bytes=-5", 206, -5, None),
        ("bytes=5-999999999", 206, 5, None),
        ("bytes=999999999-", 416, 0, 0),
        ("bytes=9-3", 416, 0, 0),
        ("lines=1-2", 200, 0, None),
        ("bytes=" + "9" * 5000 + "-", 200, 0, None),
    ],
)
def test_audio_comes_in_ranges(
    asked: str | None, status: int, first: int, last: int | None, deployment: Deployment, api: httpx.Client
) -> None:
    recording_id = deployment.calls[0]["id"]
    whole = next(deployment.archive.glob(f"recordings/*/*/*/{recording_id}/audio.wav")).read_bytes()
    answer = api.get(f"/ops/recordings/{recording_id}/audio.wav", headers={"Range": asked} if asked else {})
    assert answer.status_code == status
    assert answer.content == whole[first:last]
    if status == 206:
        start = first % len(whole)
        assert answer.headers["content-range"] == f"bytes {start}-{start + len(answer.content) - 1}/{len(whole)}"


@pytest.mark.parametrize("path", [*PATHS, "/api/openapi.json", "/ops", "/ops/recordings", "/ops/live"])
def test_nobody_sees_anything_without_signing_in(path: str, deployment: Deployment) -> None:
    deployment.redis.delete(SIGN_INS + "127.0.0.1")
    for headers in ({}, {"Authorization": "Bearer wrong-token-of-16"}, {"Cookie": "callvault_session=WyJ4Il0.abc.def"}):
        answer = httpx.get(deployment.url + path, headers=headers, trust_env=False)
        assert answer.status_code == (401 if path.startswith("/api") or "Authorization" in headers else 303)
        assert "+1" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"] or answer.status_code == 303
    deployment.redis.delete(SIGN_INS + "127.0.0.1")


def test_a_change_needs_the_token_of_its_own_session(deployment: Deployment) -> None:
    with httpx.Client(base_url=deployment.url, trust_env=False) as client:
        signed = client.post("/ops/sign-in", data={"name": "Eve", "token": TOKEN})
        assert signed.status_code == 303 and "callvault_session" in client.cookies
        for form in ({}, {"csrf": "x"}, {"csrf": ""}, {"csrf": "00" * 48}, {"csrf": "0"}):
            assert client.post("/ops/deletions/pause", data=form).status_code == 403
        token, other = (client.get("/ops").text.partition('X-CSRF-Token": "')[2].partition('"')[0] for _ in range(2))
        assert token != other, "the length of a compressed page reveals nothing of it"
        refused = client.post("/ops/deletions/pause", data={"csrf": token}, headers={"Sec-Fetch-Site": "cross-site"})
        assert refused.status_code == 403
        assert deployment.redis.get("callvault:deletions:paused") is None
        for known, fields in ((token, {"id": ""}), (other, {"id": "x" * 600})):
            assert client.post("/ops/dead-letters/retry", data={"csrf": known} | fields).status_code == 400
        assert client.post("/ops/deletions/pause", content=b"a" * 70_000).status_code == 413


def test_durations_past_the_longest_bound_break_no_page(tmp_path: Path, redis_url: str, redis: Any) -> None:
    now = int(time.time())
    for step in (60, 600):
        counts = {"answer<inf": 3, "answer<0.005": 1, "job:archive_recording<inf": 2}
        redis.hset(f"{HISTORY}{step}:{now // step}", mapping=counts)
    with pages({}, tmp_path, redis_url) as (client, _):
        found = client.get("/api/overview").raise_for_status().json()
        assert max(n for n in found["day"]["archive_p95_seconds"] if n is not None) == 1800
        assert client.get("/ops").status_code == 200


def test_the_overview_shows_each_kind_of_alert_once(tmp_path: Path, redis_url: str, redis: Any) -> None:
    one = {
        "kind": "dead-letter",
        "severity": "critical",
        "group": "damaged",
        "text": "the first",
        "advice": "",
        "at": "x",
    }
    redis.lpush(ALERTS, json.dumps(one), "garbled")
    for n in range(300):
        redis.lpush(ALERTS, json.dumps(one | {"kind": "jobs-fail", "text": f"failure {n}"}))
    with pages({}, tmp_path, redis_url) as (client, _):
        alerts = client.get("/api/overview").json()["alerts"]
        assert [(a["text"], a["more"]) for a in alerts] == [("failure 299", 299), ("the first", 0)]
        assert "299 earlier alerts of this kind." in client.get("/ops").text


def test_a_sealed_day_stays_sealed_on_the_calendar_while_a_further_seal_is_to_come(
    deployment: Deployment, api: httpx.Client
) -> None:
    day = next(deployment.archive.glob("catalogue/day=*")).name.removeprefix("day=")
    deployment.redis.zadd(UNSEALED, {day: time.time() + 3600})
    assert [d["state"] for d in api.get("/api/evidence").json()["days"] if d["day"] == day] == ["sealed"]


def test_every_page_reports_an_archive_that_cannot_be_opened(tmp_path: Path, redis_url: str) -> None:
    with pages({"CALLVAULT_ARCHIVE_URL": "file:///proc/x"}, tmp_path, redis_url) as (client, _):
        assert "is not a Callvault archive" in client.get("/api/overview").json()["problems"][0]
        answer = client.get("/api/recordings")
        assert answer.status_code == 503 and "is not a Callvault archive" in answer.json()["error"]


def test_every_page_reports_a_redis_of_another_archive_and_events_are_still_accepted(
    tmp_path: Path, redis_url: str, redis: Any
) -> None:
    with pages({}, tmp_path, redis_url) as (client, _):
        assert client.get("/api/overview").json()["problems"] == []
        redis.set(ARCHIVE, "f" * 32)
        time.sleep(2)  # an overview is cached for so long
        assert "this Redis belongs to archive ffff" in client.get("/api/overview").json()["problems"][0]
        answer = client.get("/api/recordings")
        assert answer.status_code == 503 and "this Redis belongs to archive ffff" in answer.json()["error"]
        assert client.get("/readyz").status_code == 200


def test_the_page_of_deletions_knows_of_a_pause_when_redis_is_lost(tmp_path: Path, redis_url: str, redis: Any) -> None:
    with pages({}, tmp_path, redis_url) as (client, _):
        token = client.get("/ops").text.partition('X-CSRF-Token": "')[2].partition('"')[0]
        assert client.post("/ops/deletions/pause", data={"csrf": token, "why": "case 17"}).status_code == 303
        redis.delete(DELETIONS_PAUSED, DELETIONS_PAUSED_BY)
        found = client.get("/api/deletions").raise_for_status().json()
        assert (found["paused"], found["paused_by"]) == ("case 17", "somebody on this machine") and found["paused_at"]
        assert "Paused: case 17" in client.get("/ops/deletions").text


def test_missing_audio_is_reported_before_anything_is_sent(deployment: Deployment, api: httpx.Client) -> None:
    (path,) = deployment.archive.glob(f"recordings/*/*/*/{deployment.calls[1]['id']}/audio.wav")
    away = path.rename(path.with_suffix(".away"))
    try:
        answer = api.get(f"/ops/recordings/{deployment.calls[1]['id']}/audio.wav")
    finally:
        away.rename(path)
    assert answer.status_code == 404 and "gone from the archive" in answer.text


def test_pages_work_with_redis_lost_and_with_redis_gone(tmp_path: Path) -> None:
    server, sandbox = EmbeddedServer(tmp_path / "valkey"), RunningSandbox(World())
    server.start()
    call = sandbox.world.add_recording(seconds=1)
    make_archive(tmp_path / "archive")
    settings = sandbox.environment | {
        "CALLVAULT_ARCHIVE_URL": (tmp_path / "archive").as_uri(),
        "CALLVAULT_OPS_MASK_NUMBERS": "true",
        "REDIS_URL": server.url,
        "CALLVAULT_DATA": str(tmp_path),
    }
    with callvault(["worker"], settings, "worker ready"):
        wait_for(lambda: list(tmp_path.glob("archive/recordings/*/*/*/*/recording.json")), 40)
    server.stop()
    for path in (tmp_path / "valkey").rglob("appendonly*"):
        if path.is_file():
            path.unlink()
    empty = EmbeddedServer(tmp_path / "empty")
    empty.start()
    with pages(settings, tmp_path, empty.url) as (client, _):
        found = client.get("/api/recordings").json()
        (hit,) = found["hits"]
        assert hit["row"]["recording_id"] == call.data["id"]
        assert hit["row"]["from_number"] == "+13" + "*" * 7 + call.data["from"][-2:]
        one = client.get(f"/ops/recordings/{call.data['id']}")
        assert one.status_code == 200
        assert call.data["from"] not in one.text and call.data["to"] not in one.text
        empty.stop()
        assert client.get(f"/api/recordings/{call.data['id']}").status_code == 200
        assert client.get("/api/evidence").status_code == 200
        overview = client.get("/api/overview").json()
        assert overview["status"] is None and "Redis does not answer" in overview["problems"][0]
        assert client.get("/ops").status_code == 200
        answer = client.get("/api/dead-letters")
        assert answer.status_code == 503 and "Redis does not answer" in answer.json()["error"]
    sandbox.stop()


def test_pages_report_an_unreachable_archive(tmp_path: Path, redis_url: str) -> None:
    sandbox = RunningSandbox(World())
    call = sandbox.world.add_recording(seconds=1)
    settings = sandbox.environment | {"REDIS_URL": redis_url, "CALLVAULT_DATA": str(tmp_path / "data")}
    with s3_weak(tmp_path) as store:
        settings |= store.make_archive()
        with callvault(["worker"], settings, "worker ready"):
            wait_for(lambda: list(tmp_path.glob("*/archive/recordings/*/*/*/*/recording.json")), 40)
        with pages(settings, tmp_path / "data", redis_url) as (client, _):
            assert client.get("/api/recordings").json()["hits"][0]["row"]["recording_id"] == call.data["id"]
    with pages(settings, tmp_path / "data", redis_url) as (client, _):
        started = time.monotonic()
        overview = client.get("/api/overview").json()
        assert overview["problems"][0].startswith("The archive: ")
        assert overview["status"]["archive_problem"] and overview["status"]["queues"]["main"]
        assert time.monotonic() - started < 10
        messages = client.get("/api/connections", timeout=60).raise_for_status().json()
        assert messages["messages"] == [] and messages["messages_problem"].startswith("The archive")
        assert "The archive" in client.get("/ops/connections", timeout=60).text
        found = client.get("/api/recordings").json()  # earlier findings stay
        assert found["hits"][0]["row"]["recording_id"] == call.data["id"]
        one = client.get(f"/api/recordings/{call.data['id']}", timeout=60)
        assert one.status_code == 503 and one.json()["error"].startswith("The archive: ")
        page = client.get(f"/ops/recordings/{call.data['id']}", timeout=60)
        assert page.status_code == 503 and "The archive: " in page.text
        assert "may be incomplete" in client.get("/ops/recordings").text
        export = client.get("/ops/recordings.csv")
        assert 'filename="recordings-incomplete.csv"' in export.headers["content-disposition"]
        *_, row, last = csv.reader(export.text.splitlines())
        assert row[0] == call.data["id"] and last[0].startswith("INCOMPLETE: ") and len(last) == len(row)
    sandbox.stop()


def test_status_shows_the_same_on_a_terminal(deployment: Deployment, api: httpx.Client) -> None:
    environment = deployment.sandbox.environment | {
        "REDIS_URL": f"unix://{deployment.redis.connection_pool.connection_kwargs['path']}",
        "CALLVAULT_ARCHIVE_URL": deployment.archive.as_uri(),
        "CALLVAULT_DELETE_ORIGINALS": "verified",
    }

    def agree() -> bool:  # workers run, so two answers may differ by a change in between
        status, output = callvault_here(["status", "--json"], environment)
        found, shown = json.loads(output), api.get("/api/overview").json()["status"]
        assert status == (1 if found["conditions"] else 0)
        return all(found[name] == shown[name] for name in ("archive_url", "dead_letters", "deletions", "seals"))

    wait_for(agree, 60, "the same on both")
