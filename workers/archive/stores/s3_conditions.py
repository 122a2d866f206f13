"""Whether an endpoint that speaks S3 keeps `If-None-Match`: shown by two writes of one small object, never assumed."""

from __future__ import annotations

import hashlib
import math
import time
from threading import Lock

from config.logs import get_logger
from workers.archive.stores.s3_bucket import Bucket
from workers.archive.stores.s3_dialects import SpokenDialect
from workers.archive.stores.store import KeyExists, StoreError

log = get_logger()

_ASK_AGAIN_SECONDS = 60.0
_PROBE = "probe/condition"
_PROBE_BODY = b"Callvault asks whether this store refuses to overwrite.\n"


class Conditions:
    """What is known of a store's conditions; used from several threads.

    Args:
        bucket: the bucket.
        dialect: what is spoken with it.
    """

    def __init__(self, bucket: Bucket, dialect: SpokenDialect) -> None:
        self._bucket = bucket
        self._dialect = dialect
        self._lock = Lock()
        self._are_kept = bucket.is_aws
        self._until = math.inf if bucket.is_aws else 0.0

    def are_kept(self) -> bool:
        """Whether a put in one request of what is there already is refused; asked by a write when a process first needs it.

        An outage is no answer: nothing is taken for kept, and it is asked again after a minute.
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
        """Whether the second of two writes is refused; the first is made by the first process, and stays.

        Where it is not, the same bytes have taken the place of the same.
        """
        return not self._takes() or not self._takes()

    def _takes(self) -> bool:
        dialect = self._dialect.now
        if not dialect.conditions:
            raise StoreError("conditions are not asked for now")
        try:
            digest = hashlib.sha256(_PROBE_BODY).hexdigest()
            self._bucket.put(_PROBE, _PROBE_BODY, digest, dialect, {"ContentType": "text/plain"})
        except KeyExists:
            return False
        return True
