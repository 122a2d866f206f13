"""A case holds by a query, those to come too: by the commit record alone, whatever is lost, and until its last row closes it."""

from __future__ import annotations

import itertools
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from archive import layout
from archive.archive import Archive
from archive.cases import (
    Case,
    belongs,
    facts_of,
    open_cases,
    put_case,
    read_cases,
    why_held_by_cases,
    why_held_without_record,
)
from archive.decision_records import CaseQuery, CaseRecord
from archive.records import ArchivedObject, AudioSummary, CommitRecord, Damage, Proof, encode_record
from archive.stores.store import open_store
from lab.stores import make_archive
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.in_cases import count_case
from workers.catalogue.query import BadQuery, Query, read_query
from workers.catalogue.reach import EVERYTHING
from workers.catalogue.rows import row_of_commit
from workers.catalogue.search import choose_all, count, search, search_ids
from workers.deletion.cases import case_query

DAY = date(2026, 11, 25)
CALL = {
    "id": "r-1",
    "from": "+13125550100",
    "to": "sip:ann@pbx.example",
    "connection_id": "7",
    "call_session_id": "s-1",
    "call_leg_id": "l-1",
    "recording_started_at": "2026-11-25T10:00:00Z",
}
CONFERENCE = {
    "id": "r-2",
    "connection_id": "7",
    "conference_id": "c-1",
    "call_session_id": "s-2",
    "recording_started_at": "2026-11-25T11:00:00Z",
}


def record_of(fields: dict[str, Any]) -> CommitRecord:
    """The commit record of a recording with these fields."""
    key = f"{layout.recording_folder(DAY, fields['id'])}audio.wav"
    proof = Proof(by="read-back", algorithm="sha256", value="0", version=None)
    return CommitRecord(
        recording=fields,
        objects=[ArchivedObject(key, 1, "0", "audio/wav", proof)],
        audio=AudioSummary("wav", 1, 8000, 1000, []),
        archived_at="2026-11-25T12:00:00.000000Z",
        event_id=None,
        found_by="webhook",
    )


def row(nth: int = 1, state: Any = "open", case_id: str = "c1", **query: Any) -> CaseRecord:
    """A row of a case."""
    return CaseRecord(
        id=case_id,
        number=nth,
        state=state,
        name="Doe v. Example",
        query=CaseQuery(**query),
        why="letter of 20 November",
        by="ann",
        at="2026-11-26T09:00:00.000000Z",
    )


def case(case_id: str = "c1", **query: Any) -> Case:
    """An open case."""
    return Case(id=case_id, name="Doe v. Example", query=CaseQuery(**query), number=1, is_open=True)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    make_archive(tmp_path / "archive")
    return Archive(open_store((tmp_path / "archive").as_uri()))


QUERIES: list[tuple[dict[str, str], bool | None, bool | None]] = [  # of the call, of the conference
    ({"number": "+1 312 555 0100"}, True, None),
    ({"number": "ann@pbx.example"}, True, None),
    ({"number": "+1 312 555 0101"}, False, None),
    ({"connection": "7"}, True, True),
    ({"connection": "8"}, False, False),
    ({"session": "s-1"}, True, False),
    ({"leg": "l-1"}, True, False),
    ({"leg": "l-2"}, False, False),
    ({"id": "r-2"}, False, True),
    ({"since": "2026-11-25T10:00:00Z"}, True, True),
    ({"since": "2026-11-25T10:00:00.000001Z"}, False, True),
    ({"until": "2026-11-25T10:00:00Z"}, False, False),
    ({"until": "2026-11-25T11:00:00Z"}, True, False),
    ({"number": "+13125550100", "until": "2026-11-25T10:30:00Z"}, True, False),
    ({"number": "+13125550100", "connection": "8"}, False, False),
    ({}, True, True),
]


@pytest.mark.parametrize(("query", "of_the_call", "of_the_conference"), QUERIES)
def test_a_case_holds_what_matches_and_what_nobody_can_rule_out(
    query: dict[str, str], of_the_call: bool | None, of_the_conference: bool | None
) -> None:
    wanted = CaseQuery(**query)
    assert belongs(wanted, facts_of(record_of(CALL))) is of_the_call
    assert belongs(wanted, facts_of(record_of(CONFERENCE))) is of_the_conference
    assert (why_held_by_cases([case(**query)], record_of(CONFERENCE)) is not None) is (of_the_conference is not False)


