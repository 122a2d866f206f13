"""The order of a whole run begins with the longest tests, keeps together those that share a server, and loses none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.order import LONG, SERVERS, TOGETHER, dealt


@pytest.mark.parametrize("processes", [1, 2, 3, 8, 12, 50])
def test_each_test_is_dealt_once_and_long_ones_come_first(processes: int) -> None:
    tests = list(range(100))
    seconds = [{7: 30.0, 90: 40.0, 91: 20.0}.get(test, 0.0) for test in tests]
    order = dealt(tests, seconds, [""] * 100, processes)
    assert sorted(order) == tests
    starts, at = set(), 0
    for number in range(processes):
        starts.add(order[at])
        at += (len(tests) - at) // (processes - number)
    assert starts >= set([90, 7, 91][: max(1, processes // 2)])


@pytest.mark.parametrize("processes", [1, 2, 3, 8, 12])
def test_tests_that_share_a_server_follow_each_other_in_a_process_without_long_ones(processes: int) -> None:
    tests = list(range(240))
    names = [*[*TOGETHER][:2], "another"]
    shared = [names[test % 3] if test % 20 < 3 else "" for test in tests]
    seconds = [30.0 if test % 60 == 0 else 0.0 for test in tests]  # a long one is dealt as such, whatever it shares
    order = dealt(tests, seconds, shared, processes)
    assert sorted(order) == tests
    for name in names:
        places = [at for at, test in enumerate(order) if shared[test] == name and not seconds[test]]
        assert places == [*range(places[0], places[0] + len(places))]
        assert processes == 1 or places[0] >= len(tests) // processes * (processes // 2)


def test_each_long_test_exists() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name in LONG if f"def {name}(" not in text] == []


def test_each_server_is_a_fixture_and_each_file_and_store_exists() -> None:
    root = Path(__file__).parent.parent
    text = "".join(path.read_text() for path in (root / "tests").rglob("*.py"))
    assert [name for name in SERVERS if f"def {name}(" not in text] == []
    stores = (root / "tests" / "contract" / "conftest.py").read_text()
    assert [name for name in TOGETHER if not (root / name).is_file() and f'"{name}": ' not in stores] == []
