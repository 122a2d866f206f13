"""Uploads and releases of numbers: tickets that pass through their statuses, and tell of errors by log messages
(the rest of family 5.3 of the API)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sandbox.api import Call, Raw, page, route
from sandbox.connections import add_number, by_number, connection_of, locations_of
from sandbox.errors import ApiError, invalid, not_found
from sandbox.world import Ticket, World, now, text_of

USAGES = ("calling_user_assignment", "first_party_app_assignment")
UPLOAD_STATUSES = ("pending_upload", "pending", "in_progress", "partial_success", "success", "error")
RELEASE_STATUSES = ("pending_upload", "pending", "in_progress", "complete", "failed", "expired", "unknown")
_INTERNAL = {"success": "all_internal_jobs_completed", "error": "error"}
_MOST_NUMBERS = 1000


def add_release(world: World, connection_id: str, status: str, number: dict[str, Any], error: str = "") -> Ticket:
    """Begin, or record, the release of a number."""
    data = {
        "ticket_id": world.new_uuid(),
        "tenant_id": world.account_id,
        "created_at": text_of(now()),
        "status": status,
        "error_message": error,
        "telephone_numbers": [{"number_id": number["number_id"], "phone_number": number["telephone_number"]}],
    }
    world.releases[str(data["ticket_id"])] = ticket = Ticket(data, connection_id)
    return ticket


def _tickets(
    world: World, call: Call, tickets: dict[str, Ticket], statuses: Sequence[str], entries: str
) -> list[dict[str, Any]]:
    connection_id = connection_of(world, call)["id"]
    found = [advance(world, t).data for t in reversed(tickets.values()) if t.connection_id == connection_id]
    if wanted := call.filter_list("status", "eq"):
        if not set(wanted) <= set(statuses):
            raise invalid("filter[status][eq]", f"One of {', '.join(statuses)}.")
        found = [t for t in found if t["status"] in wanted]
    for name in ("civic_address_id", "location_id"):
        if (value := call.filter(name, "eq")) is not None:
            found = [t for t in found if any(entry.get(name) == value for entry in t[entries])]
    return by_number(call, found, lambda t: [entry["phone_number"] for entry in t[entries]])


def _ticket(world: World, call: Call, tickets: dict[str, Ticket], name: str) -> Ticket:
    connection_id = connection_of(world, call)["id"]
    ticket = tickets.get(call.path[name])
    if ticket is None or ticket.connection_id != connection_id:
        raise not_found()
    return advance(world, ticket)


def advance(world: World, ticket: Ticket) -> Ticket:
    """Let a ticket pass through the statuses whose time has come; an error gets a log message."""
    while ticket.ahead and ticket.due <= now():
        status = ticket.ahead.pop(0)
        ticket.due += timedelta(seconds=world.step_seconds)
        set_status(world, ticket, status)
    return ticket


def set_status(world: World, ticket: Ticket, status: str, error: str = "unable_to_retrieve_location") -> None:
    """Put a ticket into a status, with all that follows from it."""
    data = ticket.data
    data["status"] = status
    failed = status in ("error", "partial_success", "failed", "expired")
    if failed:
        data["error_message"] = f"The request ended as {status}."
    for i, entry in enumerate(data.get("tn_upload_entries", [])):
        entry_failed = status == "error" or (status == "partial_success" and i == 0)
        entry["status"] = "error" if entry_failed else "success" if status == "partial_success" else status
        entry["internal_status"] = _INTERNAL.get(entry["status"], "pending_assignment")
        entry["error_code"] = error if entry_failed else None
        entry["error_message"] = "The location could not be retrieved." if entry_failed else None
    if "tn_upload_entries" in data:
        data["error_code"] = error if failed else None
        if status in ("success", "partial_success"):
            _assign(world, ticket)
    if failed:
        numbers = data.get("tn_upload_entries") or data.get("telephone_numbers") or [{}]
        telephone, detail = numbers[0].get("phone_number"), data["error_message"]
        code, title = ("20004", "Upload failed") if "tn_upload_entries" in data else ("20005", "Release failed")
        world.log(ticket.connection_id, code, title, detail, telephone_number=telephone, ticket_id=data["ticket_id"])


def _assign(world: World, ticket: Ticket) -> None:
    numbers = world.numbers[ticket.connection_id]
    for entry in ticket.data["tn_upload_entries"]:
        if entry["status"] == "success" and entry["number_id"] not in numbers:
            number = add_number(world, ticket.connection_id, entry["phone_number"])
            del numbers[number["number_id"]]
            number |= {"number_id": entry["number_id"], "ticket_id": ticket.data["ticket_id"]}
            numbers[entry["number_id"]] = number


@route("GET /external_connections/{id}/releases")
def list_releases(world: World, call: Call) -> Any:
    """List, newest first."""
    return page(call, _tickets(world, call, world.releases, RELEASE_STATUSES, "telephone_numbers"))


@route("GET /external_connections/{id}/releases/{release_id}")
def retrieve_release(world: World, call: Call) -> Any:
    """Retrieve one."""
    return {"data": _ticket(world, call, world.releases, "release_id").data}


@route("GET /external_connections/{id}/uploads")
def list_uploads(world: World, call: Call) -> Any:
    """List, newest first; `partial_success` cannot be filtered by."""
    statuses = [status for status in UPLOAD_STATUSES if status != "partial_success"]
    return page(call, _tickets(world, call, world.uploads, statuses, "tn_upload_entries"))


def _phone_of(number_id: str) -> str:
    return "+1773555" + f"{sum(number_id.encode()) % 10_000:04d}"


def add_upload(
    world: World,
    connection_id: str,
    number_ids: Sequence[str],
    usages: Sequence[str],
    address_id: str,
    location_id: str,
) -> Ticket:
    """Begin an upload; one with a number id that ends in `-fails` ends in an error."""
    outcome = "error" if any(i.endswith("-fails") for i in number_ids) else "success"
    entries = [
        {
            "number_id": number_id,
            "phone_number": _phone_of(number_id),
            "civic_address_id": address_id,
            "location_id": location_id,
            "status": "pending_upload",
            "internal_status": "pending_assignment",
            "error_code": None,
            "error_message": None,
        }
        for number_id in number_ids
    ]
    data = {
        "ticket_id": world.new_uuid(),
        "tenant_id": world.account_id,
        "location_id": location_id,
        "status": "pending_upload",
        "available_usages": list(usages),
        "error_code": None,
        "error_message": None,
        "tn_upload_entries": entries,
    }
    due = now() + timedelta(seconds=world.step_seconds)
    ticket = Ticket(data, connection_id, ["pending", "in_progress", outcome], due)
    world.uploads[str(data["ticket_id"])] = ticket
    return ticket


@route("POST /external_connections/{id}/uploads")
def create_upload(world: World, call: Call) -> Any:
    """Begin one."""
    connection_id = connection_of(world, call)["id"]
    number_ids = call.need("number_ids", list)
    if len(number_ids) > _MOST_NUMBERS:
        raise ApiError(413, "10015", "Payload too large", f"At most {_MOST_NUMBERS} numbers.", "/number_ids")
    usage = call.choice("usage", USAGES)
    if call.body.get("location_id") and call.body.get("civic_address_id"):
        raise invalid("/location_id", "Either a location or a civic address.")
    address = next(iter(world.addresses[connection_id].values()))
    address_id, location_id = address["id"], address["default_location_id"]
    if (given := call.body.get("civic_address_id")) is not None:
        if given not in world.addresses[connection_id]:
            raise invalid("/civic_address_id", "The address is not known.")
        address_id = given
    if (given := call.body.get("location_id")) is not None:
        if given not in locations_of(world, connection_id):
            raise invalid("/location_id", "The location is not known.")
        location_id = given
    usages = [usage or USAGES[0], *call.body.get("additional_usages", [])]
    ticket = add_upload(world, connection_id, number_ids, usages, address_id, location_id)
    return Raw(202, {"success": True, "ticket_id": ticket.data["ticket_id"]})


@route("POST /external_connections/{id}/uploads/refresh")
def refresh_uploads(world: World, call: Call) -> Any:
    """Have their statuses checked."""
    connection_id = connection_of(world, call)["id"]
    for ticket in world.uploads.values():
        if ticket.connection_id == connection_id:
            advance(world, ticket)
    return {"success": True}


@route("GET /external_connections/{id}/uploads/status")
def count_uploads(world: World, call: Call) -> Any:
    """Count those that are pending."""
    connection_id = connection_of(world, call)["id"]
    pending = [
        t.data["tn_upload_entries"]
        for t in [advance(world, ticket) for ticket in world.uploads.values()]
        if t.connection_id == connection_id and t.data["status"] in ("pending_upload", "pending", "in_progress")
    ]
    return {"data": {"pending_numbers_count": sum(map(len, pending)), "pending_orders_count": len(pending)}}


@route("GET /external_connections/{id}/uploads/{ticket_id}")
def retrieve_upload(world: World, call: Call) -> Any:
    """Retrieve one."""
    return {"data": _ticket(world, call, world.uploads, "ticket_id").data}


@route("POST /external_connections/{id}/uploads/{ticket_id}/retry")
def retry_upload(world: World, call: Call) -> Any:
    """Try a failed one again, under a new ticket; this time it works."""
    old = _ticket(world, call, world.uploads, "ticket_id")
    if old.data["status"] not in ("error", "partial_success"):
        raise invalid("/ticket_id", "Only a failed upload can be tried again.")
    numbers = [entry["number_id"] for entry in old.data["tn_upload_entries"]]
    first = old.data["tn_upload_entries"][0]
    usages, connection_id = old.data["available_usages"], old.connection_id
    new = add_upload(world, connection_id, numbers, usages, first["civic_address_id"], first["location_id"])
    new.ahead[-1] = "success"
    return {"data": new.data}
