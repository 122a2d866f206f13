"""The order of a whole run begins with the longest tests, and loses none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.order import LONG, dealt


@pytest.mark.parametrize("processes", [1, 2, 3, 8, 12, 50])
def test_each_test_is_dealt_once_and_long_ones_come_first(processes: int) -> None:
    tests = list(range(100))
    seconds = [{7: 30.0, 90: 40.0, 91: 20.0}.get(test, 0.0) for test in tests]
    order = dealt(tests, seconds, processes)
    assert sorted(order) == tests
    starts, at = set(), 0
    for number in range(processes):
        starts.add(order[at])
        at += (len(tests) - at) // (processes - number)
    assert starts >= set([90, 7, 91][: max(1, processes // 2)])


def test_each_long_test_exists() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name in LONG if f"def {name}(" not in text] == []
