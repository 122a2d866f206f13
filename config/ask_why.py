"""What `CALLVAULT_ASK_WHY` may ask a reason for."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple


class Act(NamedTuple):
    """Something that a person says why they do it.

    Attributes:
        help: what it is, after "a reason to".
        covers: the words of the access log for it.
    """

    help: str
    covers: frozenset[str]


# THE table, by the words of the setting.
ACTS: dict[str, Act] = {
    "look": Act("open a recording, or read it or its transcript", frozenset({"look", "read", "transcript", "levels"})),
    "listen": Act("listen to a recording", frozenset({"play", "address"})),
    "download": Act("take a copy of the audio", frozenset({"download", "get", "link"})),
    "export": Act("export recordings or a list of them", frozenset({"export"})),
    "telnyx": Act(
        "see recordings at Telnyx or change something there, by `callvault telnyx` or `connections apply`",
        frozenset({"telnyx", "apply"}),
    ),
    "inventory": Act("take or share the inventory of a day", frozenset({"inventory", "share"})),
}


def act_of(asked: Collection[str], what: str) -> Act | None:
    """The act that a word of the access log belongs to, if it needs a reason; None: it needs none.

    Args:
        asked: the words of the setting.
        what: the word of the access log.
    """
    return next((ACTS[name] for name in asked if what in ACTS[name].covers), None)


def read_ask_why(value: object) -> object:
    """Words of the table, separated by commas or spaces.

    Raises:
        ValueError: one is not in the table.
    """
    if not isinstance(value, str):
        return value
    words = value.lower().replace(",", " ").split()
    if unknown := [word for word in words if word not in ACTS]:
        raise ValueError(f"unknown word {unknown[0][:40]!r}")
    return tuple(name for name in ACTS if name in words)
