"""Telephone numbers as people write them, and how they are compared: by digits, from either end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_LONGEST_DIGITS = 15  # of an E.164 number (ITU-T E.164, 6.1)
_FEWEST_DIGITS = 3
_LONGEST_TEXT = 200


class BadNumber(ValueError):
    """What cannot be a telephone number nor a part of one; the text says why."""


@dataclass(frozen=True)
class Wanted:
    """What to look for.

    Attributes:
        how: `begins`: an E.164 number, or the first part of one. `ends`: a national number. `contains`: a part of one,
            or of a SIP address.
        text: digits without a plus or a trunk zero; of a SIP address its letters, in lower case.
    """

    how: Literal["begins", "ends", "contains"]
    text: str


def wanted_number(text: str) -> Wanted:
    """Read what a person typed: `+49 30 1234567`, `0049...`, `(030) 123 45 67`, `4567`, `alice@pbx`.

    Raises:
        BadNumber: it can be none of these.
    """
    shown = text if len(text) <= 40 else text[:40] + "..."
    if re.search(r"[A-Za-z@]", text):
        if len(text) > _LONGEST_TEXT or re.search(r"\s", text.strip()):
            raise BadNumber(f"{shown!r} is neither a telephone number nor a SIP address")
        return Wanted("contains", text.strip().lower())
    compact = re.sub(r"[\s().\-/]", "", text)
    found = re.fullmatch(r"(\+|00)?(\d+)", compact)
    if not found:
        raise BadNumber(f"{shown!r} is not a telephone number: digits, perhaps with a plus before them")
    is_international, digits = bool(found.group(1)), found.group(2)
    significant = digits.lstrip("0")
    if len(digits) > _LONGEST_DIGITS + 1 or len(significant) > _LONGEST_DIGITS:
        raise BadNumber(f"{shown!r} has {len(digits)} digits; a telephone number has {_LONGEST_DIGITS} at most")
    if len(significant) < _FEWEST_DIGITS:
        raise BadNumber(f"{shown!r} is too short; give {_FEWEST_DIGITS} digits at least")
    if is_international:
        return Wanted("begins", significant)
    return Wanted("ends" if digits.startswith("0") else "contains", significant)


def digits_of(party: str) -> str:
    """The digits of a party of a call: an E.164 number's, or those of a SIP address whose user is one; else none."""
    user = party.partition(":")[2].partition("@")[0] if party.lower().startswith(("sip:", "sips:", "tel:")) else party
    compact = re.sub(r"[\s().\-]", "", user)
    return compact.lstrip("+") if re.fullmatch(r"\+?\d+", compact) else ""
