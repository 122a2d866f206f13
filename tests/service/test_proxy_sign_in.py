"""People who sign in at a proxy before the receiver: a real nginx that names them in headers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.processes import Receiver, free_port, listens, program, running
from tests.service.test_roles import OPS_TOKEN, bearer, make_token
from workers.keys import ACCESS_WAITING

PROXY = "127.0.0.2"  # the proxy's own address; the tests come from 127.0.0.1
ACCESS = '[groups]\nlisteners = "listener"\n"jörg\'s team" = "officer"\n[people]\n"Grace@Example.com" = "operator"\n'
CONFIGURATION = """
worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; daemon off; user root;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map $remote_user $groups {{ ada "staff, listeners"; "jörg" "jörg's team"; default ""; }}
  server {{
    listen 127.0.0.1:{port};
    auth_basic "sign in"; auth_basic_user_file {folder}/people;
    location / {{
      proxy_pass http://127.0.0.1:{receiver}; proxy_bind {proxy}; proxy_set_header Host $http_host;
      proxy_set_header Authorization ""; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-User $remote_user; proxy_set_header X-Forwarded-Groups $groups;
    }}
  }}
}}
"""


class Deployment:
    """A receiver behind an nginx."""

    def __init__(self, receiver: Receiver, proxy_port: int, environment: dict[str, str]) -> None:
        self.receiver, self.environment = receiver, environment
        self._proxy_port = proxy_port

    def through_the_proxy(self, name: str) -> httpx.Client:
        """A browser of somebody who has signed in at the proxy."""
        url = f"http://127.0.0.1:{self._proxy_port}"
        return httpx.Client(base_url=url, auth=(name.encode(), b"secret"), trust_env=False, timeout=30)

    def directly(self, address: str = "127.0.0.1") -> httpx.Client:
        """Somebody who connects to the receiver itself, from an address."""
        transport = httpx.HTTPTransport(local_address=address)
        return httpx.Client(base_url=self.receiver.url, transport=transport, trust_env=False, timeout=30)


def _utf8(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


@pytest.fixture(params=["", PROXY], ids=["its address is the proxy's", "its address is the client's"])
def deployment(environment: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Deployment]:
    port, folder = free_port(), tmp_path / "nginx"
    folder.mkdir()
    (tmp_path / "access.toml").write_text(ACCESS)
    settings = environment | {
        "CALLVAULT_PROXY_USER_HEADER": "X-Forwarded-User",
        "CALLVAULT_PROXY_GROUPS_HEADER": "X-Forwarded-Groups",
        "CALLVAULT_PROXY_ADDRESSES": f"{PROXY}, 10.9.0.0/16",
        "CALLVAULT_ACCESS_FILE": str(tmp_path / "access.toml"),
        "CALLVAULT_OPS_TOKEN": OPS_TOKEN,
        "FORWARDED_ALLOW_IPS": request.param,
    }
    receiver = Receiver(settings)
    names = {"folder": folder, "port": port, "receiver": receiver.port, "proxy": PROXY}
    (folder / "conf").write_text(CONFIGURATION.format(**names))
    (folder / "people").write_text(
        "".join(f"{one}:{{PLAIN}}secret\n" for one in ("ada", "jörg", "eve", "grace@example.com"))
    )
    nginx = [
        program("nginx", "nginx-light"),
        "-e",
        str(folder / "error.log"),
        "-p",
        str(folder),
        "-c",
        str(folder / "conf"),
    ]
    with ExitStack() as stack:
        stack.enter_context(receiver)
        receiver.wait_for_output("Uvicorn running")
        stack.enter_context(running(nginx, lambda: listens(port)))
        yield Deployment(receiver, port, settings)


def test_whoever_signed_in_at_the_proxy_has_the_roles_of_their_groups(deployment: Deployment, redis: Any) -> None:
    with deployment.through_the_proxy("ada") as ada, deployment.through_the_proxy("eve") as eve:
        page = ada.get("/ops/recordings")
        assert page.status_code == 200 and ">ada<" in page.text and "Sign out" not in page.text
        refused = ada.get("/api/deletions", headers=_utf8({"X-Forwarded-Groups": "jörg's team"}))
        assert refused.status_code == 403 and "you have listener" in refused.json()["error"]
        for path in ("/ops", "/api/overview", "/ops/recordings.csv"):
            answer = eve.get(path, headers={"X-Forwarded-User": "ada"})
            assert answer.status_code == 403 and "our sign-in as eve is good, but neither you nor" in answer.text
    with deployment.through_the_proxy("grace@example.com") as grace:
        assert grace.get("/api/dead-letters").status_code == 200
    with deployment.through_the_proxy("nobody") as nobody:
        assert nobody.get("/ops").status_code == 401, "the proxy's answer"


def test_a_sign_in_at_the_proxy_is_a_line_once_an_hour_and_so_is_one_that_is_refused(
    deployment: Deployment, redis: Any
) -> None:
    with deployment.through_the_proxy("ada") as ada, deployment.through_the_proxy("eve") as eve:
        for _ in range(3):
            ada.cookies.clear()  # as a program, which keeps none
            assert ada.get("/api/recordings").status_code == 200
            assert eve.get("/ops/recordings").status_code == 403
    rows = [json.loads(row) for key in redis.keys(ACCESS_WAITING + "*") for row in redis.lrange(key, 0, -1)]
    lines = [(row["what"], row["who"], row["how"], row["subject"], row.get("role", "")) for row in rows]
    assert sorted(lines) == [
        ("sign-in", "ada", "proxy", "ada", "listener"),
        ("sign-in-refused", "eve", "proxy", "eve", ""),
    ]


@pytest.mark.parametrize("name", ["ada", "Grace@Example.com", "jörg"])
def test_from_another_address_the_headers_count_for_nothing(name: str, deployment: Deployment) -> None:
    headers = {"X-Forwarded-User": name, "X-Forwarded-Groups": "listeners,jörg's team"}
    for more in ({}, {"X-Forwarded-For": PROXY}, {"Forwarded": f"for={PROXY}"}, {"X-Real-IP": PROXY}):
        with deployment.directly() as client:
            answer = client.get("/api/recordings", headers=_utf8(headers | more))
            assert answer.status_code == 401, more
            assert client.get("/ops", headers=_utf8(headers)).headers["location"].startswith("/ops/sign-in")


def test_a_change_needs_the_csrf_token_of_the_same_person(deployment: Deployment, redis: Any) -> None:
    with deployment.through_the_proxy("jörg") as one, deployment.through_the_proxy("grace@example.com") as other:
        tokens = []
        for client in (one, other):
            page = client.get("/ops").text
            tokens.append(page.partition('X-CSRF-Token": "')[2].partition('"')[0])
            assert "callvault_session" in client.cookies and len(tokens[-1]) == 96
        for form in ({}, {"csrf": ""}, {"csrf": tokens[1]}):
            assert one.post("/ops/deletions/pause", data=form | {"why": "test"}).status_code == 403
        assert one.post("/ops/deletions/pause", data={"csrf": tokens[0], "why": "test"}).status_code == 303
        assert one.get("/api/deletions").json()["paused_by"] == "jörg"
        other.cookies.set("callvault_session", one.cookies["callvault_session"])
        stolen = other.post("/ops/deletions/resume", data={"csrf": tokens[0]})
        assert stolen.status_code == 403, "the cookie of another person"
        assert one.post("/ops/deletions/resume", data={"csrf": tokens[0]}).status_code == 303


def test_a_header_that_comes_twice_is_refused(deployment: Deployment) -> None:
    with deployment.directly(PROXY) as client:
        good = [("X-Forwarded-User", "ada"), ("X-Forwarded-Groups", "listeners")]
        assert client.get("/api/recordings", headers=good).status_code == 200
        for again in good:
            answer = client.get("/api/recordings", headers=[*good, again])
            assert answer.status_code == 400 and "comes twice" in answer.json()["error"]
        assert client.get("/api/recordings", headers=[("X-Forwarded-Groups", "listeners")]).status_code == 401


def test_tokens_work_beside_the_proxy_and_a_cookie_of_this_machine_does_not(
    deployment: Deployment, environment: dict[str, str]
) -> None:
    row = make_token(environment, "auditor")
    with deployment.directly() as client:
        assert client.get("/api/evidence", headers=bearer(row["token"])).status_code == 200
        assert client.get("/api/evidence", headers=bearer(OPS_TOKEN)).status_code == 200
        client.post("/ops/sign-in", data={"name": "Ada", "token": OPS_TOKEN})
        assert client.get("/ops/deletions").status_code == 200
    with deployment.directly(PROXY) as client:
        headers = {"X-Forwarded-User": "ada", "X-Forwarded-Groups": "listeners"} | bearer("of-another-system-entirely")
        for _ in range(12):
            assert client.get("/api/recordings", headers=headers).status_code == 200, (
                "its own Authorization counts nothing"
            )
