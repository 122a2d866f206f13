"""Runs `compose.yaml` whole, under load and faults, against a simulated Telnyx: `make compose-check`.

Each step prints one line with its time. Exit status: 0, or 1 if a step failed. Needs Debian, root and 20 minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml

from deploy.compose_check.bases import PYTHON, make_stand_ins
from deploy.compose_check.books import faults, is_settled
from deploy.compose_check.engine import Engine, Failed, engine_for
from deploy.compose_check.hardening import look
from deploy.compose_check.project import Project
from lab.processes import ROOT, Missing, wait_for

CALLS = 500
_PER_SECOND = 4
_SERVICES = ("receiver", "worker", "valkey", "prometheus")
_IMAGES = ("callvault-check:1", "callvault-check:2")
_WEBHOOKS = "http://receiver:8080/webhooks/telnyx"
_ALERT_SECONDS = 400
_LIST = r"cd /opt/callvault; find . -mindepth 1 -printf '%p %m %U:%G %T@ %l\n'; find . -type f -exec sha256sum {} +"


@contextmanager
def step(what: str) -> Iterator[list[str]]:
    """Print a step's time, its name and what it found."""
    started, found = time.monotonic(), list[str]()
    try:
        yield found
    except BaseException as error:
        end = "interrupted" if isinstance(error, KeyboardInterrupt) else "FAILED"
        print(f"{time.monotonic() - started:6.1f} s  {end}: {what}", flush=True)
        raise
    print(f"{time.monotonic() - started:6.1f} s  {what}{': ' if found else ''}{', '.join(found)}", flush=True)


