"""The records of what is gone from the archive: by an erasure, or by a disposal under a retention rule."""

from __future__ import annotations

from typing import Literal

import msgspec

Part = Literal["audio", "transcripts"]  # of a recording, for which rules set terms


class ErasedObject(msgspec.Struct, frozen=True):
    """An object that was erased."""

    key: str
    size: int
    sha256: str


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """`erased.json`: the objects of a recording that its owner erased. Their hashes and sizes stay.

    Attributes:
        objects: key, size and SHA-256 of each erased object.
        why: the reason, such as a request under GDPR article 17.
        by: the person; of a disposal, the worker.
        rule: the retention rule under which it was disposed of; absent if a person had it erased.
        rules_number: the number of the applied rules that have this rule; likewise.
        ended_at: when the term of that rule ended; ISO 8601, UTC; likewise.
    """

    schema: Literal["callvault.erasure/1"] = "callvault.erasure/1"
    recording_id: str
    objects: list[ErasedObject]
    why: str
    by: str
    erased_at: str
    rule: str | msgspec.UnsetType = msgspec.UNSET
    rules_number: int | msgspec.UnsetType = msgspec.UNSET
    ended_at: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def at(self) -> str:
        """When it was erased."""
        return self.erased_at


class Disposal(msgspec.Struct, frozen=True, kw_only=True):
    """`disposed/{number}.json`: parts of a recording that were disposed of; its commit record stays.

    Attributes:
        number: 1, 2 ... within the folder.
        goes: the parts that the rules have disposed of by then.
        objects: key, size and SHA-256 of each object that this disposal deletes.
        why: the rule in one sentence.
        by: the worker.
        rule, rules_number, ended_at: as in `Erasure`.
        disposed_at: ISO 8601, UTC.
    """

    schema: Literal["callvault.disposal/1"] = "callvault.disposal/1"
    recording_id: str
    number: int
    goes: list[Part]
    objects: list[ErasedObject]
    why: str
    by: str
    rule: str
    rules_number: int
    ended_at: str
    disposed_at: str

    @property
    def at(self) -> str:
        """When it was disposed of."""
        return self.disposed_at


Removal = Erasure | Disposal
