"""Tests whether an S3 endpoint honours `If-None-Match`, by two writes of one small object."""

from __future__ import annotations

import hashlib
import math
import time
from threading import Lock

from archive.stores.s3_bucket import Bucket
from archive.stores.s3_fallbacks import ChosenFallback
from archive.stores.store import KeyExists, StoreError
from process.logs import get_logger

log = get_logger()

_ASK_AGAIN_SECONDS = 60.0
_PROBE = "probe/condition"
_PROBE_BODY = b"Callvault asks whether this store refuses to overwrite.\n"


class Conditions:
    """Whether a store honours conditions. Several threads use it.

    Args:
        bucket: the bucket.
        fallback: the fallback in use.
    """

    def __init__(self, bucket: Bucket, fallback: ChosenFallback) -> None:
        self._bucket = bucket
        self._fallback = fallback
        self._lock = Lock()
        self._are_kept = bucket.is_aws
        self._until = math.inf if bucket.is_aws else 0.0

    def are_kept(self) -> bool:
        """Whether the store refuses to overwrite an object with a single put; probed when a process first needs it.

        During an outage the answer is no, and the store is probed again after a minute.
        """
        if time.monotonic() < self._until:
            return self._are_kept
        with self._lock:
            if time.monotonic() >= self._until:
                try:
                    self._are_kept, self._until = self._refuses_to_overwrite(), math.inf
                except StoreError:
                    self._until = time.monotonic() + _ASK_AGAIN_SECONDS
                else:
                    if not self._are_kept:
                        log.info("this store keeps no conditions; each key is asked for first", store=self._bucket.url)
        return self._are_kept

    def _refuses_to_overwrite(self) -> bool:
        """Whether the store refuses the second of two writes. The first process makes the first one, and it stays.

        A store that does not refuse has replaced the probe with the same bytes.
        """
        return not self._takes() or not self._takes()

    def _takes(self) -> bool:
        fallback = self._fallback.now
        if not fallback.conditions:
            raise StoreError("the current fallback sends no conditions")
        try:
            digest = hashlib.sha256(_PROBE_BODY).hexdigest()
            self._bucket.put(_PROBE, _PROBE_BODY, digest, fallback, {"ContentType": "text/plain"})
        except KeyExists:
            return False
        return True
