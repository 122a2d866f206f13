"""The tables of docs/audio.md: verdicts on odd files. `python -m tests.audio.table` regenerates them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from archive.audio import AudioReader, Expected
from archive.records import AudioSummary
from lab.forked_program import forked_program
from tests.audio import tools
from tests.audio.odd_files import Odd, all_odd

DOCUMENT = Path(__file__).parents[2] / "docs" / "audio.md"
_MARKS = {"by hand": all_odd, "by tools": tools.all_made}
_HEAD = "| file | Telnyx says | ffprobe says | Callvault says | why they differ |\n| --- | --- | --- | --- | --- |\n"


def read(odd: Odd, data: bytes, pieces: Iterator[bytes] | None = None) -> AudioReader:
    """A reader that has read a file, on demand in given pieces."""
    reader = AudioReader(odd.audio_format)
    for piece in pieces or (data[at : at + 65_536] for at in range(0, len(data), 65_536)):
        reader.feed(piece)
    return reader


def expected(odd: Odd) -> Expected:
    """Telnyx's description of a file."""
    return Expected(odd.telnyx_ms, odd.telnyx_channels)


def in_words(summary: AudioSummary) -> str:
    """Callvault's verdict as a cell of the table."""
    words = _in_words(summary.channels, summary.duration_ms / 1000 or None)
    return words if not summary.findings else f"{words}: {', '.join(summary.findings)}"


def _in_words(channels: int, seconds: float | None) -> str:
    if not channels:
        return "no audio"
    length = "no length" if seconds is None else f"{seconds:.3f} s"
    return f"{channels} channel{'s' * (channels > 1)}, {length}"


@cache
def probe_version() -> str | None:
    """The version of ffprobe on this machine; None without one."""
    if shutil.which("ffprobe") is None:
        return None
    done = subprocess.run(["ffprobe", "-version"], capture_output=True, text=True, check=True, timeout=30)
    found = re.match(r"ffprobe version (?:\d+:|n)?(\d+\.\d+)", done.stdout)
    return found[1] if found else "unknown"


def probe(odd: Odd) -> str:
    """ffprobe's verdict as a cell of the table."""
    with tempfile.NamedTemporaryFile(suffix=f".{odd.audio_format}") as file:
        file.write(odd.make())
        file.flush()
        words = ("-v", "quiet", "-of", "json", "-show_entries", "stream=duration,channels", file.name)
        status, output = forked_program("ffprobe").run(*words, folder=Path(file.name).parent)
    streams = json.loads(output).get("streams") if status == 0 else None
    if not streams:
        return "no audio"
    duration = streams[0].get("duration")
    return _in_words(streams[0].get("channels", 0), None if duration is None else float(duration))


def recorded(which: str) -> dict[str, Sequence[str]]:
    """The rows of a table by file name: Telnyx, ffprobe, Callvault, why."""
    text = _between(DOCUMENT.read_text(), which)[1]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    return {row[0]: [*row[1:], ""][:4] for row in rows}


def recorded_version() -> str:
    """The version of ffprobe that the tables quote."""
    found = re.search(r"ffprobe (\d+\.\d+)", DOCUMENT.read_text())
    assert found
    return found[1]


def telnyx_in_words(odd: Odd) -> str:
    """Telnyx's description as a cell of the table."""
    return f"{odd.telnyx_channels}, {(odd.telnyx_ms or 0) / 1000:.3f} s"


def _between(text: str, which: str) -> tuple[str, str, str]:
    begin, end = f"<!-- made {which}: python -m tests.audio.table -->\n", "<!-- end -->"
    before, _, rest = text.partition(begin)
    table, _, behind = rest.partition(end)
    return before + begin, table, end + behind


def main() -> None:
    """Write both tables; needs ffprobe, ffmpeg, sox and lame."""
    text = DOCUMENT.read_text()
    for which, files in _MARKS.items():
        rows = [
            f"| {odd.name} | {telnyx_in_words(odd)} | {probe(odd)} "
            f"| {in_words(read(odd, odd.make()).summary(expected(odd)))} | {odd.why} |"
            for odd in files()
        ]
        before, _, behind = _between(text, which)
        text = f"{before}\n{_HEAD}" + "\n".join(rows) + f"\n\n{behind}"
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
