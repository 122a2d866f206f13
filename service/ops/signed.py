"""Values that a receiver signs and this or another one reads: sessions, attempts to sign in, addresses of evidence."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from itsdangerous import BadTimeSignature, SignatureExpired, URLSafeTimedSerializer

from process.private import private_folder

AHEAD_SECONDS = 60  # by which the clock of the receiver that signed may be ahead of this one's, as clocks may elsewhere


class SignedFor:
    """Signs values for a time.

    itsdangerous refuses what is signed in the future, even by a second (`TimestampSigner.unsign`, "Signature age < 0"). So a
    receiver whose clock is a moment behind would refuse what another one has just signed.
    """

    def __init__(self, key: str, salt: str) -> None:
        self._serializer = URLSafeTimedSerializer(key, salt=salt)

    def dumps(self, value: Any) -> str:
        """A value as a signed text."""
        return str(self._serializer.dumps(value))

    def loads(self, text: str, seconds: int) -> tuple[Any, datetime]:
        """A signed value, and when it was signed.

        Args:
            text: what `dumps` has made.
            seconds: for how long it counts, by the clock of this receiver.

        Raises:
            itsdangerous.SignatureExpired: it was signed longer ago.
            itsdangerous.BadSignature: nobody has signed it, or not before `AHEAD_SECONDS` from now.
        """
        value, made = self._serializer.loads(text, return_timestamp=True)
        age = time.time() - made.timestamp()
        if age > seconds:
            raise SignatureExpired(f"signed {age:.0f} s ago, for {seconds} s", payload=value, date_signed=made)
        if age < -AHEAD_SECONDS:
            raise BadTimeSignature(f"signed {-age:.0f} s from now", payload=value, date_signed=made)
        return value, made


def key_of_machine(data_folder: Path) -> str:
    """The key of this machine, shared by its receivers and created at the first use; for where no secret is set."""
    path, made = data_folder / "ops.key", data_folder / f"ops.key.{secrets.token_hex(8)}"
    try:
        private_folder(data_folder)
        if not path.exists():
            made.touch(mode=0o600)
            made.write_text(secrets.token_urlsafe(32))
            with suppress(FileExistsError):
                path.hardlink_to(made)
            made.unlink()
        return path.read_text()
    except OSError:
        return secrets.token_urlsafe(32)  # what it signs ends with the process
