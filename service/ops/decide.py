"""Hold, release and approve one recording by `/api/`. A request that is sent again changes nothing more."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from starlette.requests import Request

from config.values import is_id
from process.logs import get_logger
from service.ops import accesses
from service.ops.parts import Ops
from service.ops.person import Person, Refused
from service.ops.view import view_of
from text.errors import UserError
from workers.deletion import decisions
from workers.deletion.decided import to_know
from workers.deletion.decisions import NothingHeld

Word = Literal["hold", "release", "approve"]

_LONGEST_ID = 200

log = get_logger()


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why something is decided.

    Attributes:
        why: the reason; the archive keeps it.
        by: the name of the person in your application who decides, for the access log; the decision itself is the token's.
    """

    why: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    by: Annotated[str, msgspec.Meta(max_length=60)] = ""


class Outcome(msgspec.Struct, frozen=True):
    """What a decision has come to.

    Attributes:
        decision: `hold`, `release` or `approve`.
        is_new: whether it was written now; false: it was in force already, or there was nothing to release.
        came_too_late: whether the original, a transcription or the archived copy was gone or going before; `note` says which.
        note: what there is to know of it, in one line.
    """

    recording_id: str
    decision: Word
    is_new: bool
    came_too_late: bool
    note: str


async def hold(ops: Ops, request: Request, reason: Reason) -> Outcome:
    """Put a recording on hold. The same token with the same reason holds it once, until it is released.

    Raises:
        UserError: that cannot be the id of a recording.
        StoreError: the archive did not take it; no hold stands.
    """

    async def make(recording_id: str, by: str) -> Outcome:
        decided = await decisions.hold(ops.runtime, recording_id, reason.why, by, once=True)
        state = "is on hold" if decided.is_new else "was on hold for this already"
        note = f"recording {recording_id} {state}{to_know(decided)}"
        return Outcome(recording_id, "hold", decided.is_new, decided.came_too_late, note)

    return await _decided(ops, request, "hold", reason, make)


async def release(ops: Ops, request: Request, reason: Reason) -> Outcome:
    """Lift the holds of a recording; without one, nothing is changed.

    Raises:
        Refused: neither the archive nor a hold knows the recording.
        StoreError, redis.exceptions.RedisError: one of them is away.
    """

    async def make(recording_id: str, by: str) -> Outcome:
        try:
            follows = (await decisions.release(ops.runtime, recording_id, reason.why, by)).follows
        except NothingHeld as nothing:
            if await view_of(request).find(recording_id) is None:
                raise Refused(404, f"recording {recording_id} is not in the archive, and nothing holds it") from None
            return Outcome(recording_id, "release", False, False, str(nothing))
        return Outcome(recording_id, "release", True, False, f"recording {recording_id} is released; {follows}")

    return await _decided(ops, request, "release", reason, make)


async def approve(ops: Ops, request: Request, reason: Reason) -> Outcome:
    """Allow the deletion of an original despite the findings.

    Raises:
        Refused: the archive does not have the recording, or there is nothing to approve.
        StoreError, redis.exceptions.RedisError: one of them is away.
    """

    async def make(recording_id: str, by: str) -> Outcome:
        if await view_of(request).find(recording_id) is None:
            raise Refused(404, f"recording {recording_id} is not in the archive")
        try:
            findings, released = await decisions.approve(ops.runtime, recording_id, reason.why, by)
        except UserError as error:
            raise Refused(409, str(error)) from None
        note = f"recording {recording_id}: approved {', '.join(findings)}; {released.follows}"
        return Outcome(recording_id, "approve", True, False, note)

    return await _decided(ops, request, "approve", reason, make)


async def _decided(ops: Ops, request: Request, word: Word, reason: Reason, make: Any) -> Outcome:
    """Make a decision between its lines in the access log."""
    person: Person = request.state.person
    recording_id = request.path_params["recording_id"]
    if not is_id(recording_id) or len(recording_id) > _LONGEST_ID:
        raise Refused(400, f"{recording_id[:80]!r} cannot be the id of a recording")
    if not reason.why.strip():
        raise Refused(400, "why: give a reason; the archive keeps it")
    said = accesses.Said(word, [recording_id], why=reason.why, by=reason.by.strip())
    async with accesses.logged(ops, request, person, said):
        outcome: Outcome = await make(recording_id, person.name)
    ops.changed()
    log.info("changed through the API", who=person.name, what=word, recording_id=recording_id, said=outcome.note)
    return outcome
