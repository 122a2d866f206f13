"""A short run of plays under kill -9; `make plays N=10000` is the long one."""

from __future__ import annotations

import pytest

from tests.chaos.accesses import run


@pytest.mark.timeout(400)
def test_every_play_that_was_answered_is_in_the_log_once_after_kill_9() -> None:
    report = run(300, at_once=6, kill_every_seconds=1.0, seed=7, log=print)
    assert report.wrong == []
    assert report.answered >= 300 and report.kills >= 2
