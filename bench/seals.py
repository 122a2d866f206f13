"""Sealing a day of 100,000 recordings, and reconcile of an account with a thousand sealed days."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

from archive.append import Making, append
from archive.archive import Archive
from archive.records import ArchivedObject, AudioSummary, CommitRecord, Proof, Seal, encode_record
from archive.seals import Chain, Manifest, folders_of_day
from archive.stores.store import open_store
from bench import machine
from bench.pairs import Result, alternate, log
from config.settings import load_settings
from lab.deployment import deployment
from lab.servers import RunningSandbox
from lab.stores import environ, make_archive
from process.logs import configure_logs
from sandbox.world import World
from text.times import format_instant, utc_now
from workers.catalogue.parquet import RowsFile
from workers.catalogue.rows import row_of
from workers.reconcile.reconcile import reconcile
from workers.recordings.requests import ReconcileRequest
from workers.runtime import runtime_at

_DAY = date(2026, 11, 20)
_RECORDINGS = 100_000
_SHA256 = "0" * 64


def lay_out_a_day(root: Path, count: int) -> None:
    """Lay out a day of recordings with a few bytes of audio; a seal reads only their commit records."""
    for i in range(count):
        recording_id = f"{i:032x}"
        key = f"recordings/2026/11/20/{recording_id}/audio.wav"
        folder = root / f"recordings/2026/11/20/{recording_id}"
        folder.mkdir(parents=True)
        (folder / "audio.wav").write_bytes(b"RIFF")
        recording = {"id": recording_id, "from": "+13125550100", "to": "+14155550100", "duration_millis": 33_000}
        recording |= {"recording_started_at": "2026-11-20T10:00:00.000000Z", "connection_id": "1700000000000000000"}
        proof = Proof("read-back", "sha256", _SHA256, None)
        record = CommitRecord(
            recording=recording,
            objects=[ArchivedObject(key, 4, _SHA256, "audio/wav", proof)],
            audio=AudioSummary("wav", 2, 8000, 33_000, []),
            archived_at="2026-11-20T10:01:00.000000Z",
            event_id=None,
            found_by="webhook",
        )
        (folder / "recording.json").write_bytes(encode_record(record))


def seal_once(root: Path) -> None:
    """List a day and seal it, in a process of its own; prints seconds and peak memory."""
    archive = Archive(open_store(root.as_uri()))
    chain = Chain(archive)
    chain.refresh()
    started = time.perf_counter()
    with Manifest() as manifest, RowsFile() as rows:

        def put_rows(sequence: int) -> None:
            rows.finish(sequence)

        for folder in folders_of_day(archive, _DAY, []):
            manifest.add(folder)
            if (row := row_of(folder)) is not None:
                rows.add(row)
        append(archive, chain, _DAY, manifest, format_instant(utc_now()), Making(put_rows))
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_mib": machine.own_peak_mib()}))


def _seal_a_day(place: Path) -> Result:
    peaks: list[float] = []

    def ours() -> float:
        for path in (place / "seals").glob("*"):
            path.unlink()
        code = f"from pathlib import Path; from bench.seals import seal_once; seal_once(Path({str(place)!r}))"
        result = machine.in_a_process(code)
        peaks.append(result["peak_mib"])
        return float(result["seconds"])

    def theirs() -> float:
        manifest = next((place / "seals").glob("*.sha256"))
        started = time.perf_counter()
        subprocess.run(["sha256sum", str(manifest)], capture_output=True, check=True)
        subprocess.run(["find", str(place / "recordings")], stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - started

    first = ours()
    log(f"  first seal of {_RECORDINGS} recordings: {first:.1f} s")
    return alternate(
        f"seal a day of {_RECORDINGS:,} recordings, `file`",
        "`sha256sum` of the manifest and one listing (`find`)",
        ours,
        theirs,
        unit="s",
        goal="<= 10 s",
        note=f"under 150 MiB is a goal too; peak {max(peaks):.0f} MiB; every commit record is read and hashed, rows as Parquet",
        pairs=3,
    )


def _sealed_archive(root: Path, days: int) -> None:
    """Make an archive with so many seals of past days."""
    before = None
    (root / "seals").mkdir(parents=True)
    for n in range(1, days + 1):
        (root / "seals" / f"{n:010d}.sha256").write_bytes(b"")
        seal = Seal(
            sequence=n,
            day=(utc_now().date() - timedelta(days=3 + n)).isoformat(),
            recordings=0,
            transcriptions=0,
            bytes=0,
            manifest_sha256=_SHA256,
            previous_sha256=before,
            reconciled_at=format_instant(utc_now()),
            sealed_at=format_instant(utc_now()),
        )
        data = encode_record(seal)
        (root / "seals" / f"{n:010d}.json").write_bytes(data)
        before = hashlib.sha256(data).hexdigest()


def _reconcile_with_sealed_days() -> Result:
    sandbox = RunningSandbox(World())

    def seconds(days: int) -> float:
        async def run(root: Path, url: str) -> float:
            with environ(sandbox.environment | {"CALLVAULT_ARCHIVE_URL": (root / "archive").as_uri()}):
                settings = load_settings(data_folder=root)
            today = utc_now().date()
            request = ReconcileRequest(since=(today - timedelta(days=3)).isoformat(), until=today.isoformat())
            async with runtime_at(settings, url) as runtime:
                await reconcile(runtime, request)  # from here on Redis remembers the chain
                started = time.perf_counter()
                for _ in range(5):
                    await reconcile(runtime, request)
                return (time.perf_counter() - started) / 5 * 1000

        with deployment() as own:
            _sealed_archive(own.folder / "archive", days)
            make_archive(own.folder / "archive")
            return asyncio.run(run(own.folder, own.server.url))

    try:
        return alternate(
            "hourly reconcile of an account with 1,000 sealed days",
            "the same with 10",
            lambda: seconds(1_000),
            lambda: seconds(10),
            unit="ms",
            goal="<= 1.1",
            note="the same requests to Telnyx; what differs is reading the chain that Redis remembers",
        )
    finally:
        sandbox.stop()


def run() -> list[Result]:
    """Measure."""
    configure_logs("error", program="bench")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        place = Path(name)
        make_archive(place)
        (place / "seals").mkdir()
        lay_out_a_day(place, _RECORDINGS)
        return [_seal_a_day(place), _reconcile_with_sealed_days()]
