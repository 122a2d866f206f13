"""What tests of stores that speak S3 in their own way share: what they put, and how; `play` is a fixture of `conftest.py`."""

from __future__ import annotations

import random
from collections.abc import Callable

from archive.archive import Archive
from archive.proof import ProofMode
from archive.records import ArchivedObject
from archive.stores.store import Store
from lab.awkward import AwkwardS3
from lab.stores import PART

SMALL = random.Random(1).randbytes(1000)
LARGE = random.Random(2).randbytes(11 * PART // 5)
SIZES = {"small": SMALL, "large": LARGE}

Play = Callable[..., tuple[Store, AwkwardS3]]


def put(store: Store, data: bytes, mode: ProofMode = "store") -> ArchivedObject:
    chunks = (data[i : i + 65536] for i in range(0, len(data), 65536))
    return Archive(store, mode).put("recordings/a.wav", chunks, "audio/wav")
