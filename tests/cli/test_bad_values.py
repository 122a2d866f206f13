"""A value that cannot be used is refused with the name of its option, status 2, one line, before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.processes import run_callvault, run_each
from tests.cli.test_results import commands

ALL = dict(commands())

# What each command needs besides the option in question.
NEEDED: dict[str, list[str]] = {
    "access check": ["--file", "access.toml"],
    "backfill": ["--since", "7d"],
    "cases close": ["ID", "--why", "x"],
    "cases open": ["NAME", "--number", "+13125550100", "--why", "x"],
    "cases show": ["ID"],
    "connections apply": ["telnyx.toml"],
    "connections drift": ["telnyx.toml"],
    "connections plan": ["telnyx.toml"],
    "dead-letters accept": ["ID", "--why", "x"],
    "deletions approve": ["ID", "--why", "x"],
    "deletions hold": ["--why", "x"],
    "deletions release": ["--why", "x"],
    "erase": ["ID", "--reason", "x"],
    "export": ["WORDS", "--out", "case-17"],
    "get": ["ID"],
    "logs dismiss": ["ID"],
    "repair": ["ID"],
    "retention approve": ["--why", "x"],
    "retention certificate": ["--out", "q4.pdf"],
    "retention explain": ["ID"],
    "tokens create": ["NAME", "--role", "listener"],
    "tokens revoke": ["ID"],
}

# By the metavar of an option: texts that it cannot take. An empty one is refused everywhere.
WRONG: dict[str, list[str]] = {
    "DAY": ["soon", "-1", "99999999d", "2026-02-30"],
    "TIME": ["soon", "-1", "99999999d", "2026-02-30"],
    "N": ["x", "1.5", "-1", "99999999999999999999"],
    "PORT": ["x", "-1", "65536"],
    "DURATION": ["soon", "-5s", "9999999999d"],
}
# By the command and the option, where the metavar does not say.
WRONG_THERE: dict[tuple[str, str], list[str]] = {
    ("cases open", "--connection"): ["a b", "-"],
    ("cases open", "--id"): ["a b"],
    ("cases open", "--number"): ["12", "abc"],
    ("demo", "--audio"): ["/nowhere", "/dev/null"],
    ("deletions hold", "--connection"): ["a b", "-"],
    ("deletions release", "--connection"): ["a b", "-"],
    ("find", "--connection"): ["a b"],
    ("find", "--id"): ["a b"],
    ("find", "--number"): ["12", "abc"],
    ("find", "--state"): ["lost"],
    ("find", "--text"): ['"refund', "..."],
    ("get", "--format"): ["ogg", "WAV ", "vtt"],
    ("get", "--out"): ["/tmp"],
    ("repair", "--from"): ["/nowhere", "/tmp"],
    ("sandbox", "--audio"): ["/nowhere"],
    ("sandbox", "--host"): ["no.such.host.invalid", "256.1.1.1"],
    ("seal", "--sign"): ["x", "0", "-1", "7-1", "99999999999"],
    ("serve", "--host"): ["no.such.host.invalid", "256.1.1.1"],
    ("tokens create", "--for"): ["soon", "-5s", "367d", "0s"],
    ("tokens create", "--role"): ["king"],
    ("up", "--host"): ["no.such.host.invalid", "256.1.1.1"],
    ("verify", "--head"): ["x", "g" * 64],
}


def wrong_values(command: str, parameter: Any) -> list[str]:
    """Texts that an option cannot take."""
    name = max(parameter.opts, key=len)
    return ["", " ", *WRONG.get(str(parameter.metavar), []), *WRONG_THERE.get((command, name), [])]


@pytest.fixture
def here(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "archive").mkdir()
    return {
        "CALLVAULT_DATA": str(tmp_path / "data"),
        "REDIS_URL": "redis://127.0.0.1:1",
        "TELNYX_API_KEY": "KEY",
        "TELNYX_PUBLIC_KEY": "A" * 43 + "=",
        "TELNYX_BASE_URL": "http://127.0.0.1:1/v2",
    }


@pytest.mark.parametrize("command", sorted(ALL))
def test_every_option_refuses_what_it_cannot_take_by_its_name(command: str, here: dict[str, str]) -> None:
    asked: list[tuple[str, str, list[str]]] = []
    for parameter in ALL[command].params:
        if parameter.param_type_name != "option" or parameter.is_flag or parameter.name in ("help", "why", "reason"):
            continue
        name = max(parameter.opts, key=len)
        needed = [*NEEDED.get(command, [])]
        if name in needed:
            at = needed.index(name)
            del needed[at : at + 2]
        words = [*command.split(), *needed, name]
        asked += [(name, value, [*words, value]) for value in wrong_values(command, parameter)]
    wrong: list[str] = []
    for (name, value, _), done in zip(asked, run_each([words for *_, words in asked], here), strict=True):
        is_good = done.returncode == 2 and done.stderr.startswith(f"callvault: {name}: ") and not done.stdout
        if not is_good or done.stderr.count("\n") != 1:
            wrong.append(f"{name} {value!r}: {done.returncode} {done.stderr}{done.stdout}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "command", sorted(name for name in ALL if any(p.param_type_name == "argument" for p in ALL[name].params))
)
def test_an_empty_argument_is_refused_by_its_name(command: str, here: dict[str, str]) -> None:
    needed = NEEDED.get(command, [])
    options = needed[next((n for n, word in enumerate(needed) if word.startswith("--")), len(needed)) :]
    done = run_callvault([*command.split(), " ", *options], here)
    (name, *_) = [p.display_name_raw for p in ALL[command].params if p.param_type_name == "argument"]
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith((f"callvault: {name}: ", "callvault: WORDS: is empty", "callvault: give WORDS")), (
        done.stderr
    )


@pytest.mark.parametrize(
    "command, name",
    [
        ("deletions hold ID --why", "--why"),
        ("deletions release ID --why", "--why"),
        ("deletions approve ID --why", "--why"),
        ("deletions pause --why", "--why"),
        ("deletions resume --why", "--why"),
        ("dead-letters accept ID --why", "--why"),
        ("erase ID --reason", "--reason"),
        ("telnyx recordings list --page-size", "--page-size"),
        ("telnyx recordings list --page-number", "--page-number"),
        ("telnyx recordings list --filter", "--filter"),
    ],
)
def test_a_reason_and_an_option_of_telnyx_refuse_an_empty_value(command: str, name: str, here: dict[str, str]) -> None:
    for done in run_each([[*command.split(), value] for value in ("", " ")], here):
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert done.stderr.startswith(f"callvault: {name}: ") and done.stderr.count("\n") == 1, done.stderr


def test_a_request_without_its_id_is_never_made(here: dict[str, str]) -> None:
    """It would go to the address of the whole list."""
    done = run_callvault(["telnyx", "recordings", "delete", ""], here)
    assert (done.returncode, done.stdout) == (2, "") and "is empty" in done.stderr
