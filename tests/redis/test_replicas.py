"""Behind Sentinel an accepted event survives the loss of the primary."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import RedisError

from lab.processes import wait_for
from lab.redis import Server, Watched, is_marked, unmarked, watched
from process.tasks import end_tasks
from workers.queue import replicas
from workers.queue.accept import Acceptor
from workers.queue.connect import connect_receiver
from workers.queue.jobs import Job
from workers.queue.replicas import NotReplicated, Replicas


@pytest.fixture(scope="module")
def redis_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("watched")) as servers:
        yield servers


@asynccontextmanager
async def _acceptor(servers: Watched) -> AsyncIterator[tuple[Acceptor, Any, list[str]]]:
    """An acceptor that has seen the replicas, its client, and its alerts."""
    client, alerts = connect_receiver(servers.url), list[str]()
    known = Replicas(client)

    async def alert() -> None:
        alerts.append("alone")

    watching = asyncio.create_task(known.watch(alert))
    acceptor = Acceptor(client, known)
    await asyncio.to_thread(wait_for, lambda: known.count == 2, 30, "the sight of two replicas")
    yield acceptor, client, alerts
    await end_tasks([watching])
    await client.aclose()


async def _repeated(acceptor: Acceptor, event_id: str, *jobs: Job) -> bool:
    """The answer to an event that is repeated until it is accepted, as by Telnyx."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await acceptor.accept(event_id, jobs)
            except (RedisError, OSError):
                await asyncio.sleep(0.1)


def _replicas(servers: Watched) -> list[Server]:
    return [one for one in servers.servers if one is not servers.primary]


def _stop(*servers: Server) -> None:
    for one in servers:
        one.send_signal(signal.SIGSTOP)


def _go_on(*servers: Server) -> None:
    for one in servers:
        one.send_signal(signal.SIGCONT)


async def test_an_event_that_was_answered_503_is_confirmed_by_its_repetition_and_not_before(
    redis_servers: Watched,
) -> None:
    async with _acceptor(redis_servers) as (acceptor, _, _):
        silent = _replicas(redis_servers)
        _stop(*silent)
        try:
            for _ in range(3):  # the repetitions find it written and enqueue nothing
                with pytest.raises(NotReplicated):
                    await acceptor.accept("unconfirmed", [Job("f", {}, "unconfirmed")])
            with redis_servers.primary.client() as direct:
                assert is_marked(direct, "unconfirmed")
        finally:
            _go_on(*silent)
        assert await _repeated(acceptor, "unconfirmed", Job("f", {}, "unconfirmed")) is False


async def test_an_event_that_one_of_two_replicas_does_not_have_is_answered_503(redis_servers: Watched) -> None:
    """Sentinel may promote either replica."""
    async with _acceptor(redis_servers) as (acceptor, _, _):
        silent = _replicas(redis_servers)[0]
        _stop(silent)
        try:
            with pytest.raises(NotReplicated, match="1 of 2"):
                await acceptor.accept("half", [])
        finally:
            _go_on(silent)
        assert await _repeated(acceptor, "half") is False


async def test_only_after_a_while_without_replicas_events_are_accepted_alone_with_an_alert(
    redis_servers: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "MISSED_SECONDS", 2)
    monkeypatch.setattr(replicas, "_SILENT_SECONDS", 1)
    monkeypatch.setattr(replicas, "_LOOK_SECONDS", 0.1)
    async with _acceptor(redis_servers) as (acceptor, _, alerts):
        silent = _replicas(redis_servers)
        _stop(*silent)
        try:
            with pytest.raises(NotReplicated):
                await acceptor.accept("alone", [])
            while not alerts:
                try:
                    await acceptor.accept("alone", [])
                except NotReplicated:
                    assert not alerts
                await asyncio.sleep(0.05)
            assert await acceptor.accept("another", [])
            assert alerts == ["alone"]
        finally:
            _go_on(*silent)
        while acceptor._replicas is not None and acceptor._replicas.count < 2:
            await asyncio.sleep(0.05)
        await _repeated(acceptor, "a third")


async def test_a_frozen_primary_that_returns_next_to_its_successor_loses_no_event(
    redis_servers: Watched,
) -> None:
    """As on a busy machine: for some seconds it accepts writes that are lost when it becomes a replica."""
    answered = list[str]()
    async with _acceptor(redis_servers) as (acceptor, _, _):

        async def post(event_id: str) -> None:
            try:
                await acceptor.accept(event_id, [])
            except (RedisError, OSError):
                return
            answered.append(event_id)

        async def load() -> None:
            async with asyncio.TaskGroup() as posts:
                for n in itertools.count():
                    posts.create_task(post(f"load-{n}"))
                    await asyncio.sleep(0.01)

        loading, former = asyncio.create_task(load()), redis_servers.primary
        await asyncio.sleep(0.2)
        _stop(former)
        try:
            await asyncio.to_thread(wait_for, lambda: redis_servers.primary is not former, 30, "the failover")
        finally:
            _go_on(former)
        await asyncio.to_thread(wait_for, lambda: _is_replica(former), 30, "the former primary's return as a replica")
        before = len(answered)
        while len(answered) < before + 20:
            await asyncio.sleep(0.1)
        await end_tasks([loading])
    with redis_servers.primary.client() as successor:
        assert unmarked(successor, answered) == []
    await asyncio.to_thread(wait_for, lambda: _are_two_online(redis_servers), 30, "two replicas")


def _is_replica(server: Server) -> bool:
    try:
        with server.client() as client:
            return bool(client.info("replication")["role"] == "slave")
    except RedisError:
        return False  # Sentinel ends its connections when it makes it one


def _are_two_online(servers: Watched) -> bool:
    with servers.primary.client() as client:
        return servers.are_online(client.info("replication"))


async def test_a_former_primary_that_was_cut_off_accepts_nothing(
    redis_servers: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows no successor, has had no replica for a while, and the receiver is still connected to it."""
    monkeypatch.setattr(replicas, "MISSED_SECONDS", 0)
    client = connect_receiver(redis_servers.url)
    acceptor = Acceptor(client, Replicas(client))
    await _repeated(acceptor, "before")
    former = redis_servers.primary
    with former.client() as direct:  # so that no Sentinel can make it a replica
        direct.execute_command("ACL", "SETUSER", "default", "-replicaof", "-slaveof")
    _stop(former)
    try:
        await asyncio.to_thread(wait_for, lambda: redis_servers.primary is not former, 30, "the failover")
    finally:
        _go_on(former)
    for _ in range(3):
        with pytest.raises(NotReplicated):
            await acceptor.accept("after", [])
    with former.client() as direct:
        assert direct.info("replication")["role"] == "master" and is_marked(direct, "after")
    accepted = False
    while not accepted:  # until all Sentinels name the successor, and the other replica has found it
        await cast(SentinelConnectionPool, client.connection_pool).get_master_address()  # as `Replicas.watch` does
        try:
            accepted = await acceptor.accept("after", []) is not None
        except NotReplicated:
            await asyncio.sleep(0.1)
    with redis_servers.primary.client() as successor:
        assert is_marked(successor, "after")
    await client.aclose()
    with former.client() as direct:  # the other tests want it back as a replica
        direct.execute_command("ACL", "SETUSER", "default", "+replicaof", "+slaveof")
