"""An archive that rclone copied to another kind of store is verified and taken up there; two that both go on are found out."""

from __future__ import annotations

import hashlib
import json
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archive.seals import Link
from lab.processes import callvault_here, run_callvault
from lab.servers import RunningSandbox
from lab.stores import Emulator, azure, environ, rclone, s3_strict
from lab.worker import archive, own_runtime
from tests.seals.conftest import CALLS_A_DAY, Sealed
from tests.workers.steps import alerts
from text.times import end_of_day, utc_now
from workers.seals.chain import read_chain
from workers.seals.seal import seal

pytestmark = pytest.mark.timeout(300)  # the first test process makes the archive, and the others wait for it

STORES = {"s3": s3_strict, "azure": azure}
TELNYX = ("TELNYX_API_KEY", "TELNYX_BASE_URL")


COPY = ("copy", "--immutable", "--checksum", "--exclude", "/.incoming/**")


def test_the_document_shows_the_command_that_is_tested() -> None:
    shown = " ".join(COPY).replace("/.incoming/**", '"/.incoming/**"')
    assert f"    rclone {shown} SOURCE:" in (Path(__file__).parents[2] / "docs" / "backup.md").read_text()


def copying(source: str, target: str) -> subprocess.CompletedProcess[str]:
    """Copy an archive as docs/backup.md shows it."""
    command = [rclone(), *COPY, "--config", "/dev/null", source, target]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def mirror(source: str, target: str) -> None:
    done = copying(source, target)
    assert done.returncode == 0, done.stderr


def verify(settings: dict[str, str], *options: str) -> tuple[int, dict[str, Any]]:
    code, out = callvault_here(["verify", "--seals", "--json", *options], settings)
    return code, json.loads(out)


def head_of(folder: Path) -> str:
    return hashlib.sha256(max((folder / "seals").glob("*.json")).read_bytes()).hexdigest()


def at(store: Emulator, settings: dict[str, str]) -> dict[str, str]:
    return settings | store.environment | {"CALLVAULT_ARCHIVE_URL": f"{store.url}/mirror"}


@pytest.mark.parametrize("name", STORES)
async def test_a_mirror_in_another_kind_of_store_is_verified_and_taken_up(
    name: str, sealed: Sealed, sandbox: RunningSandbox, redis_url: str, tmp_path: Path
) -> None:
    with STORES[name]() as store:
        mirror(str(sealed.archive), f"{store.rclone}/mirror")
        settings = at(store, sealed.environment) | {"REDIS_URL": redis_url, "CALLVAULT_DATA": str(tmp_path / "data")}
        settings |= {name: sandbox.environment[name] for name in TELNYX}
        code, said = callvault_here(["init", "--json"], settings)  # in a process, it reads the store's library again
        there = json.loads(said)
        assert code == 0 and (there["made"], there["redis"]) == (False, "bound")
        assert there["id"] == json.loads((sealed.archive / "archive.json").read_bytes())["id"]
        code, report = verify(settings, "--head", head_of(sealed.archive))
        assert (code, report["problems"], report["seals"]) == (0, [], 3)
        assert report["recordings"] == 3 * CALLS_A_DAY
        noon = end_of_day((utc_now() - timedelta(days=6)).date()) - timedelta(hours=12)
        recording = sandbox.world.add_recording(seconds=0.2, started_at=noon)
        with environ(store.environment):
            async with own_runtime(settings) as runtime:
                await archive(runtime, recording)
                link = await seal(runtime, noon.date(), by_hand=True)
        assert isinstance(link, Link) and link.seal.sequence == 4, "the chain goes on"
        assert verify(settings, "--head", head_of(sealed.archive))[0] == 0
        back = tmp_path / "back"
        mirror(f"{store.rclone}/mirror", str(back))
        assert verify(settings | {"CALLVAULT_ARCHIVE_URL": back.as_uri()}, "--deep", "--head", link.sha256)[0] == 0


async def test_two_copies_that_both_go_on_are_found_by_the_head_of_the_other(
    sealed: Sealed, sandbox: RunningSandbox, redis_url: str, redis: Any, tmp_path: Path
) -> None:
    """As after a move in which somebody forgot to stop the old workers."""
    settings = sealed.environment | {"REDIS_URL": redis_url} | {name: sandbox.environment[name] for name in TELNYX}
    copies = [tmp_path / "old", tmp_path / "new"]
    noon = end_of_day((utc_now() - timedelta(days=6)).date()) - timedelta(hours=12)
    recording = sandbox.world.add_recording(seconds=0.2, started_at=noon)
    heads: list[str] = []
    for n, copy in enumerate(copies):
        mirror(str(sealed.archive), str(copy))
        here = settings | {"CALLVAULT_ARCHIVE_URL": copy.as_uri(), "CALLVAULT_DATA": str(tmp_path / f"data-{n}")}
        async with own_runtime(here) as runtime:
            redis.flushall()  # each has its own Redis
            await archive(runtime, recording)
            assert isinstance(await seal(runtime, noon.date(), by_hand=True), Link)
        heads.append(head_of(copy))
    for n, copy in enumerate(copies):
        here = settings | {"CALLVAULT_ARCHIVE_URL": copy.as_uri(), "CALLVAULT_DATA": str(tmp_path / f"data-{n}")}
        assert verify(here, "--head", heads[n])[0] == 0, "each is whole in itself"
        code, report = verify(here, "--head", heads[1 - n])
        assert (code, [problem["kind"] for problem in report["problems"]]) == (1, ["head"])
    redis_of_new = settings | {"CALLVAULT_ARCHIVE_URL": copies[0].as_uri(), "CALLVAULT_DATA": str(tmp_path / "data-0")}
    async with own_runtime(redis_of_new) as runtime:
        assert len((await read_chain(runtime)).links) == 4
    assert "is missing from the archive, or another seal is in its place" in alerts(redis, "archive-damaged")[0]


def test_an_erasure_is_repeated_in_the_mirror_by_hand(
    sealed: Sealed, sandbox: RunningSandbox, redis_url: str, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "mirror"
    mirror(str(sealed.archive), str(here))
    mirror(str(sealed.archive), str(there))
    call = sealed.calls[4][0]
    for n, copy in enumerate((here, there)):
        settings = sealed.environment | {"REDIS_URL": redis_url, "CALLVAULT_DATA": str(tmp_path / f"data-{n}")}
        settings |= {"CALLVAULT_ARCHIVE_URL": copy.as_uri()} | {name: sandbox.environment[name] for name in TELNYX}
        done = run_callvault(["erase", call["id"], "--reason", "request 5", "--yes"], settings)
        assert done.returncode == 0, done.stderr
        assert not list(copy.glob(f"recordings/**/{call['id']}/*.wav"))
        code, report = verify(settings)
        assert (code, report["erased_recordings"], report["problems"]) == (0, 1, [])
        if copy == here:
            refused = copying(str(here), str(there))
            lines = [line for line in refused.stderr.splitlines() if "do not match: immutable file modified" in line]
            assert len(lines) == 1 and "catalogue/day=" in lines[0], "the rows without the recording"
    mirror(str(here), str(there))
