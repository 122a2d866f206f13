"""Sign-in at a real OpenID provider, over HTTP; tests/browser/test_sign_in.py does the same in a browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as sync_redis

from lab.clock import Clock
from lab.openid import CLIENT_SECRET, OpenIdProvider, openid_provider, sign_in_there
from lab.processes import Receiver, callvault_here, free_port, wait_for
from lab.processes import receiver as start_receiver
from lab.redis import Server
from lab.stores import make_archive
from tests.redis.test_full import full
from tests.service.test_roles import OPS_TOKEN, bearer
from workers.keys import ACCESS_WAITING, SESSION, SIGN_INS
from workers.queue.embedded import EmbeddedServer

PEOPLE: dict[str, dict[str, Any]] = {
    "ada": {"name": "Ada Lovelace", "preferred_username": "ada", "groups": ["staff", "listeners"]},
    "grace": {"email": "grace@example.com", "email_verified": True, "groups": []},
    "eve": {"email": "grace@example.com", "email_verified": False, "groups": ["staff"]},
    "mallory": {"preferred_username": "grace@example.com", "name": "grace@example.com"},
}
ACCESS = """
[groups]
listeners = "listener"
"voice team" = ["operator", "listener"]

[people]
"Grace@Example.com" = "officer"
"""


@dataclass
class Deployment:
    """A provider, and two receivers that use it, whose clocks a test moves.

    Attributes:
        spare_port: of a further receiver, which the provider knows too.
        access_file: of the receivers.
        logged: how much each receiver had logged before the test.
    """

    provider: OpenIdProvider
    receivers: list[Receiver]
    clock: Clock
    spare_port: int
    access_file: Path
    logged: list[int] = field(default_factory=list)

    @contextmanager
    def browser(self, account: str = "", receiver: int = 0) -> Iterator[httpx.Client]:
        """A browser, in which somebody has signed in."""
        with httpx.Client(base_url=self.receivers[receiver].url, trust_env=False, timeout=40) as client:
            if account:
                answer = sign_in_there(client, account, "/ops/sign-in/start")
                assert answer.status_code == 200 and answer.url.path == "/ops", answer.text
            yield client

    def pass_seconds(self, seconds: int) -> None:
        """Let time pass for the receivers, from the start of the test on."""
        self.clock.move(seconds)
        time.sleep(0.15)

    def log_of(self, receiver: int) -> str:
        """What a receiver has logged in this test."""
        return self.receivers[receiver].output[self.logged[receiver] :]

    def has_logged(self, text: str) -> None:
        wait_for(lambda: text in self.log_of(0), 10, text)


@pytest.fixture(scope="module")
def running(kept_redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder, ports = tmp_path_factory.mktemp("openid"), [free_port(), free_port(), free_port()]
    access_file, clock = folder / "access.toml", Clock(folder, "receivers")
    access_file.write_text(ACCESS)
    make_archive(folder / "archive")
    environment = {"REDIS_URL": kept_redis_url, "CALLVAULT_ARCHIVE_URL": (folder / "archive").as_uri()}
    with openid_provider(folder / "provider", ports) as provider, ExitStack() as stack:
        receivers = []
        for port in ports[:2]:
            settings = environment | provider.settings(access_file) | clock.environment
            settings |= {"CALLVAULT_DATA": str(folder / f"data-{port}"), "CALLVAULT_LOG_LEVEL": "debug"}
            receivers.append(stack.enter_context(Receiver(settings, port)))
        for one in receivers:
            one.wait_for_output("Uvicorn running")
        yield Deployment(provider, receivers, clock, ports[2], access_file)


@pytest.fixture
def deployment(running: Deployment, redis_url: str, request: pytest.FixtureRequest) -> Deployment:
    """The same for all tests, with an empty Redis, everybody at the provider, and the time that it is."""
    running.provider.run_with(**getattr(request, "param", {}))
    running.provider.set_accounts(**PEOPLE)
    running.pass_seconds(0)
    running.logged = [len(one.output) for one in running.receivers]
    return running


def lines_in(redis: Any) -> list[dict[str, Any]]:
    """The lines of the access log that Redis has."""
    return [json.loads(row) for key in redis.keys(ACCESS_WAITING + "*") for row in redis.lrange(key, 0, -1)]


IN_ID_TOKEN, IN_USERINFO = {"claims_in_id_token": True}, {"claims_in_id_token": False}
NO_REFRESH = {"refresh_tokens": False}


def test_a_person_signs_in_with_the_roles_of_their_groups(deployment: Deployment, redis: Any) -> None:
    with deployment.browser() as client:
        first = client.get("/ops/recordings?q=state:held")
        assert first.status_code == 303 and first.headers["location"].startswith("/ops/sign-in?next=")
        page = client.get(first.headers["location"]).text
        link = re.findall(r'href="(/ops/sign-in/start[^"]*)"', page)[0].replace("&amp;", "&")
        there = client.get(link)
        cookie = there.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Path=/ops/sign-in" in cookie
        asked = there.headers["location"]
        assert "code_challenge_method=S256" in asked and "state=" in asked and "nonce=" in asked
        answer = sign_in_there(client, "ada", link)
        assert str(answer.url).endswith("/ops/recordings?q=state:held") and "ada" in answer.text
        assert client.get("/api/overview").status_code == 200
        refused = client.get("/api/deletions")
        assert refused.status_code == 403 and "you have listener" in refused.json()["error"]
        session = client.cookies["callvault_session"]
        with deployment.browser(receiver=1) as other:
            other.cookies.set("callvault_session", session)
            assert other.get("/api/recordings").status_code == 200, "another receiver, with another data folder"
    (key,) = redis.keys(SESSION + "*")
    with sync_redis.Redis(unix_socket_path=redis.connection_pool.connection_kwargs["path"]) as raw:
        data = raw.get(key)
    assert b"ada" not in data and b"listeners" not in data and session.partition(".")[0] not in key
    for number in (0, 1):
        for secret in (CLIENT_SECRET, session, "code_verifier", "refresh_token", "Bearer", "code="):
            assert secret not in deployment.log_of(number), secret


def test_a_session_that_another_receiver_never_saw_makes_changes_with_its_own_csrf_token(
    deployment: Deployment,
) -> None:
    with deployment.browser("grace") as client:
        csrf = client.get("/ops").text.partition('X-CSRF-Token": "')[2].partition('"')[0]
        assert client.post("/ops/deletions/pause", data={"csrf": "x", "why": "test"}).status_code == 403
        assert client.post("/ops/deletions/pause", data={"csrf": csrf, "why": "test"}).status_code == 303
        assert client.get("/api/deletions").json()["paused_by"] == "grace@example.com"
        client.post("/ops/deletions/resume", data={"csrf": csrf})


@pytest.mark.parametrize("account", ["eve", "mallory"])
def test_whoever_has_no_role_is_not_let_in(account: str, deployment: Deployment) -> None:
    with deployment.browser() as client:
        answer = sign_in_there(client, account, "/ops/sign-in/start")
        assert answer.status_code == 403 and "neither you nor one of your" in answer.text
        assert "callvault_session" not in client.cookies and client.get("/api/overview").status_code == 401


@pytest.mark.parametrize(
    "deployment",
    [IN_USERINFO, IN_ID_TOKEN, IN_USERINFO | NO_REFRESH],
    indirect=True,
    ids=["userinfo and refresh", "id token and refresh", "userinfo alone"],
)
def test_a_lost_group_loses_access_within_a_minute_and_a_new_one_gives_it(deployment: Deployment) -> None:
    with deployment.browser("ada") as client:
        people = PEOPLE | {"ada": PEOPLE["ada"] | {"groups": ["voice team"]}}
        deployment.provider.set_accounts(**people)
        deployment.pass_seconds(50)
        assert client.get("/api/deletions").status_code == 403
        deployment.pass_seconds(62)
        assert client.get("/api/deletions").status_code == 200
        deployment.provider.set_accounts(**PEOPLE | {"ada": PEOPLE["ada"] | {"groups": ["staff"]}})
        deployment.pass_seconds(124)
        assert client.get("/api/deletions").status_code == 401
        assert client.get("/ops").headers["location"].startswith("/ops/sign-in")
        deployment.has_logged("no role is left")


def test_a_receiver_whose_clock_was_ahead_confirmed_nothing_for_the_others(deployment: Deployment) -> None:
    with deployment.browser("ada") as client:
        deployment.pass_seconds(600)
        assert client.get("/api/recordings").status_code == 200
        deployment.provider.set_accounts(**PEOPLE | {"ada": PEOPLE["ada"] | {"groups": ["staff"]}})
        deployment.pass_seconds(30)
        assert client.get("/api/recordings").status_code == 401, "not after ten more minutes"


@pytest.mark.parametrize("deployment", [IN_USERINFO | NO_REFRESH, IN_USERINFO], indirect=True)
def test_a_person_who_is_gone_at_the_provider_is_out_within_a_minute(deployment: Deployment) -> None:
    with deployment.browser("ada") as client:
        deployment.provider.set_accounts(**{name: one for name, one in PEOPLE.items() if name != "ada"})
        deployment.pass_seconds(62)
        assert client.get("/api/recordings").status_code == 401


@pytest.mark.parametrize("deployment", [IN_ID_TOKEN | NO_REFRESH | {"id_token_seconds": 600}], indirect=True)
def test_what_nothing_renews_ends_with_its_id_token(deployment: Deployment) -> None:
    with deployment.browser("ada") as client:
        deployment.pass_seconds(580)
        assert client.get("/api/recordings").status_code == 200
        deployment.pass_seconds(610)
        assert client.get("/api/recordings").status_code == 401


def test_no_session_lasts_longer_than_twelve_hours(deployment: Deployment) -> None:
    with deployment.browser("ada") as client:
        deployment.pass_seconds(12 * 3600 + 10)
        assert client.get("/api/recordings").status_code == 401


def test_a_provider_that_is_away_is_waited_for_five_minutes_and_nobody_enters_after(deployment: Deployment) -> None:
    with deployment.browser("ada") as client:
        deployment.provider.process.kill()
        deployment.pass_seconds(62)
        assert client.get("/api/recordings").status_code == 200
        deployment.has_logged("a sign-in could not be confirmed")
        deployment.pass_seconds(310)
        answer = client.get("/api/recordings")
        assert answer.status_code == 503 and "cannot confirm your sign-in" in answer.json()["error"]
        with deployment.browser(receiver=1) as other:
            failed = other.get("/ops/sign-in/start")
            assert failed.status_code == 502 and "does not answer" in failed.text


def test_the_doctor_asks_the_provider(deployment: Deployment, environment: dict[str, str], tmp_path: Path) -> None:
    access_file = tmp_path / "access.toml"
    access_file.write_text(ACCESS)
    settings = environment | deployment.provider.settings(access_file)

    def line() -> str:
        checks = json.loads(callvault_here(["doctor", "--json"], settings)[1])["checks"]
        return next(str(one) for one in checks if one["check"] == "ops pages")

    assert f"open with a sign-in at {deployment.provider.issuer.removeprefix('http://')}" in line()
    deployment.provider.process.kill()
    assert "CALLVAULT_OIDC_ISSUER: localhost:" in line() and "does not answer" in line()
    access_file.write_text("[groups]\nx = 'boss'\n")
    assert "unknown role 'boss'" in line() and "'good': False" in line()


def test_many_requests_at_once_use_a_refresh_token_once(deployment: Deployment) -> None:
    """The provider ends everything if a refresh token is used twice."""
    with deployment.browser("ada") as client, ThreadPoolExecutor(16) as threads:
        cookies = {"Cookie": f"callvault_session={client.cookies['callvault_session']}"}

        def ask(number: int) -> int:
            url = deployment.receivers[number % 2].url
            return httpx.get(f"{url}/api/recordings", headers=cookies, trust_env=False, timeout=60).status_code

        for minutes in (1, 2, 3):
            deployment.pass_seconds(62 * minutes)
            assert set(threads.map(ask, range(32))) == {200}


def test_a_sign_out_ends_the_session_here_and_at_the_provider(deployment: Deployment, redis: Any) -> None:
    with deployment.browser("ada") as client:
        session = client.cookies["callvault_session"]
        csrf = client.get("/ops").text.partition('X-CSRF-Token": "')[2].partition('"')[0]
        page = client.post("/ops/sign-out", data={"csrf": csrf})
        (there,) = re.findall(r'<a href="([^"]+/session/end[^"]*)"', page.text)
        assert there.startswith(deployment.provider.issuer) and "token" not in there
        assert f"0; url={there}" in page.text and not redis.keys(SESSION + "*")
        client.cookies.set("callvault_session", session)
        assert client.get("/api/overview").status_code == 401, "also with the old cookie"
        at_provider = client.get(there.replace("&amp;", "&"))
        assert "Do you want to sign-out" in at_provider.text


def test_an_answer_that_belongs_to_no_sign_in_here_is_refused(deployment: Deployment, redis: Any) -> None:
    with deployment.browser() as client:
        there = client.get("/ops/sign-in/start?next=https://evil.example/").headers["location"]
        state = re.findall(r"state=([^&]+)", there)[0]
        for query, why in (
            (f"code=x&state={state}x", "began in another browser"),
            ("code=x&state=", "began in another browser"),
            ("code=x", "began in another browser"),
            (f"error=access_denied&state={state}", "refused the sign-in (access_denied)"),
            (f"error=access_denied&state={state}", "refused the sign-in (access_denied)"),
            (f"error=<b>x</b>&state={state}", "refused the sign-in; try again"),
            (f"code=x&state={state}&iss=https://evil.example", "another provider answered"),
            (f"code=x&state={state}", "answers 400 (invalid_grant)"),
        ):
            answer = client.get(f"/ops/sign-in/callback?{query}")
            assert answer.status_code == 401 and why in answer.text and "<b>" not in answer.text, (query, answer.text)
        with deployment.browser() as thief:
            assert "began in another browser" in thief.get(f"/ops/sign-in/callback?code=x&state={state}").text
        refused = [row for row in lines_in(redis) if row["what"] == "sign-in-refused"]
        assert [row["how"] for row in refused] == ["oidc"] * 4, "those that began here"
        assert (
            refused[0]["error"].endswith("refused the sign-in (access_denied)")
            and "invalid_grant" in refused[-1]["error"]
        )
        assert redis.get(SIGN_INS + "code:127.0.0.1") == "2", "a guess is a code; nothing else locks an office out"
        answer = sign_in_there(client, "ada", "/ops/sign-in/start?next=https://evil.example/")
        assert str(answer.url) == f"{deployment.receivers[0].url}/ops"


def test_nobody_has_a_receiver_send_codes_to_the_provider_without_end(deployment: Deployment, redis: Any) -> None:
    with deployment.browser() as client:
        there = client.get("/ops/sign-in/start").headers["location"]
        path = f"/ops/sign-in/callback?code=x&state={re.findall(r'state=([^&]+)', there)[0]}"
        assert [client.get(path).status_code for _ in range(11)] == [401] * 10 + [429]
        redis.delete(SIGN_INS + "code:127.0.0.1")
        for _ in range(11):
            wrong = client.get("/api/recordings", headers=bearer("cvt_wrong"))
        assert wrong.status_code == 429, "and whoever tries tokens locks out no sign-in at the provider"
        assert sign_in_there(client, "ada", "/ops/sign-in/start").url.path == "/ops"


def test_without_redis_nobody_signs_in_at_a_provider_and_an_ops_token_still_does(
    tmp_path: Path, deployment: Deployment
) -> None:
    server = EmbeddedServer(tmp_path / "valkey")
    server.start()
    make_archive(tmp_path / "archive")
    settings = deployment.provider.settings(deployment.access_file) | {"REDIS_URL": server.url}
    settings |= {"CALLVAULT_DATA": str(tmp_path), "CALLVAULT_OPS_TOKEN": OPS_TOKEN}
    with Receiver(settings, deployment.spare_port) as receiver:
        receiver.wait_for_output("Uvicorn running")
        with httpx.Client(base_url=receiver.url, trust_env=False, timeout=40) as client:
            assert sign_in_there(client, "ada", "/ops/sign-in/start").url.path == "/ops"
            server.stop()
            assert client.get("/api/recordings").status_code == 503
            answer = sign_in_there(client, "ada", "/ops/sign-in/start")
            assert answer.status_code == 503 and "could not sign you in" in answer.text
            assert client.get("/api/recordings", headers=bearer(OPS_TOKEN)).status_code == 200


def test_while_redis_is_full_people_sign_in_and_sessions_go_on(tmp_path: Path, deployment: Deployment) -> None:
    make_archive(tmp_path / "archive")
    settings = deployment.provider.settings(deployment.access_file) | deployment.clock.environment
    settings |= {"CALLVAULT_DATA": str(tmp_path), "CALLVAULT_ARCHIVE_URL": (tmp_path / "archive").as_uri()}
    with (
        Server(tmp_path) as server,
        server.client() as admin,
        Receiver(settings | {"REDIS_URL": server.url}, deployment.spare_port) as receiver,
        full(admin),
    ):
        receiver.wait_for_output("Uvicorn running")
        with httpx.Client(base_url=receiver.url, trust_env=False, timeout=40) as client:
            assert sign_in_there(client, "ada", "/ops/sign-in/start").url.path == "/ops"
            for minutes in (1, 2):  # the second renewal needs the refresh token of the first
                deployment.pass_seconds(62 * minutes)
                assert client.get("/api/recordings").status_code == 200


def test_a_receiver_without_a_provider_knows_no_such_sign_in(environment: dict[str, str]) -> None:
    with start_receiver(environment | {"CALLVAULT_OPS_TOKEN": OPS_TOKEN}) as (client, _):
        assert "Sign in with" not in client.get("/ops/sign-in").text
        for path in ("start", "callback?code=x&state=y"):
            assert client.get(f"/ops/sign-in/{path}").headers["location"] == "/ops/sign-in"


def test_only_a_receiver_with_a_provider_imports_its_client() -> None:
    program = "import sys; import service.ops.site; print('service.ops.oidc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
