"""Tests whether an S3 endpoint checks the checksums that it is sent, by sending a wrong one."""

from __future__ import annotations

import hashlib
import math
import time
from threading import Lock

from archive.stores.s3_bucket import Bucket, in_base64
from archive.stores.s3_errors import BadDigest, Missing, store_errors
from archive.stores.store import StoreRefused
from process.logs import get_logger

log = get_logger()

_ASK_AGAIN_SECONDS = 3600.0
_PROBE = "probe/checksum"
_PROBE_BODY = b"Callvault asks whether this store checks checksums.\n"


class Checks:
    """Whether a store checks checksums. Several threads use it.

    Attributes:
        known: whether it checks them; None until it has been probed.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._lock = Lock()
        self.known: bool | None = True if bucket.is_aws else None
        self._until = math.inf
        self._is_marked: bool | None = None  # an earlier process found that the store checks none; for readers
        self._may_ask = False

    def probe(self) -> None:
        """Probe the store by a write, now and whenever it matters later. After an outage it is probed again."""
        self._may_ask = True
        self._find_out()

    def look(self) -> None:
        """Learn the answer before an object is described. A process that only reads uses an earlier probe."""
        if self._may_ask:
            self._find_out()
        elif self.known is None and self._is_marked is None:
            self._is_marked = self._has_mark()

    @property
    def are_believed(self) -> bool:
        """Whether the store's checksums count as proof."""
        return bool(self.known or (self.known is None and self._is_marked is False))

    def _find_out(self) -> None:
        if self.known is not None and time.monotonic() < self._until:
            return
        with self._lock:
            if self.known is None or time.monotonic() >= self._until:
                was = self.known
                self.known, self._until = self._refuses_a_wrong_checksum()
                if not self.known and was is None:
                    log.info(
                        "this store does not check checksums; objects are proven by ETag or by reading",
                        store=self._bucket.url,
                    )

    def _refuses_a_wrong_checksum(self) -> tuple[bool, float]:
        """Whether the store refuses a put with a wrong checksum, and until when (monotonic) the answer holds.

        Raises:
            StoreError: the store did not answer; it is probed again before the next object is described.
        """
        wrong = in_base64(hashlib.sha256(b"something else").hexdigest())
        if self._has_mark():
            return False, math.inf
        try:
            with store_errors(self._bucket.name(_PROBE)):
                self._bucket.client.put_object(**self._bucket.at(_PROBE), Body=_PROBE_BODY, ChecksumSHA256=wrong)
        except BadDigest:
            return True, math.inf
        except StoreRefused:  # maybe the header, maybe not
            return False, time.monotonic() + _ASK_AGAIN_SECONDS
        return False, math.inf

    def _has_mark(self) -> bool:
        """Whether the store took an earlier put with a wrong checksum: the probe object still exists."""
        try:
            self._bucket.head(_PROBE)
        except Missing:
            return False
        return True
