"""Damage a file, and have the register keep what is found."""

from __future__ import annotations

from pathlib import Path

from lab.worker import delete_what_is_due
from sandbox.world import Recording
from tests.workers.steps import folder_of
from workers.damage.damage import keep_register
from workers.damage.damaged import DamagedObjects
from workers.runtime import Runtime


def audio_of(archive_folder: Path, recording: Recording) -> tuple[Path, str]:
    """The audio of a recording: the file, and its key."""
    path = folder_of(archive_folder, recording) / "audio.wav"
    return path, str(path.relative_to(archive_folder))


def flip(path: Path) -> bytes:
    """Change one byte of a file; returns what was there."""
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    return whole


async def find(runtime: Runtime, path: Path) -> bytes:
    """Damage a file, have a proof find it and the register keep it; returns what was there."""
    whole = flip(path)
    await delete_what_is_due(runtime)
    await keep(runtime)
    return whole


async def keep(runtime: Runtime) -> None:
    """Run a turn in which every check is due."""
    damaged = DamagedObjects(runtime.redis)
    for key in await damaged.all():
        await damaged.look_soon(key)
    await keep_register(runtime)