@pytest.mark.parametrize(
    "words",
    [
        {"text": "refund"},
        {"state": "held"},
        {"findings": "1"},
        {"min_duration": "5s"},
        {"max_duration": "0s"},
        {"case": "c1"},
    ],
)
def test_a_case_asks_for_nothing_that_a_commit_record_does_not_say(words: dict[str, str]) -> None:
    (field,) = words
    with pytest.raises(BadQuery, match=f"^{field}: a case cannot be limited by this; expected number, since, until,"):
        case_query(read_query(words | {"connection": "7"}))


@pytest.mark.parametrize(
    ("words", "zone"), [({"until": "2999-12-31"}, "UTC"), ({"since": "1900-01-01"}, "Asia/Kolkata")]
)
def test_a_case_asks_for_no_time_that_its_record_could_not_say(words: dict[str, str], zone: str) -> None:
    (field,) = words
    with pytest.raises(BadQuery, match=f"^{field}: expected a time from 1900 to 2999, in UTC"):
        case_query(read_query(words, ZoneInfo(zone)))


MAY_HOLD = [  # a recording whose commit record is missing
    {"number": "+49 30 1234567"},
    {"connection": "8"},
    {"session": "s-8"},
    {"leg": "l-8"},
    {"since": "2026-11-25T23:59:59Z"},
    {"until": "2026-11-25T00:00:01Z"},
    {"since": "2026-11-25T11:00:00Z", "until": "2026-11-25T12:00:00Z"},
]
CANNOT_HOLD = [{"id": "r-2"}, {"since": "2026-11-26T00:00:00Z"}, {"until": "2026-11-25T00:00:00Z"}]


def test_a_recording_without_a_readable_record_is_held_by_each_case_that_its_day_and_id_allow() -> None:
    folder = layout.recording_folder(DAY, "r-1")
    for query in MAY_HOLD:
        assert "Doe v. Example" in (why_held_without_record([case(**query)], folder) or "")
    for query in CANNOT_HOLD:
        assert why_held_without_record([case(**query)], folder) is None


