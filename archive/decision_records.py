"""The records of what people decide: holds and releases, settings of deletion, retention rules, cases, API tokens."""

from __future__ import annotations

from typing import Literal

import msgspec

from archive.layout import Scope
from text.periods import Period, parse_period, zone_of
from text.times import parse_instant


class EarlierDecision(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="callvault.decision/1"):
    """`decisions/{instant}.json` in a recording's folder, of versions before 2; the latest counts.

    Attributes:
        decision: `hold` keeps the original; `release` lifts holds and approves findings.
    """

    decision: Literal["hold", "release"]
    why: str
    at: str


class Decision(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="callvault.decision/2"):
    """`decisions/{scope}/{subject}/{id}.json`: a person's decision about originals. No clock orders decisions.

    Attributes:
        id: random; the name of the object.
        decision: `hold` keeps originals; `release` lifts the holds that it names, and no other; `approve` lets an
            original go despite the findings that it names.
        scope: one recording, one connection, or everything (a pause).
        subject: the id of the recording or connection; empty for everything.
        lifts: the ids of the holds that a release lifts.
        findings: the findings that an approval names.
        by: the person.
        at: ISO 8601, UTC; for people, never compared.
    """

    id: str
    decision: Literal["hold", "release", "approve"]
    scope: Scope
    subject: str
    why: str
    by: str
    at: str
    lifts: list[str] = []
    findings: list[str] = []


class Duties(msgspec.Struct, frozen=True, kw_only=True):
    """`duties/{unit}/{number}.json`: the deletion settings of the workers on one Redis; the last number counts.

    The strictest settings of all units apply to every worker.

    Attributes:
        unit: the Redis, without its credentials.
        delete_originals: `never` or `verified`.
        delete_after_seconds: the grace period.
        hold_connections: the connections that a setting holds.
        transcriptions: as `CALLVAULT_TRANSCRIPTIONS` writes it.
        sealed_first: whether an original stays until a seal lists its commit record.
        retired: whether the unit is gone, so its duties no longer count.
        at: ISO 8601, UTC; for people, never compared.
    """

    schema: Literal["callvault.duties/1"] = "callvault.duties/1"
    unit: str
    number: int
    delete_originals: Literal["never", "verified"]
    delete_after_seconds: float
    hold_connections: list[str]
    transcriptions: str
    sealed_first: bool
    by: str
    at: str
    retired: bool = False


class RetentionRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How long recordings are kept. A rule matches if all of its conditions do; of a list, one entry is enough.

    Attributes:
        name: unique; `default` is the rule of recordings that no other matches.
        connections: ids.
        numbers: of either party: `+13125550100`, `+49*` for all that begin so, `ann@pbx.example`, or `@pbx.example`.
        direction: `inbound` or `outbound`.
        tags: one of the recording's tags.
        channels: of the audio.
        sources: `call` or `conference`.
        keep: a period from the end of the call, such as `5 years`, or `forever`.
        goes: what goes at its end.
        stays: of a recording that goes whole: `metadata`, which is the commit record, or only `hashes`.
    """

    name: str
    connections: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    direction: Literal["inbound", "outbound"] | None = None
    tags: tuple[str, ...] = ()
    channels: int | None = None
    sources: tuple[Literal["call", "conference"], ...] = ()
    keep: str
    goes: Literal["both", "audio", "transcripts"] = "both"
    stays: Literal["metadata", "hashes"] = "metadata"

    def __post_init__(self) -> None:
        if self.period is not None and self.keep != str(self.period):
            raise ValueError(f"{self.keep[:40]!r} is not written as {str(self.period)!r}")
        if self.has_conditions == (self.name == "default"):
            raise ValueError(f"rule {self.name!r}: the default, and only the default, has no conditions")

    @property
    def has_conditions(self) -> bool:
        """Whether it matches only some recordings."""
        several = (self.connections, self.numbers, self.tags, self.sources)
        return any(several) or self.direction is not None or self.channels is not None

    @property
    def period(self) -> Period | None:
        """The period; None: for ever."""
        return None if self.keep == "forever" else parse_period(self.keep)


class AppliedRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`retention/{number}.json`: retention rules that a person applied; the last number counts, after a grace.

    A later version's rules may mean less than this version would read in them, so unknown fields make them unreadable.

    Attributes:
        number: 1, 2, 3 ...
        rules: those of the file, with the default as the last if there is one; in the order of the file.
        zone: where days, months and years are counted, such as `Europe/Berlin`.
        grace_seconds: how long rules that keep longer still count after others replaced them.
        file_sha256: of the file that the person applied, hexadecimal.
        by: the person.
        at: when: ISO 8601, UTC, the later of the clocks of Redis and of the machine.
    """

    schema: Literal["callvault.retention/1"] = "callvault.retention/1"
    number: int
    rules: tuple[RetentionRule, ...]
    zone: str
    grace_seconds: int
    file_sha256: str
    by: str
    at: str

    def __post_init__(self) -> None:
        zone_of(self.zone)
        parse_instant(self.at)
        if len({rule.name for rule in self.rules}) != len(self.rules):
            raise ValueError("two rules have the same name")


class CaseQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which recordings a case holds: those that match all of it, by what their commit records say. None asks for nothing.

    Attributes:
        number: of either party, as `text/numbers.py` reads it.
        since: the first instant at which a call may have begun; `until`: the first instant after; ISO 8601, UTC.
        connection: connection id; `session`: call session id; `leg`: call leg id; `id`: recording id.
    """

    number: str | None = None
    since: str | None = None
    until: str | None = None
    connection: str | None = None
    session: str | None = None
    leg: str | None = None
    id: str | None = None


class CaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`cases/{id}/{number}.json`: a case was opened, or closed. Of each case the last number counts, and repeats the rest.

    Attributes:
        id: random.
        number: 1 when it was opened.
        state: an `open` case holds recordings, a `closed` one does not.
        name: what people call it.
        query: which recordings it holds, also those to come.
        why: the reason of the person who opened or closed it; `by`: who that was; `at`: when, ISO 8601, UTC.
    """

    schema: Literal["callvault.case/1"] = "callvault.case/1"
    id: str
    number: int
    state: Literal["open", "closed"]
    name: str
    query: CaseQuery
    why: str
    by: str
    at: str


class ApiToken(msgspec.Struct, frozen=True, kw_only=True):
    """`api-tokens/{id}/{number}.json`: an API token was made, or revoked. A token with a row that revokes it is dead.

    Attributes:
        id: random; it is no secret.
        number: 1 when it was made.
        state: `live` or `revoked`.
        name: what or whom it is for; it signs changes.
        role: what it may do, as docs/access.md names roles.
        sha256: of the whole token, hexadecimal. The token itself is random and nowhere stored.
        ends_at: when it stops working; ISO 8601, UTC.
        by: who made or revoked it; `at`: when, ISO 8601, UTC.
        connections: the ids of the connections whose recordings it reaches; missing: it is not limited to any.
        numbers: likewise beginnings of numbers, such as `+49`.
        mask: whether it gets numbers masked.

    A token that has one of the last three has the second schema, which a version without scopes cannot read: to that
    version, the token does not work.
    """

    schema: Literal["callvault.api-token/1", "callvault.api-token/2"] = "callvault.api-token/1"
    id: str
    number: int
    state: Literal["live", "revoked"]
    name: str
    role: str
    sha256: str
    ends_at: str
    by: str
    at: str
    connections: list[str] | msgspec.UnsetType = msgspec.UNSET
    numbers: list[str] | msgspec.UnsetType = msgspec.UNSET
    mask: bool | msgspec.UnsetType = msgspec.UNSET


AnyDecision = EarlierDecision | Decision
