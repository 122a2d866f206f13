from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import botocore.session
import pytest

from lab import stores
from lab.stores import Emulator

# Every store, and how to start its server in a folder of its own.
STORES: dict[str, Callable[[Path], AbstractContextManager[Emulator]]] = {
    "file": lambda folder: nullcontext(Emulator("file", folder.as_uri(), rclone=str(folder))),
    "s3-strict": lambda _: stores.s3_strict(),
    "s3-strict-tls": stores.s3_strict_tls,
    "s3-weak": lambda folder: stores.s3_weak(folder / "data"),
    "gcs": stores.gcs,
    "azure": lambda _: stores.azure(),
    "s3-strict-by-boto3": lambda _: stores.s3_strict_by_boto3(),
}


@pytest.fixture(scope="session", autouse=True)
def _one_loader() -> Iterator[None]:
    """Load boto3's service descriptions once a run instead of once a client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session", params=STORES)
def emulator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Every store in turn, each on a real server."""
    with STORES[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture
def download_folder(tmp_path: Path) -> Path:
    return tmp_path / "copy"
