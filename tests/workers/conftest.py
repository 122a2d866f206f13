"""Fixtures of the jobs' tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def deleting(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a worker that deletes originals at once."""
    return environment | {"CALLVAULT_DELETE_ORIGINALS": "verified", "CALLVAULT_DELETE_AFTER": "1ms"}
