"""What a server reports about the bytes of a download. Apart, because downloads make it and commit records keep it."""

from __future__ import annotations

import msgspec


class SourceMark(msgspec.Struct, frozen=True):
    """What a download address reported about its bytes; None where it did not.

    Attributes:
        size: bytes.
        etag: a strong one.
        last_modified: as the server wrote it.
    """

    size: int | None
    etag: str | None
    last_modified: str | None