class Check:
    """The steps, in order."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.project = Project(engine, _IMAGES[0])
        self._calls = threading.Thread(target=self._make_calls, daemon=True)
        self._calls_failed: list[str] = []

    def run(self) -> None:
        """Run all steps.

        Raises:
            Failed: a step found a fault.
        """
        self._build()
        try:
            self._start()
            self._look()
            self._calls.start()
            self._kill_each()
            self._restart()
            self._upgrade()
            self._calls.join(3 * CALLS / _PER_SECOND)
            self._compare(CALLS)
            self._verify()
            self._restart_engine()
            self._alerts()
        finally:
            with step("remove containers, volumes and images"):
                self.project.remove()
                with suppress(Failed):
                    self.engine.docker("rmi", "--force", *_IMAGES)

    def _build(self) -> None:
        files = []
        for number, image in enumerate(_IMAGES, 1):
            with step(f"build {image} without a cache") as found:
                options = ("--network", "host", "--no-cache", "--label", f"callvault.check={number}", "--tag", image)
                self.engine.docker("build", *options, str(ROOT), seconds=1200)
                files.append(self.engine.docker("run", "--rm", "--entrypoint", "sh", image, "-c", _LIST, seconds=120))
                found.append(f"{self.engine.docker('images', '--format', '{{.Size}}', image).strip()} with its base")
        with step("compare the files of both builds") as found:
            if differ := {*files[0].splitlines()} ^ {*files[1].splitlines()}:
                raise Failed(f"two builds from the same sources differ: {sorted(differ)[:6]}")
            found.append("names, owners, rights, dates and hashes are the same")

    def _start(self) -> None:
        with step("start the simulated Telnyx") as found:
            self.project.compose("up", "--detach", "--no-build", "telnyx")
            wait_for(self._telnyx_answers, 60, "the answer of the simulated Telnyx", 0.5)
            lines = self.project.compose("logs", "--no-color", "--no-log-prefix", "telnyx").splitlines()
            facts = json.loads(next(line for line in lines if line.startswith("{")))
            self.project.environment |= {"TELNYX_API_KEY": facts["api_key"], "TELNYX_PUBLIC_KEY": facts["public_key"]}
            found.append(facts["base_url"])
        with step("create the archive: `docker compose run --rm worker init`"):
            self.project.compose("up", "--detach", "--no-build", "--wait", "valkey")
            self.project.callvault("init")
        with step("start everything: `docker compose up`") as found:
            self.project.compose("up", "--detach", "--no-build", *_SERVICES)
            number = self.project.wait_until_healthy(*_SERVICES)
            self.project.get("receiver", "/readyz")
            found.append(f"{number} containers run and are healthy")

    def _telnyx_answers(self) -> bool:
        with suppress(httpx.HTTPError):
            self.project.get("telnyx", "/_sandbox/books")
            return True
        return False

    def _look(self) -> None:
        with step("look at users, capabilities, roots and limits") as found:
            found += look(self.engine, self.project.containers(*_SERVICES))
        with step("health of other commands: `sandbox`, `up --sandbox`") as found:
            self.project.compose("--profile", "sandbox", "up", "--detach", "--no-build", "--no-deps", "sandbox")
            self.project.wait_until_healthy("sandbox", "telnyx")
            self.project.get("sandbox", "/readyz")
            shown = self._ask_health("sandbox"), self._ask_health("telnyx")
            found += [line for one in shown for line in one.splitlines()]
            started = time.monotonic()
            self.project.compose("stop", "sandbox")
            found.append(f"`up` stopped in {time.monotonic() - started:.1f} s")
            self.project.compose("rm", "--force", "--volumes", "sandbox")

        with step("disposal, which is off unless its profile is asked for") as found:
            if self.project.containers("disposal"):
                raise Failed("a container disposes though nobody asked for it")
            self.project.compose("--profile", "disposal", "up", "--detach", "--no-build", "disposal")
            self.project.wait_until_healthy("disposal")
            found += look(self.engine, self.project.containers("disposal"))
            found += self._ask_health("disposal").splitlines()
            found.append(self.project.logs("disposal").strip().splitlines()[-1])

    def _ask_health(self, service: str) -> str:
        return self.project.compose("exec", "-T", service, "callvault", "healthy", "--container")

    def _make_calls(self) -> None:
        calls = {"count": CALLS, "webhook_url": _WEBHOOKS, "per_second": _PER_SECOND}
        calls |= {"seconds": 4, "mp3": 7, "both_formats": 11, "transcribed": 5, "duplicated": 9}
        try:
            self.project.command("calls", calls, seconds=3 * CALLS / _PER_SECOND)
        except httpx.HTTPError as error:
            self._calls_failed.append(f"the calls ended early: {error!r}")

    def _kill_each(self) -> None:
        for service in _SERVICES:
            for number, container in enumerate(self.project.containers(service), 1):
                with step(f"kill {service} {number} under load") as found:
                    self.project.kill(container)
                    wait_for(partial(self._was_restarted, container), 60, "its restart", 0.5)
                    self.project.wait_until_healthy(service)
                    found.append("started again, healthy")

    def _was_restarted(self, before: dict[str, Any]) -> bool:
        now = self._inspect(before)
        return bool(now["RestartCount"] > before["RestartCount"] and now["State"]["Running"])

    def _inspect(self, container: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.engine.docker("inspect", container["Id"]))[0]
        return found

    def _restart(self) -> None:
        with step("restart the project under load: `docker compose restart`"):
            self.project.compose("restart", *_SERVICES)
            self.project.wait_until_healthy(*_SERVICES)

    def _upgrade(self) -> None:
        with step("upgrade under load: another image, `docker compose up`") as found:
            self.project.image = _IMAGES[1]
            self.project.compose("up", "--detach", "--no-build", *_SERVICES)
            self.project.wait_until_healthy(*_SERVICES)
            images = {one["Config"]["Image"] for one in self.project.containers("receiver", "worker")}
            if images != {_IMAGES[1]}:
                raise Failed(f"receivers and workers run {images}")
            found.append(f"receiver and workers run {_IMAGES[1]}")
            found.append(f"calls {'still come' if self._calls.is_alive() else 'had ended'}")

    def _compare(self, count: int) -> None:
        archive = self.project.archive()
        with step(f"wait until {count} calls are archived and their originals deleted") as found:
            try:
                wait_for(lambda: len(rows := self._rows()) >= count and is_settled(archive, rows), 240, "", 2)
            except AssertionError:  # the next step says what is wrong
                found.append("some are not, after 240 s")
        with step("compare Telnyx's books with the archive") as found:
            books = self.project.get("telnyx", "/_sandbox/books").json()
            rows = books["recordings"]
            wrong = faults(archive, rows) + list(books["misuse"]) + self._calls_failed
            if len(rows) != count:
                wrong.append(f"{len(rows)} recordings were made, not {count}")
            if wrong:
                raise Failed(f"{len(wrong)} faults: " + "; ".join(wrong[:10]))
            found.append(f"{len(rows)} recordings archived once, none lost, none deleted early")
            found.append(f"webhooks {books['deliveries']}")

    def _verify(self) -> None:
        with step("`callvault verify --deep` and `--seals`") as found:
            found.append(self.project.callvault("verify", "--deep").strip().splitlines()[-1])
            self.project.callvault("verify", "--seals")

    def _restart_engine(self) -> None:
        if self.engine.server is None:
            return  # other containers may run on the machine's own
        with step("restart the engine, which starts containers in any order") as found:
            self.engine.restart()
            self.project.wait_until_healthy("telnyx", *_SERVICES)
            self.project.command("calls", {"count": 20, "webhook_url": _WEBHOOKS})
            found.append("20 calls more")
        self._compare(20)  # the simulated Telnyx has forgotten the calls before

    def _rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.project.get("telnyx", "/_sandbox/books").json()["recordings"]
        return rows

    def _alerts(self) -> None:
        with step("Prometheus scrapes every target") as found:
            wait_for(lambda: {*self._targets().values()} == {"up"}, 90, f"scrapes of {self._targets()}", 2)
            found += self._targets()
        with step("alert of many dead letters, and of no worker"):
            self.project.environment["CHECK_RECONCILE_EVERY"] = "1h"  # a reconcile archives what a dead letter is about
            self.project.compose("up", "--detach", "--no-build", *_SERVICES)
            self.project.wait_until_healthy(*_SERVICES)
            self.project.command("faults", {"download_page": 1.0})
            calls = {"count": 12, "webhook_url": _WEBHOOKS}
            self.project.command("calls", calls)
            self._wait_for_alert("CallvaultDeadLetters")
            self.project.compose("stop", "worker")
            self._wait_for_alert("CallvaultNoWorker")
        with step("alert of a receiver that does not answer"):
            self.project.compose("stop", "receiver")
            self._wait_for_alert("CallvaultReceiverDown")
        with step("retry the dead letters; no alert is left"):
            self.project.command("faults", {"download_page": 0.0})
            self.project.compose("start", "receiver", "worker")
            self.project.wait_until_healthy(*_SERVICES)
            self.project.callvault("dead-letters", "retry", "--all")
            wait_for(lambda: is_settled(self.project.archive(), self._rows()), 240, "the rest's archive", 2)
            wait_for(lambda: not self._firing(), _ALERT_SECONDS, f"the end of {self._firing()}", 3)
        wrong = faults(self.project.archive(), self._rows())
        if wrong:
            raise Failed("; ".join(wrong[:10]))

    def _targets(self) -> dict[str, str]:
        answer = self.project.get("prometheus", "/api/v1/targets").json()["data"]["activeTargets"]
        return {one["scrapeUrl"]: one["health"] for one in answer}

    def _firing(self) -> set[str]:
        answer = self.project.get("prometheus", "/api/v1/alerts").json()["data"]["alerts"]
        return {one["labels"]["alertname"] for one in answer if one["state"] == "firing"}

    def _wait_for_alert(self, name: str) -> None:
        wait_for(lambda: name in self._firing(), _ALERT_SECONDS, f"the alert {name}", 3)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run the check in a folder of its own; returns the exit status."""
    if os.geteuid() != 0:
        print("compose-check must run as root, because it kills processes of containers; run it with sudo")
        return 1
    signal.signal(signal.SIGTERM, _stop)
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    images = [PYTHON, *(compose[name]["image"] for name in ("valkey", "prometheus"))]
    folder = Path(tempfile.mkdtemp(prefix="callvault-compose-", dir="/var/tmp"))
    started = time.monotonic()
    try:
        with engine_for(folder, images) as engine:
            if engine.server is not None:
                with step("make stand-ins for published images"):
                    make_stand_ins(engine, folder, images)
            Check(engine).run()
    except KeyboardInterrupt:
        return 130
    except (Failed, Missing, AssertionError, httpx.HTTPError) as error:
        print(f"compose-check failed: {error}")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"compose-check passed in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
