"""Pods of Kubernetes manifests on this machine: processes in namespaces of their own, and no cluster.

What a kubelet and a container runtime do is done with `unshare`, `nsenter` and `setpriv`: the image's command with the manifest's
arguments and nothing but its environment, the user and groups, no capability, a root that cannot be written where the manifest
says so, a folder for each volume, the pod's own address and process ids, probes by HTTP and by command, and an end within the
grace. What is not done: limits of CPU and memory, network policies, restarts. It needs root.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

from lab.processes import ROOT, Missing, Process, is_allowed, program, wait_for
from workers.queue.embedded import NoServer, server_binary

_NETWORK = "10.213.7"
_LIMIT_SECONDS = 600.0
_IMAGE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"


def why_not() -> str | None:
    """Why pods cannot run here, for a skipped test; None if they can."""
    if os.geteuid() != 0:
        return "skipped because pods need root"
    try:
        for name, package in (
            ("ip", "iproute2"),
            ("curl", "curl"),
            ("setpriv", "util-linux"),
            ("nsenter", "util-linux"),
        ):
            program(name, package)
        _valkey()
    except (Missing, NoServer) as missing:
        return f"skipped because {missing}"
    namespaces = ("unshare", "--net", "--mount", "--pid", "--fork")
    if not is_allowed(*namespaces, "mount", "-t", "tmpfs", "none", "/mnt"):
        return "skipped because this machine allows no namespaces"
    return None


def _valkey() -> Path:
    """The folder of a Valkey with its client, by their names in the image.

    Raises:
        Missing: there is only a Redis, or no client.
        NoServer: there is no server.
    """
    server = Path(server_binary())
    if server.name != "valkey-server" or not server.with_name("valkey-cli").exists():
        raise Missing(f"{server} is no valkey-server with a valkey-cli beside it")
    return server.parent


class _Image:
    """What an image brings: the words before the arguments, the words after them, and the environment."""

    def __init__(self, before: Sequence[str], after: Sequence[str], path: str, **environment: str) -> None:
        self.before, self.after = list(before), list(after)
        self.environment = {"PATH": f"{path}:{_IMAGE_PATH}", "HOME": "/", **environment}


def _images() -> dict[str, _Image]:
    """By name: ours as the Dockerfile says, and Valkey's, which takes the arguments as a command and has no protected mode."""
    text = (ROOT / "Dockerfile").read_text()
    entry = json.loads(re.findall(r"(?m)^ENTRYPOINT (.*)$", text)[-1])
    words = dict(word.split("=", 1) for word in shlex.split(re.findall(r"(?m)^ENV (.*)$", text)[-1]))
    words.pop("PATH")
    return {
        "callvault": _Image(entry, [], str(Path(sys.executable).parent), PYTHONPATH=str(ROOT), **words),
        "valkey/valkey": _Image([], ["--protected-mode", "no"], str(_valkey())),
    }


def _inside(process: Process | int, *kinds: str) -> list[str]:
    pid = process if isinstance(process, int) else process.pid
    return ["nsenter", "--target", str(pid), *(f"--{kind}" for kind in kinds)]


def _run(command: Sequence[str], seconds: float = 20) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=seconds)


class Node:
    """A network of pods, with what else they need at `address`. As a context manager it runs for the block."""

    address = f"{_NETWORK}.1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._given = 1
        self.names: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.network = self._holder()
        for line in (
            "ip link set lo up",
            "ip link add pods type bridge",
            f"ip addr add {self.address}/24 dev pods",
            "ip link set pods up",
        ):
            _run([*_inside(self.network, "net"), *line.split()])
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _holder(self) -> Process:
        """A process that does nothing in a network of its own."""
        command = ["unshare", "--net", "sleep", str(_LIMIT_SECONDS)]
        holder = self._stack.enter_context(Process(command, limit_seconds=_LIMIT_SECONDS))
        own = Path("/proc/self/ns/net").readlink()
        wait_for(lambda: Path(f"/proc/{holder.pid}/ns/net").readlink() != own, 10, "a network of its own")
        return holder

    def connect(self) -> tuple[Process, str]:
        """A network for a pod; returns its holder and its address."""
        self._given += 1
        holder, address = self._holder(), f"{_NETWORK}.{self._given}"
        name = f"pod{self._given}"
        add = f"ip link add {name} type veth peer name eth0 netns {holder.pid}"
        for line in (add, f"ip link set {name} master pods", f"ip link set {name} up"):
            _run([*_inside(self.network, "net"), *line.split()])
        for line in ("ip link set lo up", f"ip addr add {address}/24 dev eth0", "ip link set eth0 up"):
            _run([*_inside(holder, "net"), *line.split()])
        return holder, address

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Process:
        """Start a server beside the pods, as it would run outside of the cluster."""
        inside = [*_inside(self.network, "net"), *command]
        return self._stack.enter_context(Process(inside, environment, limit_seconds=_LIMIT_SECONDS))

    def pod(self, template: dict[str, Any], given: Mapping[str, Mapping[str, str]]) -> Pod:
        """Start a pod of a template; `given` has the values of Secrets and ConfigMaps by their names."""
        return self._stack.enter_context(Pod(self, template, given))

    def curl(self, url: str, *options: str, seconds: float = 10) -> tuple[int, str]:
        """Ask a URL from the node; returns the status, 0 without an answer, and the text."""
        command = [
            "curl",
            "--silent",
            "--noproxy",
            "*",
            "--max-time",
            str(seconds),
            "-w",
            "\n%{http_code}",
            *options,
            url,
        ]
        done = subprocess.run(
            [*_inside(self.network, "net"), *command], capture_output=True, text=True, timeout=seconds + 10, check=False
        )
        text, _, status = done.stdout.rpartition("\n")
        return int(status or 0), text


