"""The systemd units are valid and hardened, match the code, and the processes tell systemd how they are."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from config.settings import names_of_secrets, names_of_settings
from lab.processes import ROOT, Process, free_port, run_callvault, wait_for
from lab.webhooks import Signer
from process.alive import LONGEST_SILENCE_SECONDS
from service.main import DRAIN_SECONDS as RECEIVER_SECONDS
from tests.test_deploy import SDKS
from workers.disposal_main import DRAIN_SECONDS as DISPOSAL_SECONDS
from workers.main import DRAIN_SECONDS as WORKER_SECONDS
from workers.queue.embedded import EmbeddedServer

UNITS = ROOT / "deploy" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
WORST_EXPOSURE = 2.5


class Unit(configparser.RawConfigParser):
    """A unit file; of a name that stands there several times, the last counts."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False, comment_prefixes=("#",))
        self.read(UNITS / name)

    def optionxform(self, optionstr: str) -> str:
        """Keep a name as it is written."""
        return optionstr


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("skipped because systemd-analyze is not installed")
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_there_is_a_unit_for_each_part() -> None:
    assert [f"callvault-{name}.service" for name in ("disposal", "receiver", "valkey", "worker@")] == SERVICES


@pytest.mark.parametrize("name", SERVICES)
def test_each_is_hardened(name: str) -> None:
    done = analyze("security", "--offline=true", f"--threshold={WORST_EXPOSURE * 10:.0f}", str(UNITS / name))
    assert done.returncode == 0, done.stdout + done.stderr
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert float(exposure) < WORST_EXPOSURE


def test_a_unit_that_may_do_everything_is_found(tmp_path: Path) -> None:
    (tmp_path / "open.service").write_text("[Service]\nExecStart=/bin/true\n")
    assert analyze("security", "--offline=true", "--threshold=25", str(tmp_path / "open.service")).returncode != 0


def test_systemd_accepts_every_line(tmp_path: Path) -> None:
    for path in UNITS.iterdir():
        text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", path.read_text())  # nothing is installed here
        (tmp_path / path.name.replace("@.", "@1.")).write_text(text)
    files = [str(path) for path in sorted(tmp_path.iterdir()) if path.suffix in (".service", ".target")]
    done = analyze("verify", "--man=no", *files)
    told = [line for line in (done.stdout + done.stderr).splitlines() if "callvault" in line]
    assert (done.returncode, told) == (0, []), done.stderr


def test_a_wrong_line_is_found(tmp_path: Path) -> None:
    (tmp_path / "wrong.service").write_text("[Service]\nExecStart=/bin/true\nStopTimeout=3\n")
    assert "StopTimeout" in analyze("verify", "--man=no", str(tmp_path / "wrong.service")).stderr


def test_a_process_gets_longer_to_end_than_it_takes() -> None:
    units = ("receiver", "worker@", "disposal")
    receiver, worker, disposal = (Unit(f"callvault-{name}.service")["Service"] for name in units)
    assert (receiver["TimeoutStopSec"], worker["TimeoutStopSec"], disposal["TimeoutStopSec"]) == ("15", "40", "40")
    assert RECEIVER_SECONDS + 2 < 15 and WORKER_SECONDS + 5 < 40 and DISPOSAL_SECONDS + 5 < 40
    for service in (receiver, worker, disposal):
        assert service["Type"] == "notify" and float(service["WatchdogSec"]) > LONGEST_SILENCE_SECONDS


