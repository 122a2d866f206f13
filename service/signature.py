"""Verify Telnyx's signature: Ed25519 over `timestamp|raw body`, with several keys and a replay window.

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
    """The request does not prove that it comes from Telnyx. The text is a short reason, safe to log and to answer."""


class OutsideWindow(SignatureRefused):
    """The signature is good, but its timestamp is outside the replay window."""


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
            SignatureRefused: the signature is missing, malformed or made by no known key.
            OutsideWindow: the signature is good, but too old or from the future.
        """
        if not timestamp or not signature:
            raise SignatureRefused("the request has no signature")
        # int() of a long text is slow; Unix seconds have ten digits until the year 2286.
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            raise SignatureRefused("the timestamp is malformed")
        try:
            raw = binascii.a2b_base64(signature, strict_mode=True)
        except (binascii.Error, ValueError):
            raise SignatureRefused("the signature is malformed") from None
        if len(raw) != 64:
            raise SignatureRefused("the signature is malformed")
        signed = b"%b%b|%b" % (raw, timestamp.encode(), body)
        for key in self._keys:
            try:
                crypto_sign_open(signed, key)
            except BadSignatureError:
                continue
            if abs(now - int(timestamp)) > REPLAY_WINDOW_SECONDS:
                raise OutsideWindow("the timestamp is outside the replay window")
            return
        raise SignatureRefused("the signature matches no known key")
