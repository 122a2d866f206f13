"""A search for few recordings among many looks at few, and finds the same as one that looks at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from config.scopes import Grant, Scope
from text.times import format_instant
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.query import Query, read_query
from workers.catalogue.reach import EVERYTHING, Reach
from workers.catalogue.rows import Row
from workers.catalogue.search import count, search, search_all

_MANY = 20_000
_OLD = 40  # the rare ones are the oldest: a search by time finds them last

_OF = {
    "held": lambda n: n % 8 == 0,
    "kept": lambda n: n % 8 == 1,
    "erased": lambda n: n % 8 == 2,
    "archived": lambda n: n % 8 == 3,
    "long": lambda n: n % 8 == 4,
    "short": lambda n: n % 8 == 5,
    "of a held connection": lambda n: n % 8 == 6,
}


def _is(n: int, name: str) -> bool:
    return n < _OLD and _OF[name](n)


def _row(n: int) -> Row:
    at = format_instant(datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=n))
    return Row(
        recording_id=f"r{n}",
        day=at[:10],
        started_at=at,
        connection_id="held" if _is(n, "of a held connection") else f"c{n % 3}",
        duration_ms=9_000_000 if _is(n, "long") else 1 if _is(n, "short") else 60_000,
        key="k",
        from_number=f"+49{30 + n % 3}555{n:05d}",
        transcription_ids=[f"t{n}"] if n % 2 else [],
        transcripts=["a refund, please" if n % 4 == 1 else "good morning"] if n % 2 else [],
        findings=["silent"] if _is(n, "kept") else [],
        decision="hold" if _is(n, "held") else None,
        deleted_at=at if n >= _OLD else None,
    )


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("many") / "catalogue.sqlite"
    catalogue = Catalogue(path)
    with catalogue.filling(), catalogue.writing():
        catalogue.put_rows(map(_row, range(_MANY)))
        catalogue._db.executemany(
            "UPDATE recordings SET erased_at = started_at WHERE recording_id = ?",
            [(f"r{n}",) for n in range(_OLD) if _is(n, "erased")],
        )
    catalogue.hold_connections({"held"})
    catalogue.close()
    return path


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many thousand instructions SQLite has run for searches."""
    counted = [0]
    connect = sqlite3.connect

    def opened(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        def step() -> int:
            counted[0] += 1
            return 0

        db: sqlite3.Connection = connect(*args, **kwargs)
        db.set_progress_handler(step, 1000)
        return db

    monkeypatch.setattr(sqlite3, "connect", opened)
    return lambda: counted[0]


def test_pages_reach_the_recordings_without_a_time_and_read_no_page_before(
    tmp_path: Path, steps: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    with catalogue.writing():
        catalogue.put_rows(Row(recording_id=f"r{n}", day="2025-01-01", key="k") for n in range(5))
        catalogue.put_rows(map(_row, range(5, 2_000)))
    catalogue.close()
    wanted = [f"r{n}" for n in (*range(1_999, 4, -1), *range(4, -1, -1))]
    monkeypatch.setattr("workers.catalogue.search._PAGE", 2)
    found = [hit.row.recording_id for hit in search_all(catalogue.path, Query(), EVERYTHING)]
    assert found == wanted
    assert steps() < 1_000, "each page begins where the one before ended"


_RARE = {
    "held": ({"state": "held"}, ("held", "of a held connection")),
    "kept": ({"state": "kept"}, ("kept",)),
    "erased": ({"state": "erased"}, ("erased",)),
    "findings": ({"findings": "1"}, ("kept",)),
    "long": ({"min_duration": "2h"}, ("long",)),
    "short": ({"max_duration": "1s"}, ("short",)),
    "held, of a connection": ({"state": "held", "connection": "held"}, ("of a held connection",)),
    "kept, of a connection": ({"state": "kept", "connection": "c0"}, ()),
}


@pytest.mark.parametrize("name", _RARE)
def test_a_search_for_few_among_many_looks_at_few(name: str, many: Path, steps: Callable[[], int]) -> None:
    words, kinds = _RARE[name]
    query = read_query(words)
    wanted = {f"r{n}" for n in range(_OLD) if any(_is(n, kind) for kind in kinds)}
    if name == "kept, of a connection":
        wanted = {f"r{n}" for n in range(_OLD) if _is(n, "kept") and n % 3 == 0}
    assert {hit.row.recording_id for hit in search(many, query, EVERYTHING)} == wanted
    assert count(many, query, EVERYTHING) == len(wanted)
    assert steps() < 50, f"{steps()} thousand instructions"


@pytest.mark.parametrize(
    ("scope", "count_of"),
    [
        (Scope(("held",)), sum(_is(n, "of a held connection") for n in range(_OLD))),
        (Scope(numbers=("+493055500003", "+493055500006")), 2),
        (Scope(("none",), ("+49",)), 0),
    ],
    ids=str,
)
def test_a_scope_of_few_among_many_looks_at_few(
    scope: Scope, count_of: int, many: Path, steps: Callable[[], int]
) -> None:
    reach = Reach((Grant("listener", scope),))
    assert len(search(many, Query(), reach, 51)) == count(many, Query(), reach) == count_of
    assert steps() < 50, f"{steps()} thousand instructions"


def test_a_page_of_a_scope_of_many_looks_no_further_than_it_shows(many: Path, steps: Callable[[], int]) -> None:
    for scope in (Scope(("c1", "c2")), Scope(numbers=("+4930", "+4931"))):
        before = steps()
        assert len(search(many, Query(), Reach((Grant("listener", scope),)), 51)) == 51
        assert steps() - before < 300, f"{steps() - before} thousand instructions for {scope}"


@pytest.mark.parametrize("state", ["archived", "deleted"])
def test_a_page_and_its_count_of_a_state_look_no_further_than_they_show(
    state: str, many: Path, steps: Callable[[], int]
) -> None:
    found = search(many, Query(state=state), EVERYTHING, 51)
    kinds = ("archived", "long", "short")
    plain = sum(n % 8 == 7 or any(_is(n, kind) for kind in kinds) for n in range(_OLD))
    assert len(found) == (51 if state == "deleted" else plain)
    before = steps()
    assert before < 50
    assert count(many, Query(state=state), EVERYTHING) == (10_001 if state == "deleted" else len(found))
    assert state == "deleted" or steps() - before < 50


_ANY: dict[str, tuple[dict[str, str], Callable[[int], bool]]] = {
    "all": ({}, lambda n: True),
    "a common length": ({"min_duration": "10s"}, lambda n: not _is(n, "short")),
    "a common number": ({"number": "+4931"}, lambda n: n % 3 == 1),
    "the end of a number": ({"number": "0555500071"}, lambda n: False),
    "a rare number": ({"number": "+493155500070"}, lambda n: n == 70),
    "a part of many numbers": ({"number": "555"}, lambda n: True),
    "common words": ({"text": "morning"}, lambda n: n % 4 == 3),
    "words of a number": ({"text": "refund", "number": "+4932"}, lambda n: n % 4 == 1 and n % 3 == 2),
    "words of what is on hold": (
        {"text": "morning", "state": "held"},
        lambda n: n % 4 == 3 and (_is(n, "held") or _is(n, "of a held connection")),
    ),
    "words of a connection": (
        {"text": "refund", "connection": "c0"},
        lambda n: n % 4 == 1 and n % 3 == 0 and not _is(n, "of a held connection"),
    ),
    "words of a day": (
        {"text": "refund", "since": "2025-01-03", "until": "2025-01-03"},
        lambda n: n % 4 == 1 and 2 * 1440 <= n < 3 * 1440,
    ),
}


@pytest.mark.parametrize("few", [0, 10, 5_000, 1_000_000])
@pytest.mark.parametrize("name", [*_RARE, *_ANY])
def test_an_index_changes_no_answer(few: int, name: str, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in _ANY:
        query, is_meant = read_query(_ANY[name][0]), _ANY[name][1]
        expected = [f"r{n}" for n in reversed(range(_MANY)) if is_meant(n)]
    else:
        query = read_query(_RARE[name][0])
        expected = [hit.row.recording_id for hit in search(many, query, EVERYTHING, _MANY)]
    monkeypatch.setattr("workers.catalogue.search._FEW", few)
    found = search(many, query, EVERYTHING, 60)
    assert [hit.row.recording_id for hit in found] == expected[:60]
    assert count(many, query, EVERYTHING) == min(len(expected), 10_001)
    if len(found) > 6:
        assert [hit.row.recording_id for hit in search(many, query, EVERYTHING, 20, found[5].place)] == expected[6:26]
