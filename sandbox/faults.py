"""Misbehaviour on demand: which faults there are, how often each, deterministic by seed."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field, fields
from typing import Any
from urllib.parse import unquote


@dataclass
class Faults:
    """Shares from 0 to 1 unless said otherwise; all off at the start.

    Attributes:
        api_429: API requests answered 429 with `retry-after`.
        api_500: API requests answered 500.
        api_503: API requests answered 503 without a body.
        api_401: API requests answered 401, as to a key that was revoked.
        other_account: API requests answered as to the key of another account: empty lists, 404 for each id.
        answers: statuses by a part of "METHOD /path?query", unquoted: what such requests are answered; for ever, and for a
            download with 200 no byte.
        api_cut: API requests whose connection is cut after they were carried out.
        retry_after_seconds: what the 429s ask for.
        requests_per_second: a rate limit on all of the API; 0: none.
        download_cut: downloads cut off half-way.
        download_500: downloads answered 500.
        download_page: downloads answered 200 with an XML error page.
        download_stall: downloads that stop half-way for `stall_seconds`.
        stall_seconds: how long a stalled download or API answer hangs.
        download_untagged: downloads whose answer has no ETag.
        download_bytes_per_second: how fast downloads are; 0: as fast as they can.
        download_expired: addresses that have expired when they are handed out.
        webhook_lost: webhooks never sent, and remembered as failed.
        webhook_duplicate: webhooks sent twice.
        webhook_delay_seconds: longest random delay of a webhook, which also puts them out of order.
        webhook_without_id: `call.recording.saved` without `recording_id`, as its documents have it.
        bulk_delete_limit: most ids of one bulk deletion; more is 422. 0: none.
        bulk_delete_ignores: ids of a bulk deletion that are left where they are.
        delete_ignores: deletions of recordings, single or bulk, that are answered and not carried out.
        delete_refused: deletions of recordings that are answered 403.
        log_message_ids: whether log messages carry an `id` (the documents leave it out).
        not_found_seconds: how long a new recording is 404, as a webhook can outrun the API.
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
        """Whether a fault happens now; counted."""
        share = getattr(self, name)
        if not share or self._rng.random() >= share:
            return False
        self.counts[name] = self.counts.get(name, 0) + 1
        return True

    def answer(self, method: str, path: str, query: str) -> int | None:
        """The status that this very request is answered with; None: nothing is the matter with it."""
        what = f"{method} {path}?{unquote(query)}"
        return next((status for part, status in self.answers.items() if part in what), None)

    def change(self, values: dict[str, Any]) -> None:
        """Set some of them; a seed starts the draw anew.

        Raises:
            ValueError: there is no such fault.
        """
        known: dict[str, type] = {f.name: type(getattr(Faults(), f.name)) for f in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"no fault {name!r}; there are {', '.join(known)}")
            setattr(self, name, known[name](value))
        if "seed" in values:
            self._rng = random.Random(self.seed)

    def as_dict(self) -> dict[str, Any]:
        """All settings, and how often each struck."""
        return asdict(self) | {"counts": self.counts}
