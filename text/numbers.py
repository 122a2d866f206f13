"""Telephone numbers in the forms of SIP and of people, and how they are compared: by digits, from either end.

A party of a call may be `+13125550100`, `sip:+13125550100;npdi;rn=+13125550000@host`, `tel:+1-312-555-0100;ext=22` or
`"Ann" <sip:ann@host>` (RFC 3261, section 25.1; RFC 3966; RFC 4694).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote

from text.counts import many

_LONGEST_DIGITS = 15  # of an E.164 number (ITU-T E.164, 6.1)
_FEWEST_DIGITS = 3
_LONGEST_TEXT = 200
_WHOLE_DIGITS = 10  # a number of this length may be whole, with its country code
_NATIONAL_DIGITS = 8
_SEPARATORS = r"[\s().\-/]"
_SCHEME = re.compile(r"\s*(?:sips?|tel):", re.IGNORECASE)


class BadNumber(ValueError):
    """Not a telephone number or a part of one; the text has the reason."""


@dataclass(frozen=True)
class Wanted:
    """A number to search for.

    Attributes:
        how: `begins`: an E.164 number, or the first part of one. `ends`: a national number. `contains`: a part of one.
            `address`: a part of a SIP address.
        text: digits without a plus or a trunk zero; of a SIP address its letters, in lower case.
        national: for a whole number, all its digits as it may be written without its country.
    """

    how: Literal["begins", "ends", "contains", "address"]
    text: str
    national: tuple[str, ...] = ()

    def is_of(self, party: str) -> bool:
        """Whether a party of a call has this number; `workers/catalogue/parties.py` says the same in SQL."""
        digits, text = digits_of(party), self.text
        if digits in self.national:
            return True
        match self.how:
            case "begins":
                return digits.startswith(text)
            case "ends":
                return digits.endswith(text)
            case "contains":
                return text in digits or (not digits and text in address_of(party))
            case "address":
                return text in address_of(party)


def wanted_number(text: str) -> Wanted:
    """Read what a person typed: `+49 30 1234567`, `0049...`, `(030) 123 45 67`, `4567`, `ann@pbx`, `@pbx`, `sip:ann`, `tel:...`.

    Raises:
        BadNumber: it is something else.
    """
    shown = text if len(text) <= 40 else text[:40] + "..."
    plain = _with_ascii_digits(text)
    user, at, host = _split(plain)
    is_address = at or _SCHEME.match(plain) or "<" in plain
    found = re.fullmatch(r"(\+|00)?(\d+)", re.sub(_SEPARATORS, "", user), re.ASCII)
    if not found:
        if not is_address:
            raise BadNumber(
                f"{shown!r} is neither a telephone number nor a SIP address; write a part of an address as ann@, "
                "@example.com or sip:ann"
            )
        address = f"{user}{at}{host}"
        if len(address) > _LONGEST_TEXT or not address.strip("@") or re.search(r"\s", address):
            raise BadNumber(f"{shown!r} is neither a telephone number nor a SIP address")
        return Wanted("address", address)
    is_international, digits = bool(found.group(1)), found.group(2)
    significant = digits.lstrip("0")
    if len(digits) > _LONGEST_DIGITS + 1 or len(significant) > _LONGEST_DIGITS:
        raise BadNumber(f"{shown!r} has {many(len(digits), 'digit')}; a telephone number has at most {_LONGEST_DIGITS}")
    if len(significant) < _FEWEST_DIGITS:
        raise BadNumber(f"{shown!r} is too short; give at least {_FEWEST_DIGITS} digits")
    if is_international:
        return Wanted("begins", significant, _national(significant))
    if digits.startswith("0"):
        return Wanted("ends", significant)
    return Wanted("contains", significant, _national(significant))


@lru_cache(1024)
def address_of(party: str) -> str:
    """The address of a party in lower case: without its name, scheme, password and parameters."""
    user, at, host = _split(_with_ascii_digits(party))
    return f"{user}{at}{host}"


@lru_cache(1024)
def digits_of(party: str) -> str:
    """The digits of a party of a call: an E.164 number's, or those of an address whose user is one; else none.

    `00` before an international number is left out, a national number's zero is not.
    """
    user, _, _ = _split(_with_ascii_digits(party))
    found = re.fullmatch(r"(\+|00(?=[1-9]\d{6}))?(\d+)", re.sub(_SEPARATORS, "", user), re.ASCII)
    return found.group(2) if found else ""


def _split(party: str) -> tuple[str, str, str]:
    """The user, the `@` and the host of an address, in lower case; without the name before it, password and parameters."""
    inner = re.search(r"<([^<>]*)>?", party)
    text = unquote(_SCHEME.sub("", inner.group(1) if inner else party, count=1)).strip().lower()
    user, at, host = text.rpartition("@")
    if not at:
        user, host = text, ""
    return re.split("[;:?]", user)[0], at, re.split("[;?]", host)[0]


def _national(digits: str) -> tuple[str, ...]:
    """A whole number as it may be written in its own country: without a country code of one to three digits, or with a zero."""
    if len(digits) < _WHOLE_DIGITS:
        return ()
    rests = [digits[n:] for n in (1, 2, 3) if len(digits) - n >= _NATIONAL_DIGITS]
    return (*rests, *("0" + rest for rest in rests))


def _with_ascii_digits(text: str) -> str:
    """Digits of any script and width as ASCII digits."""
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFKC", text)
    return "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in plain)
