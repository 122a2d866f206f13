"""Which erasure records `callvault verify` accepts: a record explains missing objects, so its signature is checked.

Older versions did not sign. Their records are accepted if a seal lists them that the archive had when it got its identity
(`Identity.adopted_seals`).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Container

from archive import kinds, layout
from archive.archive import Archive
from archive.problems import Problem, wrong
from archive.readers import ERASURE
from archive.records import Identity, UnreadableRecord
from archive.seals import lines_of, read_link
from archive.signers import check_signature


class Erasures:
    """Reads the erasure records of an archive. Several threads use it.

    Args:
        archive: the archive.
        identity: its identity; None if unknown.
        trusted: raw public keys, one of which must have signed each erasure; None to check signatures alone.
    """

    def __init__(self, archive: Archive, identity: Identity | None, trusted: Collection[bytes] | None) -> None:
        self._archive = archive
        self._identity = identity
        self._trusted = trusted
        self._lock = threading.Lock()
        self._adopted: dict[str, str] | None = None

    def read(self, folder: str, present: Container[str]) -> tuple[dict[str, str], list[Problem]]:
        """The SHA-256 of each erased object of a folder by key, and the problems of its erasure record."""
        key, signature = layout.erasure_key(folder), layout.erasure_signature_key(folder)
        if key not in present:
            alone = [Problem("unknown", signature, "a signature without an erasure record")]
            return {}, alone if signature in present else []
        data = self._archive.read_small(key) or b""
        try:
            record = ERASURE.read(data, key)
        except UnreadableRecord as error:
            return {}, [wrong(error)]
        if not folder.endswith(f"/{layout.encode_name(record.recording_id)}/"):
            return {}, [Problem("damaged", key, f"names another recording, {record.recording_id}")]
        erased = {o.key: o.sha256 for o in record.objects if o.key.startswith(folder)}
        if signature in present:
            return erased, check_signature(self._archive, "erasure", signature, data, self._trusted)[1]
        if self._trusted is None or self._is_older(key, data):
            return erased, []
        return erased, [Problem("erasure", key, "it has no signature, though CALLVAULT_SEAL_KEY is set")]

    def _is_older(self, key: str, data: bytes) -> bool:
        """Whether an older version wrote the record, which could not sign."""
        with self._lock:
            if self._adopted is None:
                self._adopted = self._read_adopted()
        return self._adopted.get(key) == hashlib.sha256(data).hexdigest()

    def _read_adopted(self) -> dict[str, str]:
        """The erasure records that the adopted seals list; empty if the chain does not match the identity."""
        listed: dict[str, str] = {}
        before: str | None = None
        identity = self._identity
        try:
            for sequence in range(1, identity.adopted_seals + 1 if identity else 1):
                key = layout.seal_key(sequence)
                link = read_link(self._archive.read_small(key) or b"", key)
                if link.seal.previous_sha256 != before:
                    return {}
                rows = lines_of(self._archive, link)
                listed |= {name: sha256 for sha256, name in rows if kinds.kind_of(name) is kinds.ERASURE}
                before = link.sha256
        except UnreadableRecord:
            return {}
        return listed if identity is not None and before == identity.adopted_head else {}
