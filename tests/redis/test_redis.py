"""Redis as users run it: TLS, a user with few rights, Sentinel, without CONFIG, several for one account."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import redis as sync_redis
from redis.exceptions import NoPermissionError

from config.settings import load_settings
from lab.lines import TcpProxy, tls_proxy
from lab.processes import callvault, free_port, receiver, run_callvault, wait_for
from lab.redis import Server, is_marked, least_rights, watched
from lab.servers import RunningSandbox
from lab.webhooks import Signer, event
from service.app import create_app
from workers.engine.connect import connect_worker
from workers.engine.leases import Leases
from workers.keys import (
    ALERTS,
    ARQ_IN_PROGRESS,
    ARQ_JOB,
    ATTEMPTS,
    BULK_QUEUE,
    DEAD_LETTERS,
    LEASES,
    MAIN_QUEUE,
    RECONCILED,
    UNSEALED_WHY,
)
from workers.queue import replicas

ROOT = Path(__file__).parent.parent.parent


def test_the_user_of_the_tests_is_the_documented_one_and_may_use_nothing_that_is_not_used() -> None:
    """Every other test runs as that user; this one checks that it has no unused right."""
    sources = [
        path.read_text()
        for room in ("workers", "telnyx_api", "service", "cli")
        for path in (ROOT / room).glob("**/*.py")
    ]
    import arq.connections
    import arq.jobs
    import arq.worker
    import redis.asyncio.lock

    sources += [Path(str(m.__file__)).read_text() for m in (arq.worker, arq.connections, arq.jobs, redis.asyncio.lock)]
    text = "\n".join(sources)
    alias = {
        "del": "delete",
        "eval": "EVAL",
        "evalsha": "EVALSHA",
        "script|load": "register_script",
        "exec": "execute",
        "select": "db",
    }
    unused = [
        word
        for word in (rule[1:] for rule in least_rights() if rule.startswith("+"))
        if not re.search(
            rf"\.{alias.get(word, word)}\(|redis\.call\('{word.upper()}'|\"{word.upper()}\"|\b{alias.get(word, '-')}\b",
            text,
        )
    ]
    assert unused == []
    assert "-@all" in least_rights() and "+config" not in " ".join(least_rights())


def test_that_user_reads_no_other_keys_and_configures_nothing(redis_url: str) -> None:
    with sync_redis.Redis.from_url(redis_url) as client:
        assert client.set("callvault:x", "1")
        for forbidden in (
            lambda: client.set("somebody-elses", "1"),
            lambda: client.config_get("maxmemory"),
            client.flushall,
            lambda: client.keys("*"),
            lambda: client.execute_command("ACL", "LIST"),
        ):
            with pytest.raises(NoPermissionError):
                forbidden()


def _body(recording_id: str) -> bytes:
    return event("call.recording.saved", f"event-{recording_id}", recording_id=recording_id)


class Load:
    """Posts webhooks of recordings one after the other, each once, and keeps the answers and their times."""

    def __init__(self, port: int, signer: Signer, recordings: list[str], per_second: float) -> None:
        self.answers: dict[str, int] = {}
        self.answered_at: dict[str, float] = {}
        self.slowest = 0.0
        self._url = f"http://127.0.0.1:{port}/webhooks/telnyx"
        self._signer, self._ids, self._pause = signer, recordings, 1 / per_second
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=10) as client:
            for recording_id in self._ids:
                body, started = _body(recording_id), time.monotonic()
                self.answers[recording_id] = client.post(
                    self._url, content=body, headers=self._signer.headers(body)
                ).status_code
                self.answered_at[recording_id] = time.time()
                took = time.monotonic() - started
                self.slowest = max(self.slowest, took)
                time.sleep(max(0.0, self._pause - took))

    def repeat(self) -> bool:
        """Post again, as Telnyx does, the events that got 503; returns whether none is left."""
        self._ids = sorted(self.with_status(503))
        self._run()
        return not self.with_status(503)

    def wait(self) -> None:
        self._thread.join(120)
        assert not self._thread.is_alive()

    def with_status(self, status: int) -> set[str]:
        return {recording_id for recording_id, got in self.answers.items() if got == status}


def _way_of(recording_id: str, load: Load, killed_at: float, servers: Sequence[Server], outputs: Sequence[str]) -> str:
    """The trail of an event: its answer, what each server received and holds, and the logs of the parts."""
    job_id, lines = f"archive_recording:{recording_id}", []
    lines.append(f"{recording_id}: answered {load.answered_at[recording_id] - killed_at:+.3f}s from the kill")
    for one in servers:
        if one.answers():
            with one.client() as client:
                held = {
                    "role": client.info("replication")["role"],
                    "mark": is_marked(client, f"event-{recording_id}"),
                    "data": client.exists(ARQ_JOB + job_id),
                    "queued for": client.zscore(MAIN_QUEUE, job_id),
                    "in progress, ms": client.pttl(ARQ_IN_PROGRESS + job_id),
                    "lease": client.hget(LEASES, job_id),
                    "attempts": client.lrange(ATTEMPTS + job_id, 0, -1),
                    "dead letter": client.hget(DEAD_LETTERS, job_id),
                }
            lines.append(f"  server {one.port} holds {held}")
        lines += [f"  server {one.port} heard {line}" for line in one.writes_with(recording_id)]
    lines += [f"  said: {line}" for output in outputs for line in output.splitlines() if recording_id in line]
    return "\n".join(lines)


def _committed(archive: Path) -> set[str]:
    return {path.parent.name for path in archive.glob("recordings/**/recording.json")}


@pytest.mark.timeout(240)
def test_a_failover_by_sentinel_under_load_loses_no_event(
    sandbox: RunningSandbox, environment: dict[str, str], archive_folder: Path, tmp_path: Path
) -> None:
    """Every event that got 200 is archived by its own jobs, without reconcile.

    An event that got 503 is repeated, found written, and confirmed before it gets 200.
    """
    signer, port = Signer(), free_port()
    recordings = [sandbox.world.add_recording(seconds=0.1).data["id"] for _ in range(300)]
    with watched(tmp_path) as redis_servers:
        parts = environment | {
            "REDIS_URL": redis_servers.url,
            "TELNYX_PUBLIC_KEY": signer.public_key,
            "CALLVAULT_RECONCILE_EVERY": "30d",
            "CALLVAULT_RECONCILE_OPEN_EVERY": "30d",
        }
        with redis_servers.primary.client() as client:
            for span in ("recent", "open"):
                client.set(RECONCILED + span, "1", ex=3600)
        with callvault(["serve", "--port", str(port)], parts, "Uvicorn running") as receiver, ExitStack() as stack:
            workers = [stack.enter_context(callvault(["worker"], parts, "worker ready"))]

            def is_archived() -> bool:
                """Restart workers that gave up on Redis, as a supervisor does."""
                if workers[-1].has_ended:
                    workers.append(stack.enter_context(callvault(["worker"], parts)))
                return accepted <= _committed(archive_folder)

            load = Load(port, signer, recordings, per_second=50)
            wait_for(lambda: len(load.answers) > 100)
            killed = redis_servers.primary
            killed.kill()
            killed_at = time.time()
            wait_for(lambda: redis_servers.primary is not killed, 30, "the failover")
            load.wait()
            assert load.with_status(200) | load.with_status(503) == set(recordings)
            wait_for(load.repeat, 60, "the acceptance of what Telnyx repeats for a minute")
            accepted = load.with_status(200)
            assert accepted == set(recordings) and load.slowest < 2, "Telnyx waits 2 s"
            try:
                wait_for(is_archived, 90, "the archiving of what was accepted", every_seconds=0.25)
            except AssertionError as error:
                outputs = [receiver.output, *(worker.output for worker in workers)]
                lost = sorted(accepted - _committed(archive_folder))
                ways = [_way_of(one, load, killed_at, redis_servers.servers, outputs) for one in lost[:5]]
                logged = [line for line in "".join(outputs).splitlines() if "INFO" not in line][-100:]
                raise AssertionError("\n".join([f"{error}; {len(lost)} are not:", *ways, *logged])) from None
            killed.start()  # it comes back as a replica
            again = _body("late")
            answer = httpx.post(
                f"http://127.0.0.1:{port}/webhooks/telnyx",
                content=again,
                headers=signer.headers(again),
                trust_env=False,
            )
            assert answer.status_code == 200
            assert workers[-1].stop() == 0, workers[-1].output
            assert receiver.stop() == 0
    assert len(accepted) > 200


async def test_without_a_replica_a_receiver_accepts_events_after_a_while_and_alerts(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "MISSED_SECONDS", 1)
    monkeypatch.setattr(replicas, "_LOOK_SECONDS", 0.1)
    signer = Signer()
    with watched(tmp_path) as redis_servers:
        for name, value in (environment | {"TELNYX_PUBLIC_KEY": signer.public_key}).items():
            monkeypatch.setenv(name, value)
        app = create_app(load_settings(), redis_servers.url)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://receiver") as client,
        ):

            async def answer(event_id: str) -> int:
                body, started = _body(event_id), time.monotonic()
                got = await client.post("/webhooks/telnyx", content=body, headers=signer.headers(body))
                assert time.monotonic() - started < 2, "Telnyx waits 2 s"
                return got.status_code

            assert await answer("a") == 200
            assert await answer("b") == 200
            for one in redis_servers.servers:
                if one is not redis_servers.primary:
                    one.kill()
            answers = [await answer("c")]
            while answers[-1] != 200:
                answers.append(await answer("c"))
            assert answers[0] == 503 and await answer("d") == 200
            with redis_servers.primary.client() as redis:
                (alert,) = await asyncio.to_thread(wait_for, lambda: redis.lrange(ALERTS, 0, -1), what="the alert")
                assert json.loads(alert)["kind"] == "no-replica"


def _one_recording(sandbox: RunningSandbox, environment: dict[str, str], archive: Path, redis_url: str) -> None:
    """A webhook comes, its recording is archived."""
    parts = environment | {"REDIS_URL": redis_url}
    with receiver(parts) as (_, serve), callvault(["worker"], parts, "worker ready"):
        made = sandbox.control("calls", webhook_url=serve.webhooks, seconds=1)
        wait_for(lambda: set(made["recordings"]) <= _committed(archive), what="the archiving")


def test_over_tls_with_the_servers_name_checked(
    sandbox: RunningSandbox, environment: dict[str, str], archive_folder: Path, tmp_path: Path
) -> None:
    with Server(tmp_path) as plain, tls_proxy(plain.port, tmp_path) as (port, certificate):
        _one_recording(sandbox, environment, archive_folder, f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}")
        for refused in (f"rediss://127.0.0.1:{port}/0", f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}"):
            done = run_callvault(["doctor", "--json"], environment | {"REDIS_URL": refused})
            assert done.returncode != 0
            assert "certificate verify failed" in done.stdout.lower(), done.stdout
        unchecked = f"rediss://localhost:{port}/0?ssl_cert_reqs=none"
        assert run_callvault(["dead-letters", "list"], environment | {"REDIS_URL": unchecked}).returncode == 0


def test_a_server_that_forbids_config_is_enough(
    sandbox: RunningSandbox, environment: dict[str, str], archive_folder: Path, tmp_path: Path
) -> None:
    """As managed ones do."""
    with Server(tmp_path, "--rename-command", "CONFIG", "", "--rename-command", "DEBUG", "") as managed:
        _one_recording(sandbox, environment, archive_folder, managed.url)
        done = run_callvault(["doctor", "--json"], environment | {"REDIS_URL": managed.url})
        rows = {row["check"]: row for row in json.loads(done.stdout)["checks"]}
        assert all(rows[name]["good"] for name in ("Redis", "Redis persistence", "Redis eviction")), rows


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel:///callvault", "a Sentinel has no host"),
        ("redis+sentinel://a:x/callvault", "invalid port; in a password"),
        ("rediss://host/0?ssl_ca_cert=/x", "unknown option; did you mean ssl_ca_certs?"),
        ("redis://host/0?ssl_ca_certs=/x", "unknown option"),
        ("redis+sentinel://host/callvault?tls=True", "tls must be true or false"),
        ("rediss://host/0?ssl_cert_reqs=no", "ssl_cert_reqs must be required or optional or none"),
        ("http://host", "unknown scheme 'http'"),
    ],
)
def test_an_unusable_address_is_reported(url: str, why: str, tmp_path: Path) -> None:
    done = run_callvault(["status"], {"REDIS_URL": url, "CALLVAULT_DATA": str(tmp_path)})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "REDIS_URL: cannot use" in done.stderr and why in done.stderr, done.stderr


@pytest.mark.timeout(300)
def test_one_account_is_split_by_connection_over_two_redis(
    sandbox: RunningSandbox, environment: dict[str, str], archive_folder: Path, tmp_path: Path
) -> None:
    """Two deployments on one archive: each connection's webhooks go to one of them, and both reconcile."""
    with Server(tmp_path) as first, Server(tmp_path) as second, ExitStack() as stack:
        hooks, workers = [], []
        for one in (first, second):
            parts = environment | {
                "REDIS_URL": one.url,
                "CALLVAULT_DATA": str(tmp_path / f"data-{one.port}"),
                "CALLVAULT_DELETE_ORIGINALS": "verified",
                "CALLVAULT_DELETE_AFTER": "1s",
                "CALLVAULT_RECONCILE_EVERY": "5s",
                "CALLVAULT_SEAL_AFTER": "0s",
            }
            workers.append(stack.enter_context(callvault(["worker"], parts, "worker ready")))
            hooks.append(stack.enter_context(receiver(parts))[1].webhooks)
        made: set[str] = set()
        for n, hook in enumerate(hooks):
            calls = {"webhook_url": hook, "connection_id": f"connection-{n}", "seconds": 1}
            yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
            for started_at in ("", yesterday):
                made |= set(sandbox.control("calls", count=15, started_at=started_at, **calls)["recordings"])
        wait_for(lambda: made <= _committed(archive_folder), 60, "the archiving")
        wait_for(lambda: all(row["deleted_at"] for row in sandbox.books()["recordings"]), 60, "the deletion", 0.2)
        wait_for(lambda: any(archive_folder.glob("seals/*.json")), 60, "yesterday's seal")
        for one in (first, second):
            with one.client() as client:
                assert client.hlen(DEAD_LETTERS) == 0
                wait_for(lambda: client.hlen(UNSEALED_WHY) == 0, 90, "days that wait for nothing but their time")
        for worker in workers:
            assert worker.stop() == 0  # and no seal is left half made
    done = run_callvault(["verify", "--seals", "--json"], environment)
    assert done.returncode == 0, done.stdout
    assert len(made) == 60


