"""What docs/backup.md promises: Redis lost or restored from an old copy, credentials rotated, a full disk under Redis."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from redis import Redis

from lab.processes import Receiver, callvault, is_allowed, run_callvault, wait_for
from lab.redis import Server, unmarked
from lab.servers import RunningSandbox
from lab.stores import make_archive, s3_weak
from lab.webhooks import Signer, event
from sandbox.world import Recording
from tests.workers.steps import assert_archived, committed
from tests.workers.test_deletion import DELETING
from workers.keys import DELETIONS_DUE
from workers.queue.embedded import EmbeddedServer

RECONCILING = {"CALLVAULT_RECONCILE_EVERY": "1s"}


def webhook(client: httpx.Client, sandbox: RunningSandbox, signer: Signer, recording: Recording) -> int:
    """Tell a receiver about a recording, as Telnyx does; returns its answer."""
    recording_id, started_at = recording.data["id"], recording.data["recording_started_at"]
    facts = {"recording_id": recording_id, "recording_started_at": started_at, "recording_urls": {}}
    body = event("call.recording.saved", f"event-{recording_id}", **facts)
    return client.post("/webhooks/telnyx", content=body, headers=signer.headers(body)).status_code


def decide(decision: str, environment: dict[str, str], *what: str) -> None:
    done = run_callvault(["deletions", decision, *what, "--why", "case 17"], environment)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def own(sandbox: RunningSandbox, tmp_path: Path) -> Iterator[tuple[EmbeddedServer, dict[str, str], Path]]:
    """A Redis whose files can be put back, the settings of parts on it, and the folder of the archive."""
    server = EmbeddedServer(tmp_path / "redis")
    server.start()
    archive_folder = tmp_path / "archive"
    make_archive(archive_folder)
    yield (
        server,
        sandbox.environment
        | RECONCILING
        | {
            "REDIS_URL": server.url,
            "CALLVAULT_ARCHIVE_URL": archive_folder.as_uri(),
            "CALLVAULT_DATA": str(tmp_path / "data"),
        },
        archive_folder,
    )
    server.stop()


def test_after_redis_is_lost_held_originals_stay_and_the_others_go(
    own: tuple[EmbeddedServer, dict[str, str], Path], sandbox: RunningSandbox
) -> None:
    server, settings, archive_folder = own
    held, free, missed = (sandbox.world.add_recording(seconds=1) for _ in range(3))
    sandbox.world.recordings.pop(missed.data["id"])  # Telnyx has it only later
    with callvault(["worker"], settings, "worker ready"):
        wait_for(lambda: committed(archive_folder, held) and committed(archive_folder, free), 60)
    decide("hold", settings, held.data["id"])
    server.stop()
    shutil.rmtree(server.folder)
    sandbox.world.recordings[missed.data["id"]] = missed  # its webhook was in the lost Redis
    server.start()
    with callvault(["worker"], settings | DELETING, "worker ready"):
        wait_for(lambda: free.deleted_at and missed.deleted_at, 60, "the deletions after the first reconcile")
        shown = run_callvault(["deletions", "holds"], settings)
        assert held.data["id"] in shown.stdout
    assert held.deleted_at is None
    assert_archived(archive_folder, missed)
    assert run_callvault(["verify"], settings).returncode == 0


def test_a_redis_restored_from_an_old_copy_deletes_nothing_early_and_does_no_harm(
    own: tuple[EmbeddedServer, dict[str, str], Path], sandbox: RunningSandbox, tmp_path: Path
) -> None:
    """The copy schedules two deletions: one original was held since, one was deleted since. A third is unknown to it."""
    server, settings, archive_folder = own
    held, gone = (sandbox.world.add_recording(seconds=1) for _ in range(2))
    decide("pause", settings)
    with callvault(["worker"], settings | DELETING, "worker ready"), Redis.from_url(server.url) as client:
        wait_for(lambda: client.zcard(DELETIONS_DUE) == 2, 60, "both on the deletion schedule")
    server.stop()
    shutil.copytree(server.folder, tmp_path / "old copy")
    server.start()
    decide("hold", settings, held.data["id"])
    decide("resume", settings)
    later = sandbox.world.add_recording(seconds=1)
    with callvault(["worker"], settings | DELETING, "worker ready"):
        wait_for(lambda: gone.deleted_at and later.deleted_at, 60, "the deletions")
    server.stop()
    shutil.rmtree(server.folder)
    shutil.copytree(tmp_path / "old copy", server.folder)
    server.start()
    newest = sandbox.world.add_recording(seconds=1)
    with callvault(["worker"], settings | DELETING, "worker ready"):
        wait_for(lambda: newest.deleted_at, 60, "the work goes on")
        with Redis.from_url(server.url) as client:
            wait_for(lambda: client.zcard(DELETIONS_DUE) <= 1, 60, "the old schedule")
    assert held.deleted_at is None, "the hold is in the archive"
    for recording in (held, later, newest):
        assert_archived(archive_folder, recording)
    assert run_callvault(["verify"], settings).returncode == 0
    assert run_callvault(["dead-letters", "list"], settings).stdout == "0 dead letters\n"


def test_a_new_api_key_goes_on_where_the_revoked_one_failed(
    own: tuple[EmbeddedServer, dict[str, str], Path], sandbox: RunningSandbox
) -> None:
    server, settings, archive_folder = own
    recording, signer = sandbox.world.add_recording(seconds=1), Signer()
    sandbox.world.api_key = "KEY-new"  # the old one was revoked before the workers got the new one
    receiver = Receiver(settings | {"TELNYX_PUBLIC_KEY": signer.public_key})
    with receiver, Redis.from_url(server.url) as client:
        receiver.wait_for_output("Uvicorn running")
        with callvault(["worker"], settings, "worker ready"), httpx.Client(base_url=receiver.url) as telnyx:
            assert webhook(telnyx, sandbox, signer, recording) == 200, "receivers need no API key"
            wait_for(lambda: list(client.scan_iter("callvault:attempts:*")), 60, "a refused attempt")
        assert committed(archive_folder, recording) is None
        with callvault(["worker"], settings | {"TELNYX_API_KEY": "KEY-new"}, "worker ready"):
            assert_archived(archive_folder, recording)


def test_new_credentials_of_the_store_go_on_where_the_revoked_ones_failed(
    own: tuple[EmbeddedServer, dict[str, str], Path], sandbox: RunningSandbox, tmp_path: Path
) -> None:
    server, settings, _ = own
    (tmp_path / "store").mkdir()
    with s3_weak(tmp_path / "store") as store, Redis.from_url(server.url) as client:
        settings |= store.make_archive()
        first = sandbox.world.add_recording(seconds=1)
        folder = tmp_path / "store" / "callvault-test" / "archive"
        with callvault(["worker"], settings, "worker ready"):
            wait_for(lambda: committed(folder, first), 60)
        recording = sandbox.world.add_recording(seconds=1)
        with callvault(["worker"], settings | {"AWS_SECRET_ACCESS_KEY": "revokedrevoked"}) as worker:
            wait_for(lambda: client.exists("callvault:failing") or "Signature" in worker.output or worker.has_ended, 60)
        assert committed(folder, recording) is None
        with callvault(["worker"], settings, "worker ready"):
            wait_for(lambda: committed(folder, recording), 60, "the recording")
        assert run_callvault(["verify"], settings).returncode == 0


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = folder / "disk"
    disk.mkdir()
    if not is_allowed("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)):
        pytest.skip("skipped because this process may not mount a small file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True, timeout=30)


def enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True, timeout=30)


@pytest.mark.timeout(300)
def test_a_full_disk_under_redis_loses_no_accepted_event(tmp_path: Path) -> None:
    signer = Signer()
    with small_disk(tmp_path) as disk:
        server = Server(disk, "--appendfsync", "always")
        receiver = Receiver({"REDIS_URL": server.url, "TELNYX_PUBLIC_KEY": signer.public_key})
        with server, receiver:
            receiver.wait_for_output("Uvicorn running")
            (disk / "of-others").write_bytes(bytes(768 * 1024))
            accepted = _post_until_refused(receiver, signer)
            assert len(accepted) > 10
            enlarge(disk)
            if server.has_ended:
                server.start()  # its supervisor does this
            wait_for(lambda: _is_accepted(receiver, signer, "once more"), 60, "an answer 200 after the disk has room")
            with server.client() as client:
                assert unmarked(client, accepted) == []
                assert unmarked(client, ["never sent"]) == ["never sent"]


def test_a_full_disk_under_the_catalogue_stops_searches_only(
    own: tuple[EmbeddedServer, dict[str, str], Path], sandbox: RunningSandbox, tmp_path: Path
) -> None:
    _, settings, archive_folder = own
    recordings = [sandbox.world.add_recording(seconds=0.2) for _ in range(3)]
    with small_disk(tmp_path) as disk:
        settings |= {"CALLVAULT_DATA": str(disk / "data")}
        with (disk / "full").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        with callvault(["worker"], settings) as worker:
            wait_for(lambda: worker.has_ended or all(committed(archive_folder, one) for one in recordings), 60)
            assert not worker.has_ended, worker.output
        searched = run_callvault(["find"], settings)
        assert (searched.returncode, searched.stderr.count("\n")) == (1, 1), searched
        enlarge(disk)
        assert run_callvault(["find", "--json"], settings).stdout.count("recording_id") == 3
    for one in recordings:
        assert_archived(archive_folder, one)


def _is_accepted(receiver: Receiver, signer: Signer, event_id: str) -> bool:
    body = event("call.recording.saved", event_id, recording_id=event_id, note="x" * 4000)
    headers = signer.headers(body)
    # `verify=False` makes no TLS context, which plain HTTP does not need and which takes longer than the request.
    answer = httpx.post(receiver.webhooks, content=body, headers=headers, timeout=30, trust_env=False, verify=False)
    assert answer.status_code in (200, 503), answer.text
    return answer.status_code == 200


def _post_until_refused(receiver: Receiver, signer: Signer) -> list[str]:
    """Post events until one is answered 503; returns the ids of the others."""
    accepted: list[str] = []
    while _is_accepted(receiver, signer, f"event-{len(accepted)}"):
        accepted.append(f"event-{len(accepted)}")
        assert len(accepted) < 5000, "the disk never became full"
    return accepted
