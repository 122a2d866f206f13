"""A download that cannot be resumed starts over, and truncated audio never counts as whole."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from sandbox.audio import make_wav
from telnyx_api.downloads import CannotBeResumed, DownloadFailed
from telnyx_api.models import Recording
from tests.telnyx.test_downloads import Files
from workers.recordings.fetching import Fetched, fetch_audio, only_if
from workers.runtime import Runtime

AUDIO = make_wav("x", 60, 1)
WAV = b"".join(AUDIO.read(0, AUDIO.size))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.recordings.fetching._BEGIN_AGAIN_SECONDS", 0.01)


@pytest.fixture
def files() -> Iterator[Files]:
    made = Files()
    made.data = WAV
    yield made
    made.server.stop()


async def fetch(runtime: Runtime, files: Files, key: str = "recordings/2026/11/25/r/audio.wav") -> Fetched[Any]:
    recording = Recording(id="r", duration_millis=60_000)

    def put(chunks: Iterator[bytes]) -> Any:
        return runtime.archive.put(key, chunks, "audio/wav")

    return await fetch_audio(runtime, recording, "wav", files.url, put)


def in_archive(runtime: Runtime) -> list[tuple[str, int]]:
    return [(stored.key, stored.size) for stored in runtime.archive.store.list("recordings/")]


@pytest.mark.parametrize(
    "plan", [["cut weak"], ["cut untagged"], ["cut", "changed", "cut", "weak"], ["cut", "no range"]]
)
async def test_a_download_that_cannot_be_resumed_starts_over_in_the_same_job(
    plan: list[str], runtime: Runtime, files: Files
) -> None:
    files.plan = plan
    fetched = await fetch(runtime, files)
    assert (fetched.taken.size, fetched.taken.sha256) == (len(WAV), AUDIO.sha256)
    assert fetched.summary.duration_ms == 60_000, "the audio is checked from its beginning again"
    assert files.seen[-1].get("range") is None
    assert len(in_archive(runtime)) == 1


async def test_other_content_half_way_is_fetched_whole_and_never_joined(runtime: Runtime, files: Files) -> None:
    other = make_wav("y", 60, 1)
    files.plan = ["cut weak"]
    fetching = asyncio.create_task(fetch(runtime, files))
    while not files.seen:
        await asyncio.sleep(0.001)
    files.data = b"".join(other.read(0, other.size))
    assert (await fetching).taken.sha256 == other.sha256


async def test_a_download_that_cannot_be_resumed_fails_this_attempt(runtime: Runtime, files: Files) -> None:
    files.plan = ["cut weak"] * 10
    with pytest.raises(CannotBeResumed):
        await fetch(runtime, files)
    assert len(files.seen) == 4
    assert in_archive(runtime) == []


async def test_audio_that_shows_its_end_needs_no_length_from_the_server(runtime: Runtime, files: Files) -> None:
    files.plan = ["unmeasured"]
    assert (await fetch(runtime, files)).taken.sha256 == AUDIO.sha256


@pytest.mark.parametrize("missing_bytes", [1, 2, 1000])
async def test_a_download_that_ends_early_leaves_nothing_in_the_archive(
    missing_bytes: int, runtime: Runtime, files: Files
) -> None:
    files.data = WAV[:-missing_bytes]
    files.plan = ["unmeasured"] * 10
    with pytest.raises(DownloadFailed, match="neither its server nor the audio itself says that it is whole"):
        await fetch(runtime, files)
    assert in_archive(runtime) == []


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
async def test_audio_of_open_length_is_accepted_only_if_the_server_gives_its_length(
    size: int, runtime: Runtime, files: Files
) -> None:
    at = WAV.index(b"data") + 4
    files.data = WAV[:at] + size.to_bytes(4, "little") + WAV[at + 4 :]
    files.plan = ["unmeasured"] * 10
    with pytest.raises(DownloadFailed, match="neither its server nor the audio itself says that it is whole"):
        await fetch(runtime, files)
    assert in_archive(runtime) == []
    files.plan = []
    fetched = await fetch(runtime, files)
    assert (fetched.taken.size, fetched.summary.duration_ms, fetched.summary.findings) == (len(WAV), 60_000, [])


async def test_the_tolerance_is_the_settings(runtime: Runtime, files: Files) -> None:
    files.data = WAV[: WAV.index(b"data") + 8] + WAV[-58 * 16_000 :]
    at = WAV.index(b"data") + 4
    files.data = files.data[:at] + (58 * 16_000).to_bytes(4, "little") + files.data[at + 4 :]
    assert (await fetch(runtime, files)).summary.findings == []
    strict = runtime.settings.replaced(audio_tolerance=timedelta(seconds=1))
    fetched = await fetch(dataclasses.replace(runtime, settings=strict), files)
    assert fetched.summary.findings == ["duration"]


async def test_bytes_that_differ_from_the_expected_never_become_an_object(runtime: Runtime) -> None:
    key = "recordings/2026/11/25/r/audio.wav"
    with pytest.raises(DownloadFailed, match="these bytes have"):
        runtime.archive.put(key, only_if("0" * 64, iter([WAV]), key), "audio/wav")
    assert in_archive(runtime) == []
