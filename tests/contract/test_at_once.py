"""What a job asks a distant Telnyx and a distant store for at once: each step costs a round trip, so none may be added."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from archive.proof import prove
from archive.source import Source
from archive.stores.store import Store, StoreError
from lab import stores
from lab.servers import RunningSandbox
from lab.stores import Emulator, environ, make_archive
from lab.together import Steps, together
from lab.worker import runtime_of
from sandbox.world import Recording
from tests.workers.steps import request_of
from text.times import utc_now
from workers.engine.run import job
from workers.engine.worker import Retry
from workers.keys import MAIN_QUEUE
from workers.recordings.archive_recording import archive_recording
from workers.recordings.requests import RecordingRequest
from workers.runtime import Runtime

BEGIN = ["GET recording.json", "HEAD erased.json", "GET {id}"]
STEPS = {
    "s3-strict": [
        BEGIN,
        ["GET {id}.wav"],
        ["PUT audio.wav"],
        ["HEAD audio.wav", "GET archive.json"],
        ["PUT recording.json"],
        [
            "HEAD recording.json",
            "HEAD erased.json",
        ],  # Amazon's answer to the put is the proof of a record; MiniStack's is not
    ],
    "s3-weak": [
        BEGIN,
        ["GET {id}.wav", "HEAD audio.wav"],
        ["PUT audio.wav"],
        ["HEAD audio.wav", "GET archive.json", "HEAD recording.json"],
        ["PUT recording.json"],
        ["HEAD recording.json", "HEAD erased.json"],
    ],
    "azure": [  # the second answer about an object shows its blocks
        BEGIN,
        ["GET {id}.wav"],
        ["PUT audio.wav"],
        ["HEAD audio.wav", "GET audio.wav", "GET archive.json"],
        ["PUT recording.json"],
        ["HEAD recording.json", "GET recording.json", "HEAD erased.json"],
    ],
}


async def run(runtime: Runtime, recording: Recording) -> None:
    """Run the job of a recording's webhook for the first time."""
    function = job(archive_recording, RecordingRequest, MAIN_QUEUE).coroutine
    context = {"runtime": runtime, "job_id": recording.data["id"], "job_try": 1, "enqueue_time": utc_now()}
    await function(context, msgspec.to_builtins(request_of(recording)))


@pytest.mark.parametrize("emulator", STEPS, indirect=True)
async def test_a_job_waits_six_times_for_the_network(
    emulator: Emulator, prefix: str, sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any
) -> None:
    steps = Steps()
    make_archive(emulator.open(prefix))
    (server,) = set(re.findall(r"http://127\.0\.0\.1:\d+", " ".join(emulator.environment.values())))
    with together(server, steps) as proxy, together(sandbox.world.base_url, steps) as telnyx:
        sandbox.world.base_url = telnyx
        with environ({name: value.replace(server, proxy) for name, value in emulator.environment.items()}):
            place = {"TELNYX_BASE_URL": sandbox.base_url, "CALLVAULT_ARCHIVE_URL": f"{emulator.url}/{prefix}"}
            settings = environment | place
            async with runtime_of(settings, async_redis) as runtime:
                await run(runtime, sandbox.world.add_recording(seconds=1))  # with the probes
                for _ in range(2):  # over new connections, over open ones
                    recording = sandbox.world.add_recording(seconds=1)
                    expected = [[one.format(id=recording.data["id"]) for one in step] for step in STEPS[emulator.name]]
                    with steps.watched(expected):
                        await run(runtime, recording)
                    assert steps.missed == []


def test_what_is_to_be_done_meanwhile_is_done_after_the_write(store: Store) -> None:
    seen = []
    source = Source(b"x")
    source.meanwhile = lambda: seen.append(store.stat("recordings/2026/11/25/r/recording.json") is not None)
    store.put("recordings/2026/11/25/r/recording.json", source, "application/json", {})
    assert all(seen) and len(seen) <= 1
    assert store.ask_stat("recordings/2026/11/25/r/recording.json")() == store.stat(
        "recordings/2026/11/25/r/recording.json"
    )
    assert store.ask_stat("recordings/2026/11/25/r/other.json")() is None


@pytest.mark.parametrize("moment", ["before the job", "in a long proof"])
async def test_nothing_is_committed_once_another_archive_lies_in_the_bucket(
    moment: str,
    sandbox: RunningSandbox,
    environment: dict[str, str],
    async_redis: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with stores.s3_weak(tmp_path) as bucket, environ(bucket.environment):
        settings = environment | bucket.make_archive()
        root = tmp_path / settings["CALLVAULT_ARCHIVE_URL"].removeprefix("s3://")
        async with runtime_of(settings, async_redis) as runtime:
            _ = runtime.archive.identity

            def swap() -> None:
                changed = (root / "archive.json").read_text().replace(runtime.archive.identity.id, "0" * 32)
                (root / "archive.json").write_text(changed)

            def slow(*arguments: Any) -> Any:
                swap()
                return prove(*arguments)

            if moment == "in a long proof":
                monkeypatch.setattr("archive.archive.prove", slow)
                monkeypatch.setattr("archive.commit._FRESH_SECONDS", -1)
            else:
                swap()
            with pytest.raises(StoreError, match="now holds another archive"):
                await archive_recording(runtime, request_of(sandbox.world.add_recording(seconds=1)))
    assert [path.name for path in root.rglob("2*/*/*/*/*")] == ["audio.wav"]


async def test_while_the_store_is_away_jobs_ask_telnyx_nothing(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    await run(runtime, sandbox.world.add_recording(seconds=1))
    archive_folder.rename(archive_folder.with_name("away"))
    for n in range(3):
        sandbox.world.requests.clear()
        with pytest.raises(Retry):
            await run(runtime, sandbox.world.add_recording(seconds=1))
        assert not sandbox.world.requests or n == 0
