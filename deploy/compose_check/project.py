"""The Compose project under check: its containers, their state, and the HTTP of the parts."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx

from deploy.compose_check.engine import Engine, Failed
from lab.processes import ROOT, free_port, wait_for

NAME = "callvault-check"
_FILES = ("--file", str(ROOT / "compose.yaml"), "--file", str(Path(__file__).with_name("compose.yaml")))
_PARTS = ("telnyx", "receiver", "sandbox", "prometheus")


class Project:
    """The containers of `compose.yaml` and of the file beside this one.

    Attributes:
        image: what receivers and workers run; set it before `up`.
    """

    def __init__(self, engine: Engine, image: str) -> None:
        self.engine, self.image, self._telnyx_image = engine, image, image
        self._ports = {part: free_port() for part in _PARTS}
        self.environment: dict[str, str] = {"CALLVAULT_DELETE_ORIGINALS": "verified"}

    def compose(self, *arguments: str, seconds: float = 180) -> str:
        """Run Compose in this project."""
        environment = {f"CHECK_{part.upper()}_PORT": str(port) for part, port in self._ports.items()}
        environment |= {"CALLVAULT_IMAGE": self.image, "CHECK_TELNYX_IMAGE": self._telnyx_image, **self.environment}
        whole = ("--project-name", NAME, *_FILES, *arguments)
        return self.engine.compose(*whole, environment=environment, seconds=seconds)

    def get(self, part: str, path: str, seconds: float = 10) -> httpx.Response:
        """Ask a part; fails unless it answers 2xx."""
        url = f"http://127.0.0.1:{self._ports[part]}{path}"
        return httpx.get(url, timeout=seconds, trust_env=False).raise_for_status()

    def command(self, what: str, body: dict[str, Any], seconds: float = 60) -> Any:
        """Give the simulated Telnyx a command, such as `calls`."""
        url = f"http://127.0.0.1:{self._ports['telnyx']}/_sandbox/{what}"
        return httpx.post(url, json=body, timeout=seconds, trust_env=False).raise_for_status().json()

    def containers(self, *services: str, all_states: bool = False) -> list[dict[str, Any]]:
        """What `docker inspect` shows of the containers of these services."""
        options = ["--all"] if all_states else []
        ids = self.compose("ps", "--quiet", *options, *services).split()
        found: list[dict[str, Any]] = json.loads(self.engine.docker("inspect", *ids)) if ids else []
        return sorted(found, key=lambda one: str(one["Name"]))

    def wait_until_healthy(self, *services: str, seconds: float = 120) -> int:
        """Wait until every container of these services runs and none is unhealthy or starting; returns their number."""

        def states() -> list[str]:
            return [_state(one) for one in self.containers(*services, all_states=True)]

        try:
            wait_for(lambda: (now := states()) and {*now} <= {"healthy", "running"}, seconds, "health", 1)
        except AssertionError:
            raise Failed(f"{', '.join(services)}: {states()} after {seconds:g}s; {self.logs(*services)}") from None
        return len(states())

    def kill(self, container: dict[str, Any]) -> None:
        """Kill a container's first process from outside, as the kernel does when memory is out."""
        os.kill(container["State"]["Pid"], signal.SIGKILL)

    def logs(self, *services: str) -> str:
        """The end of what these services have printed."""
        return self.compose("logs", "--no-color", "--tail", "15", *services)[-3000:]

    def callvault(self, *arguments: str, seconds: float = 180) -> str:
        """Run a command in a container of its own, with the worker's settings and volumes."""
        return self.compose("run", "--rm", "--no-deps", "-T", "worker", *arguments, seconds=seconds)

    def archive(self) -> Path:
        """The folder of the archive on this machine."""
        place = self.engine.docker("volume", "inspect", "--format", "{{.Mountpoint}}", f"{NAME}_data").strip()
        return Path(place) / "archive"

    def remove(self) -> None:
        """Remove the containers, networks and volumes."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")


def _state(container: dict[str, Any]) -> str:
    state = container["State"]
    return str(state.get("Health", {}).get("Status", state["Status"]) if state["Running"] else state["Status"])
