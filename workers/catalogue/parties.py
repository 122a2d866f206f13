"""The SQL conditions of a telephone number on the table of parties; `text/numbers.py` says the same of one party."""

from __future__ import annotations

from text.numbers import Wanted

_LONGEST_COUNTRY = 3  # digits of a country code (ITU-T E.164, 6.2.1)


def party_conditions(wanted: Wanted, *, is_whole: bool = False) -> tuple[list[str], list[object]]:
    """The conditions of which a party of a recording with this number meets one, by an index where one exists.

    Args:
        wanted: the number.
        is_whole: whether a part of a number finds nothing; its country may be left out.
    """
    clauses, values = _as_a_whole(wanted) if is_whole and wanted.how != "address" else _as_written(wanted)
    if wanted.national:
        clauses.append(f"digits IN ({', '.join('?' * len(wanted.national))})")
    return clauses, [*values, *wanted.national]


def _as_a_whole(wanted: Wanted) -> tuple[list[str], list[object]]:
    text = wanted.text
    if wanted.how == "begins":
        return ["digits = ?"], [text]
    ends, values = _as_written(Wanted("ends", text))
    return [f"{one} AND length(digits) <= ?" for one in ends], [*values, len(text) + _LONGEST_COUNTRY]


def _as_written(wanted: Wanted) -> tuple[list[str], list[object]]:
    text, backwards = wanted.text, wanted.text[::-1]
    match wanted.how:  # in ASCII the colon follows the digit nine
        case "address":
            return ["instr(party, ?)"], [text]
        case "begins":
            return ["digits >= ? AND digits < ?"], [text, text + ":"]
        case "ends":
            return ["reversed >= ? AND reversed < ?"], [backwards, backwards + ":"]
        case "contains":  # the second: the few parties that are not a number
            return ["instr(digits, ?)", "digits = '' AND instr(party, ?)"], [text, text]
