"""API tokens: made and revoked by a command, known to every receiver, kept in the archive as hashes."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from archive.archive import Archive
from archive.layout import API_TOKENS
from archive.stores.file import FileStore
from archive.stores.store import StoreOptions
from lab.processes import callvault_here, receiver, run_callvault
from tests.redis.test_full import full
from tests.service.test_roles import OPS_TOKEN, bearer, make_token
from tests.workers.steps import pages
from text.times import format_instant, utc_now
from workers.api_tokens import read_tokens
from workers.keys import API_TOKENS_CHANGED, SIGN_INS
from workers.queue.embedded import EmbeddedServer


def test_a_token_is_shown_once_and_kept_as_a_hash_alone(environment: dict[str, str], archive_folder: Path) -> None:
    done = run_callvault(["tokens", "create", "call center", "--role", "listener", "--for", "30d"], environment)
    assert done.returncode == 0, done.stderr
    (token,) = done.stdout.splitlines()
    assert token.startswith("cvt_") and len(token) == 4 + 43 and token not in done.stderr
    (path,) = (archive_folder / API_TOKENS).glob("*/*.json")
    kept = json.loads(path.read_text())
    assert kept["sha256"] == hashlib.sha256(token.encode()).hexdigest() and token not in path.read_text()
    for arguments in (["tokens", "list"], ["tokens", "list", "--json"]):
        status, output = callvault_here(arguments, environment)
        assert status == 0 and "call center" in output and token not in output and kept["sha256"] not in output
    row = json.loads(output)["tokens"][0]
    assert (row["id"], row["role"], row["state"]) == (kept["id"], "listener", "live")
    assert callvault_here(["verify"], environment)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "expected", "status"),
    [
        (["create", "x", "--role", "boss"], "--role: unknown role 'boss'; expected one of listener, operator,", 2),
        (["create", "x", "--role", "admin", "--for", "for ever"], "--for: ", 2),
        (["create", "x", "--role", "admin", "--for", "400d"], "--for: expected 1m to 366d, not 400d", 2),
        (["create", "a\nb", "--role", "admin"], "NAME: expected 1 to 60 printable characters", 1),
        (["revoke", "none-such"], "no API token none-such; run `callvault tokens list` to see all", 1),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    arguments: list[str], expected: str, status: int, environment: dict[str, str]
) -> None:
    done = run_callvault(["tokens", *arguments], environment)
    assert (done.returncode, done.stdout) == (status, "") and expected in done.stderr, done.stderr


def test_a_revoked_token_is_refused_at_once_by_every_receiver(environment: dict[str, str], redis: Any) -> None:
    with ExitStack() as stack:
        two = [
            stack.enter_context(receiver(environment | {"CALLVAULT_OPS_TOKEN": OPS_TOKEN}, answer_seconds=60))
            for _ in range(2)
        ]
        row = make_token(environment, "auditor")
        first, second = (client for client, _ in two)
        signed = first.post("/ops/sign-in", data={"name": "Eve", "token": row["token"]})
        assert signed.status_code == 303
        for client in (first, second):
            assert client.get("/api/evidence", headers=bearer(row["token"])).status_code == 200
        assert first.get("/ops/evidence").status_code == 200, "by its session"
        live = stack.enter_context(first.stream("GET", "/ops/live"))
        assert live.status_code == 200
        with full(redis):  # which keeps no token alive
            status, output = callvault_here(["tokens", "revoke", row["id"], "--by", "Ada"], environment)
        assert (status, output) == (0, f"API token {row['id']} (a test of auditor) is revoked\n")
        for client in (first, second):
            answer = client.get("/api/evidence", headers=bearer(row["token"]))
            assert answer.status_code == 401 and "unknown, revoked, or past its end" in answer.json()["error"]
        assert first.get("/ops/evidence").status_code == 303, "its session has ended"
        for _ in live.iter_raw():
            pass  # what was open ends within half a minute
        again = run_callvault(["tokens", "revoke", row["id"]], environment)
        assert again.returncode == 1 and "was revoked before" in again.stderr and "by Ada" in again.stderr
        for _, process in two:
            assert row["token"] not in process.output and "a test of auditor" in two[0][1].output


def test_a_lost_redis_loses_no_token_and_revives_none(environment: dict[str, str], tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "valkey")
    server.start()
    environment |= {"REDIS_URL": server.url}
    kept, revoked = (make_token(environment, "auditor") for _ in range(2))
    assert callvault_here(["tokens", "revoke", revoked["id"]], environment)[0] == 0
    with receiver(environment | {"CALLVAULT_OPS_TOKEN": OPS_TOKEN}) as (client, _):

        def statuses() -> tuple[int, int]:
            first, second = (client.get("/api/evidence", headers=bearer(row["token"])) for row in (kept, revoked))
            return first.status_code, second.status_code

        assert statuses() == (200, 401)
        server.stop()
        assert statuses() == (200, 401), "without Redis"
    empty = EmbeddedServer(tmp_path / "empty")
    empty.start()
    environment |= {"REDIS_URL": empty.url}
    with receiver(environment | {"CALLVAULT_OPS_TOKEN": OPS_TOKEN}) as (client, _):
        assert statuses() == (200, 401), "with an empty one"
    empty.stop()


def test_a_token_ends_at_its_time(environment: dict[str, str], archive_folder: Path, redis: Any) -> None:
    row = make_token(environment, "listener")
    path = archive_folder / API_TOKENS / row["id"] / "00000001.json"
    with receiver(environment | {"CALLVAULT_OPS_TOKEN": OPS_TOKEN}) as (client, _):
        assert client.get("/api/overview", headers=bearer(row["token"])).status_code == 200
    path.chmod(0o600)
    path.write_text(path.read_text().replace(row["ends_at"], format_instant(utc_now())))
    with receiver(environment | {"CALLVAULT_OPS_TOKEN": OPS_TOKEN}) as (client, _):
        assert client.get("/api/overview", headers=bearer(row["token"])).status_code == 401
    assert json.loads(callvault_here(["tokens", "list", "--json"], environment)[1])["tokens"][0]["state"] == "ended"


def test_on_this_machine_alone_a_token_has_its_own_role_and_a_wrong_one_is_refused(
    tmp_path: Path, redis_url: str, redis: Any
) -> None:
    with pages({}, tmp_path, redis_url) as (client, _):
        assert client.get("/api/deletions").status_code == 200, "this machine may do everything"
        settings = {"REDIS_URL": redis_url, "CALLVAULT_DATA": str(tmp_path)}
        row = make_token(settings, "listener")
        assert client.get("/api/recordings", headers=bearer(row["token"])).status_code == 200
        assert client.get("/api/deletions", headers=bearer(row["token"])).status_code == 403
        elsewhere = {"X-Forwarded-For": "192.0.2.7"} | bearer(row["token"])
        assert client.get("/api/recordings", headers=elsewhere).status_code == 200
        wrong = bearer(row["token"][:-1] + ("A" if row["token"][-1] != "A" else "B"))
        for _ in range(10):
            assert client.get("/api/recordings", headers=wrong).status_code == 401
        assert client.get("/api/recordings", headers=wrong).status_code == 429
        assert client.get("/api/recordings", headers=bearer(row["token"])).status_code == 200, "nobody guesses that"
        assert int(redis.get(SIGN_INS + "127.0.0.1")) == 10


def test_a_token_with_a_row_that_cannot_be_read_is_dead(environment: dict[str, str], archive_folder: Path) -> None:
    first, second, third = (make_token(environment, "listener") for _ in range(3))
    folder = archive_folder / API_TOKENS
    (folder / first["id"] / "00000002.json").write_text("{")
    (folder / second["id"] / "00000002.json").write_text((folder / third["id"] / "00000001.json").read_text())
    archive = Archive(FileStore(archive_folder.as_uri(), StoreOptions()))
    assert {row.id: row.state for row in read_tokens(archive)} == {
        first["id"]: "revoked",
        second["id"]: "revoked",
        third["id"]: "live",
    }
    status, output = callvault_here(["verify", "--json"], environment)
    problems = json.loads(output)["problems"]
    assert status == 1 and len(problems) == 2 and all("00000002.json" in one["key"] for one in problems), problems


def test_while_redis_is_away_a_token_is_revoked_and_the_command_says_that_it_takes_a_minute(
    environment: dict[str, str], tmp_path: Path
) -> None:
    row = make_token(environment, "listener")
    away = environment | {"REDIS_URL": "redis://127.0.0.1:1/0"}
    done = run_callvault(["tokens", "revoke", row["id"]], away)
    assert done.returncode == 0 and "receivers refuse it within a minute" in done.stdout, done.stderr


def test_the_count_of_changes_is_all_that_redis_has(environment: dict[str, str], redis: Any) -> None:
    row = make_token(environment, "listener")
    assert redis.get(API_TOKENS_CHANGED) == "1"
    kept = {key: redis.dump(key) for key in redis.keys("*")}
    assert not any(row["token"] in str(value) for value in kept.values())
