"""What the service signs, what it does not, and how the head of its chain reaches witnesses."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archive import append as append_module
from archive import layout
from archive.seals import Chain, Link
from lab.processes import free_port
from lab.servers import RunningSandbox
from tests.seals.test_making_seals import ago, archive, key_of, recordings_of
from tests.workers.steps import folder_of
from text.errors import UserError
from workers.alerts.alerts import Alerts
from workers.alerts.head import head_line
from workers.keys import ALERTS, ARCHIVE, MADE, SEALS, WITNESSED
from workers.runtime import Runtime
from workers.seals.seal import seal
from workers.seals.signing import complete, sign_by_hand
from workers.seals.witness import last_witnessed, send_head


@pytest.fixture
def environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30)
    return environment | {"CALLVAULT_SEAL_KEY": str(key)}


def of_seal(archive_folder: Path, sequence: int, suffix: Any = "json") -> Path:
    return archive_folder / layout.seal_key(sequence, suffix)


async def a_seal(sandbox: RunningSandbox, runtime: Runtime, days: int = 5) -> Link:
    await archive(runtime, recordings_of(sandbox, ago(days), 2))
    made = await seal(runtime, ago(days))
    assert isinstance(made, Link)
    return made


def alerts_of(redis: Any, kind: str) -> list[dict[str, Any]]:
    return [alert for text in redis.lrange(ALERTS, 0, -1) if (alert := json.loads(text))["kind"] == kind]


async def test_a_seal_is_signed_as_it_is_made(sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path) -> None:
    await a_seal(sandbox, runtime)
    assert of_seal(archive_folder, 1, "sig").exists()


async def test_a_chain_that_somebody_else_has_made_is_not_signed_and_is_an_alert(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    """Somebody with full access to the bucket removes a recording, rebuilds the chain, drops the signature."""
    await a_seal(sandbox, runtime)
    of_seal(archive_folder, 1, "sig").unlink()
    manifest, record = of_seal(archive_folder, 1, "sha256"), of_seal(archive_folder, 1)
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines[:2]))
    forged = json.loads(record.read_bytes()) | {
        "recordings": 1,
        "manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
    }
    record.write_text(json.dumps(forged))
    redis.delete(SEALS)
    assert await complete(runtime) is None
    assert not of_seal(archive_folder, 1, "sig").exists()
    (told,) = alerts_of(redis, "seal-unsigned")
    assert hashlib.sha256(record.read_bytes()).hexdigest() in told["text"]
    assert "callvault seal --sign 1" in told["advice"]


async def test_an_unsigned_seal_of_this_service_is_signed_later(
    sandbox: RunningSandbox,
    runtime: Runtime,
    redis: Any,
    archive_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(*_: object) -> None:
        raise ConnectionError("the worker ends here")

    with monkeypatch.context() as patch:
        patch.setattr(append_module, "put_beside", die)
        with pytest.raises(ConnectionError):
            await a_seal(sandbox, runtime)
    assert of_seal(archive_folder, 1).exists()
    assert await complete(runtime) is None
    assert of_seal(archive_folder, 1, "sig").exists()
    assert alerts_of(redis, "seal-unsigned") == []
    assert redis.hlen(MADE) == 0, "signed seals need not be remembered"


async def test_a_person_signs_valid_seals_by_number_and_nothing_else(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    made = [await a_seal(sandbox, runtime, days) for days in (6, 5, 4)]
    for number in (1, 2, 3):
        of_seal(archive_folder, number, "sig").unlink()
    redis.flushall()
    signed = await sign_by_hand(runtime, 1, 2)
    assert [one.sha256 for one in signed] == [one.sha256 for one in made[:2]]
    assert [of_seal(archive_folder, number, "sig").exists() for number in (1, 2, 3)] == [True, True, False]
    with pytest.raises(UserError, match="there is no seal 4; the chain has 3"):
        await sign_by_hand(runtime, 4, 4)
    of_seal(archive_folder, 1).write_bytes(of_seal(archive_folder, 1).read_bytes() + b" ")
    with pytest.raises(UserError, match="seal 2 does not follow the seal before it"):
        await sign_by_hand(runtime, 3, 3)
    assert not of_seal(archive_folder, 3, "sig").exists()


async def test_a_half_made_seal_is_skipped_when_its_recordings_were_erased(
    sandbox: RunningSandbox,
    runtime: Runtime,
    redis: Any,
    archive_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    erased, kept = recordings_of(sandbox, ago(5), 2)
    await archive(runtime, [erased, kept])

    def die(*_: object) -> None:
        raise ConnectionError("the worker ends here")

    with monkeypatch.context() as patch:
        patch.setattr(append_module, "_put_seal", die)
        with pytest.raises(ConnectionError):
            await seal(runtime, ago(5))
    manifest = of_seal(archive_folder, 1, "sha256").read_bytes()
    folder = key_of(folder_of(archive_folder, erased), archive_folder)
    erase_recording(runtime, folder, erased.data["id"])
    other = await a_seal(sandbox, runtime, 4)
    assert (other.seal.sequence, other.seal.recordings) == (2, 2), "another day is sealed after the skipped number"
    void = json.loads(of_seal(archive_folder, 1).read_bytes())
    assert "does not tell what" in void["void"]
    assert (void["recordings"], void["transcriptions"], void["bytes"]) == (0, 0, 0)
    assert void["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()
    assert of_seal(archive_folder, 1, "sig").exists(), "it is signed like any seal"
    assert redis.zscore("callvault:unsealed", ago(5).isoformat()) is not None, "its day waits for its own seal"
    own = await seal(runtime, ago(5))
    assert isinstance(own, Link)
    assert (own.seal.sequence, own.seal.recordings) == (3, 1)
    assert f"{folder}erased.json" in of_seal(archive_folder, 3, "sha256").read_text()


def erase_recording(runtime: Runtime, folder: str, recording_id: str) -> None:
    from archive.erase import erase

    erase(runtime.archive, folder, "a request under article 17", "the owner")


def _binary(_: Callable[[], bytes]) -> bytes:
    return b"\0\xff no manifest"


def _of_no_day(_: Callable[[], bytes]) -> bytes:
    return f"{'0' * 64}  somewhere/else\n".encode()


def _of_others(_: Callable[[], bytes]) -> bytes:
    day = ago(5)
    return f"{'0' * 64}  {layout.recording_folder(day, 'x')}recording.json\n".encode()


@pytest.mark.parametrize("made_by_hand", [_binary, _of_no_day, _of_others, lambda _: b""])
async def test_a_manifest_that_somebody_else_wrote_blocks_no_seal(
    made_by_hand: Callable[..., bytes], sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    of_seal(archive_folder, 1, "sha256").parent.mkdir(parents=True)
    of_seal(archive_folder, 1, "sha256").write_bytes(made_by_hand(None))
    made = await a_seal(sandbox, runtime)
    assert (made.seal.sequence, made.seal.recordings) == (2, 2)
    assert json.loads(of_seal(archive_folder, 1).read_bytes())["void"]


async def test_a_worker_presumed_dead_does_not_adopt_a_void_seal(
    sandbox: RunningSandbox,
    runtime: Runtime,
    archive_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It resumes between its manifest and its seal, and finds that another worker voided its number."""
    await archive(runtime, recordings_of(sandbox, ago(5), 1))
    put, voided = append_module._put_seal, False

    def pass_over_first(archive_: Any, chain: Any, record: Any, making: Any) -> Any:
        nonlocal voided
        if not voided:
            voided = True
            other = Chain(archive_)
            append_module.append_void(archive_, other, record.sequence, ago(5), "taken for dead", making)
        return put(archive_, chain, record, making)

    monkeypatch.setattr(append_module, "_put_seal", pass_over_first)
    made = await seal(runtime, ago(5))
    assert isinstance(made, Link)
    assert (made.seal.sequence, made.seal.recordings) == (2, 1)


