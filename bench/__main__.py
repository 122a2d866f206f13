"""`make bench`: run every benchmark, or the named ones, and write the results to `bench/RESULTS.md`."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from bench.pairs import Result, log
from lab.processes import Missing
from text.times import utc_now

NAMES = ("receiver", "latency", "idle", "requests", "archive", "deletion", "seals", "reconcile")
RESULTS = Path(__file__).parent / "RESULTS.md"
WHY = Path(__file__).parent / "WHY.md"
_PACKAGES = (
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "arq",
    "redis",
    "httpx",
    "boto3",
    "PyNaCl",
    "msgspec",
    "pyarrow",
)


def main() -> None:
    """Run them."""
    names = sys.argv[1:] or NAMES
    results: list[Result] = []
    failed = False
    for name in names:
        log(name)
        try:
            for result in importlib.import_module(f"bench.{name}").run():
                results.append(result)
                if not sys.argv[1:]:
                    RESULTS.write_text(report(results))
        except Missing as missing:
            log(f"  left out: {missing}")
        except Exception as error:  # the others still run
            failed = True
            log(f"  failed: {type(error).__name__}: {error}")
    print(report(results))
    sys.exit(failed)


def report(results: list[Result]) -> str:
    """The results in Markdown."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    lines = [
        "# Results",
        "",
        f"Made by `make bench` on {utc_now():%Y-%m-%d} at commit {commit.strip()}. Each figure is a ratio of two things",
        "measured in turn in one run: the median of the pairs' ratios, and in brackets the smallest and the largest.",
        "",
        f"Machine: {os.cpu_count()} cores, {cpu or platform.machine()}; Python {platform.python_version()}; "
        + ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
        + ".",
        "",
        "| what | against | ours | theirs | ratio (spread) | goal | met |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(result.row() for result in results),
        "",
        "How each was measured:",
        "",
        *(f"- {what}: {note}." for what, note in {r.what: r.note for r in results}.items()),
    ]
    if WHY.exists():
        lines += ["", WHY.read_text().rstrip()]
    return "\n".join(lines) + "\n"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


if __name__ == "__main__":
    main()
