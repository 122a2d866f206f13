"""A short chaos run; `make chaos N=10000` is the long one."""

from __future__ import annotations

import pytest

from tests.chaos.chaos import run


@pytest.mark.timeout(900)
def test_under_faults_nothing_is_lost_and_nothing_deleted_too_early() -> None:
    lines: list[str] = []
    report = run(200, seed=11, per_second=5, patience_seconds=600, scene_seconds=4, log=lines.append)
    assert report.wrong == [], "\n".join(lines)
    assert report.archived == report.deleted + report.due_later == report.recordings == 200
    assert report.kills >= 3
    assert report.faults
    assert report.scenes["holds"] and report.scenes["archive unmounted"]