class Pod:
    """One pod with one container. As a context manager it runs for the block.

    Attributes:
        address: its own.
        container: of the manifest.
    """

    def __init__(self, node: Node, template: dict[str, Any], given: Mapping[str, Mapping[str, str]]) -> None:
        self._node, self._spec, self._given = node, template["spec"], given
        (self.container,) = self._spec["containers"]
        self._image = _images()[self.container["image"].partition(":")[0]]

    def __enter__(self) -> Self:
        holder, self.address = self._node.connect()
        self._folder = self._node.folder / self.address
        command = [*_inside(holder, "net"), "unshare", "--mount", "--pid", "--fork", "--kill-child"]
        script = self._folder / "start.sh"
        self._folder.mkdir()
        script.write_text(self._script())
        script.chmod(0o700)
        self.process = Process([*command, "sh", "-eu", str(script)], limit_seconds=_LIMIT_SECONDS)
        self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        with suppress(ProcessLookupError):  # --kill-child is without effect once the container has changed its user
            os.killpg(self.process.pid, signal.SIGKILL)

    def _environment(self) -> dict[str, str]:
        found = dict(self._image.environment)
        for source in self.container.get("envFrom", ()):
            ((_, reference),) = source.items()
            found |= self._given[reference["name"]]
        for one in self.container.get("env", ()):
            reference = one.get("valueFrom", {}).get("secretKeyRef")
            if reference is None:
                found[one["name"]] = one["value"]
            elif not reference.get("optional") or reference["key"] in self._given[reference["name"]]:
                found[one["name"]] = self._given[reference["name"]][reference["key"]]
        return found

    def _files(self, volume: str) -> Mapping[str, str]:
        """What lies in a volume at the start: the files of its ConfigMap; nothing in one that is optional and does not exist."""
        (one,) = [one for one in self._spec.get("volumes", ()) if one["name"] == volume] or [{}]
        if (source := one.get("configMap")) is None:
            return {}
        return self._given.get(source["name"], {}) if source.get("optional") else self._given[source["name"]]

    def _as_user(self) -> list[str]:
        """How a process becomes the container's user, with its rights and no others."""
        pod, own = self._spec["securityContext"], self.container["securityContext"]
        assert pod["runAsNonRoot"] and pod["runAsUser"] and own["capabilities"] == {"drop": ["ALL"]}
        ids = [f"--reuid={pod['runAsUser']}", f"--regid={pod['runAsGroup']}", f"--groups={pod['fsGroup']}"]
        nothing = ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
        stays = [] if own["allowPrivilegeEscalation"] else ["--no-new-privs"]
        variables = [f"{name}={value}" for name, value in self._environment().items()]
        folder = self._environment().get("CALLVAULT_DATA", "/")
        return ["setpriv", *ids, *nothing, *stays, "env", "-i", "-C", folder, *variables]

    def _script(self) -> str:
        """Make the container's root, and become its command."""
        root = self._folder / "root"
        root.mkdir(parents=True)
        hosts = self._folder / "hosts"
        hosts.write_text(
            "".join(f"{at} {name}\n" for name, at in {"localhost": "127.0.0.1", **self._node.names}.items())
        )
        lines = ["mount --make-rprivate /", f"mount -t tmpfs -o mode=755 root {root}"]
        tops = [Path("/", name) for name in ("bin", "sbin", "lib", "lib64")]
        lines += [f"ln -s {top.readlink()} {root}{top}" for top in tops if top.is_symlink()]
        lines += [
            f"mkdir {root}/.etc {root}/etc",
            f"mount --bind /etc {root}/.etc",
            f"mount -o remount,bind,ro {root}/.etc",
        ]
        lines.append(f'for part in /etc/*; do ln -s "/.etc/${{part#/etc/}}" {root}/etc/; done')
        lines += [f"rm {root}/etc/hosts", f"touch {root}/etc/hosts"]  # volumes may lie in it
        parts = {"/usr", "/dev", sys.prefix, sys.base_prefix, str(ROOT), str(_valkey())}
        parts |= {place for place in sys.path if Path(place).is_dir()}
        for part in sorted(parts):  # a folder before what lies in it
            lines += [f"mkdir -p {root}{part} 2>/dev/null || true", f"mount --bind {part} {root}{part}"]
            lines.append(f"mount -o remount,bind,ro {root}{part}")
        lines += [f"mkdir {root}/proc", f"mount -t proc proc {root}/proc", f"mount --bind {hosts} {root}/etc/hosts"]
        for mount in self.container.get("volumeMounts", ()):
            volume = self._folder / f"volume-{mount['name']}"
            volume.mkdir()
            for name, text in self._files(mount["name"]).items():
                (volume / name).write_text(text)
            os.chown(volume, 0, self._spec["securityContext"]["fsGroup"])
            volume.chmod(0o2777)
            lines += [f"mkdir -p {root}{mount['mountPath']}", f"mount --bind {volume} {root}{mount['mountPath']}"]
            if mount.get("readOnly"):
                lines.append(f"mount -o remount,bind,ro {root}{mount['mountPath']}")
        if self.container["securityContext"]["readOnlyRootFilesystem"]:
            lines.append(f"mount -o remount,ro {root}")
        words = [*self._image.before, *self.container["args"], *self._image.after]
        command = shlex.join(["chroot", str(root), *self._as_user(), *words])
        return "\n".join((*lines, f"exec {command}", ""))

    @property
    def pid(self) -> int:
        """The id of its process 1 on this machine; it may be one that still makes the root."""
        starter = self.process.pid
        children = Path(f"/proc/{starter}/task/{starter}/children").read_text().split()
        return int(children[0])

    def exec(self, command: Sequence[str], seconds: float = 30) -> tuple[int, str]:
        """Run a command in the container, as `kubectl exec` does; returns its status and output."""
        inside = _inside(self.pid, "mount", "net", "pid", "root")
        done = subprocess.run(
            [*inside, *self._as_user(), *command], capture_output=True, text=True, timeout=seconds, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def probe(self, name: str) -> bool:
        """Ask a probe once, as the kubelet does; one that the manifest does not have succeeds.

        Args:
            name: `startupProbe`, `readinessProbe` or `livenessProbe`.
        """
        if self.process.has_ended:
            return False
        if (probe := self.container.get(name)) is None:
            return True
        seconds = probe.get("timeoutSeconds", 1)
        if "exec" in probe:
            try:
                return self.exec(probe["exec"]["command"], seconds)[0] == 0
            except (subprocess.TimeoutExpired, IndexError, OSError):
                return False
        if "tcpSocket" in probe:
            place = f"/dev/tcp/{self.address}/{self._port(probe['tcpSocket']['port'])}"
            connect = [*_inside(self._node.network, "net"), "timeout", str(seconds), "bash", "-c", f"exec 3<>{place}"]
            return subprocess.run(connect, capture_output=True, timeout=seconds + 10, check=False).returncode == 0
        port = self._port(probe["httpGet"]["port"])
        status, _ = self._node.curl(f"http://{self.address}:{port}{probe['httpGet']['path']}", seconds=seconds)
        return 200 <= status < 400

    def _port(self, port: int | str) -> int:
        named = {one["name"]: one["containerPort"] for one in self.container.get("ports", ())}
        return int(named[port]) if isinstance(port, str) else port

    def wait_until_ready(self) -> None:
        """Wait as long as the startup probe allows, then until the pod is ready."""
        startup = self.container.get("startupProbe", {"periodSeconds": 1, "failureThreshold": 30})
        seconds = startup["periodSeconds"] * startup["failureThreshold"]
        for name in ("startupProbe", "readinessProbe"):
            wait_for(partial(self.probe, name), seconds, f"{name} of {self.container['name']}", 0.2)

    def stop(self) -> tuple[int, float]:
        """Stop it as the kubelet does: the hook, SIGTERM, and SIGKILL after the grace.

        Returns:
            Its exit status and how many seconds it took.

        Raises:
            AssertionError: it did not end within the grace, and was killed.
        """
        grace = self._spec["terminationGracePeriodSeconds"]
        started = time.monotonic()
        if hook := self.container.get("lifecycle", {}).get("preStop"):
            status, output = self.exec(hook["exec"]["command"], grace)
            assert status == 0, output
        pid = self.pid
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: self.process.has_ended, grace - (time.monotonic() - started), "its end within the grace")
        return self.process.stop(seconds=1), time.monotonic() - started
