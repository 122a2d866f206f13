"""Commands start fast because each imports only what it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_SLOW = {
    "apprise", "arq", "azure", "boto3", "botocore", "cryptography", "httpx", "prometheus_client",
    "pydantic", "pydantic_settings", "redis", "rich", "starlette", "structlog", "uvicorn",
}  # fmt: skip

_PROGRAM = """
import sys
sys.argv = ["callvault", *sys.argv[1:]]
from cli.main import main
try:
    main()
except SystemExit:
    pass
print("\\n" + " ".join(sorted({name.partition(".")[0] for name, module in sys.modules.items() if module})))
"""


def imported_by(*arguments: str, folder: Path) -> set[str]:
    """The packages that a command has imported when it ends."""
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={"CALLVAULT_DATA": str(folder)},
    )
    return set(ran.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_imports_nothing_that_is_slow(arguments: list[str], tmp_path: Path) -> None:
    assert not imported_by(*arguments, folder=tmp_path) & _SLOW


@pytest.mark.parametrize(
    "words", ["nothing-of-the-kind", *(f"{name} --help" for name in ("find", "status", "serve", "worker", "up"))]
)
def test_the_help_of_a_command_does_not_import_its_modules(words: str, tmp_path: Path) -> None:
    assert not imported_by(*words.split(), folder=tmp_path) & (_SLOW - {"pydantic"})  # typer checks for pydantic


def test_a_search_and_a_status_import_no_client_and_no_store(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    subprocess.run(
        [sys.executable, "-m", "cli.main", "init"],
        check=True,
        capture_output=True,
        env={"CALLVAULT_DATA": str(folder)},
    )
    needed = {
        "pydantic",
        "pydantic_settings",
        "redis",
        "cryptography",
    }  # redis checks only whether the last is installed
    found = imported_by("find", folder=folder) & (_SLOW - needed)
    assert not found, found
    assert not imported_by("status", folder=folder) & (_SLOW - needed - {"arq"})
