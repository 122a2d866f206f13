"""What retention rules ask of a recording, and whether a rule matches it: yes, no, or the record does not say."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

import msgspec

from archive.decision_records import RetentionRule
from archive.records import CommitRecord
from text.numbers import address_of, digits_of
from text.times import first_instant

Fit = Literal["matches", "may match", "does not match"]

_CHANNELS = {"single": 1, "dual": 2}
_DIRECTIONS = {"inbound": "inbound", "incoming": "inbound", "outbound": "outbound", "outgoing": "outbound"}
# Telnyx began in 2009. An earlier time is the zero value of some program.
_EARLIEST = datetime(2009, 1, 1, tzinfo=UTC)
_FEWEST_DIGITS = 7  # of a number without its country; fewer are an extension
_ABROAD = "011"  # what North America dials before a country; in other countries, the beginning of a national number
_PORT = re.compile(r"\.?(:\d{1,5})?$", re.ASCII)  # behind a host, and the dot of a complete name
UNKNOWN = datetime(2999, 12, 31, tzinfo=UTC)  # when a recording was archived whose record has no time that can be read
_APART = timedelta(days=1)  # by which the end of a call and `created_at` may differ at most


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What rules ask of a recording. None, and an empty text: its record does not say.

    Attributes:
        parties: both numbers or addresses.
        tags: None: the record has no such field.
        ended_at: the instant from which its period counts, UTC.
        counted_from: what that instant is, in a few words.
    """

    connection_id: str | None = None
    parties: tuple[str | None, str | None] = (None, None)
    direction: str | None = None
    tags: tuple[str, ...] | None = None
    channels: int | None = None
    source: str | None = None
    ended_at: datetime
    counted_from: str


def facts_of(record: CommitRecord) -> Facts:
    """The facts of a commit record."""
    try:
        archived_at = record.latest_archived_at
    except ValueError:
        archived_at = UNKNOWN
    return facts_of_recording(record.recording, record.audio.channels or None, record.audio.duration_ms, archived_at)


def facts_of_recording(
    recording: dict[str, Any], channels: int | None, duration_ms: int | None, archived_at: datetime
) -> Facts:
    """The facts of a recording as Telnyx returns it.

    Args:
        recording: its fields.
        channels: of the audio, which counts where Telnyx says nothing; None: not known.
        duration_ms: the length of the audio in milliseconds; None: not known.
        archived_at: the latest time at which it was archived, by any clock.
    """

    def text(name: str) -> str | None:
        value = recording.get(name)
        return None if value is None or str(value) == "" else str(value)

    tags = recording.get("tags")
    lengths = [one for one in (recording.get("duration_millis"), duration_ms) if isinstance(one, int) and one > 0]
    ended_at, counted_from = call_end(
        first_instant(recording.get("recording_started_at")),
        first_instant(recording.get("recording_ended_at")),
        first_instant(recording.get("created_at")),
        max(lengths, default=0),
        archived_at,
    )
    return Facts(
        connection_id=text("connection_id"),
        parties=(text("from"), text("to")),
        direction=_DIRECTIONS.get((text("direction") or "").lower()),
        tags=tuple(map(str, tags)) if isinstance(tags, list) else None,
        channels=_CHANNELS.get((text("channels") or "").lower(), channels),
        source=(text("source") or "").lower() or None,
        ended_at=ended_at,
        counted_from=counted_from,
    )


def call_end(
    started_at: datetime | None,
    ended_at: datetime | None,
    created_at: datetime | None,
    duration_ms: int,
    archived_at: datetime,
) -> tuple[datetime, str]:
    """The instant from which periods count, and what it is: the end of the call if that can be believed, else a later instant.

    Args:
        started_at: when the call began, as Telnyx says; None: it does not, as of the next two.
        ended_at: when it ended.
        created_at: when Telnyx made the recording.
        duration_ms: the longest of its known lengths, in milliseconds.
        archived_at: the latest time at which it was archived, by any clock.
    """
    is_odd = ended_at is not None and (
        ended_at < _EARLIEST
        or (started_at is not None and ended_at < started_at)
        or (created_at is not None and ended_at < created_at - _APART)
    )
    if ended_at is not None and not is_odd:
        return ended_at, "the end of the call"
    by_length = None if started_at is None else started_at + timedelta(milliseconds=min(duration_ms, 10**12))
    known = [one for one in (by_length, ended_at, created_at, archived_at) if one is not None]
    why = "Telnyx's times of it cannot all be right" if is_odd else "Telnyx does not say when the call ended"
    return max(known), f"the latest known time of the recording, because {why}"


