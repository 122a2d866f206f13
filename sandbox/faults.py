"""Faults on demand: which ones there are and how often each strikes, deterministic by seed."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field, fields
from typing import Any
from urllib.parse import unquote


@dataclass
class Faults:
    """The faults, each a share from 0 to 1 unless stated otherwise; all are off at the start.

    Attributes:
        api_429: API requests answered 429 with `retry-after`.
        api_500: API requests answered 500.
        api_503: API requests answered 503 without a body.
        api_401: API requests answered 401, as if the key were revoked.
        other_account: API requests answered as for another account's key: empty lists, 404 for each id.
        answers: the status for every request that contains a part of "METHOD /path?query", unquoted; a download answered
            200 this way has no content.
        api_cut: API requests that are carried out before their connection is cut.
        retry_after_seconds: `retry-after` of the 429s.
        requests_per_second: rate limit of the whole API; 0: none.
        download_cut: downloads cut off halfway.
        download_500: downloads answered 500.
        download_page: downloads answered 200 with an XML error page.
        download_stall: downloads that stop halfway for `stall_seconds`.
        stall_seconds: how long a stalled download hangs.
        download_untagged: downloads without an ETag.
        download_bytes_per_second: speed limit of downloads; 0: none.
        download_expired: download URLs that have already expired.
        webhook_lost: webhooks never sent, and recorded as failed.
        webhook_duplicate: webhooks sent twice.
        webhook_delay_seconds: longest random delay of a webhook, which also puts them out of order.
        webhook_without_id: `call.recording.saved` without `recording_id`, as in Telnyx's documents.
        bulk_delete_limit: maximum number of ids in one bulk deletion; more is 422. 0: no limit.
        bulk_delete_ignores: ids of a bulk deletion that are not deleted.
        delete_ignores: deletions of recordings, single or bulk, that are answered but not carried out.
        delete_refused: deletions of recordings answered 403.
        log_message_ids: whether log messages have an `id` (Telnyx's documents leave it out).
        not_found_seconds: how long the API answers 404 for a new recording: a webhook can arrive before it.
    """

    api_429: float = 0.0
    api_500: float = 0.0
    api_503: float = 0.0
    api_401: float = 0.0
    other_account: float = 0.0
    answers: dict[str, int] = field(default_factory=dict)
    api_cut: float = 0.0
    retry_after_seconds: float = 1.0
    requests_per_second: float = 0.0
    download_cut: float = 0.0
    download_500: float = 0.0
    download_page: float = 0.0
    download_stall: float = 0.0
    stall_seconds: float = 5.0
    download_untagged: float = 0.0
    download_bytes_per_second: float = 0.0
    download_expired: float = 0.0
    webhook_lost: float = 0.0
    webhook_duplicate: float = 0.0
    webhook_delay_seconds: float = 0.0
    webhook_without_id: float = 0.0
    bulk_delete_limit: int = 0
    bulk_delete_ignores: float = 0.0
    delete_ignores: float = 0.0
    delete_refused: float = 0.0
    log_message_ids: bool = True
    not_found_seconds: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self.counts: dict[str, int] = {}

    def strikes(self, name: str) -> bool:
        """Whether a fault strikes now; counted."""
        share = getattr(self, name)
        if not share or self._rng.random() >= share:
            return False
        self.counts[name] = self.counts.get(name, 0) + 1
        return True

    def answer(self, method: str, path: str, query: str) -> int | None:
        """The status from `answers` for a request, or None."""
        what = f"{method} {path}?{unquote(query)}"
        return next((status for part, status in self.answers.items() if part in what), None)

    def change(self, values: dict[str, Any]) -> None:
        """Set some faults; a seed restarts the random sequence.

        Raises:
            ValueError: a fault does not exist.
        """
        known: dict[str, type] = {f.name: type(getattr(Faults(), f.name)) for f in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"unknown fault {name!r}; known: {', '.join(known)}")
            setattr(self, name, known[name](value))
        if "seed" in values:
            self._rng = random.Random(self.seed)

    def as_dict(self) -> dict[str, Any]:
        """All settings, and how often each struck."""
        return asdict(self) | {"counts": self.counts}
