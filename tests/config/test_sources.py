"""Secrets from files, and where each setting comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from config.secret_files import SUFFIX
from config.settings import SETTINGS, SettingsError, load_settings, names_of_secrets, names_of_settings
from config.sources import settings_in_force, written_value
from lab.processes import Process, callvault, free_port, run_callvault
from lab.webhooks import Signer

SECRET = "a-very-secret-value"
_VALUES = {
    "REDIS_URL": f"redis://user:{SECRET}@host:6379/0",
    "CALLVAULT_ALERT_URLS": f"json://{SECRET}@host json://other/{SECRET}",
    "CALLVAULT_WITNESS_URLS": f"json://{SECRET}@host",
}


@pytest.mark.parametrize("name", names_of_secrets())
@pytest.mark.parametrize("end", ["", "\n", "\r\n\n"])
def test_every_secret_comes_from_a_file_as_from_the_environment(
    name: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = _VALUES.get(name, SECRET)
    monkeypatch.setenv(name, value)
    expected = load_settings()
    monkeypatch.delenv(name)
    path = tmp_path / "secret"
    path.write_bytes(value.encode() + end.encode())
    monkeypatch.setenv(name + SUFFIX, str(path))
    assert load_settings() == expected
    (row,) = [row for row in settings_in_force(load_settings()) if row.name == name]
    assert (row.source, row.file) == ("file", str(path))


def _as_it_is(path: Path) -> None:
    path.write_text(f"{SECRET}\n")


def _empty(path: Path) -> None:
    path.write_text("\n")


def _missing(path: Path) -> None:
    pass


def _binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_empty, "is empty"),
        (_missing, "No such file or directory"),
        (_binary, "is not text in UTF-8"),
        (_endless, "is larger than 64 KiB"),
        (_folder, "Is a directory"),
    ],
)
def test_a_file_that_holds_no_secret_ends_the_start_with_one_line(
    make: Callable[[Path], None], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    make(path)
    monkeypatch.setenv("TELNYX_API_KEY_FILE", str(path))
    with pytest.raises(SettingsError) as caught:
        load_settings()
    line = str(caught.value)
    assert line.startswith("TELNYX_API_KEY_FILE: ") and str(path) in line and why in line and "\n" not in line
    assert "expected the path of a file" in line


def test_a_value_and_a_file_for_one_secret_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _as_it_is(tmp_path / "secret")
    monkeypatch.setenv("CALLVAULT_OPS_TOKEN_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("CALLVAULT_OPS_TOKEN", SECRET)
    with pytest.raises(SettingsError, match="CALLVAULT_OPS_TOKEN_FILE: CALLVAULT_OPS_TOKEN is set too"):
        load_settings()
    monkeypatch.setenv("CALLVAULT_OPS_TOKEN", "")  # as if it was not set
    assert load_settings().ops_token is not None


def test_an_unusable_secret_in_a_file_names_the_file_and_not_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text(f"http://user:{SECRET}@host")
    monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "secret"))
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith("REDIS_URL_FILE: ") and str(tmp_path / "secret") in str(caught.value)
    assert SECRET not in str(caught.value)


def test_every_default_is_written_as_a_value_that_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for attribute, row in SETTINGS.items():
        written = written_value(row.name, row.default)
        if written is None:
            continue
        with monkeypatch.context() as here:
            here.setenv(row.name, written)
            assert getattr(load_settings(), attribute) == row.default


def test_config_shows_the_value_and_the_source_of_each_setting_and_no_secret(tmp_path: Path) -> None:
    _as_it_is(tmp_path / "secret")
    environment = {
        "TELNYX_API_KEY_FILE": str(tmp_path / "secret"),
        "REDIS_URL": f"redis://:{SECRET}@host/0",
        "CALLVAULT_QUIET_HOURS": "22-6",
        "CALLVAULT_TIMESTAMP_URL": f"https://user:{SECRET}@host/stamp",
        "CALLVAULT_ALERT_SEVERITIES": "drift=off",
        "CALLVAULT_DELETE_AFTR": "1h",
        "CALLVAULT_DATA": "/elsewhere",
    }
    done = run_callvault(["config", "--json", "--data", str(tmp_path)], environment)
    report = json.loads(done.stdout)
    assert (done.returncode, SECRET in done.stdout + done.stderr) == (0, False)
    rows = {row["name"]: row for row in report["settings"]}
    assert set(rows) == {*names_of_settings()}
    found = {name: (row["value"], row["source"]) for name, row in rows.items()}
    assert found["CALLVAULT_DATA"] == (str(tmp_path), "command line")
    assert found["CALLVAULT_ARCHIVE_URL"] == ((tmp_path / "archive").as_uri(), "default")
    assert found["CALLVAULT_DELETE_ORIGINALS"] == ("never", "default")
    assert found["CALLVAULT_QUIET_HOURS"] == ("22-06", "environment")
    assert found["CALLVAULT_ALERT_SEVERITIES"] == ("drift=off", "environment")
    assert found["CALLVAULT_TIMESTAMP_URL"] == ("https://hidden@host/stamp", "environment")
    assert rows["TELNYX_API_KEY"]["file"] == str(tmp_path / "secret") and rows["TELNYX_API_KEY"]["is_secret"]
    assert report["unknown"] == ["CALLVAULT_DELETE_AFTR is not a setting; did you mean CALLVAULT_DELETE_AFTER?"]
    assert f"callvault: {report['unknown'][0]}\n" == done.stderr

    text = run_callvault(["config"], environment).stdout
    assert SECRET not in text and str(tmp_path / "secret") in text and "22-06" in text


def test_a_password_in_a_url_is_hidden_whole_in_a_value_and_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for password in (SECRET, f"a@{SECRET}", f"{SECRET}@b:c"):
        assert written_value("CALLVAULT_TIMESTAMP_URL", f"https://me:{password}@host/a@b") == "https://hidden@host/a@b"
        monkeypatch.setenv("CALLVAULT_TIMESTAMP_URL", f"htps://user:{password}@host")
        with pytest.raises(SettingsError, match="cannot use 'htps://hidden@host' ") as caught:
            load_settings()
        assert SECRET not in str(caught.value)


def test_config_ends_with_status_2_on_a_setting_that_cannot_be_used() -> None:
    done = run_callvault(["config", "--json"], {"CALLVAULT_DELETE_AFTER": "soon"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("callvault: CALLVAULT_DELETE_AFTER: cannot use 'soon'")


@pytest.mark.parametrize(
    "arguments",
    [["healthy"], ["find", "--text", "x"], ["telnyx", "recordings", "list"], ["logs", "list"], ["status"], ["config"]],
)
def test_every_command_warns_of_a_variable_that_is_no_setting(arguments: list[str], tmp_path: Path) -> None:
    environment = {"CALLVAULT_DELETE_ORIGINAL": "verified", "CALLVAULT_DATA": str(tmp_path)}
    environment |= {"TELNYX_BASE_URL": f"http://127.0.0.1:{free_port()}"}
    done = run_callvault(arguments, environment)
    meant = "CALLVAULT_DELETE_ORIGINAL is not a setting; did you mean CALLVAULT_DELETE_ORIGINALS?"
    assert done.stderr.count(meant) == 1, done.stderr


def test_receivers_workers_and_up_warn_of_a_variable_that_is_no_setting(environment: dict[str, str]) -> None:
    meant = "CALLVAULT_DELETE_ORIGINAL is not a setting; did you mean CALLVAULT_DELETE_ORIGINALS?"
    wrong = {**environment, "CALLVAULT_DELETE_ORIGINAL": "verified", "TELNYX_PUBLIC_KEY": Signer().public_key}
    for arguments in (["worker"], ["serve", "--port", str(free_port())]):
        with callvault(arguments, wrong, meant) as process:
            line = next(line for line in process.output.splitlines() if meant in line)
            assert json.loads(line)["level"] == "warning"
    with Process(["callvault", "up", "--port", "0"], wrong) as process:
        process.wait_for_output(f"callvault: {meant}")


def test_parts_read_the_secrets_of_files_themselves(environment: dict[str, str], tmp_path: Path) -> None:
    """Also where their supervisor gives them a value of its own, as it does for the sandbox."""
    secrets = {name: environment[name] for name in ("REDIS_URL", "TELNYX_API_KEY")}
    files = {}
    for name, value in secrets.items():
        (tmp_path / name).write_text(f"{value}\n")
        files[name + SUFFIX] = str(tmp_path / name)
    given = {name: value for name, value in environment.items() if name not in secrets} | files
    with Process(["callvault", "worker", "--processes", "2"], given) as process:
        process.wait_for_output("worker ready")
        assert "set too" not in process.output
    (tmp_path / "REDIS_URL").chmod(0)
    if os.geteuid():  # nothing is unreadable to root
        assert "Permission denied" in run_callvault(["status"], given).stderr
    (tmp_path / "REDIS_URL").chmod(0o600)
    with Process(["callvault", "up", "--sandbox", "--port", "0"], given) as process:
        process.wait_for_output("ops pages")
        assert "set too" not in process.output
