from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.contract import emulators
from tests.contract.emulators import Emulator

STORES = ("file", "s3-strict", "s3-strict-tls", "s3-weak", "gcs", "azure")


@pytest.fixture(scope="session", params=STORES)
def emulator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Every store in turn, each on a real server."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "file":
        yield Emulator("file", folder.as_uri(), rclone=str(folder))
        return
    makers: dict[str, Callable[[], AbstractContextManager[Emulator]]] = {
        "s3-strict": emulators.s3_strict,
        "s3-strict-tls": lambda: emulators.s3_strict_tls(folder),
        "s3-weak": lambda: emulators.s3_weak(folder / "data"),
        "gcs": lambda: emulators.gcs(folder),
        "azure": emulators.azure,
    }
    with makers[request.param]() as running:
        yield running


@pytest.fixture
def download_folder(tmp_path: Path) -> Path:
    return tmp_path / "copy"
