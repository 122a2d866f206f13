"""`callvault demo`: archive sample calls on this machine, check the archive, report."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archive import layout
from archive.archive import Archive
from archive.proof import hash_object
from archive.stores.store import open_store
from cli.console import open_console, print_json
from cli.init import init
from cli.interrupt import stands
from cli.options import AudioFolder, Json, own_settings_of, refuse_silence
from cli.supervisor import (
    Supervisor,
    free_port,
    locked,
    sandbox_environment,
    start_sandbox,
    start_service,
    stop_signals,
)
from text.sizes import format_size
from text.times import format_duration, parse_instant
from workers.queue.embedded import EmbeddedServer

if TYPE_CHECKING:
    from rich.console import Console

_PATIENCE_SECONDS = 120.0  # without progress
_HOST = "127.0.0.1"
# One call in so many is of this kind; each kind occurs among twenty calls.
_KINDS = {"mp3": 5, "mono": 3, "transcribed": 3, "without_id": 4, "conference": 10, "both_formats": 9}


@dataclass
class Report:
    """The result of a demo; `--json` prints these fields."""

    recordings: int
    archived: int = 0
    verified: int = 0
    deleted: int = 0
    transcriptions: int = 0
    duplicates_ignored: int = 0
    bytes: int = 0
    seconds: float = 0.0
    archive_url: str = ""
    mismatches: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether every recording was archived, verified and deleted, and nothing differs."""
        return not self.mismatches and self.recordings == self.archived == self.verified == self.deleted


def command(
    recordings: Annotated[int, typer.Option(metavar="N", help="Number of calls to make.", min=1, max=100_000)] = 20,
    audio: AudioFolder = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Data folder. [default: a new temporary one]")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running afterwards.")] = False,
    json: Json = False,
) -> int:
    """Archive sample calls on this machine, then report.

    It runs a local stand-in for Telnyx, archives its calls, verifies them, and deletes the originals.
    Exit status 1: a call was not archived, verified and deleted.

    Example: callvault demo --recordings 50
    """
    from cli.progress import progress

    refuse_silence(audio)
    console = open_console(stderr=json)
    folder = (data or Path(tempfile.mkdtemp(prefix="callvault-demo-"))).resolve()
    what_stands = (
        f"the demo stopped what it had started; its files stay in {folder}. Run the command again for a new one"
    )
    with stands(what_stands), locked(folder):
        server = EmbeddedServer(folder)
        with Supervisor(lambda line: console.print(line, style="yellow"), server) as supervisor:
            address = (folder / "archive").as_uri()
            asyncio.run(init(own_settings_of(folder, archive_url=address), server.url))
            demo = _Demo(folder, recordings, audio, supervisor, server.url)
            with progress(console, archived=recordings, originals_deleted=recordings) as show:
                demo.make_calls()
                demo.wait(show)
            report = demo.check()
            _print(report, demo, console, json)
            if keep:
                console.print(f"\nStill running: receiver {demo.receiver_url}")
                console.print(f"               sandbox  {demo.facts['base_url']}\nPress Ctrl-C to stop.")
                with stop_signals() as asked_to_stop:
                    supervisor.tend_until(asked_to_stop)
    return 0 if report.is_good else 1


