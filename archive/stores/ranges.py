"""Whether the answer to a request for a range of bytes carries that range (RFC 9110, 14.4 and 15.3.7).

A gateway or a cache between us and the store may answer with another range, or with fewer bytes, and a status of success.
Taken as what was asked for, its bytes would be read as damage, or played as another part of a call.
"""

from __future__ import annotations

import re

_ASKED = re.compile(r"bytes=(\d+)-(\d*)")
_ANSWERED = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class OtherRange(OSError):
    """The answer carries other bytes than were asked for. The text says which; it has no name of the object."""


def length_of(asked: str, answered: str) -> int:
    """The number of bytes in the answer to a request for a range.

    Args:
        asked: the header `Range` of the request, such as `bytes=5-9` or `bytes=5-`.
        answered: the header `Content-Range` of the answer, such as `bytes 5-9/100`; empty without one.

    Raises:
        OtherRange: the answer is of another range, or cannot be read. A range may end with the object, and not earlier.
    """
    wanted, given = _ASKED.fullmatch(asked), _ANSWERED.fullmatch(answered.strip().lower())
    if wanted is None or given is None:
        raise _other(asked, answered)
    start, end = int(given[1]), int(given[2]) + 1
    ends = [int(wanted[2]) + 1] if wanted[2] else []
    if given[3] != "*":  # where the object ends
        ends.append(int(given[3]))
    if start != int(wanted[1]) or not ends or end != min(ends) or end <= start:
        raise _other(asked, answered)
    return end - start


def _other(asked: str, answered: str) -> OtherRange:
    given = f"with Content-Range {answered[:100]!r}" if answered else "without Content-Range"
    advice = "expected that range. See whether a gateway, proxy or cache stands before the store"
    return OtherRange(f"the store answered {given} to a request for {asked}; {advice}")
