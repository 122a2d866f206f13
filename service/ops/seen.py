"""Which recordings exist for whoever asks, and what is said to a person whose role or scope is too small for a request."""

from __future__ import annotations

from starlette.requests import Request

from config.roles import ROLES
from service.ops.bulk import assert_few, named
from service.ops.may import EVERYONE, May
from service.ops.parts import Ops
from service.ops.person import Person, Refused
from service.ops.view import View, view_of


def not_allowed(person: Person, may: May) -> str:
    """Why no grant of a person is enough for a row with these roles."""
    wanted = " or ".join(role for role in ROLES if role in may)
    if person.reach(may).grants:
        held = ", ".join(str(grant) for grant in person.reach(may).grants)
        return f"this concerns the whole archive, and you have the role {held}; ask an admin of Callvault for it"
    return f"this needs the role {wanted}, and you have {person.role or 'none'}; ask an admin of Callvault for it"


async def assert_seen(ops: Ops, request: Request, recording_id: str) -> None:
    """Check that a recording exists for a person, by the roles of the row that the request asks for.

    Raises:
        Refused: it does not: 404, as for an unknown one; or the person sees it by another role alone: 403; or the catalogue
            is not complete yet: 503.
        StoreError: the archive cannot be asked now.
    """
    view = view_of(request)
    if await view.sees(recording_id):
        return
    others = View(ops, request.state.person.reach(EVERYONE))
    if await (others.find(recording_id) if others.is_whole else others.sees(recording_id)):
        request.state.outside = [recording_id]
        held = ", ".join(str(grant) for grant in view.reach.grants)
        raise Refused(
            403, f"you have the role {held}, and recording {recording_id} is outside; ask an admin of Callvault"
        )
    if (lacks := await ops.catalogue.incomplete()) is not None:
        raise Refused(503, f"recording {recording_id} is not in the catalogue. {lacks}")
    request.state.outside = [recording_id]  # whether it exists or not: a line takes time, and would tell them apart
    raise Refused(404, f"recording {recording_id} is not in the archive")


async def seen(ops: Ops, request: Request, about: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """What a change is about, with the recordings that exist for the person; and the ids of those that do not.

    Raises:
        Refused: none exists.
        StoreError: the archive cannot be asked now.
    """
    ids = list(dict.fromkeys(about.get("ids", about.get("id", "")).split()))
    if view_of(request).is_whole or not ids:
        return about, []
    assert_few(ids, "recording")
    if len(ids) == 1:
        await assert_seen(ops, request, ids[0])
        return about, []
    there = await view_of(request).those_seen(ids)
    request.state.outside = unseen = [one for one in ids if one not in there]
    if not there:
        raise Refused(404, f"{named(unseen)}: not in the archive")
    return about | {"ids": " ".join(there)}, unseen
