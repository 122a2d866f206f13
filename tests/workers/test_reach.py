"""What a scope reaches: the catalogue's condition and the look at one record say the same, about every form of a party."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config.roles import Role
from config.scopes import Grant, Scope, scoped_grant
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.query import Query
from workers.catalogue.reach import EVERYTHING, Reach, why_outside
from workers.catalogue.rows import Row
from workers.catalogue.search import count, search, search_all, search_ids

# The parties of a call, and whether the first is a German number: written with its country, since digits may be an extension.
PARTIES = {
    "+493012345678": True,
    "00493012345678": True,
    "+49 30 1234-5678": True,
    "sip:+493012345678@pbx.example.com": True,
    '"Ann" <sip:+493012345678;npdi@host>': True,
    "tel:+49-30-1234;ext=22": True,
    "+４９3012345678": True,
    "+49": True,
    "493012345678": False,
    "sip:4930@pbx.example.com": False,
    "+4": False,
    "+14930123456": False,
    "+1 312 555 0100": False,
    "0493012345": False,
    "sip:ann@+49.example.com": False,
    "anonymous": False,
    "": False,
}
CONNECTIONS = ("1", "2", "", None)


def _rows() -> list[Row]:
    found: list[Row] = []
    for party in (*PARTIES, None):
        for connection_id in CONNECTIONS:
            for numbers in ((party, "+15550001111"), (None, party)):
                row = Row(recording_id=f"r{len(found)}", day="2026-01-01", key="k", connection_id=connection_id)
                row.started_at = f"2026-01-01T00:00:{len(found) % 60:02d}.000000Z"
                row.from_number, row.to_number = numbers
                found.append(row)
    return found


ROWS = _rows()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    catalogue = Catalogue(tmp_path_factory.mktemp("reach") / "catalogue.sqlite")
    with catalogue.writing():
        catalogue.put_rows(ROWS)
        catalogue._number("r-uncommitted", "2026-01-01")
        catalogue.put_rows([Row(recording_id="r-erased", day="2026-01-01", key="k", connection_id="1")])
        catalogue._db.execute("UPDATE recordings SET erased_at = '2026-01-02' WHERE recording_id = 'r-erased'")
    catalogue.close()
    return catalogue.path


def _listener(connections: list[str] | None, numbers: list[str] | None, *, role: Role = "listener") -> Grant:
    return scoped_grant(role, connections, numbers)


REACHES = {
    "a connection": Reach((_listener(["1"], None),)),
    "connections": Reach((_listener(["1", "2"], None),)),
    "numbers": Reach((_listener(None, ["+49", "+7"]),)),
    "both": Reach((_listener(["1"], ["+49"]),)),
    "either": Reach((_listener(["1"], None), _listener(None, ["+49"], role="officer"))),
    "an unknown connection": Reach((_listener(["none"], None),)),
    "nothing": Reach(()),
}


@pytest.mark.parametrize("name", REACHES)
@pytest.mark.parametrize("few", [10_000, 3], ids=["few", "many"])
def test_a_search_finds_what_the_record_of_each_recording_says(
    name: str, few: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.catalogue.search._FEW", few)
    reach = REACHES[name]
    expected = {row.recording_id for row in ROWS if reach.covers(row)}
    assert {hit.row.recording_id for hit in search(path, Query(), reach, 1000)} == expected
    assert {hit.row.recording_id for hit in search_all(path, Query(), reach)} == expected
    assert count(path, Query(), reach) == len(expected)
    ids = [*(row.recording_id for row in ROWS), "r-erased", "r-uncommitted"]
    assert search_ids(path, ids, reach).keys() == expected
    for wanted in (Query(number="+4930"), Query(connection="1"), Query(state="archived"), Query(id="r-erased")):
        of_all = {hit.row.recording_id for hit in search(path, wanted, EVERYTHING, 1000)}
        assert {hit.row.recording_id for hit in search(path, wanted, reach, 1000)} == of_all & expected
        assert count(path, wanted, reach) == len(of_all & expected)


@pytest.mark.parametrize("party", PARTIES)
def test_a_number_is_in_a_scope_if_it_is_written_with_its_country(party: str) -> None:
    scope = Scope(numbers=("+49",))
    for row in (Row(recording_id="r", day="d", from_number=party), Row(recording_id="r", day="d", to_number=party)):
        assert Reach((Grant("listener", scope),)).covers(row) is PARTIES[party]
        why = why_outside(scope, row)
        assert (why is None) is PARTIES[party] and (why is None or "neither number begins so" in why)


@pytest.mark.parametrize(
    ("grants", "expected"),
    [
        ((Grant("listener"),), [False, False]),
        ((Grant("listener", mask=True),), [True, True]),
        ((Grant("listener", Scope(("1",))), Grant("officer", mask=True)), [False, True]),
        ((Grant("listener", Scope(("1",)), mask=True), Grant("officer", Scope(("1",)))), [False, True]),
    ],
)
def test_numbers_are_masked_unless_a_grant_that_reaches_the_recording_shows_them(
    grants: tuple[Grant, ...], expected: list[bool]
) -> None:
    rows = [Row(recording_id="r", day="d", connection_id=one, from_number="+49301234567") for one in ("1", "2")]
    assert [Reach(grants).masks(row) for row in rows] == expected


def test_whoever_has_a_role_without_a_scope_reaches_what_is_erased_too(path: Path) -> None:
    found: Callable[[Reach], bool] = lambda reach: "r-erased" in search_ids(path, ["r-erased"], reach)  # noqa: E731
    assert found(EVERYTHING) and found(Reach((Grant("officer"), _listener(["2"], None))))
    assert not found(REACHES["a connection"]), "what it was about is not known any more"


def test_a_scope_in_words_has_the_names_of_connections_and_each_id_once() -> None:
    """An id may be the beginning of another, or a part of a name."""
    reach = Reach((_listener(["17", "170", "9"], ["+49"]),))
    names = {"17": "Berlin 170", "170": "Paris"}
    assert reach.shown(names) == "for connections Berlin 170, Paris, 9 and number +49"
    assert Reach((Grant("listener"),)).shown(names) == ""
