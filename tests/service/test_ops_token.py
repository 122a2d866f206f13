"""Sign-in with the ops token: refused ones wait, a new token ends sessions, and without one only this machine is let in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.processes import wait_for
from tests.workers.steps import pages
from workers.keys import SIGN_INS

TOKEN = "token-of-the-ops-pages"


def test_too_many_refused_sign_ins_wait(tmp_path: Path, redis_url: str, redis: Any) -> None:
    with pages({"CALLVAULT_OPS_TOKEN": TOKEN}, tmp_path, redis_url) as (client, process):
        for token in ("wrong", TOKEN):  # neither locks anybody out, nor signs anybody in as somebody else
            elsewhere = client.post(
                "/ops/sign-in", data={"name": "x", "token": token}, headers={"Sec-Fetch-Site": "cross-site"}
            )
            assert elsewhere.status_code == 403 and "set-cookie" not in elsewhere.headers
        for _ in range(10):
            assert client.post("/ops/sign-in", data={"name": "x", "token": "wrong"}).status_code == 401
        assert client.post("/ops/sign-in", data={"name": "x", "token": TOKEN}).status_code == 429
        for n in range(11):  # one network, with another address each time
            headers = {"X-Forwarded-For": f"2001:db8::{n}"}
            refused = client.post("/ops/sign-in", data={"name": "x", "token": "wrong"}, headers=headers)
        assert refused.status_code == 429 and redis.exists(SIGN_INS + "2001:db8::/64")
        assert 0 < redis.ttl(SIGN_INS + "127.0.0.1") <= 900
        redis.delete(SIGN_INS + "127.0.0.1")
        secure = client.post(
            "/ops/sign-in", data={"name": "Ada\nLovelace", "token": TOKEN}, headers={"X-Forwarded-Proto": "https"}
        )
        assert secure.status_code == 303 and "; Secure" in secure.headers["set-cookie"]
        token = client.get("/ops", headers={"X-Forwarded-Proto": "https"}).text
        wait_for(lambda: "AdaLovelace" in process.output)  # a thread reads it
        assert TOKEN not in token and TOKEN not in process.output


def test_sign_ins_by_a_program_are_counted_too(tmp_path: Path, redis_url: str) -> None:
    with pages({"CALLVAULT_OPS_TOKEN": TOKEN}, tmp_path, redis_url) as (client, _):
        good, wrong = {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": "Bearer not-the-token-at-all"}
        assert client.get("/api/overview", headers=good).status_code == 200
        for _ in range(10):
            assert client.get("/api/overview", headers=wrong).status_code == 401
        assert client.get("/api/overview", headers=good).status_code == 429


def test_a_new_token_ends_all_sessions(tmp_path: Path, redis_url: str) -> None:
    with pages({"CALLVAULT_OPS_TOKEN": TOKEN}, tmp_path, redis_url) as (client, _):
        client.post("/ops/sign-in", data={"name": "Ada", "token": TOKEN})
        assert client.get("/ops").status_code == 200
        session = client.cookies["callvault_session"]
    for token, status in ((TOKEN, 200), (TOKEN + "-new", 303)):
        with pages({"CALLVAULT_OPS_TOKEN": token}, tmp_path, redis_url) as (client, _):
            assert client.get("/ops", headers={"Cookie": f"callvault_session={session}"}).status_code == status


def test_without_a_token_pages_are_for_this_machine_only(tmp_path: Path, redis_url: str) -> None:
    with pages({}, tmp_path, redis_url) as (client, process):
        assert client.get("/ops").status_code == 200
        assert client.get("/api/overview").status_code == 200
        for headers in (
            {"Host": "evil.example"},
            {"X-Forwarded-For": "127.0.0.1"},
            {"Forwarded": "for=127.0.0.1"},
            {"X-Real-IP": "127.0.0.1"},
        ):
            answer = client.get("/ops", headers=headers)
            assert answer.status_code == 403 and "CALLVAULT_OPS_TOKEN is not set" in answer.text
        page = client.get("/ops").text
        assert client.post("/ops/deletions/pause", data={}).status_code == 403
        token = page.partition('X-CSRF-Token": "')[2].partition('"')[0]
        assert client.post("/ops/deletions/pause", data={"csrf": token, "why": "x"}).status_code == 303
        assert "Deletion is paused: x" in client.get("/ops").text
        wait_for(lambda: "changed from the ops pages" in process.output)
        assert '"who": "somebody on this machine"' in process.output
