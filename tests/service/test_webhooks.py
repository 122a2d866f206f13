"""The receiver over HTTP: every answer, and what Redis holds after it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from arq.jobs import deserialize_job_raw
from redis.exceptions import ResponseError
from starlette.routing import Router

from lab.processes import callvault, free_port, wait_for
from lab.processes import receiver as start_receiver
from lab.servers import RunningSandbox
from lab.webhooks import Signer, event
from service.signature import Signatures
from service.webhooks import Webhooks
from workers.keys import HISTORY, RUNNING, RUNNING_ALIVE
from workers.queue.accept import _ACCEPT, Acceptor, mark_of
from workers.queue.embedded import EmbeddedServer
from workers.queue.jobs import Job, deserialize, encode_job

MIB = 1024 * 1024
SAVED = event("call.recording.saved", "event-1", recording_id="recording-1", call_leg_id="leg-1")


def post(client: httpx.Client, body: bytes, headers: dict[str, str]) -> httpx.Response:
    return client.post("/webhooks/telnyx", content=body, headers=headers)


def nothing_was_accepted(redis: Any) -> bool:
    """Whether Redis holds only what a receiver writes every few seconds: counts for charts, and what it runs with."""
    return all(key.startswith(HISTORY) or key in (RUNNING, RUNNING_ALIVE) for key in redis.scan_iter())


def test_a_signed_event_is_accepted_and_its_job_is_a_plain_arq_job(
    receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]
) -> None:
    assert post(receiver, SAVED, signers[0].headers(SAVED)).status_code == 200
    job_id = "archive_recording:recording-1"
    assert redis.zrange("arq:queue", 0, -1) == [job_id]
    due = redis.zscore("arq:queue", job_id)
    assert abs(due - time.time() * 1000) < 5000
    assert redis.pttl(f"arq:job:{job_id}") > 29 * 24 * 3600 * 1000
    raw = redis.execute_command("GET", f"arq:job:{job_id}", NEVER_DECODE=1)
    function, arguments, keywords, job_try, _ = deserialize_job_raw(raw, deserializer=deserialize)
    assert (function, keywords) == ("archive_recording", {})
    assert not job_try
    assert arguments[0]["recording_id"] == "recording-1"
    assert arguments[0]["event_id"] == "event-1"


def test_a_key_in_rotation_is_accepted_too(receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]) -> None:
    assert post(receiver, SAVED, signers[1].headers(SAVED)).status_code == 200


def refused(signer: Signer) -> dict[str, tuple[bytes, dict[str, str]]]:
    good = signer.headers(SAVED)
    now = int(time.time())
    return {
        "another key": (SAVED, Signer().headers(SAVED)),
        "too old": (SAVED, signer.headers(SAVED, now - 320)),
        "from the future": (SAVED, signer.headers(SAVED, now + 320)),
        "no signature": (SAVED, {k: v for k, v in good.items() if "signature" not in k}),
        "no timestamp": (SAVED, {k: v for k, v in good.items() if "timestamp" not in k}),
        "one byte altered": (SAVED.replace(b"leg-1", b"leg-2"), good),
        "another timestamp": (SAVED, good | {"telnyx-timestamp": str(now + 1)}),
        "signature not base64": (SAVED, good | {"telnyx-signature-ed25519": "%%%"}),
        "signature too short": (SAVED, good | {"telnyx-signature-ed25519": "AAAA"}),
        "timestamp no number": (SAVED, good | {"telnyx-timestamp": "now"}),
        "timestamp with a sign": (SAVED, good | {"telnyx-timestamp": f"+{now}"}),
        "timestamp endless": (SAVED, good | {"telnyx-timestamp": "9" * 5000}),
        "header names with x-": (SAVED, {f"x-{k}" if k.startswith("telnyx") else k: v for k, v in good.items()}),
    }


@pytest.mark.parametrize("what", refused(Signer()))
def test_an_unsigned_webhook_gets_401_and_changes_nothing(
    what: str, receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]
) -> None:
    body, headers = refused(signers[0])[what]
    assert post(receiver, body, headers).status_code == 401
    assert nothing_was_accepted(redis)


def test_within_the_replay_window_an_old_signature_is_good(
    receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]
) -> None:
    assert post(receiver, SAVED, signers[0].headers(SAVED, int(time.time()) - 280)).status_code == 200


def test_a_body_over_4_mib_is_413_even_unsigned(receiver: httpx.Client) -> None:
    assert post(receiver, b"x" * (4 * MIB + 1), {}).status_code == 413


def test_a_body_over_4_mib_without_a_length_is_413(receiver: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(129):
            yield b"x" * 32 * 1024

    assert receiver.post("/webhooks/telnyx", content=chunks()).status_code == 413


def test_a_body_of_just_4_mib_is_read(receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]) -> None:
    ids = {"recording_id": "r", "recording_transcription_id": "t"}
    body = event("call.recording.transcription.saved", "big", **ids, transcription_text="")
    body = body.replace(b'"transcription_text": ""', b'"transcription_text": "' + b"x" * (4 * MIB - len(body)) + b'"')
    assert len(body) == 4 * MIB
    assert post(receiver, body, signers[0].headers(body)).text == "accepted\n"
    assert redis.strlen("arq:job:archive_transcription:t") < 1000, "the text is fetched; Redis does not hold it"


async def test_large_bodies_share_a_limit_and_block_no_small_one(
    async_redis: Any, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.webhooks._LARGE_BODIES_BYTES", 3 * MIB)
    webhooks = Webhooks(Router(), "/w")
    signer = Signer()
    state = SimpleNamespace(signatures=Signatures([signer.public_key]), acceptor=Acceptor(async_redis))
    gate, held = asyncio.Event(), asyncio.Semaphore(0)

    async def answer(body: bytes, *, waits: bool = False) -> int:
        messages = [{"type": "http.request", "body": body, "more_body": waits}]
        sent = []

        async def receive() -> Any:
            if not messages:
                held.release()
                await gate.wait()
                return {"type": "http.request", "body": b"", "more_body": False}
            return messages.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(name.encode(), value.encode()) for name, value in signer.headers(body).items()]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/w",
            "headers": headers,
            "app": SimpleNamespace(state=state),
        }
        await webhooks(scope, receive, send)
        return int(sent[0]["status"])

    large = event("call.recording.saved", "large", recording_id="r", filler="x" * 2 * MIB)
    trickles = asyncio.create_task(answer(large, waits=True))
    await held.acquire()
    assert await answer(large) == 503
    assert await answer(SAVED) == 200
    gate.set()
    assert await trickles == 200
    assert await answer(event("call.recording.saved", "next", recording_id="s", filler="x" * 2 * MIB)) == 200


def test_nothing_is_parsed_before_it_is_verified(receiver: httpx.Client) -> None:
    assert post(receiver, b"{not json", {"content-type": "text/plain"}).status_code == 401


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", ""])
def test_a_signed_body_of_another_type_is_415(
    content_type: str, receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]
) -> None:
    headers = signers[0].headers(SAVED) | {"content-type": content_type}
    assert post(receiver, SAVED, headers).status_code == 415
    assert nothing_was_accepted(redis)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_signed_body_that_is_not_json_is_400(
    body: bytes, receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]
) -> None:
    assert post(receiver, body, signers[0].headers(body)).status_code == 400
    assert nothing_was_accepted(redis)


UNKNOWN = {
    "unknown type": event("call.hangup", "e1"),
    "no type": json.dumps({"id": "x", "version": 2}).encode(),
    "a list": b"[1,2]",
    "no payload": json.dumps({"data": {"event_type": "call.recording.saved", "id": "x"}}).encode(),
    "nothing to find it by": event("call.recording.saved", "e2", channels="dual"),
    "another product": json.dumps({"id": "1", "event": "session.started", "data": {}}).encode(),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_a_signed_event_of_unknown_type_or_shape_is_200_counted_and_kept(
    what: str, receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]
) -> None:
    body = UNKNOWN[what]
    before = metric(receiver, 'callvault_webhooks_total{outcome="kept"}')
    assert post(receiver, body, signers[0].headers(body)).status_code == 200
    assert redis.lrange("callvault:inspection", 0, -1) == [body.decode()]
    assert redis.zcard("arq:queue") == 0
    assert metric(receiver, 'callvault_webhooks_total{outcome="kept"}') == before + 1


def test_the_quarantine_is_bounded(receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]) -> None:
    for i in range(510):
        body = event("call.hangup", f"event-{i}", filler="x" * 10)
        assert post(receiver, body, signers[0].headers(body)).status_code == 200
    big = event("call.hangup", "big", filler="x" * 100_000)
    assert post(receiver, big, signers[0].headers(big)).status_code == 200
    assert redis.llen("callvault:inspection") == 500
    assert len(redis.lindex("callvault:inspection", 0)) == 32 * 1024


def metric(client: httpx.Client, name: str) -> float:
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.rpartition(" ")[2])
    return 0.0


async def test_a_webhook_delivered_50_times_at_once_gives_one_job(
    receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]
) -> None:
    async with httpx.AsyncClient(base_url=receiver.base_url, trust_env=False) as client:
        headers = signers[0].headers(SAVED)
        answers = await asyncio.gather(
            *(client.post("/webhooks/telnyx", content=SAVED, headers=headers) for _ in range(50))
        )
    assert [a.status_code for a in answers] == [200] * 50
    assert sorted(a.text for a in answers).count("accepted\n") == 1
    assert redis.zcard("arq:queue") == 1


def test_the_same_event_later_is_a_duplicate_even_when_its_job_is_done(
    receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]
) -> None:
    assert post(receiver, SAVED, signers[0].headers(SAVED)).text == "accepted\n"
    redis.delete("arq:queue", "arq:job:archive_recording:recording-1")
    assert post(receiver, SAVED, signers[0].headers(SAVED)).text == "already accepted\n"
    assert redis.zcard("arq:queue") == 0


def test_two_events_of_one_recording_are_one_job(
    receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]
) -> None:
    for event_id in ("a", "b"):
        body = event("call.recording.saved", event_id, recording_id="same")
        assert post(receiver, body, signers[0].headers(body)).text == "accepted\n"
    assert redis.zcard("arq:queue") == 1


@pytest.mark.parametrize(
    "body",
    [
        {"record_type": "event", "webhook_id": "v1", "event_type": "recording_saved", "payload": {"recording_id": "r"}},
        {"record_type": "event", "id": "v1", "event_type": "call_recording_saved", "payload": {"recording_id": "r"}},
        {
            "name": "x",
            "type": "webhook",
            "metadata": {
                "event": {"event_type": "call.recording.saved", "id": "x", "payload": {"recording_id": "r"}},
            },
        },
        {"data": {"event_type": "conference.recording.saved", "id": "c", "payload": {"recording_id": "r"}}},
    ],
)
def test_every_envelope_leads_to_the_same_job(
    body: dict[str, Any], receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]
) -> None:
    raw = json.dumps(body).encode()
    assert post(receiver, raw, signers[0].headers(raw)).text == "accepted\n"
    assert redis.zrange("arq:queue", 0, -1) == ["archive_recording:r"]


def test_a_texml_callback_is_deduplicated_by_recording_and_status(
    receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]
) -> None:
    texts = []
    for status in ("in-progress", "completed", "completed"):
        body = f"RecordingSid=sid-1&RecordingStatus={status}&RecordingUrl=https%3A%2F%2Fx".encode()
        headers = signers[0].headers(body) | {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        answer = post(receiver, body, headers)
        assert answer.status_code == 200
        texts.append(answer.text)
    assert texts == ["accepted\n", "accepted\n", "already accepted\n"]
    assert redis.zrange("arq:queue", 0, -1) == ["archive_recording:sid-1"]


def test_a_texml_transcription_callback_leads_to_its_job(
    receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]
) -> None:
    body = b"TranscriptionSid=t-1&TranscriptionStatus=completed&RecordingSid=sid-1&TranscriptionText=hello"
    headers = signers[0].headers(body) | {"content-type": "application/x-www-form-urlencoded"}
    assert post(receiver, body, headers).text == "accepted\n"
    assert redis.zrange("arq:queue", 0, -1) == ["archive_transcription:t-1"]


@pytest.mark.parametrize("path", ["/webhooks/telnyx/", "/webhooks/telnyx//", "/"])
def test_another_path_is_404_and_never_a_redirect(path: str, receiver: httpx.Client) -> None:
    assert receiver.post(path, content=b"{}").status_code == 404


def test_only_post_is_accepted(receiver: httpx.Client) -> None:
    assert receiver.get("/webhooks/telnyx").status_code == 405


def test_health_and_readiness(receiver: httpx.Client, redis: Any) -> None:
    assert receiver.get("/healthz").json() == {"status": "ok"}
    assert receiver.get("/readyz").json() == {"status": "ok"}


def test_a_backlog_is_reported_and_the_receiver_stays_ready(
    receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]
) -> None:
    redis.zadd("arq:queue", {"nobody-takes-it": (time.time() - 1000) * 1000})
    answer = receiver.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["pressure"][0].startswith("the oldest job has waited 100")
    assert metric(receiver, 'callvault_oldest_job_seconds{queue="main"}') >= 1000
    assert post(receiver, SAVED, signers[0].headers(SAVED)).status_code == 200


@pytest.fixture
def own_redis(tmp_path: Any) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path)
    server.start()
    yield server
    server.stop()


def test_redis_down_read_only_or_full_gives_503_with_retry_after_and_recovers(own_redis: EmbeddedServer) -> None:
    import redis as sync_redis

    signer = Signer()
    environment = {"REDIS_URL": own_redis.url, "TELNYX_PUBLIC_KEY": signer.public_key}
    with (
        start_receiver(environment, answer_seconds=5) as (client, _),
        sync_redis.Redis.from_url(own_redis.url) as redis,
    ):

        def answer(event_id: str) -> httpx.Response:
            body = event("call.recording.saved", event_id, recording_id=event_id)
            started = time.monotonic()
            got = post(client, body, signer.headers(body))
            assert time.monotonic() - started < 2, "Telnyx waits 2 s"
            return got

        assert answer("first").status_code == 200
        redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        read_only = answer("second")
        assert (read_only.status_code, read_only.headers["retry-after"]) == (503, "5")
        assert client.get("/readyz").status_code == 503
        redis.execute_command("REPLICAOF", "NO", "ONE")
        redis.config_set("maxmemory", "1")
        assert answer("second").status_code == 503
        redis.config_set("maxmemory", "0")
        assert answer("second").text == "accepted\n"

        own_redis.stop()
        assert answer("third").status_code == 503
        assert client.get("/healthz").status_code == 200
        own_redis.start()
        wait_for(lambda: answer("third").status_code == 200, 10)
        assert redis.zcard("arq:queue") == 3, "events accepted before the restart survive it"


async def test_an_event_accepted_half_way_is_completed_by_its_next_delivery(async_redis: Any, redis: Any) -> None:
    """The event is marked last: here the script fails at the second of two jobs."""
    jobs = [Job("f", {}, f"job-{n}") for n in range(2)]
    data = [encode_job(job, 0) for job in jobs]
    rows = [
        [jobs[0].queue, jobs[0].id, 0, len(data[0]), ""],
        [jobs[1].queue, jobs[1].id, "no number", len(data[1]), ""],
    ]
    events = msgspec.msgpack.encode([[*mark_of("event"), 0, rows]])
    with pytest.raises(ResponseError):
        await _ACCEPT(async_redis, (), (1000, 1000, 10, events, b"".join(data)))
    assert redis.zrange("arq:queue", 0, -1) == ["job-0"]
    assert await Acceptor(async_redis).accept("event", jobs), "it still counts as new"
    assert redis.zrange("arq:queue", 0, -1) == ["job-0", "job-1"]


def test_the_payload_that_is_written_is_msgpack_and_never_pickle() -> None:
    with pytest.raises(msgspec.DecodeError):
        deserialize(b"cos\nsystem\n(S'true'\ntR.")


def test_a_rotation_of_the_key_as_the_runbook_has_it_loses_no_event(
    sandbox: RunningSandbox, valkey: EmbeddedServer, redis: Any
) -> None:
    """Receivers get both keys in turn, Telnyx rotates, then receivers drop the old key in turn."""
    keys = sandbox.control("key")
    old, new = keys["public_key"], keys["next_public_key"]
    ports = [free_port(), free_port()]
    url, failover = (f"http://127.0.0.1:{port}/webhooks/telnyx" for port in ports)

    def receiver_of(known: str, port: int) -> AbstractContextManager[object]:
        environment = {"REDIS_URL": valkey.url, "TELNYX_PUBLIC_KEY": known}
        return callvault(["serve", "--port", str(port)], environment, "Uvicorn running")

    with ExitStack() as first, ExitStack() as second, ThreadPoolExecutor(1) as caller:
        receivers = dict(zip(ports, (first, second), strict=True))
        for port, stack in receivers.items():
            stack.enter_context(receiver_of(old, port))
        calling = caller.submit(
            sandbox.control, "calls", count=150, webhook_url=url, failover_url=failover, per_second=15, seconds=0.1
        )
        for known in (f"{new},{old}", new):
            for port, stack in receivers.items():
                stack.close()
                stack.enter_context(receiver_of(known, port))
            sandbox.control("key", rotate=known != new)
        made = calling.result()["recordings"]
        wait_for(lambda: not sandbox.control("pending")["webhooks"], 60, "the last webhooks")
        assert sandbox.books()["deliveries"] == {"delivered": 150, "failed": 0}
        assert redis.zcard("arq:queue") == len(made) == 150