class _Demo:
    """One run: the parts, the calls, and the books of both sides."""

    def __init__(
        self, folder: Path, recordings: int, audio: Path | None, supervisor: Supervisor, redis_url: str
    ) -> None:
        import httpx

        self.folder = folder
        self.supervisor = supervisor
        self.report = Report(recordings, archive_url=(folder / "archive").as_uri())
        logs = folder / "logs"
        logs.mkdir(exist_ok=True)
        part, self.facts = start_sandbox(
            ["--port", "0", "--empty", *(["--audio", str(audio)] if audio else [])], logs / "sandbox.log"
        )
        supervisor.add(part)
        environment = sandbox_environment(self.facts) | {
            "REDIS_URL": redis_url,
            "CALLVAULT_DATA": str(folder),
            "CALLVAULT_ARCHIVE_URL": self.report.archive_url,
            "CALLVAULT_DELETE_ORIGINALS": "verified",
            "CALLVAULT_DELETE_AFTER": "2s",
        }
        port = free_port()
        self.receiver_url = f"http://{_HOST}:{port}"
        start_service(supervisor, environment, _HOST, port, logs)
        self._http = httpx.Client(timeout=30, trust_env=False)
        self._archive = Archive(open_store(self.report.archive_url))

    def make_calls(self) -> None:
        """Have the sandbox make the calls; its webhooks arrive meanwhile."""
        self._started = time.monotonic()
        body = _KINDS | {
            "count": self.report.recordings,
            "webhook_url": f"{self.receiver_url}/webhooks/telnyx",
            "duplicated": self.report.recordings,  # the last one is delivered twice
        }
        answer = self._http.post(f"{self.facts['control_url']}/calls", json=body).raise_for_status().json()
        self.ids = set(answer["recordings"])

    def wait(self, show: Any) -> None:
        """Wait until everything is archived and deleted, or two minutes pass without progress."""
        moved, before = time.monotonic(), -1
        while True:
            rows = [row for row in self._books()["recordings"] if row["id"] in self.ids]
            committed, receipts = self._count()
            deleted = sum(row["deleted_at"] is not None for row in rows)
            show(archived=committed, originals_deleted=min(deleted, receipts))
            if committed >= len(rows) and min(deleted, receipts) >= len(rows):
                return
            if committed + deleted + receipts != before:
                moved, before = time.monotonic(), committed + deleted + receipts
            if time.monotonic() - moved > _PATIENCE_SECONDS:
                return
            self.supervisor.tend()
            time.sleep(0.2)

    def _books(self) -> dict[str, Any]:
        books: dict[str, Any] = self._http.get(f"{self.facts['control_url']}/books").raise_for_status().json()
        return books

    def _count(self) -> tuple[int, int]:
        names = [found[2] for o in self._archive.store.list("recordings/") if (found := layout.recording_of(o.key))]
        return names.count("recording.json"), names.count("deleted.json")

    def check(self) -> Report:
        """Compare every byte in the archive with what the sandbox served."""
        report = self.report
        report.seconds = round(time.monotonic() - self._started, 2)
        books = self._books()
        for row in books["recordings"]:
            if row["id"] in self.ids:
                self._check_recording(row)
        texts = {t["id"]: t for t in [*books["deleted_transcriptions"], *books["transcriptions"]]}
        rows = {row["id"]: row for row in books["recordings"]}
        for transcription in texts.values():
            self._check_transcription(transcription, rows[transcription["recording_id"]])
        report.mismatches += books["misuse"]
        metrics = self._http.get(f"{self.receiver_url}/metrics").text
        found = re.search(r'^callvault_webhooks_total{outcome="duplicate"} (\S+)', metrics, re.MULTILINE)
        report.duplicates_ignored = int(float(found.group(1))) if found else 0
        return report

    def _check_recording(self, row: dict[str, Any]) -> None:
        report, name = self.report, row["id"]
        folder = layout.recording_folder(parse_instant(row["recording_started_at"]), name)
        record = self._archive.commit_record(folder)
        if record is None:
            report.mismatches.append(f"{name}: not in the archive")
            return
        report.archived += 1
        is_whole = {o.key for o in record.objects} == {layout.audio_key(folder, f) for f in row["audio"]}
        for audio_format, audio in row["audio"].items():
            key = layout.audio_key(folder, audio_format)
            known = next((o.sha256 for o in record.objects if o.key == key), None)
            if known != audio["sha256"] or hash_object(self._archive.store, key) != audio["sha256"]:
                report.mismatches.append(f"{key}: differs from what the sandbox served")
                is_whole = False
            report.bytes += audio["size"]
        report.verified += is_whole
        if row["deleted_at"] is not None and self._archive.read_small(layout.receipt_key(folder)) is not None:
            report.deleted += 1
        else:
            report.mismatches.append(f"{name}: the original was not deleted, or its receipt is missing")

    def _check_transcription(self, transcription: dict[str, Any], row: dict[str, Any]) -> None:
        folder = layout.recording_folder(parse_instant(row["recording_started_at"]), row["id"])
        data = self._archive.read_small(layout.transcription_key(folder, transcription["id"]))
        if data is None or json.loads(data)["transcription"] != transcription:
            self.report.mismatches.append(f"transcription {transcription['id']}: missing from the archive, or changed")
        else:
            self.report.transcriptions += 1


def _print(report: Report, demo: _Demo, console: Console, as_json: bool) -> None:
    if as_json:
        print_json(asdict(report))
        sys.stdout.flush()
        return
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    rows = {
        "recordings made": report.recordings,
        "archived": report.archived,
        "verified, byte for byte": report.verified,
        "originals deleted": report.deleted,
        "transcriptions archived": report.transcriptions,
        "duplicates ignored": report.duplicates_ignored,
        "audio": format_size(report.bytes),
        "time": format_duration(report.seconds),
        "mismatches": len(report.mismatches),
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    console.print(table)
    for line in report.mismatches[:20]:
        console.print(f"  {line}", style="red")
    path = demo.folder / "archive" / "recordings"
    console.print(f"\nThe archive: {path}\nThe logs:    {demo.folder / 'logs'}")
    if not report.is_good:
        console.print("The demo failed; see the differences above, and the logs.", style="bold red")
