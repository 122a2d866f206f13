"""`callvault healthy`: check that local receivers and workers are alive, for container health checks."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DataFolder, Json, settings_of
from process.alive import LONGEST_SILENCE_SECONDS, file_of, killed, silences

# The commands that show signs of life, and the kinds of process that they consist of.
_KINDS: dict[str, frozenset[str]] = {
    "serve": frozenset({"serve"}),
    "worker": frozenset({"worker"}),
    "up": frozenset({"serve", "worker"}),
}


def command(
    container: Annotated[bool, typer.Option("--container", help="Check what this container was started for.")] = False,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Check that local receivers and workers are alive.

    It looks at processes of this data folder on this machine. Exit status 1: one hangs, one was killed,
    or none is running. With --container, it looks at every data folder, and a container that runs
    another command, such as `backfill`, passes.

    Example: callvault healthy
    """
    if container:
        return _check_container(Path("/proc"), json)
    folder = settings_of(data).data_folder
    found, lost = silences(folder), killed(folder)
    for name in lost:
        _complain(f"{name} was killed and not replaced; start another, or remove {file_of(name, folder)}")
    is_good = _are_alive(found, json) and bool(found) and not lost
    if json:
        _print_json(is_good, found, lost, [])
    if not found:
        _complain(f"no receiver or worker runs on this machine for data folder {folder.resolve()}")
    return 0 if is_good else 1


def _print_json(is_good: bool, found: dict[str, float], lost: Iterable[str], missing: list[str]) -> None:
    """Print the state of each process as one document."""
    rows = [
        {"process": name, "is_alive": seconds <= LONGEST_SILENCE_SECONDS, "silent_seconds": round(seconds, 1)}
        for name, seconds in found.items()
    ]
    report = {"good": is_good, "processes": rows, "killed": [*lost], "missing": missing}
    sys.stdout.write(json_module.dumps(report) + "\n")


def _are_alive(found: dict[str, float], as_json: bool) -> bool:
    """Print the state of each process unless JSON is wanted; returns whether none hangs."""
    for name, seconds in () if as_json else found.items():
        state = "alive" if seconds <= LONGEST_SILENCE_SECONDS else f"hangs: no sign of life for {seconds:.0f}s"
        sys.stdout.write(f"{name} {state}\n")
    return all(seconds <= LONGEST_SILENCE_SECONDS for seconds in found.values())


def _check_container(processes: Path, as_json: bool) -> int:
    """Check the processes that the commands of this container consist of; returns the exit status."""
    found, lost = silences(None), killed(None)
    wanted = {kind for name in _commands(processes) for kind in _KINDS.get(name, ())}
    missing = sorted(wanted - {name.rpartition("-")[0] for name in found})
    for name in lost:
        _complain(f"{name} was killed and not replaced")
    for kind in missing:
        _complain(f"`callvault {kind}` shows no sign of life")
    is_good = _are_alive(found, as_json) and not missing and not lost
    if as_json:
        _print_json(is_good, found, lost, missing)
    elif not wanted and not found:
        sys.stdout.write("this container runs neither receiver nor worker; other commands show no sign of life\n")
    return 0 if is_good else 1


def _commands(processes: Path) -> set[str]:
    """The commands of Callvault that run, such as `serve`, read from `/proc`."""
    found = set()
    for path in processes.glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has ended
        for place, word in enumerate(words):
            if word.rpartition("/")[2] == "callvault" or word == "cli.main":
                found.add(next((one for one in words[place + 1 :] if not one.startswith("-")), ""))
    return found


def _complain(text: str) -> None:
    sys.stderr.write(f"callvault: {text}\n")
