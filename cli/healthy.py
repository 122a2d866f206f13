"""`callvault healthy`: check that local receivers and workers are alive, for container health checks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.console import print_json
from cli.options import DataFolder, Json, own_settings_of
from process.alive import LONGEST_SILENCE_SECONDS, file_of, killed, silences

# The commands that show signs of life, and the kinds of process that they consist of.
_KINDS: dict[str, frozenset[str]] = {
    "serve": frozenset({"serve"}),
    "worker": frozenset({"worker"}),
    "up": frozenset({"serve", "worker"}),
    "worker --dispose": frozenset({"dispose"}),
}
_COMMANDS = {kind: name for name, kinds in _KINDS.items() if len(kinds) == 1 for kind in kinds}


def command(
    container: Annotated[bool, typer.Option("--container", help="Check what this container was started for.")] = False,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Check that local receivers and workers are alive.

    It looks at processes of this data folder on this machine. Exit status 1: a process hangs or was killed, or
    none runs. With --container, it looks at every data folder, and a container that runs another command, such
    as `backfill`, passes.

    Example: callvault healthy
    """
    folder = None if container else own_settings_of(data).data_folder
    found, lost = silences(folder), killed(folder)
    wanted = {kind for name in _commands() for kind in _KINDS.get(name, ())} if container else set()
    missing = sorted(wanted - {name.rpartition("-")[0] for name in found})
    for name in lost:
        what_to_do = "" if folder is None else f"; start another, or remove {file_of(name, folder)}"
        _complain(f"{name} was killed and not replaced{what_to_do}")
    for kind in missing:
        _complain(f"`callvault {_COMMANDS[kind]}` shows no sign of life")
    if not found and folder is not None:
        _complain(f"no receiver or worker runs on this machine for data folder {folder.resolve()}")
    is_good = not lost and not missing and all(map(_is_alive, found.values())) and bool(found or container)
    if json:
        rows = [
            {"process": name, "is_alive": _is_alive(seconds), "silent_seconds": round(seconds, 1)}
            for name, seconds in found.items()
        ]
        report = {"good": is_good, "processes": rows, "killed": lost, "missing": missing}
        print_json(report)
        return 0 if is_good else 1
    for name, seconds in found.items():
        state = "alive" if _is_alive(seconds) else f"hangs: no sign of life for {seconds:.0f}s"
        sys.stdout.write(f"{name} {state}\n")
    if container and not wanted and not found:
        sys.stdout.write("this container runs neither receiver nor worker; other commands show no sign of life\n")
    return 0 if is_good else 1


def _is_alive(silent_seconds: float) -> bool:
    return silent_seconds <= LONGEST_SILENCE_SECONDS


def _commands() -> set[str]:
    """The commands of Callvault that run, such as `serve`, read from `/proc`."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has ended
        for place, word in enumerate(words):
            if word.rpartition("/")[2] == "callvault" or word == "cli.main":
                name = next((one for one in words[place + 1 :] if not one.startswith("-")), "")
                found.add(f"{name} --dispose" if name == "worker" and "--dispose" in words else name)
    return found


def _complain(text: str) -> None:
    sys.stderr.write(f"callvault: {text}\n")
