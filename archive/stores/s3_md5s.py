"""Which MD5s may be the ETag of a multipart object: the ETag of a probe, then of the previous object, shows which to compute.

AWS and most others give the MD5 of the parts' MD5s with their count (docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html);
some, such as `rclone serve s3`, the MD5 of all bytes; others a mark that is no MD5. After a wrong guess, the object is
proven by reading it back.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Collection
from threading import Lock
from typing import Literal

from archive.stores.store import StoredObject, StoreError

Form = Literal["parts", "whole"]

_ASK_AGAIN_SECONDS = 60.0
_FORMS: tuple[tuple[re.Pattern[str], Form], ...] = (
    (re.compile(r"[0-9a-f]{32}-\d+"), "parts"),
    (re.compile(r"[0-9a-f]{32}"), "whole"),
)


class Forms:
    """Which MD5s to compute of the next object. Each takes a quarter of the CPU of an upload. Several threads use it.

    Args:
        known: the forms, if they are known.
    """

    def __init__(self, known: tuple[Form, ...] | None) -> None:
        self._known = known
        self._until = 0.0
        self._lock = Lock()

    def to_compute(self, probe: Callable[[], StoredObject]) -> tuple[Form, ...]:
        """The forms that the ETag of the next object may have.

        Args:
            probe: describes a small object that was uploaded in parts; asked for once a process. If it cannot be had, as
                during an outage, both forms are computed, and it is asked for again a minute later.
        """
        if self._known is None:
            self._ask(probe)
        return tuple(form for _, form in _FORMS) if self._known is None else self._known

    def _ask(self, probe: Callable[[], StoredObject]) -> None:
        with self._lock:  # uploads that begin together wait for the first one's probe
            if self._known is None and time.monotonic() >= self._until:
                try:
                    self.learn(probe())
                except StoreError:
                    self._until = time.monotonic() + _ASK_AGAIN_SECONDS

    def learn(self, stored: StoredObject) -> None:
        """Learn from an object what the next one is like: none if a checksum proves it, or its ETag is no MD5."""
        etag = "" if stored.checksums or stored.etag is None else stored.etag
        self._known = tuple(form for pattern, form in _FORMS if pattern.fullmatch(etag))


class Md5s:
    """The MD5s of one object.

    Args:
        forms: those to be computed.
    """

    def __init__(self, forms: Collection[Form]) -> None:
        self._forms = forms
        self._of_parts: list[bytes] = []
        self._of_whole = hashlib.md5(usedforsecurity=False)

    def update(self, part: bytes) -> None:
        """The next part."""
        if "parts" in self._forms:
            self._of_parts.append(hashlib.md5(part, usedforsecurity=False).digest())
        if "whole" in self._forms:
            self._of_whole.update(part)

    def etags(self) -> tuple[str, ...]:
        """The ETags that the object may have."""
        of_parts = hashlib.md5(b"".join(self._of_parts), usedforsecurity=False).hexdigest()
        each: dict[Form, str] = {"parts": f"{of_parts}-{len(self._of_parts)}", "whole": self._of_whole.hexdigest()}
        return tuple(each[form] for form in self._forms)
