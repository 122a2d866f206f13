"""Which recordings somebody's grants reach: as a condition of a search, and for one recording by what its record says.

Both say the same. A recording whose connection or numbers are not known, as after its erasure, is outside every scope that
asks for them: nobody sees a recording because of what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from config.scopes import Grant, Scope
from text.numbers import address_of, digits_of
from workers.catalogue.rows import Row

# A number in the catalogue's table of parties that is written with its country: digits alone may be an extension.
_INTERNATIONAL = "(party GLOB '+*' OR party GLOB '00*')"


@dataclass(frozen=True)
class Reach:
    """The grants of somebody that count for what they ask for; a recording that one of them reaches, they see.

    Attributes:
        grants: none: they see nothing.
        whole_numbers: whether a search by a part of a number finds nothing, so that nobody finds out masked numbers.
    """

    grants: tuple[Grant, ...]
    whole_numbers: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it reaches all recordings."""
        return any(grant.scope is None for grant in self.grants)

    def shown(self, names: Mapping[str, str]) -> str:
        """Its scopes in words, with the names of those connections that have one; empty if it reaches all recordings."""
        if self.is_whole:
            return ""
        scopes = dict.fromkeys(grant.scope.shown(names) for grant in self.grants if grant.scope is not None)
        return " or ".join(f"for {scope}" for scope in scopes)

    def covers(self, row: Row) -> bool:
        """Whether it reaches a recording that is not erased."""
        return any(_is_in(grant.scope, row) for grant in self.grants)

    def masks(self, row: Row) -> bool:
        """Whether the numbers of a recording are masked: no grant that reaches it shows them in full."""
        return not any(not grant.mask and _is_in(grant.scope, row) for grant in self.grants)

    @property
    def masks_some(self) -> bool:
        """Whether it may reach a recording whose numbers are masked."""
        shows_all = any(not grant.mask and grant.scope is None for grant in self.grants)
        return not shows_all and any(grant.mask for grant in self.grants)

    @property
    def masks_all(self) -> bool:
        """Whether numbers are masked where they belong to no recording that is known, such as in a search."""
        return all(grant.mask or grant.scope is not None for grant in self.grants)

    @property
    def connections(self) -> frozenset[str]:
        """The connections that its scopes name."""
        return frozenset(one for grant in self.grants if grant.scope is not None for one in grant.scope.connections)


EVERYTHING = Reach((Grant("admin"),))


def _is_in(scope: Scope | None, row: Row) -> bool:
    return scope is None or (_has_connection(scope, row) and _has_number(scope, row))


def _has_connection(scope: Scope, row: Row) -> bool:
    return not scope.connections or row.connection_id in scope.connections


def _has_number(scope: Scope, row: Row) -> bool:
    return not scope.numbers or any(_begins(party, prefix) for party in _parties(row) for prefix in scope.numbers)


def _parties(row: Row) -> list[str]:
    return [party for party in (row.from_number, row.to_number) if party]


def why_outside(scope: Scope | None, row: Row) -> str | None:
    """Why a recording is not within a scope, for a person; None if it is."""
    if scope is None or _is_in(scope, row):
        return None
    if not _has_connection(scope, row):
        return f"its connection is {row.connection_id or 'not known'}"
    return f"neither number begins so: {' and '.join(_parties(row)) or 'none is known'}"


def _begins(party: str, prefix: str) -> bool:
    """Whether a party of a call is a number that begins with a prefix such as `+49`, as the catalogue reads both."""
    return address_of(party).startswith(("+", "00")) and digits_of(party).startswith(prefix.removeprefix("+"))


def scope_conditions(reach: Reach) -> list[tuple[str, str, list[object]]]:
    """The SQL of the scopes of a reach that is not whole; a recording is within it if it meets one of them.

    Returns:
        Of each scope: a selection of the numbers `n` of the recordings that an index finds, some twice and some of them
        erased; the condition on a recording `r` that says the same; and the values of either.
    """
    scopes = dict.fromkeys(grant.scope for grant in reach.grants)
    return [_conditions_of(scope) for scope in scopes if scope is not None]


def _conditions_of(scope: Scope) -> tuple[str, str, list[object]]:
    numbers, values = _numbers_condition(scope.numbers)
    if not scope.connections:
        has_number = f"EXISTS (SELECT 1 FROM parties WHERE n = r.n AND {numbers})"  # noqa: S608
        return f"SELECT n FROM parties WHERE {numbers}", has_number, values  # noqa: S608
    connection = "{}connection_id IN (SELECT value FROM json_each(?))"
    values = [json.dumps(scope.connections), *values]
    select, test = f"SELECT n FROM recordings WHERE {connection.format('')}", connection.format("+r.")  # noqa: S608
    if scope.numbers:
        has_number = f" AND EXISTS (SELECT 1 FROM parties WHERE n = {{}}.n AND {numbers})"  # noqa: S608
        select, test = select + has_number.format("recordings"), test + has_number.format("r")
    return select, f"({test})", values


def _numbers_condition(prefixes: tuple[str, ...]) -> tuple[str, list[object]]:
    digits = [prefix.removeprefix("+") for prefix in prefixes]
    spans = " OR ".join(["digits >= ? AND digits < ?"] * len(digits))  # in ASCII the colon follows the digit nine
    return f"({spans}) AND {_INTERNATIONAL}", [end for text in digits for end in (text, text + ":")]
