"""The SQL conditions of a telephone number on the table of parties; `text/numbers.py` says the same of one party."""

from __future__ import annotations

from text.numbers import Wanted


def party_conditions(wanted: Wanted) -> tuple[list[str], list[object]]:
    """The conditions of which a party of a recording with this number meets one, by an index where one exists."""
    clauses, values = _as_written(wanted)
    if wanted.national:
        clauses.append(f"digits IN ({', '.join('?' * len(wanted.national))})")
    return clauses, [*values, *wanted.national]


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
