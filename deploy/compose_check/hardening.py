"""What the kernel says of the processes in containers, rather than what the compose file asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploy.compose_check.engine import Engine, Failed

_USERS = {"receiver": 10001, "worker": 10001, "disposal": 10001}
_SERVICE = "com.docker.compose.service"


def look(engine: Engine, containers: list[dict[str, Any]]) -> list[str]:
    """Look at each process of these containers; returns what was looked at.

    Raises:
        Failed: a process has too many rights, or a container has no limit.
    """
    wrong, processes = [], 0
    for one in containers:
        service = one["Config"]["Labels"][_SERVICE]
        if not one["HostConfig"]["Memory"]:
            wrong.append(f"{service} has no memory limit")
        if not one["HostConfig"]["ReadonlyRootfs"] or _can_write(engine, one["Id"]):
            wrong.append(f"{service} can write to its root")
        for pid in engine.docker("top", one["Id"], "-eo", "pid").split()[1:]:
            if status := _status(int(pid)):
                processes += 1
                wrong += [f"{service}: {fault}" for fault in _faults(status, _USERS.get(service))]
    if wrong:
        raise Failed("; ".join(wrong))
    return [f"{processes} processes in {len(containers)} containers have no capability and gain none, none is root"]


def _can_write(engine: Engine, container: str) -> bool:
    try:
        engine.docker("exec", "--user", "0", container, "touch", "/written")
    except Failed as error:
        return "Read-only file system" not in str(error)
    return True


def _status(pid: int) -> dict[str, str]:
    """The fields of proc(5), `/proc/PID/status`; none of a process that has ended, such as a health check."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _faults(status: dict[str, str], user: int | None) -> list[str]:
    uids = {int(uid) for uid in status["Uid"].split()}
    found = []
    if int(status["CapEff"], 16) or int(status["CapBnd"], 16):
        found.append(f"capabilities {status['CapEff']}, bounding set {status['CapBnd']}")
    if status["NoNewPrivs"] != "1":
        found.append("may gain privileges")
    if 0 in uids or (user is not None and uids != {user}):
        found.append(f"runs as user {status['Uid'].split()[0]}")
    return found