@pytest.mark.parametrize(
    "name", ["callvault-receiver.service", "callvault-worker@.service", "callvault-disposal.service"]
)
def test_the_commands_exist_and_secrets_stand_in_no_unit(name: str) -> None:
    service = Unit(name)["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    assert program.endswith("/callvault") and run_callvault([*arguments, "--help"]).returncode == 0
    known = {*names_of_settings()}
    text = (UNITS / name).read_text()
    assert given_in("callvault.env") <= known and "TELNYX_API_KEY" in given_in("callvault.env")
    set_here = set(re.findall(r"(?m)^Environment=.*?\b([A-Z_]+)=", text))
    assert not set_here & {*names_of_secrets()}
    assert re.findall(r"(?m)^EnvironmentFile=(.*)$", text)[0] == "/etc/callvault/callvault.env"


def given_in(file: str, *, hints: bool = False) -> set[str]:
    """The variables of an environment file; with `hints`, those of its commented lines too."""
    lines = (UNITS / file).read_text().splitlines()
    return {found[1] for line in lines if (found := re.match(f"{'#?' if hints else ''}([A-Z_]+)=", line))}


def test_only_the_unit_that_disposes_has_the_credentials_that_may_delete_and_it_has_no_key_of_telnyx() -> None:
    readers = [name for name in SERVICES if "disposal.env" in (UNITS / name).read_text()]
    assert readers == ["callvault-disposal.service"]
    text = (UNITS / "callvault-disposal.service").read_text()
    assert re.findall(r"(?m)^EnvironmentFile=(.*)$", text) == [
        "/etc/callvault/callvault.env",
        "/etc/callvault/disposal.env",
    ], "of a variable in both, the second has the say"
    known = {*names_of_settings()}
    hinted = given_in("disposal.env", hints=True)
    assert {name for name in hinted - known if not SDKS.fullmatch(name)} == set() and given_in("disposal.env") == set()
    assert {"CALLVAULT_SEAL_KEY", "CALLVAULT_DISPOSE_HOURS", "AWS_ACCESS_KEY_ID"} <= hinted
    secrets = {*names_of_secrets()} & given_in("callvault.env", hints=True) - {"REDIS_URL", "CALLVAULT_ALERT_URLS"}
    removed = set(Unit("callvault-disposal.service")["Service"]["UnsetEnvironment"].split())
    assert removed == secrets | {f"{name}_FILE" for name in secrets}
    assert "disposal" not in (UNITS / "callvault.target").read_text(), "whoever enables the target enables no disposal"


def test_the_valkey_keeps_what_it_must() -> None:
    text = (UNITS / "callvault-valkey.service").read_text().replace("\\\n", " ")
    (command,) = re.findall(r"(?m)^ExecStart=(.*)$", text)
    words = shlex.split(command)
    pairs = dict(zip(words[1::2], words[2::2], strict=True))
    assert (pairs["--appendonly"], pairs["--appendfsync"], pairs["--maxmemory-policy"]) == (
        "yes",
        "always",
        "noeviction",
    )
    assert pairs["--maxmemory"] == "1gb", "a full one answers, and receivers answer 503"
    assert f"unix://{pairs['--unixsocket']}" in (UNITS / "callvault.env").read_text()


class Listener:
    """What processes with `environment` tell systemd."""

    def __init__(self, path: Path) -> None:
        self.environment = {"NOTIFY_SOCKET": str(path)}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.told: list[str] = []

    def has(self, state: str) -> bool:
        """Whether a state came since `told` was cleared."""
        with suppress(BlockingIOError):
            while True:
                self.told.append(self._socket.recv(1000).decode())
        return state in self.told


@pytest.fixture
def systemd(tmp_path: Path) -> Listener:
    return Listener(tmp_path / "notify")


@pytest.fixture
def of_receiver(valkey: EmbeddedServer, tmp_path: Path, systemd: Listener) -> dict[str, str]:
    settings = {"REDIS_URL": valkey.url, "CALLVAULT_DATA": str(tmp_path / "data")}
    return systemd.environment | settings | {"TELNYX_PUBLIC_KEY": Signer().public_key}


def assert_ready_and_alive(systemd: Listener) -> None:
    wait_for(lambda: systemd.has("READY=1"), 30, "the word that it is ready")
    systemd.told.clear()
    wait_for(lambda: systemd.has("WATCHDOG=1"), 10, "a sign of life")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_receiver_says_that_it_is_ready_and_that_it_is_alive(
    systemd: Listener, of_receiver: dict[str, str], processes: int
) -> None:
    port = free_port()
    command = ["callvault", "serve", "--port", str(port), "--processes", str(processes)]
    with Process(command, of_receiver) as receiver:
        wait_for(lambda: systemd.has("READY=1"), 30, "the word that it is ready")
        socket.create_connection(("127.0.0.1", port), 5).close()
        systemd.told.clear()
        wait_for(lambda: systemd.has("WATCHDOG=1"), 10, "a sign of life")
        assert receiver.stop() == 0


def test_a_receiver_whose_port_is_taken_is_not_ready(systemd: Listener, of_receiver: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run_callvault(["serve", "--port", str(taken.getsockname()[1])], of_receiver)
    assert (done.returncode, systemd.has("READY=1")) == (3, False)


def test_a_worker_says_that_it_is_ready_and_alive(systemd: Listener, environment: dict[str, str]) -> None:
    with Process(["callvault", "worker"], environment | systemd.environment):
        assert_ready_and_alive(systemd)


def test_the_process_that_disposes_says_that_it_is_ready_and_alive(
    systemd: Listener, environment: dict[str, str]
) -> None:
    without_key = {name: value for name, value in environment.items() if name != "TELNYX_API_KEY"}
    with Process(["callvault", "worker", "--dispose"], without_key | systemd.environment) as disposer:
        assert_ready_and_alive(systemd)
        assert disposer.stop() == 0


def test_without_an_archive_no_worker_is_ready(
    systemd: Listener, environment: dict[str, str], archive_folder: Path
) -> None:
    shutil.rmtree(archive_folder)
    assert run_callvault(["worker"], environment | systemd.environment).returncode != 0
    assert not systemd.has("READY=1")
