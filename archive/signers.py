"""Who signed a seal or an erasure record, for `callvault verify`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from archive.archive import Archive
from archive.problems import Problem
from text.errors import UserError


def check_signature(
    archive: Archive, kind: str, key: str, data: bytes, trusted: Collection[bytes] | None
) -> tuple[str | None, list[Problem]]:
    """Check a signature that lies in the archive.

    Args:
        archive: the archive.
        kind: the kind of its problems.
        key: the key of the signature.
        data: the bytes that were signed.
        trusted: raw public keys, one of which must have signed; None to check the signature alone.

    Returns:
        The fingerprint of the signer, None if the signature is invalid; and the problems.

    Raises:
        UserError: a package of `callvault[seals]` is not installed.
        StoreError: the store does not answer.
    """
    with packages_of_seals(key):
        from archive.signatures import BadSignature, fingerprint, signer_of
    try:
        public = signer_of(archive.read_small(key) or b"", data)
    except BadSignature as error:
        return None, [Problem(kind, key, str(error))]
    signer = fingerprint(public)
    if trusted is not None and public not in trusted:
        return signer, [Problem(kind, key, f"signed by {signer}, which CALLVAULT_SEAL_KEY does not name")]
    return signer, []


@contextmanager
def packages_of_seals(key: str) -> Iterator[None]:
    """Import what checks an object; the error says what to install.

    Raises:
        UserError: a package of `callvault[seals]` is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{key}: checking it needs the package {error.name}; run `pip install 'callvault[seals]'`"
        ) from None
