"""When recordings may go: the rules over three years of recordings, to the second, and what is not known keeps longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive import layout
from archive.archive import Archive
from archive.decision_records import AppliedRules, RetentionRule
from archive.facts import facts_of
from archive.readers import APPLIED_RULES
from archive.records import ArchivedObject, AudioSummary, CommitRecord, Proof, UnreadableRecord, encode_record
from archive.retention import Term, read_applied, terms_of
from archive.stores.store import open_store
from text.periods import parse_period, zone_of
from text.times import format_instant, parse_instant

KEEPS = ("1 day", "30 days", "6 months", "1 year", "2 years", "forever")
LONG_AGO = "2010-01-01T00:00:00Z"
DAY = timedelta(days=1)


def a_record(ended_at: str | None = "2026-03-31T10:00:00Z", **fields: Any) -> CommitRecord:
    """A commit record of a call between +493012345 and +13125550100."""
    recording: dict[str, Any] = {
        "id": "r",
        "connection_id": "17",
        "from": "+493012345",
        "to": "+13125550100",
        "channels": "dual",
    }
    recording |= {"recording_started_at": ended_at, "recording_ended_at": ended_at, "source": "call"} | fields
    one = ArchivedObject("k", 1, "0" * 64, "audio/wav", Proof("read-back", "sha256", "0" * 64, None))
    return CommitRecord(
        recording={name: value for name, value in recording.items() if value is not None},
        objects=[one],
        audio=AudioSummary("wav", 2, 8000, 60_000, []),
        archived_at="2026-04-01T00:00:00Z",
        event_id=None,
        found_by="webhook",
    )


def a_rule(name: str = "default", keep: str = "5 years", **more: Any) -> RetentionRule:
    return RetentionRule(name=name, keep=keep, **more)


def rules(*several: RetentionRule, number: int = 1, at: str = LONG_AGO, grace: timedelta = 7 * DAY) -> AppliedRules:
    return AppliedRules(
        number=number,
        rules=several,
        zone="UTC",
        grace_seconds=int(grace.total_seconds()),
        file_sha256="0" * 64,
        by="ann",
        at=at,
    )


def the_end(*several: RetentionRule, record: CommitRecord | None = None, zone: str = "UTC") -> str | None:
    """When a recording goes whole, by these rules alone; None: never."""
    applied = msgspec.structs.replace(rules(*several), zone=zone)
    found = terms_of([record or a_record()], [applied])
    if not found:
        return None
    (term,) = found
    return format_instant(term.ends_at).replace(".000000", "")


@pytest.mark.parametrize(
    ("ended_at", "keep", "zone", "expected"),
    [
        ("2023-11-27T12:00:00Z", "3 years", "UTC", "2026-11-27T12:00:00Z"),
        ("2023-11-27T12:00:00.000001Z", "3 years", "UTC", "2026-11-27T12:00:00.000001Z"),
        ("2024-02-29T23:59:59Z", "1 year", "UTC", "2025-03-01T23:59:59Z"),
        ("2024-02-29T10:00:00Z", "4 years", "UTC", "2028-02-29T10:00:00Z"),
        ("2024-02-28T10:00:00Z", "1 year", "UTC", "2025-02-28T10:00:00Z"),
        ("2026-01-31T10:00:00Z", "1 month", "UTC", "2026-03-01T10:00:00Z"),
        ("2026-12-31T10:00:00Z", "2 months", "UTC", "2027-03-01T10:00:00Z"),
        ("2024-01-01T00:00:00Z", "365 days", "UTC", "2024-12-31T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "2 weeks", "UTC", "2026-01-15T00:00:00Z"),
        # 29 February in Berlin, 28 February in UTC.
        ("2024-02-28T23:30:00Z", "1 year", "Europe/Berlin", "2025-02-28T23:30:00Z"),
        ("2024-02-28T23:30:00Z", "1 year", "UTC", "2025-02-28T23:30:00Z"),
        # 31 January in Berlin, 30 January in UTC, and a February of 29 days.
        ("2024-01-30T23:30:00Z", "1 month", "Europe/Berlin", "2024-02-29T23:30:00Z"),
        ("2024-01-30T23:30:00Z", "1 month", "UTC", "2024-03-01T23:30:00Z"),
        # The same time of the day there, in summer and in winter.
        ("2026-06-30T10:00:00Z", "6 months", "Europe/Berlin", "2026-12-30T11:00:00Z"),
        # 02:30 does not exist on 28 March 2027 in Berlin, and exists twice on 31 October 2027.
        ("2026-03-28T01:30:00Z", "1 year", "Europe/Berlin", "2027-03-28T01:30:00Z"),
        ("2026-10-31T01:30:00Z", "1 year", "Europe/Berlin", "2027-10-31T01:30:00Z"),
        ("2026-03-31T10:00:00+02:00", "1 year", "UTC", "2027-03-31T08:00:00Z"),
    ],
)
def test_a_period_ends_at_the_same_time_of_day_and_never_early(
    ended_at: str, keep: str, zone: str, expected: str
) -> None:
    keep = str(parse_period(keep))
    record = a_record(ended_at)
    assert the_end(a_rule(keep=keep), record=record, zone=zone) == expected


def test_three_years_of_recordings_go_one_second_after_the_other() -> None:
    """One recording for each day of three years, with a leap day: its end is never before, and at most a day after, a year."""
    zone = zone_of("Europe/Berlin")
    start = datetime(2023, 11, 27, 22, 59, 59, tzinfo=UTC)
    ends = []
    for days in range(3 * 366):
        ended = start + days * DAY
        applied = msgspec.structs.replace(rules(a_rule(keep="1 year")), zone="Europe/Berlin")
        (term,) = terms_of([a_record(format_instant(ended))], [applied])
        local, then = ended.astimezone(zone), term.ends_at.astimezone(zone)
        assert local.time() == then.time()
        assert (then.year - local.year, then.month, then.day) in {
            (1, local.month, local.day),
            *({(1, 3, 1)} if (local.month, local.day) == (2, 29) else set()),
        }
        ends.append(term.ends_at)
    assert ends == sorted(ends)


CONDITIONS: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({"connections": ("17",)}, {}, True),
    ({"connections": ("18", "19")}, {}, False),
    ({"numbers": ("+493012345",)}, {}, True),
    ({"numbers": ("+13125550100",)}, {}, True),
    ({"numbers": ("+4930*",)}, {}, True),
    ({"numbers": ("+4930",)}, {}, False),
    ({"numbers": ("+44*", "+1312*")}, {}, True),
    ({"numbers": ("+4930*",)}, {"from": "sip:+493012345;npdi@10.0.0.1"}, True),
    ({"numbers": ("+4930*",)}, {"from": "00493012345"}, True),
    ({"numbers": ("+4930*",)}, {"from": "+49 (30) 12345"}, True),
    ({"numbers": ("+4930*",)}, {"from": "anonymous"}, False),
    ({"numbers": ("+4930*",)}, {"from": "493012345"}, True),
    ({"numbers": ("+493012345",)}, {"from": "493012345"}, True),
    ({"numbers": ("+1*",)}, {"from": "1001", "to": "+441632960000"}, False),  # an extension, not a number of the USA
    ({"numbers": ("+4930*",)}, {"from": "0211 123456"}, False),
    ({"numbers": ("ann@pbx.example",)}, {"from": '"Ann" <sip:Ann@PBX.example>'}, True),
    ({"numbers": ("@pbx.example",)}, {"from": "sip:bob@pbx.example"}, True),
    ({"numbers": ("@pbx.example",)}, {"from": "sip:bob@pbx.example:5060"}, True),
    ({"numbers": ("bob@pbx.example",)}, {"from": "sip:bob@pbx.example.:5061;transport=tls"}, True),
    ({"numbers": ("@pbx.example",)}, {"from": "sip:bob@other-pbx.example"}, False),
    ({"direction": "inbound"}, {"direction": "incoming"}, True),
    ({"direction": "inbound"}, {"direction": "outbound"}, False),
    ({"tags": ("vip", "legal")}, {"tags": ["legal"]}, True),
    ({"tags": ("vip",)}, {"tags": []}, False),
    ({"channels": 2}, {}, True),
    ({"channels": 1}, {}, False),
    ({"channels": 2}, {"channels": None}, True),  # by the audio
    ({"sources": ("conference",)}, {"source": "conference"}, True),
    ({"sources": ("conference",)}, {}, False),
    ({"connections": ("17",), "numbers": ("+4930*",)}, {}, True),
    ({"connections": ("17",), "numbers": ("+44*",)}, {}, False),
]


@pytest.mark.parametrize(("conditions", "fields", "expected"), CONDITIONS)
def test_a_rule_matches_if_all_of_its_conditions_do(
    conditions: dict[str, Any], fields: dict[str, Any], expected: bool
) -> None:
    end = the_end(a_rule("some", "1 year", **conditions), a_rule(keep="2 years"), record=a_record(**fields))
    assert end == ("2027-03-31T10:00:00Z" if expected else "2028-03-31T10:00:00Z")


@pytest.mark.parametrize(
    ("conditions", "fields"),
    [
        ({"connections": ("18",)}, {"connection_id": None}),
        ({"numbers": ("+44*",)}, {"from": None}),
        ({"numbers": ("+44*",)}, {"from": "030 12345"}),
        ({"numbers": ("+4930*",)}, {"from": "030 12345"}),
        ({"numbers": ("+4930*",)}, {"from": "011 49 30 12345"}),
        ({"numbers": ("ann@pbx.example",)}, {"from": "ann"}),
        ({"numbers": ("+493012345",)}, {"from": "030/12345"}),
        ({"numbers": ("+1312*",)}, {"from": "3125550100", "to": "+441632960000"}),
        ({"direction": "inbound"}, {}),
        ({"tags": ("vip",)}, {}),
        ({"sources": ("conference",)}, {"source": None}),
    ],
)
def test_what_a_record_does_not_say_can_lengthen_and_never_shorten(
    conditions: dict[str, Any], fields: dict[str, Any]
) -> None:
    record, default = a_record(**fields), a_rule(keep="2 years")
    assert the_end(a_rule("short", "1 year", **conditions), default, record=record) == "2028-03-31T10:00:00Z"
    assert the_end(a_rule("long", "9 years", **conditions), default, record=record) == "2035-03-31T10:00:00Z"
    assert the_end(a_rule("short", "1 year", **conditions), record=record) is None  # no rule surely matches


def test_of_several_rules_the_longest_wins_in_any_order() -> None:
    short, long = a_rule("a", "90 days", connections=("17",)), a_rule("b", "7 years", numbers=("+49*",))
    assert the_end(short, long) == the_end(long, short) == "2033-03-31T10:00:00Z"
    assert the_end(short, a_rule("c", "forever", channels=2)) is None
    assert the_end(short, a_rule(keep="5 years")) == "2026-06-29T10:00:00Z"  # the default counts where no rule matches


def test_no_rules_and_no_matching_rule_keep_for_ever() -> None:
    assert terms_of([a_record()], []) == ()
    assert the_end(a_rule("other", "1 year", connections=("18",))) is None


def test_audio_and_transcripts_may_end_apart() -> None:
    voice = a_rule("voice", "1 year", connections=("17",), goes="audio", stays="hashes")
    words = a_rule("words", "2 years", connections=("17",), goes="transcripts", stays="hashes")
    first, last = terms_of([a_record()], [rules(voice, words)])
    assert (first.goes, first.stays, first.ends_at.year, first.rule) == (("audio",), "metadata", 2027, "voice")
    assert (last.goes, last.stays, last.ends_at.year, last.rule) == (("transcripts",), "hashes", 2028, "words")
    (only,) = terms_of([a_record()], [rules(voice)])
    assert (only.goes, only.stays) == (("audio",), "metadata")
    (whole,) = terms_of([a_record()], [rules(a_rule(keep="1 year", stays="hashes"))])
    assert (whole.goes, whole.stays) == (("audio", "transcripts"), "hashes")


def end_of(*applied: AppliedRules) -> datetime | None:
    found = terms_of([a_record()], list(applied))
    return found[0].ends_at if found else None


def test_a_shorter_period_counts_after_its_grace_and_a_longer_one_at_once() -> None:
    first = rules(a_rule(keep="5 years"), number=1, at="2026-04-01T00:00:00Z")
    assert end_of(first) == parse_instant("2031-03-31T10:00:00Z")
    typo = rules(a_rule(keep="5 days"), number=2, at="2026-11-27T00:00:00Z")
    assert end_of(first, typo) == parse_instant("2026-12-04T00:00:00Z")
    mended = rules(a_rule(keep="5 years"), number=3, at="2026-11-28T00:00:00Z")
    assert end_of(first, typo, mended) == parse_instant("2031-03-31T10:00:00Z")
    longer = rules(a_rule(keep="7 years"), number=2, at="2026-11-27T00:00:00Z")
    assert end_of(first, longer) == parse_instant("2033-03-31T10:00:00Z")
    nothing = rules(a_rule("x", "1 day", connections=("none",)), number=2, at="2026-11-27T00:00:00Z")
    assert end_of(first, nothing) is None


def test_the_first_rules_take_nothing_before_their_grace() -> None:
    assert end_of(rules(a_rule(keep="1 day"), at="2026-11-27T12:00:00Z")) == parse_instant("2026-12-04T12:00:00Z")


def test_a_shorter_grace_and_a_clock_that_went_back_shorten_no_grace() -> None:
    first = rules(a_rule(keep="5 years"), number=1, at="2026-04-01T00:00:00Z", grace=30 * DAY)
    hasty = rules(a_rule(keep="1 day"), number=2, at="2026-11-27T00:00:00Z", grace=0 * DAY)
    assert end_of(first, hasty) == parse_instant("2026-12-27T00:00:00Z")
    earlier = rules(a_rule(keep="1 day"), number=2, at="2020-01-01T00:00:00Z", grace=30 * DAY)
    assert end_of(first, earlier) == parse_instant("2026-05-01T00:00:00Z")


def test_metadata_stays_until_the_grace_of_the_rules_that_kept_it() -> None:
    first = rules(a_rule(keep="1 day"), number=1, at="2026-04-01T00:00:00Z", grace=0 * DAY)
    all_of_it = rules(a_rule(keep="1 day", stays="hashes"), number=2, at="2026-11-27T00:00:00Z")
    (term,) = terms_of([a_record()], [first, all_of_it])
    assert (term.stays, term.ends_at) == ("hashes", parse_instant("2026-12-04T00:00:00Z"))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "2026-03-31T10:00:00Z"),
        ({"recording_ended_at": None}, "2026-04-01T00:00:00Z"),
        ({"recording_ended_at": "soon"}, "2026-04-01T00:00:00Z"),
        ({"recording_ended_at": "1970-01-01T00:00:00Z"}, "2026-04-01T00:00:00Z"),
        ({"recording_ended_at": "2026-03-30T10:00:00Z"}, "2026-04-01T00:00:00Z"),  # before it began
        ({"created_at": "2026-03-31T10:01:00Z"}, "2026-03-31T10:00:00Z"),
        ({"created_at": "2026-05-31T10:00:00Z"}, "2026-05-31T10:00:00Z"),  # two sources, two months apart
        ({"recording_ended_at": None, "duration_millis": 90_000_000}, "2026-04-01T11:00:00Z"),
        ({"recording_ended_at": None, "duration_millis": 10**30}, None),
    ],
)
def test_a_call_without_a_credible_end_counts_from_its_latest_known_time(
    fields: dict[str, Any], expected: str | None
) -> None:
    facts = facts_of(a_record(**fields))
    assert expected is None or facts.ended_at == parse_instant(expected)
    is_end = facts.counted_from == "the end of the call"
    assert is_end == (facts.ended_at == parse_instant("2026-03-31T10:00:00Z"))


def test_a_record_whose_times_cannot_be_read_is_kept() -> None:
    record = msgspec.structs.replace(a_record(None, created_at="?"), archived_at="?")
    assert facts_of(record).ended_at.year == 2999
    (term,) = terms_of([record], [rules(a_rule(keep="100 years"))])
    assert term.ends_at.year == 3099


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.tuples(st.integers(0, 400), st.sampled_from(KEEPS), st.integers(0, 30)), min_size=1, max_size=5))
def test_a_recording_may_go_exactly_when_every_set_of_rules_that_still_counts_lets_it(
    history: list[tuple[int, str, int]],
) -> None:
    """Day by day over some years: a set counts from its application until the grace of the next is over."""
    start, ended = parse_instant("2026-01-01T00:00:00Z"), parse_instant("2026-03-31T10:00:00Z")
    at = [start + days * DAY for days in sorted(days for days, _, _ in history)]
    applied = [
        rules(a_rule(keep=keep), number=n + 1, at=format_instant(at[n]), grace=grace * DAY)
        for n, (_, keep, grace) in enumerate(history)
    ]
    found = terms_of([a_record()], applied)

    def may_go(now: datetime) -> bool:
        for n, one in enumerate([None, *applied]):
            graces = [grace for _, _, grace in history[max(n - 1, 0) : n + 1]]
            counts = n == len(applied) or now < at[n] + max(graces) * DAY
            period = None if one is None else one.rules[0].period
            if counts and (period is None or now < period.after(ended)):
                return False
        return True

    for days in range(90, 1200, 7):
        now = start + days * DAY + timedelta(seconds=1)
        if now < at[-1]:
            continue  # the last rules are not applied yet
        assert may_go(now) == (bool(found) and found[0].ends_at <= now), (now, found)


def test_a_version_that_ended_later_keeps_the_recording_longer() -> None:
    later = a_record("2026-04-30T10:00:00Z")
    (term,) = terms_of([a_record(), later], [rules(a_rule(keep="1 year"))])
    assert term.ends_at == parse_instant("2027-04-30T10:00:00Z")
    elsewhere = a_record(connection_id="18")
    short = rules(a_rule("here", "1 year", connections=("17",)))
    assert terms_of([a_record(), elsewhere], [short]) == ()


@pytest.fixture
def archive(tmp_path: Any) -> Archive:
    store = open_store(tmp_path.as_uri())
    store.create_place()
    return Archive(store)


def test_rules_are_read_in_their_order(archive: Archive) -> None:
    assert read_applied(archive) == []
    several = [rules(a_rule(), number=number) for number in (1, 2, 3)]
    for one in several:
        archive.put_record(layout.retention_key(one.number), one)
    assert read_applied(archive) == several


DAMAGE: list[tuple[str, bytes]] = [
    ("retention/00000002.json", b"{}"),
    ("retention/00000002.json", encode_record(rules(a_rule(), number=3))),
    ("retention/00000003.json", encode_record(rules(a_rule(), number=3))),
    ("retention/00000002.json.bak", encode_record(rules(a_rule(), number=2))),
    ("retention/2.json", encode_record(rules(a_rule(), number=2))),
    ("retention/00000002.json", encode_record(rules(a_rule(), number=2)).replace(b'"zone": "UTC"', b'"zone": "Mars"')),
    ("retention/00000002.json", encode_record(rules(a_rule(), number=2)).replace(b"5 years", b"5 yaers")),
    (
        "retention/00000002.json",
        encode_record(rules(a_rule(), number=2)).replace(b'"keep"', b'"country": "de", "keep"'),
    ),
    ("retention/00000002.json", encode_record(rules(a_rule(), number=2)).replace(b"default", b"general")),
]


@pytest.mark.parametrize(("key", "data"), DAMAGE)
def test_rules_that_cannot_be_read_stop_everything(archive: Archive, key: str, data: bytes) -> None:
    archive.put_record(layout.retention_key(1), rules(a_rule()))
    archive.put(key, data, "application/json")
    with pytest.raises(UnreadableRecord):
        read_applied(archive)


def test_rules_come_back_as_they_were_written() -> None:
    one = rules(a_rule("x", numbers=("+49*",), channels=1, stays="hashes"), a_rule())
    assert APPLIED_RULES.read(encode_record(one), layout.retention_key(1)) == one


def test_a_term_says_why() -> None:
    (term,) = terms_of([a_record()], [rules(a_rule("germany", "5 years", numbers=("+49*",)))])
    assert isinstance(term, Term)
    assert term.why == "rule germany keeps it 5 years from the end of the call"
    odd = a_record(recording_ended_at=None, direction=None)
    inbound = a_rule("inbound", "9 years", direction="inbound")
    (term,) = terms_of([odd], [rules(inbound, a_rule())])
    assert "may match: the record does not say direction" in term.why
    assert "latest known time" in term.why