@lru_cache(4096)
def fit_of(rule: RetentionRule, facts: Facts) -> tuple[Fit, tuple[str, ...]]:
    """Whether a rule matches a recording; the default matches all.

    Returns:
        The answer; and if the record does not say enough, which of its fields are missing.
    """
    missing = []
    for field, is_asked, answer in _CONDITIONS:
        if is_asked(rule):
            match answer(rule, facts):
                case False:
                    return "does not match", ()
                case None:
                    missing.append(field)
    return ("may match" if missing else "matches"), tuple(missing)


def _is_among(value: object, wanted: Container[object]) -> bool | None:
    """Whether a value is one of those that are wanted; None if the value is not known."""
    return None if value is None else value in wanted


def _has_tag(rule: RetentionRule, facts: Facts) -> bool | None:
    return None if facts.tags is None else not set(facts.tags).isdisjoint(rule.tags)


def _has_number(rule: RetentionRule, facts: Facts) -> bool | None:
    """Whether one of the parties is one of the numbers. A number without its country may be any."""
    answers = [None if party is None else _is_number(party, one) for party in facts.parties for one in rule.numbers]
    return True if True in answers else None if None in answers else False


def _is_number(party: str, wanted: str) -> bool | None:
    """Whether a party is a number or an address that a rule names; None if it may be that number without its country."""
    if "@" in wanted:
        return _is_address(party, wanted)
    digits, is_international = _digits_of(party)
    begins, is_whole = wanted.strip("+*"), not wanted.endswith("*")

    def fits(number: str, beginning: str) -> bool:
        return number == beginning if is_whole else number.startswith(beginning)

    if is_international or len(digits) < _FEWEST_DIGITS:
        return is_international and fits(digits, begins)
    if fits(digits, begins) and not digits.startswith("0"):
        return True  # as Telnyx writes numbers, without the plus
    if digits.startswith(_ABROAD) and fits(digits.removeprefix(_ABROAD), begins):
        return None
    national = digits.lstrip("0")
    return None if any(fits(national, begins[code:]) for code in (1, 2, 3) if not is_whole or begins[code:]) else False


def without_port(address: str) -> str:
    """An address without the port of its host, and without the dot of a complete name."""
    return _PORT.sub("", address)


def _is_address(party: str, wanted: str) -> bool | None:
    """Whether a party is an address or at a host that a rule names; None if it is a user whose host the record does not say."""
    address = address_of(party)
    if "@" not in address:
        return None if address == wanted.partition("@")[0] else False
    names = (address, without_port(address))
    return any(one.endswith(wanted) if wanted.startswith("@") else one == wanted for one in names)


@lru_cache(8192)
def _digits_of(party: str) -> tuple[str, bool]:
    """The digits of a party, and whether they begin with a country; an extension has few digits and no country."""
    return digits_of(party), address_of(party).startswith(("+", "00"))


# THE table of conditions: the field of the commit record, whether a rule asks for it, and whether a recording fulfils it.
_CONDITIONS: tuple[
    tuple[str, Callable[[RetentionRule], object], Callable[[RetentionRule, Facts], bool | None]], ...
] = (
    ("connection_id", lambda rule: rule.connections, lambda rule, one: _is_among(one.connection_id, rule.connections)),
    ("from, to", lambda rule: rule.numbers, _has_number),
    ("direction", lambda rule: rule.direction, lambda rule, one: _is_among(one.direction, (rule.direction,))),
    ("tags", lambda rule: rule.tags, _has_tag),
    ("channels", lambda rule: rule.channels, lambda rule, one: _is_among(one.channels, (rule.channels,))),
    ("source", lambda rule: rule.sources, lambda rule, one: _is_among(one.source, rule.sources)),
)
