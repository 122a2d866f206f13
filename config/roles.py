"""The roles of people and programs on the ops pages and in `/api/`."""

from __future__ import annotations

from typing import Literal

Role = Literal["listener", "operator", "officer", "auditor", "admin"]

# What each role is for; `service/ops/may.py` has the sets of roles, and `tables.py` there uses them.
ROLES: dict[Role, str] = {
    "listener": "finds recordings, reads and hears them",
    "operator": "keeps the service running: dead letters, connections, pauses",
    "officer": "decides what is kept and what goes: holds, releases, approvals, exports; also hears recordings",
    "auditor": "checks the evidence: seals, inventories, holds; hears and reads no recording",
    "admin": "may do everything",
}


def role_of(text: str) -> Role:
    """The role of a name.

    Raises:
        ValueError: no role has this name; the text lists the names.
    """
    for role in ROLES:
        if role == text:
            return role
    raise ValueError(f"unknown role {text[:40]!r}; expected one of {', '.join(ROLES)}")