def test_the_document_shows_the_rights_that_are_tested() -> None:
    assert (ROOT / "deploy" / "redis" / "users.acl").read_text().strip() in (ROOT / "docs" / "redis.md").read_text()


async def test_a_claim_whose_answer_is_lost_gets_the_same_answer_when_it_is_sent_again(tmp_path: Path) -> None:
    """Otherwise a live worker that does not run its jobs would keep them for hours."""
    with Server(tmp_path) as plain, TcpProxy(plain.port) as proxy, plain.client() as redis:
        client = connect_worker(f"redis://127.0.0.1:{proxy.port}/0")
        leases = Leases(client)
        redis.zadd(MAIN_QUEUE, {"a": 1, "b": 2, "c": 3})
        redis.zadd(BULK_QUEUE, {"d": 4})
        assert await leases.claim(BULK_QUEUE, 1, 60_000) == [("d", 4)]  # from here on the server knows the script
        proxy.lose_answer = True
        assert await leases.claim(MAIN_QUEUE, 2, 60_000) == [("a", 1), ("b", 2)]
        assert not proxy.lose_answer, "an answer was lost"
        assert set(redis.hgetall(LEASES)) == {"a", "b", "d"}
        assert await leases.claim(MAIN_QUEUE, 2, 60_000) == [("c", 3)]
        leases.leave("a")
        redis.delete(ARQ_IN_PROGRESS + "a")
        proxy.lose_answer = True
        assert await leases.claim(MAIN_QUEUE, 2, 60_000) == [("a", 1)]
        assert redis.hget(LEASES, "a") == leases.worker_id, "its lease was lost before it was claimed again"
        await client.aclose()
