"""Numbers that a person may not see in full."""

from __future__ import annotations

import re
from typing import Any

from msgspec import structs

from text.numbers import digits_of
from workers.catalogue.rows import Row

_FEWEST_DIGITS = 7  # fewer may be anything
_PARTY = re.compile(r"\S+@|\+?\d[\d ()./-]{4,}\d")  # a user of SIP, or a number


def masked(number: str | None) -> str | None:
    """The first three and the last two characters of a number; the host of a SIP address."""
    if number is None:
        return None
    if "@" in number:
        return "***@" + number.partition("@")[2]
    return number[:3] + "*" * max(3, len(number) - 5) + number[-2:] if len(number) > 5 else "***"


def masked_parties(text: str) -> str:
    """A search, or another text, with what looks like a number or the user of a SIP address masked."""
    return _PARTY.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    """A number or a user of SIP as pages show it; a day is neither."""
    is_day = re.fullmatch(r"\d{4}-\d{2}-\d{2}", found[0])
    return found[0] if is_day else masked(found[0]) or ""


def with_masked_numbers(row: Row) -> Row:
    """A recording with its numbers masked."""
    return structs.replace(row, from_number=masked(row.from_number), to_number=masked(row.to_number))


def mask_in(record: Any, numbers: set[str]) -> Any:
    """A record as JSON has it, with some numbers masked wherever one is a value, or the digits of one are in a text."""
    if isinstance(record, dict):
        return {name: mask_in(value, numbers) for name, value in record.items()}
    if isinstance(record, list):
        return [mask_in(value, numbers) for value in record]
    if not isinstance(record, str | int):
        return record
    digits = {one for number in numbers if len(one := digits_of(number)) >= _FEWEST_DIGITS}
    if (text := str(record)) in numbers | digits:
        return masked(text)
    for one in digits if isinstance(record, str) else ():
        text = text.replace(one, masked(one) or "")
    return text if isinstance(record, str) else record