async def test_the_head_is_sent_to_witnesses_daily_and_with_every_alert(
    sandbox: RunningSandbox, runtime: Runtime, async_redis: Any, redis: Any, receiver_of_alerts: Any
) -> None:
    alerts, told = Alerts(async_redis, [receiver_of_alerts.url]), receiver_of_alerts.texts
    await send_head(async_redis, [receiver_of_alerts.url], alerts)
    assert told == [], "no seal, no head"
    made = await a_seal(sandbox, runtime)
    redis.set(ARCHIVE, "7f3a")
    line = f"archive 7f3a, 1 seal, head {made.sha256}, last day {ago(5)}"
    assert await head_line(async_redis) == line
    for _ in range(2):
        await send_head(async_redis, [receiver_of_alerts.url], alerts)
    assert [line in text for text in told] == [True]
    taken = await last_witnessed(async_redis)
    assert taken is not None and (taken.sequence, taken.sha256) == (1, made.sha256)
    await alerts.send("pressure", "x", "Jobs wait.", "Add workers.")
    await alerts.close()
    assert [line in text for text in told] == [True, True]


async def test_a_witness_that_does_not_answer_is_an_alert_and_is_tried_again(
    sandbox: RunningSandbox, runtime: Runtime, async_redis: Any, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.alerts import delivery

    monkeypatch.setattr(delivery, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(delivery, "_ATTEMPTS", 2)
    await a_seal(sandbox, runtime)
    await send_head(async_redis, [f"json://127.0.0.1:{free_port()}/"], runtime.alerts)
    (told,) = alerts_of(redis, "witness")
    assert "did not accept the head" in told["text"]
    assert 0 < redis.ttl(WITNESSED) <= 3600
