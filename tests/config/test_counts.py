"""Texts write a number and its noun in one way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from text.counts import many

ROOT = Path(__file__).parent.parent.parent
_ROOMS = ("archive", "cli", "config", "docs", "process", "sandbox", "service", "telnyx_api", "text", "workers")
_COUNTED = (
    "address|attempt|byte|character|connection|content|day|difference|digit|event|file|finding|job|key|letter|message|"
    "object|original|problem|process|recording|release|replica|row|seal|second|time|transcription|upload|webhook|worker"
)
# `{count} recordings`, `{{ count }} days`, `key(s)`, `'s' if ...`: right for some numbers only. Names in capitals
# are limits above one.
_BY_HAND = re.compile(
    rf"\{{(?!_?[A-Z_]+\}})[^{{}}:]+(?::,)?\}}\}}? (?:[a-z]+ )?(?:{_COUNTED})e?s\b"
    r"|(?<![\w(])(?!http\(s\)|encode\(s\))[a-z]+\(e?s\)"
    r"|'s' (?:if|\*)|\"s\" (?:if|\*)"
)


@pytest.mark.parametrize(
    "number, one, more, text",
    [
        (1, "seal", "", "1 seal"),
        (0, "seal", "", "0 seals"),
        (2, "address", "", "2 addresses"),
        (1_200, "dead letter", "", "1200 dead letters"),
        (1, "job waits", "jobs wait", "1 job waits"),
        (2, "job waits", "jobs wait", "2 jobs wait"),
    ],
)
def test_a_number_agrees_with_its_noun(number: int, one: str, more: str, text: str) -> None:
    assert many(number, one, more) == text


@pytest.mark.parametrize("room", _ROOMS)
def test_no_text_writes_a_plural_behind_a_number_by_hand(room: str) -> None:
    found = []
    for path in sorted([*(ROOT / room).glob("**/*.py"), *(ROOT / room).glob("**/*.html")]):
        for number, line in enumerate(path.read_text().split("\n"), start=1):
            found += [f"{path.relative_to(ROOT)}:{number}: {hit[0]}" for hit in _BY_HAND.finditer(line)]
    assert not found, "use `many` of text/counts.py"
