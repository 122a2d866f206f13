"""Stores behind a slow line: slow transfers succeed, silent ones end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from urllib3.connection import HTTPConnection

from archive.archive import Archive
from archive.layout import recording_folder
from archive.stores import lines
from archive.stores.store import MIB, Store, StoreError
from lab import stores
from lab.processes import callvault, wait_for
from lab.servers import RunningSandbox
from lab.stores import Emulator, behind, make_archive
from tests.contract.test_stores import chunks_of, data_of
from text.times import parse_instant
from workers.main import DRAIN_SECONDS
from workers.queue.jobs import enqueue
from workers.recordings.requests import RecordingRequest, recording_job

pytestmark = pytest.mark.usefixtures("quick_retries", "quick_azure")

SIZE = 6 * MIB  # a part of 5 MiB, and the rest
AT_ONCE = 4
BYTES_A_SECOND = 10e6  # so a part takes two seconds where four share the line

CLOUDS: dict[str, Callable[[Path], AbstractContextManager[Emulator]]] = {
    "s3": lambda _: stores.s3_strict(),
    "gcs": stores.gcs,
    "azure": lambda _: stores.azure(),
}


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, Emulator]]:
    """The stores of `CLOUDS` that run, which tests with and without TLS share."""
    with ExitStack() as ends:
        yield _Started(ends)


class _Started(dict[str, Emulator]):
    """Starts a store when it is first asked for."""

    def __init__(self, ends: ExitStack) -> None:
        self._ends = ends

    def __missing__(self, name: str) -> Emulator:
        folder = Path(self._ends.enter_context(TemporaryDirectory()))
        self[name] = self._ends.enter_context(CLOUDS[name](folder))
        return self[name]


@pytest.fixture(params=["s3", "s3-tls", "gcs", "azure", "azure-tls"], scope="module")
def cloud(
    request: pytest.FixtureRequest, started: dict[str, Emulator], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Emulator, Path | None]:
    """A cloud's store, and a folder for a certificate if it is reached over TLS."""
    name, _, line = request.param.partition("-")
    return started[name], tmp_path_factory.mktemp("cloud") if line == "tls" else None


