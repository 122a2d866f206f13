"""Telnyx's signature: Ed25519 over `timestamp|raw body`, with keys in rotation and a replay window.

Source: developers.telnyx.com/development/api-fundamentals/webhooks/receiving-webhooks and the official SDK's
`lib/webhook_verification.py` (same headers, same bytes, the same 300 s in both directions).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

SIGNATURE_HEADER = "telnyx-signature-ed25519"
TIMESTAMP_HEADER = "telnyx-timestamp"
REPLAY_WINDOW_SECONDS = 300


class SignatureRefused(Exception):
    """The request is not proven to come from Telnyx; the text is a short reason, safe to log and to answer."""


class OutsideWindow(SignatureRefused):
    """It is signed rightly, and its time is too far from ours."""


class Signatures:
    """Checks signatures against one or several public keys.

    Args:
        public_keys: base64 of 32 bytes each.
    """

    def __init__(self, public_keys: Sequence[str]) -> None:
        self._keys = [bytes(VerifyKey(base64.b64decode(key))) for key in public_keys]

    def verify(self, timestamp: str | None, signature: str | None, body: bytes, now: float) -> None:
        """Check one request.

        Args:
            timestamp: the timestamp header, seconds since the epoch as text.
            signature: the signature header, base64.
            body: the raw body, to the byte.
            now: seconds since the epoch.

        Raises:
            SignatureRefused: missing, malformed, or of no known key.
            OutsideWindow: it is good, and outside the replay window.
        """
        if not timestamp or not signature:
            raise SignatureRefused("unsigned")
        # At most 12 digits: int() of a long text is slow, and Unix seconds have ten until the year 2286.
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            raise SignatureRefused("timestamp malformed")
        try:
            raw = binascii.a2b_base64(signature, strict_mode=True)
        except (binascii.Error, ValueError):
            raise SignatureRefused("signature malformed") from None
        if len(raw) != 64:
            raise SignatureRefused("signature malformed")
        signed = b"%b%b|%b" % (raw, timestamp.encode(), body)
        for key in self._keys:
            try:
                crypto_sign_open(signed, key)
            except BadSignatureError:
                continue
            if abs(now - int(timestamp)) > REPLAY_WINDOW_SECONDS:
                raise OutsideWindow("timestamp outside the replay window")
            return
        raise SignatureRefused("signature does not match")