def test_the_catalogue_finds_it_by_the_same_cases_and_counts_it_as_in_doubt(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    damage = Damage(
        key=layout.commit_key(layout.recording_folder(DAY, "r-1")),
        number=1,
        state="missing",
        what="gone",
        found_by="verify",
        at="2026-11-26T09:00:00.000000Z",
    )
    with catalogue.writing():
        catalogue.apply(layout.damage_key(damage.key, 1), encode_record(damage))
    for number, query in [*((1, one) for one in MAY_HOLD), *((0, one) for one in CANNOT_HOLD)]:
        catalogue.put_cases([case(**query)])
        found = search(catalogue.path, Query(case="c1"), EVERYTHING)
        assert [hit.cases for hit in found] == [["c1"]] * number, query
        assert [one.recording_id for one in choose_all(catalogue.path, Query(case="c1"))] == ["r-1"] * number
        counts = count_case(catalogue.path, case(**query))
        assert (counts.recordings, counts.unsure, counts.damaged) == (number, number, number), query
    catalogue.close()


def test_the_catalogue_shows_each_recording_as_held_by_the_cases_that_its_commit_record_says(tmp_path: Path) -> None:
    """Each pair of the queries above as two open cases, over recordings that lack one thing or another."""
    recordings: list[dict[str, Any]] = [CALL, CONFERENCE]
    recordings += [
        CALL | {"id": f"less-{name}", name: None} for name in CALL if name not in ("id", "recording_started_at")
    ]
    recordings += [CALL | {"id": f"other-{name}", name: "+4930555"} for name in ("from", "to", "connection_id")]
    records = {fields["id"]: record_of(fields) for fields in recordings}
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    with catalogue.writing():
        catalogue.put_rows(row_of_commit(id_, DAY.isoformat(), one) for id_, one in records.items())
    for (first, *_), (second, *_) in itertools.product(QUERIES, QUERIES):
        cases = [case("c1", **first), case("c2", **second)]
        catalogue.put_cases(cases)
        held = {id_ for id_, one in records.items() if why_held_by_cases(cases, one)}
        of_first = {id_ for id_, one in records.items() if why_held_by_cases(cases[:1], one)}
        assert {hit.row.recording_id for hit in search(catalogue.path, Query(state="held"), EVERYTHING)} == held
        assert {
            hit.row.recording_id for hit in search(catalogue.path, Query(state="archived"), EVERYTHING)
        } == records.keys() - held
        assert count(catalogue.path, Query(state="held"), EVERYTHING) == len(held)
        found = search(catalogue.path, Query(case="c1"), EVERYTHING)
        assert {hit.row.recording_id for hit in found} == of_first and count(
            catalogue.path, Query(case="c1"), EVERYTHING
        ) == len(found)
        assert all("c1" in hit.cases and hit.state == "held" for hit in found)
        assert {id_ for id_, hit in search_ids(catalogue.path, list(records), EVERYTHING).items() if hit.cases} == held
    catalogue.put_cases(
        [Case(id="c1", name="", query=CaseQuery(), number=2, is_open=False, closed_at="2026-11-25T11:00Z")]
    )
    assert not search(catalogue.path, Query(state="held"), EVERYTHING)
    assert not search(catalogue.path, Query(case="c1"), EVERYTHING), (
        "what was archived after it was closed was never held by it"
    )
    with pytest.raises(BadQuery, match="no case c2"):
        search(catalogue.path, Query(case="c2"), EVERYTHING)
    catalogue.close()


def test_many_open_cases_are_searched_together(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    with catalogue.writing():
        catalogue.put_rows([row_of_commit("r-1", DAY.isoformat(), record_of(CALL))])
    catalogue.put_cases([case(f"c{n}", number=f"+4930{n:07}", connection="7") for n in range(1_000)])
    assert [hit.state for hit in search(catalogue.path, Query(), EVERYTHING)] == ["archived"]
    assert search(catalogue.path, Query(state="held"), EVERYTHING) == []
    catalogue.close()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("c1/00000002.json", b"{"),
        ("c1/00000002.json", b""),
        ("c1/00000002.json", encode_record(row(1, connection="8"))),
        ("c1/00000002.json", encode_record(row(2, number="?")).replace(b"callvault.case/1", b"callvault.case/2")),
        ("c1/00000002.json", encode_record(row(2, number="not a number"))),
        ("c1/00000002.json", encode_record(row(2, since="yesterday"))),
        ("c2/00000001.json", encode_record(row(connection="8"))),
        ("c2/00000001.json.bak", encode_record(row(connection="8", case_id="c2"))),
        ("stray", b""),
    ],
)
def test_an_object_that_cannot_be_read_may_be_any_case_so_it_holds_everything(
    name: str, data: bytes, archive: Archive
) -> None:
    put_case(archive, row(connection="8"))
    assert why_held_by_cases(open_cases(archive), record_of(CALL)) is None
    archive.put(f"{layout.CASES}{name}", data, "application/json")
    held = why_held_by_cases(open_cases(archive), record_of(CALL))
    assert held is not None and "cannot be read" in held and f"{layout.CASES}{name}" in held


def test_a_case_is_closed_by_its_last_row_alone_and_keeps_who_opened_it(archive: Archive) -> None:
    put_case(archive, row(connection="7"))
    assert why_held_by_cases(open_cases(archive), record_of(CALL)) is not None
    put_case(archive, row(2, "closed", connection="7"))
    (closed,) = read_cases(archive)
    assert (closed.is_open, closed.why, closed.opened_by, closed.closed_by) == (
        False,
        "letter of 20 November",
        "ann",
        "ann",
    )
    archive.put(layout.case_key("c1", 1) + "x", b"", "text/plain")
    assert open_cases(archive), "an odd object beside it may be what reopened it"


def test_a_recording_of_several_cases_is_free_once_the_last_is_closed(archive: Archive) -> None:
    for case_id in ("c1", "c2"):
        put_case(archive, row(case_id=case_id, connection="7"))
    for number, case_id in ((2, "c1"), (1, "c2")):
        held = why_held_by_cases(open_cases(archive), record_of(CALL))
        assert held is not None and held.count("Doe v. Example") == number
        put_case(archive, row(2, "closed", case_id, connection="7"))
    assert why_held_by_cases(open_cases(archive), record_of(CALL)) is None
