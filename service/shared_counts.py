"""The metrics of all processes of one `callvault serve`: each writes its own to a file, and each reads all files.

Whichever process Prometheus reaches, it gets the same sums, and they never fall: the file of a process that ended stays. The
files lie in a temporary folder of this start, so they need no Redis, and a new start counts from zero. Counting costs nothing
more than in one process, since a file is written every two seconds and not with each webhook.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from prometheus_client import Metric
from prometheus_client.registry import Collector

from config.settings import SERVE_METRICS
from process.logs import get_logger
from text.one_line import one_line

_STARTED = ".started"

log = get_logger()

_Sample = tuple[str, dict[str, str], float]
_Family = tuple[str, str, str, list[_Sample]]  # name, meaning, type, samples
_FAMILIES = msgspec.msgpack.Decoder(list[_Family])
_ENCODER = msgspec.msgpack.Encoder()


class SharedCounts:
    """The metrics of this process in a folder with those of the others.

    Args:
        folder: the folder; None: there are no others.
        own: the metrics of this process.
    """

    def __init__(self, folder: Path | None, own: Collector) -> None:
        self._folder = folder
        self._own = own
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._written = b""

    def started_at(self) -> float:
        """When the first process started, in seconds since the epoch; of a process alone, now."""
        if self._folder is not None:
            with suppress(OSError, ValueError):
                return float((self._folder / _STARTED).read_text())
        return time.time()

    def write(self) -> None:
        """Write the metrics of this process, if they have changed or their file is gone; a full disk makes them old."""
        if self._folder is None:
            return
        data = _ENCODER.encode(
            [
                (one.name, one.documentation, one.type, [(s.name, s.labels, s.value) for s in one.samples])
                for one in self._own.collect()
            ]
        )
        if data != self._written or not (self._folder / self._name).exists():
            with suppress(OSError):
                unfinished = self._folder / f".{self._name}"
                unfinished.write_bytes(data)
                unfinished.replace(self._folder / self._name)
                self._written = data

    def collect(self) -> Iterable[Metric]:
        """The metrics of all processes, summed; those of the others are up to two seconds old, and so are this one's own."""
        if self._folder is None:
            return self._own.collect()
        if not self._written:
            self.write()
        if not self._folder.is_dir():  # some systems empty the temporary folder now and then
            return self._own.collect()
        found: dict[str, Metric] = {}
        sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        samples: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[str, str, dict[str, str]]] = {}
        for family, meaning, kind, rows in self._families():
            found.setdefault(family, Metric(family, meaning, kind))
            for name, labels, value in rows:
                key = (name, tuple(sorted(labels.items())))
                samples[key] = (family, name, labels)
                is_time = name.endswith("_created")  # of the first process
                sums[key] = min(sums.get(key, value), value) if is_time else sums.get(key, 0.0) + value
        for key, (family, name, labels) in samples.items():
            found[family].add_sample(name, labels, sums[key])
        return found.values()

    def _families(self) -> Iterable[_Family]:
        assert self._folder is not None  # noqa: S101
        for path in sorted(self._folder.iterdir()):
            if not path.name.startswith("."):
                with suppress(OSError, msgspec.MsgspecError):
                    yield from _FAMILIES.decode(path.read_bytes())


@contextmanager
def shared_folder() -> Iterator[None]:
    """Make the folder for the processes that are started in the block; without a writable disk, each counts for itself."""
    try:
        made = tempfile.TemporaryDirectory(prefix="callvault-metrics-")  # only this user can open it
        (Path(made.name) / _STARTED).write_text(str(time.time()))
    except OSError as error:
        log.warning("metrics are of one process only, since no temporary folder can be made", error=one_line(error))
        yield
        return
    with made:
        os.environ[SERVE_METRICS] = made.name
        yield


def folder_of_environment() -> Path | None:
    """The folder that the first process has made; None: this process is alone."""
    name = os.environ.get(SERVE_METRICS)
    return Path(name) if name else None
