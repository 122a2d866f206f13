"""The file of retention rules, `CALLVAULT_RETENTION_FILE`: TOML, with a table for each rule. docs/retention.md explains it.

zone = "Europe/Berlin"                   # where days, months and years are counted; UTC if left out
grace = "7d"                             # how long rules that keep longer still count after they were replaced

[rules.trading]
connections = ["1700000000000000001"]
keep = "7 years"

[default]                                # what no rule matches; if left out, it is kept for ever
keep = "5 years"
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

from archive.decision_records import AppliedRules, RetentionRule
from archive.facts import without_port
from archive.retention import DEFAULT
from config.values import is_id
from text.errors import UsedWrongly
from text.numbers import address_of
from text.periods import parse_period, zone_of
from text.times import parse_duration

GRACE = timedelta(days=7)
_LONGEST_GRACE = timedelta(days=366)
_LONGEST_TEXT = 200
_TOP = ("zone", "grace", "rules", "default")
_CONDITIONS = ("connections", "numbers", "direction", "tags", "channels", "sources")
_RESULTS = ("keep", "goes", "stays")
_WORDS = {
    "direction": ("inbound", "outbound"),
    "sources": ("call", "conference"),
    "goes": ("both", "audio", "transcripts"),
    "stays": ("metadata", "hashes"),
}
_NUMBER = re.compile(r"\+[1-9]\d{0,14}\*?", re.ASCII)
_ADDRESS = re.compile(r"[^\s@*]*@[^\s@*]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}", re.ASCII)


class BadRules(UsedWrongly):
    """The file cannot be used; the text says where and why."""


@dataclass(frozen=True)
class RulesFile:
    """The rules of a file.

    Attributes:
        path: where it is.
        sha256: of its bytes, hexadecimal.
        rules: in its order, the default last.
        zone: the name of a time zone.
        grace_seconds: the grace of replaced rules.
    """

    path: Path
    sha256: str
    rules: tuple[RetentionRule, ...]
    zone: str
    grace_seconds: int

    def is_applied(self, applied: Sequence[AppliedRules]) -> bool:
        """Whether the last applied rules say the same. The order of rules, and comments, say nothing."""
        if not applied:
            return False
        last = applied[-1]
        mine, theirs = ({rule.name: rule for rule in rules} for rules in (self.rules, last.rules))
        return (mine, self.zone, self.grace_seconds) == (theirs, last.zone, last.grace_seconds)


def read_rules_file(path: Path) -> RulesFile:
    """Read a file of retention rules.

    Raises:
        BadRules: it cannot be read, has an unknown table, field or value, or no rule at all.
    """
    try:
        data = path.read_bytes()
        document = tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise BadRules(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRules(f"{path}: invalid TOML: {error}") from None
    _refuse_unknown(str(path), document, _TOP)
    rules = _rules(path, document.get("rules", {}))
    if "default" in document:
        rules = (*rules, _rule(f"{path}: [default]", DEFAULT, document["default"], _RESULTS))
    if not rules:
        raise BadRules(f'{path}: has no rule; to keep everything for ever, write [default] and keep = "forever"')
    zone, grace = document.get("zone", "UTC"), _grace(path, document.get("grace"))
    if zone != "UTC":
        _refuse_unknown_zone(path, zone)
    return RulesFile(path, hashlib.sha256(data).hexdigest(), rules, zone, int(grace.total_seconds()))


def _refuse_unknown_zone(path: Path, zone: Any) -> None:
    """Refuse a zone that another machine may not know by this name: some file systems ignore its case."""
    try:
        zone_of(zone if isinstance(zone, str) else repr(zone))
        if zone not in available_timezones():
            raise ValueError(f"{zone!r} is not a time zone such as UTC or Europe/Berlin")
    except ValueError as error:
        raise BadRules(f"{path}: zone: {error}") from None


def _refuse_unknown(where: str, table: Any, known: Sequence[str]) -> None:
    if not isinstance(table, dict):
        raise BadRules(f"{where}: expected a table with {', '.join(known)}")
    if unknown := sorted(set(table) - set(known)):
        raise BadRules(f"{where}: unknown field {unknown[0][:60]!r}; expected {', '.join(known)}")


def _grace(path: Path, value: Any) -> timedelta:
    if value is None:
        return GRACE
    try:
        grace = parse_duration(value if isinstance(value, str) else repr(value))
    except ValueError as error:
        raise BadRules(f"{path}: grace: {error}") from None
    if grace > _LONGEST_GRACE or grace % timedelta(seconds=1):
        raise BadRules(f"{path}: grace: {value!r} is not a number of whole seconds up to 366 days")
    return grace


def _rules(path: Path, tables: Any) -> tuple[RetentionRule, ...]:
    if not isinstance(tables, dict):
        raise BadRules(f"{path}: rules: expected tables such as [rules.trading]")
    for name in tables:
        if name == DEFAULT or not _NAME.fullmatch(name):
            what = "write it as [default]" if name == DEFAULT else "use letters, digits, dots, dashes and underscores"
            raise BadRules(f"{path}: [rules.{name[:60]}]: a rule cannot have this name; {what}")
    fields = (*_CONDITIONS, *_RESULTS)
    return tuple(_rule(f"{path}: [rules.{name}]", name, table, fields) for name, table in tables.items())


def _rule(where: str, name: str, table: Any, fields: Sequence[str]) -> RetentionRule:
    _refuse_unknown(where, table, fields)
    if "keep" not in table:
        raise BadRules(f'{where}: keep is missing; write how long, such as keep = "5 years"')
    if name != DEFAULT and not set(table).intersection(_CONDITIONS):
        raise BadRules(f"{where}: has no condition, so it would match everything; write it as [default]")
    given = {field: _READERS[field](f"{where}: {field}", value) for field, value in table.items()}
    if given.get("stays") == "hashes" and given.get("goes", "both") != "both":
        raise BadRules(
            f'{where}: stays = "hashes" takes the whole recording, and goes = "{given["goes"]}" only a part of it; '
            "leave one of the two out"
        )
    return RetentionRule(name=name, **given)


def _keep(where: str, value: Any) -> str:
    if isinstance(value, str) and value.strip().lower() in ("forever", "for ever"):
        return "forever"
    try:
        return str(parse_period(value if isinstance(value, str) else repr(value)))
    except ValueError as error:
        raise BadRules(f"{where}: {error}; or forever") from None


def _texts(where: str, value: Any) -> tuple[str, ...]:
    """One text or several; a number counts as a text, because ids are numbers."""
    several = value if isinstance(value, list) else [value]
    texts = [str(one).strip() if isinstance(one, str | int) and not isinstance(one, bool) else "" for one in several]
    if not texts or not all(text and len(text) <= _LONGEST_TEXT and text.isprintable() for text in texts):
        raise BadRules(f'{where}: expected one or several texts, such as "17" or ["17", "18"]')
    return tuple(dict.fromkeys(texts))


def _connections(where: str, value: Any) -> tuple[str, ...]:
    """IDs, whole: a part of one, or a `*` behind it, would match nothing."""
    texts = _texts(where, value)
    if wrong := next((one for one in texts if not is_id(one)), None):
        raise BadRules(f"{where}: {wrong[:40]!r} cannot be the ID of a connection")
    return texts


def _numbers(where: str, value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_number(where, text) for text in _texts(where, value)))


def _number(where: str, text: str) -> str:
    if "@" in text:
        address = without_port(text.lower() if text.startswith("@") else address_of(text))
        if _ADDRESS.fullmatch(address):
            return address
    if re.search(r"\(\s*0\s*\)", text):
        raise BadRules(f"{where}: {text[:40]!r}: leave out the (0), which nobody dials after the country")
    number = re.sub(r"[\s().\-/]", "", text)
    if not _NUMBER.fullmatch(number):
        raise BadRules(
            f"{where}: {text[:40]!r} is not a number with its country, such as +13125550100, nor the beginning of one, such as "
            "+49*, nor an address, such as ann@pbx.example or @pbx.example"
        )
    return number


def _word(where: str, value: Any) -> str:
    words = _WORDS[where.rpartition(" ")[2]]
    if value not in words:
        raise BadRules(f"{where}: cannot use {str(value)[:40]!r}; expected {', '.join(words[:-1])} or {words[-1]}")
    return str(value)


def _sources(where: str, value: Any) -> tuple[str, ...]:
    return tuple(_word(where, text) for text in _texts(where, value))


def _channels(where: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 64:
        raise BadRules(f"{where}: cannot use {value!r}; expected a number such as 1 or 2")
    return value


_READERS: dict[str, Any] = {
    "connections": _connections,
    "numbers": _numbers,
    "direction": _word,
    "tags": _texts,
    "channels": _channels,
    "sources": _sources,
    "keep": _keep,
    "goes": _word,
    "stays": _word,
}
