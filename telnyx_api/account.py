"""One Telnyx account as one value that is passed on; no code below reads it from a global."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from config.settings import Settings, SettingsError


@dataclass(frozen=True)
class Account:
    """The Telnyx account that the service acts for.

    Attributes:
        api_key: API v2 key; never in a repr, a log or an error.
        base_url: where the API is, without a trailing slash.
    """

    api_key: str = field(repr=False)
    base_url: str

    @property
    def key_fingerprint(self) -> str:
        """Tells one API key from another without revealing the key."""
        return hashlib.sha256(b"callvault " + self.api_key.encode()).hexdigest()[:16]

    @classmethod
    def from_settings(cls, settings: Settings) -> Account:
        """The account of the environment.

        Raises:
            SettingsError: TELNYX_API_KEY is not set.
        """
        if settings.telnyx_api_key is None:
            raise SettingsError("TELNYX_API_KEY: not set; expected an API v2 key from the Telnyx portal")
        return cls(settings.telnyx_api_key.get_secret_value(), settings.telnyx_base_url)
