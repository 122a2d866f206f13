"""`callvault healthy`, with real processes that hang and are killed."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.processes import CLEAN, callvault, free_port, is_allowed, receiver, run_callvault, wait_for
from lab.webhooks import Signer


def test_healthy_recognizes_live_hanging_and_missing_processes(environment: dict[str, str], tmp_path: Path) -> None:
    here = environment | {"TMPDIR": str(tmp_path), "TELNYX_PUBLIC_KEY": Signer().public_key}
    nobody = run_callvault(["healthy"], here)
    assert (nobody.returncode, nobody.stdout) == (1, "")
    where = f"data folder {here['CALLVAULT_DATA']}"
    assert nobody.stderr == f"callvault: no receiver or worker runs on this machine for {where}\n"
    with (
        callvault(["worker"], here, "worker ready") as worker,
        receiver(here) as (_, serve),
    ):
        names = [f"serve-{serve.pid}", f"worker-{worker.pid}"]
        wait_for(lambda: run_callvault(["healthy"], here).stdout == "".join(f"{name} alive\n" for name in names))
        assert run_callvault(["healthy"], here).returncode == 0
        shutil.rmtree(next(tmp_path.glob("callvault-alive-*")))  # as a cleaner of temporary folders does
        wait_for(lambda: run_callvault(["healthy"], here).stdout.count(" alive\n") == 2)
        worker.send_signal(signal.SIGSTOP)
        file = next(tmp_path.glob("callvault-alive-*/worker-*"))
        file.write_text(f"{time.monotonic() - 31}")  # as if it had been stopped for so long
        hanging = run_callvault(["healthy"], here)
        told = re.search(rf"^{names[1]} hangs: no sign of life for (\d+)s$", hanging.stdout, re.MULTILINE)
        assert hanging.returncode == 1 and told and 31 <= int(told[1]) <= 60, hanging.stdout
        worker.send_signal(signal.SIGCONT)
        wait_for(lambda: run_callvault(["healthy"], here).returncode == 0)
        worker.stop(signal.SIGKILL)
        missed = run_callvault(["healthy"], here)
        assert (missed.returncode, missed.stdout) == (1, f"{names[0]} alive\n")
        assert missed.stderr.startswith(f"callvault: {names[1]} was killed and not replaced; start another, or remove ")
        other = run_callvault(["healthy", "--data", str(tmp_path / "other")], here)
        assert (other.returncode, other.stdout) == (1, ""), "another installation does not see these"
        with callvault(["worker"], here, "worker ready"):
            wait_for(lambda: run_callvault(["healthy"], here).returncode == 0)
        assert serve.stop() == 0
    assert run_callvault(["healthy"], here).returncode == 1


def test_a_worker_that_waits_for_redis_is_alive(environment: dict[str, str], tmp_path: Path) -> None:
    here = environment | {"TMPDIR": str(tmp_path), "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with callvault(["worker"], here, "Redis does not answer yet") as worker:
        assert run_callvault(["healthy"], here).stdout == f"worker-{worker.pid} alive\n"


NAMESPACES = ("unshare", "--map-root-user", "--pid", "--net", "--mount-proc", "--fork", "--kill-child")
NEITHER = "this container runs neither receiver nor worker; other commands show no sign of life"


@pytest.mark.parametrize(
    ("runs", "status", "shown"),
    [
        ("true", 0, NEITHER),
        ("callvault sandbox --port 0", 0, NEITHER),
        ("callvault serve --data other", 0, "serve-[0-9]+ alive"),
        ("callvault up --sandbox", 0, "worker-[0-9]+ alive"),
        (
            "callvault worker & until grep -q callvault /proc/$!/comm; do sleep 0.05; done; kill -STOP $!",
            1,
            "callvault: `callvault worker` shows no sign of life",
        ),
        ("callvault init && callvault worker --dispose", 0, "dispose-[0-9]+ alive"),
        (
            "callvault worker --dispose & until grep -q callvault /proc/$!/comm; do sleep 0.05; done; kill -STOP $!",
            1,
            "callvault: `callvault worker --dispose` shows no sign of life",
        ),
    ],
)
def test_a_container_is_healthy_if_its_command_is(tmp_path: Path, runs: str, status: int, shown: str) -> None:
    """Each runs in a process namespace of its own, as in a container."""
    if not is_allowed(*NAMESPACES, "ip", "link", "set", "lo", "up"):
        pytest.skip("skipped because this machine allows no namespaces, or `ip` is not installed")
    script = f"""
    ip link set lo up
    {runs} & sleep 1
    for try in $(seq 50); do
      callvault healthy --container >out 2>&1; status=$?
      grep -qxE '{shown}' out && [ "$status" = {status} ] && break  # `up` starts its processes one by one
      sleep 0.6
    done
    cat out; exit $status"""
    done = subprocess.run(
        [*NAMESPACES, "sh", "-c", script],
        env=CLEAN
        | {"PATH": f"{Path(sys.executable).parent}:{CLEAN['PATH']}", "TMPDIR": str(tmp_path)}
        | {"CALLVAULT_DATA": str(tmp_path / "d"), "TELNYX_PUBLIC_KEY": Signer().public_key},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert re.search(f"^{shown}$", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert done.returncode == status, done.stdout
