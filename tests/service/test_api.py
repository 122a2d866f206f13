"""The API for a company's own applications: addresses of audio, transcripts, decisions, problems, limits."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import redis as sync_redis
from itsdangerous import URLSafeSerializer

from lab.processes import callvault_here, receiver
from tests.service.applications import ONE, Api, make_api
from tests.service.company import INSIDE, OURS, OUTSIDE, make_company
from tests.service.test_access_log import TOKEN
from tests.service.test_roles import OPS_TOKEN, bearer, make_token
from workers.engine.attempts import DeadLetter
from workers.keys import DEAD_LETTERS, SIGN_INS


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with make_api(tmp_path_factory.mktemp("api")) as made:
        yield made


def _audio(api: Api, recording_id: str) -> bytes:
    return next(api.small.root.glob(f"recordings/*/*/*/{recording_id}/audio.wav")).read_bytes()


def test_an_address_plays_the_audio_without_credentials_and_its_play_is_of_the_token_that_made_it(api: Api) -> None:
    wanted = {"why": "ticket 17", "by": "Ann of support", "minutes": 5}
    made = api.post(f"{ONE}/audio-address", wanted, "listener").raise_for_status().json()
    whole = _audio(api, ONE)
    assert (made["size_bytes"], made["sha256"]) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert made["url"] == f"{str(api.client.base_url).rstrip('/')}{made['path']}" and made["format"] == "wav"
    stranger = httpx.Client(trust_env=False)
    answer = stranger.get(made["url"], headers={"Origin": "https://crm.example"})
    assert (answer.status_code, answer.content) == (200, whole)
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["access-control-allow-origin"] == "*" and answer.headers["cache-control"] == "no-store"
    part = stranger.get(made["url"], headers={"Range": "bytes=3-7"})
    assert (part.status_code, part.content) == (206, whole[3:8])
    assert "location" not in answer.headers and "set-cookie" not in answer.headers
    preflight = {"Origin": "https://crm.example", "Access-Control-Request-Method": "GET"}
    may = stranger.options(made["url"], headers=preflight | {"Access-Control-Request-Headers": "range"})
    assert (may.status_code, may.headers["access-control-allow-headers"]) == (204, "Range")
    sent = stranger.post(made["url"], headers={"Origin": "https://crm.example"})
    assert (sent.status_code, sent.headers["allow"], sent.json()["instance"]) == (405, "GET, HEAD", "/api/audio")
    for etag, status in ((answer.headers["etag"], 206), ('"of another version"', 200)):
        resumed = stranger.get(made["url"], headers={"Range": "bytes=3-7", "If-Range": etag})
        assert resumed.status_code == status, "two versions are never joined"
    beyond = stranger.get(made["url"], headers={"Range": "bytes=99999-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole)}")
    lines = [line for line in api.lines(ONE) if line.get("why") == "ticket 17"]
    assert [line["what"] for line in lines] == ["address", "play"]
    for line, how in zip(lines, ("api token", "audio address"), strict=True):
        token = api.tokens["listener"]
        assert (line["who"], line["subject"], line["how"]) == (token["name"], token["id"], how)
        assert (line["by"], line["about"]) == ("Ann of support", f"address {made['id']} of wav")
    page = " ".join(api.get(f"/ops/recordings/{ONE}", "officer").text.split())
    assert f"made an address of the audio of it, address {made['id']} of wav" in page


def test_two_addresses_are_two_plays_and_a_download_is_named_so(api: Api) -> None:
    first, second = (api.post("11-two/audio-address", {}).json() for _ in range(2))
    for address in (first, first, second):
        assert httpx.get(address["url"], trust_env=False).status_code == 200
    saved = httpx.get(second["url"] + "?download", trust_env=False)
    assert 'filename="11-two.wav"' in saved.headers["content-disposition"]
    found = [(line["what"], line["about"].split()[1]) for line in api.lines("11-two") if line["how"] == "audio address"]
    assert found == [("play", first["id"]), ("play", second["id"]), ("download", second["id"])]


def test_an_address_ends_with_its_token_and_with_its_recording(api: Api) -> None:
    token = make_token(api.environment, "listener")

    def make(recording_id: str) -> str:
        address = api.client.post(f"/api/recordings/{recording_id}/audio-address", headers=bearer(token["token"]))
        return str(address.raise_for_status().json()["url"])

    first, gone = make("9-one"), make("9-two")
    assert httpx.get(first, trust_env=False).status_code == 200
    status, _ = callvault_here(["erase", "9-two", "--why", "asked to", "--yes"], api.environment)
    assert status == 0
    after = httpx.get(gone, trust_env=False)
    assert (after.status_code, after.json()["detail"]) == (404, "the recording is not in the archive any more")
    assert callvault_here(["tokens", "revoke", token["id"]], api.environment)[0] == 0
    revoked = httpx.get(first, trust_env=False)
    assert revoked.status_code == 410 and "ended with the token" in revoked.json()["detail"]


def test_audio_that_was_disposed_of_is_gone_for_every_kind_of_request(api: Api) -> None:
    one = "/api/recordings/5-two"
    address = api.post("5-two/audio-address", {}).raise_for_status().json()["url"]
    api.small.dispose(api.small.folder(5, "5-two"), "audio.wav")
    answers = [api.post("5-two/audio-address", {}), api.get(f"{one}/audio.wav")]
    answers += [httpx.request(method, address, trust_env=False) for method in ("GET", "HEAD")]
    answers.append(api.client.head(f"{one}/audio.wav", headers=bearer(api.tokens["listener"]["token"])))
    assert [answer.status_code for answer in answers] == [404] * 5
    assert "disposed of under retention rule" in answers[0].json()["detail"], answers[0].text


def test_an_address_ends_at_its_time_and_one_that_was_altered_is_none(
    api: Api,
) -> None:
    signer = URLSafeSerializer(OPS_TOKEN, salt="callvault address of audio")
    made = api.post(f"{ONE}/audio-address", {}).json()
    secret = made["path"].rpartition("/")[2]
    said = signer.loads(secret)
    assert said[3] == pytest.approx(time.time() + 900, abs=20)
    old = signer.dumps([*said[:3], int(time.time()) - 1, *said[4:]])
    for address, status in (
        (old, 410),
        (signer.dumps(["x"]), 404),
        (signer.dumps([*said[:3], "soon", *said[4:]]), 404),
        (URLSafeSerializer("another secret", salt="callvault address of audio").dumps(said), 404),
        (URLSafeSerializer(OPS_TOKEN, salt="callvault shared evidence").dumps(said), 404),
        (secret[:-1], 404),
        ("%00%ff", 404),
    ):
        answer = httpx.get(f"{api.client.base_url}/api/audio/{address}", trust_env=False)
        assert (answer.status_code, answer.json()["instance"]) == (status, "/api/audio"), address
        assert answer.headers["content-type"] == "application/problem+json"
    assert secret not in api.process.output


def test_only_a_token_makes_an_address_and_a_cookie_without_csrf_changes_nothing(api: Api) -> None:
    with httpx.Client(base_url=api.client.base_url, trust_env=False) as browser:
        browser.post("/ops/sign-in", data={"name": "Eve", "token": api.tokens["officer"]["token"]})
        for what in ("hold", "release", "approve", "audio-address"):
            answer = browser.post(f"/api/recordings/{ONE}/{what}", json={"why": "x"})
            assert answer.status_code == 403 and "other site" in answer.json()["detail"], what
            forged = browser.post(
                f"/api/recordings/{ONE}/{what}", json={"why": "x"}, headers={"X-CSRF-Token": "00" * 48}
            )
            assert forged.status_code == 403, what
        csrf = browser.get("/ops").text.partition('X-CSRF-Token": "')[2].partition('"')[0]
        held = browser.post("/api/recordings/7-two/hold", json={"why": "x"}, headers={"X-CSRF-Token": csrf})
        assert held.status_code == 200, held.text


def test_a_program_downloads_with_its_token_and_reads_the_words(api: Api) -> None:
    answer = api.get(f"/api/recordings/{ONE}/audio.wav")
    assert (answer.status_code, answer.content) == (200, _audio(api, ONE))
    words = api.get(f"/api/recordings/{ONE}/transcript").json()
    assert words["recording_id"] == ONE and words["transcriptions"][-1]["text"] == "I would like a refund."
    text = api.get(f"/api/recordings/{ONE}/transcript.txt")
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text == "\n\n".join(one["text"] for one in words["transcriptions"]) + "\n"
    said = [line["what"] for line in api.lines(ONE)]
    assert "download" in said and said.count("transcript") == 2
    for path in ("none-such/transcript", "none-such/transcript.txt", f"{ONE}/audio.mp3", "none-such/audio.wav"):
        assert api.get(f"/api/recordings/{path}").status_code == 404, path


def test_a_hold_that_is_sent_again_also_at_once_is_one_hold_until_it_is_released(api: Api) -> None:
    def holds() -> list[Path]:
        return [
            path
            for path in api.small.root.glob("decisions/**/*.json")
            if (one := json.loads(path.read_text()))["subject"] == "5-one" and one["decision"] == "hold"
        ]

    body = {"why": "a complaint", "by": "Ann"}
    with ThreadPoolExecutor(8) as at_once:
        answers = [*at_once.map(lambda _: api.post("5-one/hold", body), range(8))]
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    assert sum(answer.json()["is_new"] for answer in answers) == 1 and len(holds()) == 1
    assert not api.post("5-one/hold", body).json()["is_new"]
    assert api.post("5-one/hold", {"why": "another matter"}).json()["is_new"] and len(holds()) == 2
    assert api.get("/api/recordings/5-one", "officer").json()["state"] == "held"
    copies = [*api.small.root.glob("recordings/*/*/*/5-one/decisions/*.json")]
    assert {path.read_bytes() for path in copies} == {path.read_bytes() for path in holds()}
    released = api.post("5-one/release", {"why": "settled"}).json()
    assert released["is_new"] and "is released" in released["note"]
    again = api.post("5-one/release", {"why": "settled"}).json()
    assert not again["is_new"] and "no hold of its own" in again["note"]
    assert api.post("5-one/hold", body).json()["is_new"] and len(holds()) == 3, "after a release it can be held anew"
    who = [line for line in api.lines("5-one") if line["what"] == "hold"]
    assert {(line["who"], line.get("by")) for line in who} == {
        ("a test of officer", "Ann"),
        ("a test of officer", None),
    }
    assert api.post("none-such/release", {"why": "x"}).status_code == 404
    assert api.post("none-such/approve", {"why": "x"}).status_code == 404
    nothing = api.post(f"{ONE}/approve", {"why": "x"})
    assert nothing.status_code == 409 and "has no findings" in nothing.json()["detail"]


def test_an_object_that_somebody_put_where_a_hold_goes_keeps_no_hold_away(api: Api) -> None:
    def decisions() -> dict[Path, Any]:
        found = api.small.root.glob("decisions/recordings/7-one/*.json")
        return {path: json.loads(path.read_bytes()) for path in found}

    assert api.post("7-one/hold", {"why": "first"}).json()["is_new"]
    ((path, one),) = decisions().items()
    path.chmod(0o600)
    path.write_text(json.dumps(one | {"why": "forged"}))
    answer = api.post("7-one/hold", {"why": "first"}).json()
    assert answer["is_new"], answer
    assert sorted(row["why"] for row in decisions().values()) == ["first", "forged"]


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (b"{", 400, "the body is no JSON"),
        (b'{"why": "x", "until": "2027"}', 400, "unknown field `until`; its fields are why, by"),
        (b"{}", 400, "missing required field `why`"),
        (b'{"why": ""}', 400, "length >= 1"),
        (b'{"why": "  "}', 400, "why: give a reason"),
        (b'{"why": 7}', 400, "Expected `str`"),
        (b'{"why": "\\ud800"}', 400, "the body is no JSON"),
        (b'{"why": "\xff"}', 400, "the body is no JSON"),
        (b"[" * 60_000, 400, "the body is no"),
        (b" " * 70_000, 413, "larger than 64 KiB"),
    ],
)
def test_a_body_that_is_not_understood_is_refused(api: Api, body: bytes, status: int, expected: str) -> None:
    json_type = {"Content-Type": "application/json; charset=utf-8"} | bearer(api.tokens["officer"]["token"])
    answer = api.client.post(f"/api/recordings/{ONE}/hold", content=body, headers=json_type)
    assert answer.status_code == status and expected in answer.json()["detail"], answer.text
    for odd in ("a%00b", "%2e%2e", "x" * 3000):
        refused = api.post(f"{odd}/hold", {"why": "x"})
        assert refused.status_code == 400 and "cannot be the id" in refused.json()["detail"], odd
    form = {"Content-Type": "application/x-www-form-urlencoded"} | bearer(api.tokens["officer"]["token"])
    assert api.client.post(f"/api/recordings/{ONE}/hold", content=b"why=x", headers=form).status_code == 415


def test_every_failure_under_api_is_a_problem_document(api: Api) -> None:
    officer = bearer(api.tokens["officer"]["token"])
    cases: list[tuple[str, str, dict[str, str], int, str]] = [
        ("GET", "/api", {}, 404, "not-found"),
        ("GET", "/api/none-such", {}, 401, "not-signed-in"),
        ("POST", "/api/recordings", {}, 401, "not-signed-in"),
        ("GET", "/api/none-such", officer, 404, "not-found"),
        ("POST", "/api/none-such", officer, 404, "not-found"),
        ("DELETE", "/api/recordings", officer, 405, "method-not-allowed"),
        ("GET", f"/api/recordings/{ONE}/hold", officer, 405, "method-not-allowed"),
        ("DELETE", "/api/audio/x", officer, 405, "method-not-allowed"),
        ("GET", "/api/recordings?colour=red", officer, 400, "invalid-request"),
        ("GET", "/api/recordings/%00%ff%2e", officer, 404, "not-found"),
        ("GET", "/api/recordings/a%0ab", officer, 404, "not-found"),
        ("GET", "/api/dead-letters", officer, 403, "not-allowed"),
        ("GET", f"/api/recordings/{ONE}/audio.wav", officer | {"Range": "bytes=99999-"}, 416, "not-satisfiable"),
    ]
    for method, path, headers, status, kind in cases:
        answer = api.client.request(method, path, headers=headers)
        found = answer.json()
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), path
        assert (found["type"], found["status"]) == (f"urn:callvault:problem:{kind}", status), path
        assert found["detail"] == found["error"] and found["title"] and found["instance"].startswith("/api"), path
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert api.client.get("/api/none-such").headers["www-authenticate"] == "Bearer"
    wrong = api.client.get("/api/overview", headers=bearer("cvt_wrong"))
    assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
    allowed = api.client.put("/api/recordings", headers=officer)
    assert (allowed.status_code, allowed.headers["allow"]) == (405, "GET, HEAD")


def test_no_other_site_may_read_the_api(api: Api) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (
        api.client.options(f"/api/recordings/{ONE}/hold", headers=asked),
        api.get("/api/overview", headers=asked),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_a_program_with_an_old_token_locks_out_no_other_at_its_address(api: Api) -> None:
    with sync_redis.Redis.from_url(api.environment["REDIS_URL"]) as redis:
        redis.delete(*redis.keys(f"{SIGN_INS}*") or ["none"])
        wrong = [api.client.get("/api/recordings", headers=bearer(f"cvt_{n}")).status_code for n in range(12)]
        right = api.get("/api/recordings")
        ops = api.client.get("/api/recordings", headers=bearer(OPS_TOKEN))
        redis.delete(*redis.keys(f"{SIGN_INS}*"))
    assert wrong == [401] * 10 + [429] * 2 and (right.status_code, ops.status_code) == (200, 429)


def test_pages_of_dead_letters_neither_repeat_nor_skip_while_more_come(api: Api) -> None:
    def bury(*numbers: int) -> None:
        with sync_redis.Redis.from_url(api.environment["REDIS_URL"]) as redis:
            for n in numbers:
                at = (
                    f"2026-11-25T1{n // 10_000}:{n // 2 % 60:02d}:00.{n:06d}Z"
                    if n % 2
                    else "2026-11-25T09:00:00.000000Z"
                )
                one = DeadLetter(
                    f"archive recording:{n:03d}~%", "archive_recording", {}, "arq:queue", "unexpected", "x", at, []
                )
                redis.hset(DEAD_LETTERS, one.job_id, msgspec.json.encode(one))

    bury(*range(230))
    seen: list[str] = []
    path = "/api/dead-letters?kind=archive_recording"
    while path:
        answer = api.get(path, "operator").raise_for_status()
        seen += [one["job_id"] for one in answer.json()["letters"]]
        link = answer.headers.get("link", "")
        assert link == "" or (link.startswith("</api/dead-letters?kind=") and link.endswith('>; rel="next"'))
        path = link.partition("<")[2].partition(">")[0]
        assert bool(path) == (answer.json()["after"] is not None)
        bury(10_000 + len(seen) | 1)  # odd: later than all
    assert len(seen) == len({*seen}) == 230
    assert api.get("/api/dead-letters?after=x", "operator").status_code == 400
    page = api.get("/ops/dead-letters", "operator").text
    assert "This page shows the latest 100." in page and "Earlier dead letters" in page and "Discard all 2" in page
    place = api.get("/api/dead-letters", "operator").json()["after"]
    later = api.get("/ops/dead-letters", "operator", params={"after": place}).text
    assert "This page shows 100 earlier ones." in later and "Discard all" not in later, "it would not be all of them"


def test_an_address_of_a_scoped_token_plays_what_is_in_its_scope(redis_url: str, redis: Any, tmp_path: Path) -> None:
    with make_company(redis_url, redis, tmp_path) as company:
        headers = company.who("listener", "--connection", OURS)
        address = company.client.post(f"/api/recordings/{INSIDE}/audio-address", headers=headers).json()
        assert company.client.get(address["path"]).status_code == 200
        assert company.client.post(f"/api/recordings/{OUTSIDE}/audio-address", headers=headers).status_code == 404
        said = (signer := URLSafeSerializer(TOKEN, salt="callvault address of audio")).loads(address["path"][11:])
        forged = signer.dumps([OUTSIDE, *said[1:]])  # as if the recording had left the scope since
        assert company.client.get(f"/api/audio/{forged}").status_code == 404


def test_a_reason_is_asked_for_when_an_address_is_made(api: Api, tmp_path: Path) -> None:
    environment = api.environment | {"CALLVAULT_ASK_WHY": "listen,download", "CALLVAULT_DATA": str(tmp_path)}
    headers = bearer(make_token(environment, "listener")["token"])
    with receiver(environment) as (client, _):
        path = f"/api/recordings/{ONE}/audio-address"
        refused = client.post(path, headers=headers)
        assert (refused.status_code, refused.json()["type"]) == (428, "urn:callvault:problem:reason-missing")
        made = client.post(path, headers=headers, json={"why": "ticket 18"}).json()
        assert client.get(made["path"] + "?download").status_code == 200
        earlier = api.post(f"{ONE}/audio-address", {}).json()  # by a receiver that asks for none
        assert client.get(earlier["path"]).status_code == 428
        assert client.get(f"/api/recordings/{ONE}/audio.wav", headers=headers).status_code == 428
        assert client.get(f"/api/recordings/{ONE}/audio.wav?why=x", headers=headers).status_code == 200


def test_too_many_requests_of_one_token_wait_and_no_other_does(api: Api, tmp_path: Path) -> None:
    environment = api.environment | {"CALLVAULT_API_REQUESTS_PER_MINUTE": "3", "CALLVAULT_DATA": str(tmp_path)}
    one, other = (bearer(make_token(environment, "listener")["token"]) for _ in range(2))
    with receiver(environment) as (client, _), receiver(environment) as (second, _):
        answers = [receiver.get("/api/overview", headers=one) for receiver in (client, second, client)]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0"]
        assert answers[0].headers["ratelimit-policy"] == '"token";q=3;w=60'
        refused = second.get("/api/none-such", headers=one)
        assert refused.status_code == 429 and 0 < int(refused.headers["retry-after"]) <= 60
        assert (
            refused.json()["type"].endswith("too-many-requests") and "3 requests a minute" in refused.json()["detail"]
        )
        assert second.get("/api/overview", headers=other).status_code == 200
        assert second.get("/ops", headers=one).status_code == 200, "pages are not counted"
        assert second.post("/webhooks/telnyx", content=b"{}").status_code != 429
