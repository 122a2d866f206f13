"""Which MD5s may be the ETag of a multipart object: the ETag of the previous object shows which to compute.

AWS and most others give the MD5 of the parts' MD5s with their count (docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html);
some, such as `rclone serve s3`, the MD5 of all bytes; others a mark that is no MD5. After a wrong guess, the object is
proven by reading it back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from typing import Literal

from archive.stores.store import StoredObject

Form = Literal["parts", "whole"]

_FORMS: tuple[tuple[re.Pattern[str], Form], ...] = (
    (re.compile(r"[0-9a-f]{32}-\d+"), "parts"),
    (re.compile(r"[0-9a-f]{32}"), "whole"),
)


def forms_like(stored: StoredObject) -> tuple[Form, ...]:
    """The forms that the ETag of a similar object may have; none if a checksum proves it or its ETag is no MD5."""
    if stored.checksums or stored.etag is None:
        return ()
    return tuple(form for pattern, form in _FORMS if pattern.fullmatch(stored.etag))


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