@pytest.fixture
def _small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """On loopback the kernel takes megabytes of a block at once, which it does not on a long line."""
    small = (socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    options = [*HTTPConnection.default_socket_options, small]
    monkeypatch.setattr(HTTPConnection, "default_socket_options", options)


@pytest.mark.usefixtures("_small_buffers")
def test_blocks_that_take_longer_than_connecting_may_arrive_and_are_sent_once(
    cloud: tuple[Emulator, Path | None], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "CONNECT_SECONDS", 1.25)
    data = data_of(SIZE)
    with behind(cloud[0], BYTES_A_SECOND, cloud[1]) as (line, emulator):
        archive = Archive(emulator.open(prefix))
        with ThreadPoolExecutor(AT_ONCE) as threads:
            names = [f"k{number}" for number in range(AT_ONCE)]
            put = [threads.submit(archive.put, name, chunks_of(data), "audio/wav") for name in names]
            assert [done.result().size for done in put] == [SIZE] * AT_ONCE
        assert line.sent < 1.05 * AT_ONCE * SIZE
    direct = Archive(cloud[0].open(prefix))
    assert [stored.size for stored in direct.store.list("k")] == [SIZE] * AT_ONCE


def test_the_time_limit_of_a_connection_counts_for_silence_and_not_for_all_that_is_sent() -> None:
    data, taken = data_of(MIB), bytearray()

    def take(end: socket.socket) -> None:
        while len(taken) < MIB and (piece := end.recv(64 * 1024)):
            taken.extend(piece)
            time.sleep(0.2)  # everything takes longer than the limit

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as threads:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connected = socket.create_connection(server.getsockname())
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        end, _ = server.accept()
        with end, lines._Patient.of(connected) as patient:
            patient.settimeout(2)
            taking, began = threads.submit(take, end), time.monotonic()
            patient.sendall(data)
            assert time.monotonic() - began > 2, "otherwise the test shows nothing"
            taking.result()
            assert taken == data
            with pytest.raises(TimeoutError):  # nothing passes any more
                patient.sendall(data)


@pytest.mark.parametrize("cloud", ["s3", "gcs", "azure"], indirect=True)
@pytest.mark.usefixtures("_small_buffers")
def test_the_next_part_is_downloaded_while_one_is_on_its_way(cloud: tuple[Emulator, Path | None]) -> None:
    drawn: list[int] = []

    def chunks() -> Iterator[bytes]:
        for chunk in chunks_of(data_of(2 * SIZE)):
            yield chunk
            drawn.append(len(chunk))

    with behind(cloud[0], BYTES_A_SECOND / 4) as (line, emulator), ThreadPoolExecutor(1) as threads:
        archive = Archive(emulator.open("ahead"))
        put = threads.submit(archive.put, "a", chunks(), "audio/wav")
        wait_for(lambda: line.sent > 500_000, 30, "the first part")
        line.flows.clear()
        try:
            wait_for(lambda: sum(drawn) >= 9.5 * MIB, 30, "the second part")
            assert sum(drawn) <= 10 * MIB, "there is no memory for a third"
        finally:
            line.bytes_a_second = None
            line.flows.set()
        assert put.result().size == 2 * SIZE


@pytest.mark.usefixtures("_small_buffers")
def test_a_line_that_falls_silent_ends_the_write_and_nothing_is_there(
    cloud: tuple[Emulator, Path | None], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patience, behind(cloud[0], 50e6, cloud[1]) as (line, emulator):
        patience.setattr(lines, "SILENCE_SECONDS", 0.5)
        archive = Archive(emulator.open(prefix))

        def chunks() -> Iterator[bytes]:
            for number, chunk in enumerate(chunks_of(data_of(SIZE))):
                if number == 22:  # the second part is on its way
                    line.flows.clear()
                yield chunk

        with pytest.raises(StoreError):
            archive.put("a", chunks(), "audio/wav")
        line.flows.set()
    direct = Archive(cloud[0].open(prefix))
    assert direct.store.stat("a") is None
    assert direct.put("a", chunks_of(data_of(SIZE)), "audio/wav").size == SIZE


@pytest.mark.parametrize("cloud", ["s3", "gcs", "azure"], indirect=True)
@pytest.mark.parametrize(
    ("cut", "ask"),
    [
        (150, lambda store: list(store.list("a"))),
        (150, lambda store: store.stat("a")),
        (100_000, lambda store: b"".join(store.read("a"))),
    ],
    ids=["a list cut in its headers", "a stat cut in its headers", "a read cut in its body"],
)
def test_an_answer_that_is_cut_is_an_outage_and_never_an_empty_one(
    cut: int, ask: Callable[[Store], object], cloud: tuple[Emulator, Path | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import archive.stores.azure
    import archive.stores.gcs

    monkeypatch.setattr(archive.stores.azure, "_RETRIES", 1)
    monkeypatch.setattr(archive.stores.gcs, "_TRIES", 2)
    Archive(cloud[0].open("cut")).put("a", chunks_of(data_of(SIZE)), "audio/wav")
    with behind(cloud[0], 1e9) as (line, emulator):
        store = emulator.open("cut")
        line.cut_answers_after = cut
        with pytest.raises(StoreError):
            ask(store)


@pytest.mark.parametrize("cloud", ["azure"], indirect=True)
async def test_a_worker_ends_within_its_grace_in_the_midst_of_an_upload(
    cloud: tuple[Emulator, Path | None], sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=SIZE / 16_000)
    folder = recording_folder(parse_instant(recording.data["recording_started_at"]), recording.data["id"])
    archive = Archive(cloud[0].open("worker"))
    make_archive(archive.store)
    here = environment | {"CALLVAULT_ARCHIVE_URL": f"{cloud[0].url}/worker"}
    with (
        behind(cloud[0], 50e3) as (line, thin),
        callvault(["worker"], here | thin.environment, "worker ready") as worker,
    ):
        await enqueue(async_redis, recording_job(RecordingRequest(event_id="e", recording_id=recording.data["id"])))
        wait_for(lambda: line.sent > 100_000, 30, "the upload")
        asked = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - asked < DRAIN_SECONDS + 8
        assert "worker stopped" in worker.output
    assert archive.commit_record(folder) is None
    assert archive.keys_of(folder) == []
    with callvault(["worker"], here | cloud[0].environment, "worker ready"):
        record = wait_for(lambda: archive.commit_record(folder), 30, "the commit record")
    assert record.objects[0].sha256 == recording.audio["wav"].sha256
