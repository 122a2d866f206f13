"""What each page, file, change and command writes into the access log, or why nothing: for docs/access-log.md.

A row of `service/ops/tables.py` or a command that has no entry here fails a test.
"""

from __future__ import annotations

from collections.abc import Iterator

from docs.commands import all_pages
from service.ops import accesses
from service.ops.page import File
from service.ops.tables import CHANGES, FILES, OPERATIONS, PAGES

_SERVICE = "a process of the service, which acts by its settings"
_COUNTS = "it shows counts and states"
_COPY = "it changes a copy on this machine only"

# What the functions of the rows write.
_SAYS: dict[accesses.Says, tuple[str, ...]] = {
    accesses.look: ("look", "read"),
    accesses.search: ("search",),
    accesses.deletions: ("list",),
    accesses.letters: ("list",),
    accesses.quarantine: ("list",),
    accesses.case: ("search",),
    accesses.audio: ("play", "download", "sent"),
    accesses.download: ("download", "sent"),
    accesses.transcript: ("transcript",),
    accesses.levels: ("levels",),
    accesses.export: ("export",),
    accesses.export_selected: ("export",),
    accesses.inventory: ("inventory",),
    accesses.bundle: ("download",),
}

# What operations of `/api/` write themselves, by their names, and files, by their paths.
_THEMSELVES: dict[str, tuple[str, ...]] = {
    "createAudioAddress": ("address", "play", "download", "sent"),
    "restoreAudio": ("restore",),
    "holdRecording": ("hold",),
    "releaseRecording": ("release",),
    "approveFindings": ("approve",),
    "/ops/exports/ask": ("export",),
}

# Rows that write nothing, by their path, and why.
_SILENT: dict[str, str] = {
    "/ops": _COUNTS,
    "/ops/exports": "it shows who asked for which export, and those lines are here already",
    "/ops/evidence": _COUNTS,
    "/ops/evidence/{day}": _COUNTS,
    "/ops/cases": "it shows what cases ask for, and no recording",
    "/ops/connections": "it shows the account's configuration",
    "/ops/access-log": "the log would fill itself: whoever asks each minute would find their own questions",
    "/ops/evidence/{day}/manifest/{sequence:int}": "it has keys and hashes",
    "/ops/evidence/{day}/seals/{name}": "it has keys and hashes",
}

# THE table of commands: the words that each writes, or why it writes nothing.
COMMANDS: dict[str, tuple[str, ...] | str] = {
    "init": "there is no log before the archive is there",
    "up": _SERVICE,
    "serve": _SERVICE,
    "worker": f"{_SERVICE}; with `--dispose`, a line `dispose` for each recording",
    "demo": "its calls are made up",
    "sandbox": "its calls are made up",
    "status": _COUNTS,
    "config": "it shows settings",
    "doctor": _COUNTS,
    "healthy": _COUNTS,
    "cost": _COUNTS,
    "dead-letters list": "it shows jobs and errors",
    "dead-letters retry": ("retry",),
    "dead-letters discard": ("discard",),
    "dead-letters accept": ("accept",),
    "find": ("export", "find"),
    "get": ("get", "transcript", "restore"),
    "export": ("export", "restore"),
    "backfill": ("backfill",),
    "cases open": ("open",),
    "cases list": "it shows what cases ask for, and no recording",
    "cases show": ("find",),
    "cases close": ("close",),
    "deletions list": ("list",),
    "deletions holds": ("list",),
    "deletions duties": ("retire",),
    "deletions pause": ("pause",),
    "deletions resume": ("resume",),
    "deletions hold": ("hold",),
    "deletions release": ("release",),
    "deletions approve": ("approve",),
    "erase": ("erase", "sign"),
    "retention plan": _COUNTS,
    "retention explain": "it shows rules and dates, and nothing of the call",
    "retention apply": ("apply-rules",),
    "retention dispose": ("dispose",),
    "retention approve": ("approve-disposal",),
    "retention certificate": ("certificate",),
    "index": _COPY,
    "access check": "it explains a file",
    "tokens create": ("create-token",),
    "tokens list": "it shows no secret and no recording",
    "tokens revoke": ("revoke-token",),
    "access-log": _SILENT["/ops/access-log"],
    "verify": "it reads to check, and shows no content",
    "seal": ("seal", "sign"),
    "repair": ("repair",),
    "connections plan": "it shows the account's configuration",
    "connections apply": ("apply",),
    "connections drift": "it shows the account's configuration",
    "connections export": "it shows the account's configuration",
    "logs list": "it shows messages about connections",
    "logs dismiss": ("dismiss",),
    "telnyx": ("telnyx",),
}


def entries() -> Iterator[tuple[str, str, tuple[str, ...] | str]]:
    """What is asked for, its path or command, and the words that it writes or why it writes nothing.

    Raises:
        LookupError: a row or a command has no entry, or an entry is of nothing.
    """
    silent, commands = dict(_SILENT), dict(COMMANDS)
    for page in PAGES:
        path = f"/ops{page.path}"
        both = f"`{path}`, `/api{page.path or '/overview'}`"
        yield page.title, both, _SAYS[page.log] if page.log is not None else silent.pop(path)
    for file in FILES:
        method = "" if file.method == "GET" else f"{file.method} "
        yield file.what, f"`{method}{file.path}`", _writes(file, silent)
    for one in OPERATIONS:
        method = "" if one.method == "GET" else f"{one.method} "
        yield one.what, f"`{method}{one.path}`", _THEMSELVES[one.name] if one.log is None else _SAYS[one.log]
    for path, change in CHANGES.items():
        yield change.what, f"`POST /ops{path}`", (path.rpartition("/")[2],)
    for shown in all_pages():
        name = shown.page.name.removeprefix("callvault").strip()
        if not shown.is_group or name == "telnyx":
            yield shown.page.summary.rstrip("."), f"command `{name}`", commands.pop(name)
    if left := [*silent, *commands]:
        raise LookupError(f"no row and no command: {', '.join(left)}")


def _writes(file: File, silent: dict[str, str]) -> tuple[str, ...] | str:
    if file.log is not None:
        return _SAYS[file.log]
    return _THEMSELVES[file.path] if file.path in _THEMSELVES else silent.pop(file.path)


def table() -> list[str]:
    """The lines of the table."""
    lines = ["| asked for | path or command | line |", "| --- | --- | --- |"]
    for what, where, writes in entries():
        line = f"none: {writes}" if isinstance(writes, str) else ", ".join(f"`{word}`" for word in writes)
        lines.append(f"| {what[0].upper()}{what[1:]} | {where} | {line} |")
    return lines
