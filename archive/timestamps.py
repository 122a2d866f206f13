"""Time stamps of seals by an RFC 3161 authority, so that `openssl ts -verify` accepts them."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from asn1crypto import algos, tsp
from cryptography import x509
from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

_SECONDS = 30
_LARGEST_ANSWER_BYTES = 256 * 1024


class BadTimestamp(Exception):
    """An invalid time stamp, or a failed request for one; the text has the reason."""


def request_timestamp(url: str, message: bytes, authorities: Path | None) -> bytes:
    """Ask an authority for the stamp of a message; blocks.

    Returns:
        The authority's whole answer (TimeStampResp, DER), verified against the message and against any roots.

    Raises:
        BadTimestamp: the authority is away, refuses, or answers for other data.
    """
    imprint = {
        "hash_algorithm": algos.DigestAlgorithm({"algorithm": "sha256"}),
        "hashed_message": hashlib.sha256(message).digest(),
    }
    nonce = secrets.randbits(63)
    query = tsp.TimeStampReq({"version": 1, "message_imprint": imprint, "nonce": nonce, "cert_req": True})
    headers = {"content-type": "application/timestamp-query", "accept": "application/timestamp-reply"}
    stamp = bytearray()
    try:
        with httpx.stream("POST", url, content=query.dump(), headers=headers, timeout=_SECONDS) as answer:
            answer.raise_for_status()
            for chunk in answer.iter_bytes():
                stamp += chunk
                if len(stamp) > _LARGEST_ANSWER_BYTES:
                    raise BadTimestamp(f"the answer is larger than {_LARGEST_ANSWER_BYTES} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BadTimestamp(f"{type(error).__name__} {error}") from None
    verify_timestamp(bytes(stamp), message, authorities, nonce)
    return bytes(stamp)


def verify_timestamp(stamp: bytes, message: bytes, authorities: Path | None, nonce: int | None = None) -> datetime:
    """Verify a stamp of a message; returns its instant.

    Args:
        stamp: the authority's answer, DER.
        message: what was stamped, by SHA-256.
        authorities: a PEM file of the trusted roots. None: the signer is not checked.
        nonce: the nonce of the request.

    Raises:
        BadTimestamp: it is not a valid stamp of this message.
    """
    digest = hashlib.sha256(message).digest()
    try:
        answer = tsp.TimeStampResp.load(stamp, strict=True)
        status = answer["status"]["status"].native
        if status not in ("granted", "granted_with_mods"):
            raise BadTimestamp(f"the authority answered {status}")
        token: Any = answer["time_stamp_token"]["content"]
        info: Any = token["encap_content_info"]["content"].parsed
        if info["message_imprint"]["hashed_message"].native != digest:
            raise BadTimestamp("the time stamp is for other data")
        if nonce is not None and info["nonce"].native != nonce:
            raise BadTimestamp("the answer belongs to another request")
        if authorities is not None:
            _hold_to(answer, token, digest, authorities)
        instant: datetime = info["gen_time"].native
        return instant
    except (VerificationError, ValueError, TypeError, KeyError) as error:
        raise BadTimestamp(f"unreadable: {' '.join(str(error).split())[:200]}") from None
    except OSError as error:
        raise BadTimestamp(f"{authorities}: {error.strerror}") from None


def _hold_to(answer: Any, token: Any, digest: bytes, authorities: Path) -> None:
    """Verify the signature, and its certificate up to a trusted root."""
    # DER sorts the members of a SET; OpenSSL, and authorities that use it, leave the certificates unsorted.
    certificates = sorted(certificate.dump() for certificate in token["certificates"])
    token["certificates"] = [type(token["certificates"][0]).load(data) for data in certificates]
    # Only the roots: the verifier trusts intermediates that it is given, and anybody can put some into a stamp.
    verifier = VerifierBuilder(roots=x509.load_pem_x509_certificates(authorities.read_bytes())).build()
    verifier.verify(decode_timestamp_response(answer.dump(force=True)), digest)
