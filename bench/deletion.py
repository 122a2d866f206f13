"""What the checks before each request cost a deletion: requests to Telnyx and to the store, and time.

The other side does the rest of a deletion: prove again, list transcriptions, delete in bulk, confirm, receipt.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from typing import Any, cast

from archive import layout
from archive.records import CommitRecord, DeletionReceipt
from archive.stores.store import Store, StoredObject
from bench.pairs import Result, alternate, log
from lab.deployment import deployment
from lab.servers import RunningSandbox
from lab.worker import archive, delete_what_is_due, own_runtime
from sandbox.world import World
from telnyx_api.errors import NotFound
from text.times import format_instant, parse_instant, utc_now
from workers.keys import DELETIONS_DUE
from workers.runtime import Runtime

_RECORDINGS = 100


class _Counted:
    """A store whose requests are counted by kind."""

    def __init__(self, store: Store) -> None:
        self._store, self.counts = store, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        if name in ("stat", "put"):
            self.counts[name] += 1
        return getattr(self._store, name)

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Count a read."""
        self.counts["read of audio" if key.endswith(".wav") else "read"] += 1
        return self._store.read(key, start, end)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Count a listing by the root of its prefix."""
        depth = 2 if prefix.startswith("decisions/") else 1
        self.counts["list " + "/".join(prefix.split("/")[:depth])] += 1
        return self._store.list(prefix)


async def _turn(environment: dict[str, str], sandbox: RunningSandbox) -> tuple[float, Counter[str], Counter[str]]:
    async with own_runtime(environment) as runtime:
        recordings = [sandbox.world.add_recording(seconds=1) for _ in range(_RECORDINGS)]
        await archive(runtime, *recordings)
        store = _Counted(runtime.archive.store)
        runtime.archive.store = cast(Store, store)  # it passes on whatever it does not count
        sandbox.world.requests.clear()
        started = time.perf_counter()
        await delete_what_is_due(runtime)
        seconds = time.perf_counter() - started
        if not all(recording.deleted_at for recording in recordings):
            raise RuntimeError("not all were deleted")
        asked = Counter(_kind(request) for request in sandbox.world.requests)
    return seconds, store.counts, asked


def _kind(request: dict[str, Any]) -> str:
    parts = request["path"].split("?")[0].strip("/").split("/")
    return f"{request['method']} {parts[1] if parts[0] == 'v2' else parts[0]}{'/…' if len(parts) > 2 else ''}"


async def _bare(environment: dict[str, str], sandbox: RunningSandbox) -> float:
    """The same without the checks."""
    async with own_runtime(environment) as runtime:
        recordings = [sandbox.world.add_recording(seconds=1) for _ in range(_RECORDINGS)]
        await archive(runtime, *recordings)
        started = time.perf_counter()
        proven = await asyncio.gather(*(_prove(runtime, recording.data) for recording in recordings))
        await runtime.telnyx.recordings.bulk_delete(ids=[recording.data["id"] for recording in recordings])
        ids = [recording.data["id"] for recording in recordings]
        await asyncio.gather(*(_confirm(runtime, *row) for row in zip(ids, *zip(*proven, strict=True), strict=True)))
        seconds = time.perf_counter() - started
        await runtime.redis.delete(DELETIONS_DUE)
        return seconds


async def _prove(runtime: Runtime, data: dict[str, Any]) -> tuple[str, CommitRecord]:
    async with runtime.deletion_gate:
        folder = await runtime.in_thread(runtime.archive.find_folder, data["id"], _day(data))
        record = await runtime.in_thread(runtime.archive.commit_record, folder)
        if record is None:
            raise RuntimeError("not committed")
        for known in record.objects:
            await runtime.in_thread(runtime.archive.prove_again, known)
        listed = runtime.telnyx.recording_transcriptions.list(filter={"recording_id": data["id"]}, page_size=250)
        _ = [one async for one in listed]
        return str(folder), record


async def _confirm(runtime: Runtime, recording_id: str, folder: str, record: CommitRecord) -> None:
    async with runtime.deletion_gate:
        with suppress(NotFound):
            await runtime.telnyx.recordings.retrieve(recording_id)
            raise RuntimeError("not gone")
        now = format_instant(utc_now())
        receipt = DeletionReceipt(
            recording_id=recording_id,
            objects=record.objects,
            transcription_ids=[],
            seen_at=now,
            asked_at=now,
            confirmed_gone_at=now,
        )
        await runtime.in_thread(runtime.archive.put_receipt, folder, receipt)
        await runtime.announce(layout.receipt_key(folder), receipt)


def _day(data: dict[str, Any]) -> date:
    return parse_instant(data["recording_started_at"]).date()


def run() -> list[Result]:
    """Measure."""
    sandbox = RunningSandbox(World())
    counted: dict[str, Counter[str]] = {}
    try:
        with deployment() as own:
            own.telnyx = sandbox.environment
            own.settings = {"CALLVAULT_DELETE_ORIGINALS": "verified", "CALLVAULT_DELETE_AFTER": "1ms"}
            own.clear()
            environment = own.environment

            def ours() -> float:
                seconds, counted["store"], counted["Telnyx"] = asyncio.run(_turn(environment, sandbox))
                return 1000 * seconds / _RECORDINGS

            result = alternate(
                f"a deletion with all checks, in a turn of {_RECORDINGS}, `file`",
                "prove, delete in bulk, confirm",
                ours,
                lambda: 1000 * asyncio.run(_bare(environment, sandbox)) / _RECORDINGS,
                unit="ms",
                goal="<= 2",
            )
    finally:
        sandbox.stop()
    for where, counts in counted.items():
        requests = ", ".join(f"{count / _RECORDINGS:g} {kind}" for kind, count in sorted(counts.items()))
        result.note += f"{'; ' if result.note else ''}requests to {where} a recording: {requests}"
    log(f"  {result.note}")
    return [result]
