"""External connections and all that hangs on them: log messages, civic addresses, locations, numbers,
Operator Connect (families 5.3, 5.4 and 5.6 of the API)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sandbox.api import Call, page, route
from sandbox.errors import invalid, not_found
from sandbox.world import World, now, text_of


def connection_of(world: World, call: Call) -> dict[str, Any]:
    """The connection that a path names."""
    found = world.connections.get(call.path["id"])
    if found is None:
        raise not_found()
    return found


def add_connection(world: World, kind: str, **values: Any) -> dict[str, Any]:
    """Make an external connection."""
    instant = text_of(now())
    connection: dict[str, Any] = {
        "id": world.new_id(),
        "record_type": "external_connection",
        "external_sip_connection": kind,
        "active": True,
        "credential_active": True,
        "created_at": instant,
        "updated_at": instant,
        "inbound": {"channel_limit": 10},
        "outbound": {"channel_limit": 10, "outbound_voice_profile_id": world.new_id()},
        "tags": [],
        "webhook_api_version": "2",
        "webhook_event_url": None,
        "webhook_event_failover_url": None,
        "webhook_timeout_secs": None,
    } | values
    world.connections[connection["id"]] = connection
    world.addresses[connection["id"]] = {}
    world.numbers[connection["id"]] = {}
    return connection


def add_address(world: World, connection_id: str) -> dict[str, Any]:
    """Make a civic address with two locations."""
    locations = [
        {"id": world.new_uuid(), "additional_info": info, "description": info, "is_default": i == 0}
        for i, info in enumerate(("Ground floor", "Second floor"))
    ]
    address = {
        "id": world.new_uuid(),
        "record_type": "civic_address",
        "city_or_town": "Chicago",
        "city_or_town_alias": "",
        "company_name": "Example Company",
        "country": "US",
        "country_or_district": "US",
        "default_location_id": locations[0]["id"],
        "description": "Head office",
        "house_number": "311",
        "house_number_suffix": "",
        "locations": locations,
        "postal_or_zip_code": "60606",
        "state_or_province": "IL",
        "street_name": "West Superior",
        "street_suffix": "St",
    }
    world.addresses[connection_id][str(address["id"])] = address
    return address


def add_number(world: World, connection_id: str, telephone_number: str) -> dict[str, Any]:
    """Give a connection a phone number."""
    address = next(iter(world.addresses[connection_id].values()))
    number = {
        "number_id": world.new_uuid(),
        "telephone_number": telephone_number,
        "acquired_capabilities": ["FirstPartyAppAssignment", "UserAssignment"],
        "civic_address_id": address["id"],
        "location_id": address["default_location_id"],
        "displayed_country_code": "US",
        "ticket_id": world.new_uuid(),
    }
    world.numbers[connection_id][str(number["number_id"])] = number
    return number


def _limits(call: Call, name: str, *, required: bool) -> dict[str, Any]:
    value = call.body.get(name)
    if value is None and not required:
        return {}
    if not isinstance(value, dict):
        raise invalid(f"/{name}", f"The '{name}' parameter is required and must be an object.")
    limit = value.get("channel_limit")
    if limit is not None and (not isinstance(limit, int) or limit < 0):
        raise invalid(f"/{name}/channel_limit", "The 'channel_limit' parameter must be a number.")
    return value


def _common(call: Call) -> dict[str, Any]:
    names = ("active", "tags", "webhook_event_url", "webhook_event_failover_url", "webhook_timeout_secs")
    values = {name: call.body[name] for name in names if name in call.body}
    if not isinstance(values.get("active", True), bool):
        raise invalid("/active", "The 'active' parameter must be a boolean.")
    seconds = values.get("webhook_timeout_secs")
    if seconds is not None and (not isinstance(seconds, int) or not 0 <= seconds <= 30):
        raise invalid("/webhook_timeout_secs", "The 'webhook_timeout_secs' parameter must be from 0 to 30.")
    for name in ("webhook_event_url", "webhook_event_failover_url"):
        url = values.get(name)
        if url is not None and not (isinstance(url, str) and url.startswith(("http://", "https://"))):
            raise invalid(f"/{name}", f"The '{name}' parameter must be a URL.")
    return values


# Log messages come first: `log_messages` would be taken for a connection's id.


def _shown(world: World, message: dict[str, Any]) -> dict[str, Any]:
    return message if world.faults.log_message_ids else {k: v for k, v in message.items() if k != "id"}


@route("GET /external_connections/log_messages")
def list_log_messages(world: World, call: Call) -> Any:
    """List, newest first, under `log_messages`."""
    found = list(reversed(world.log_messages.values()))
    for name, part in (("external_connection_id", None), ("telephone_number", "eq")):
        wanted = call.filter(name) if part is None else call.filter(name, part)
        if wanted is not None:
            found = [m for m in found if (m["meta"][name] or "null") == wanted]
    if (text := call.filter("telephone_number", "contains")) is not None:
        found = [m for m in found if text in (m["meta"]["telephone_number"] or "")]
    return page(call, [_shown(world, message) for message in found], "log_messages")


@route("GET /external_connections/log_messages/{id}")
def retrieve_log_message(world: World, call: Call) -> Any:
    """Retrieve one, in a list of one."""
    if call.path["id"] not in world.log_messages:
        raise not_found()
    return {"log_messages": [_shown(world, world.log_messages[call.path["id"]])]}


@route("DELETE /external_connections/log_messages/{id}")
def dismiss_log_message(world: World, call: Call) -> Any:
    """Dismiss one."""
    if world.log_messages.pop(call.path["id"], None) is None:
        raise not_found()
    return {"success": True}


@route("GET /connections")
def list_all_connections(world: World, call: Call) -> Any:
    """List the connections of all types with their names; the sandbox has external ones, named by their tags, and one
    application of Call Control."""
    other = {
        "id": "1700000000000000000",
        "record_type": "call_control_application",
        "active": True,
        "outbound_voice_profile_id": None,
        "tags": ["Support line"],
        "webhook_api_version": "2",
        "webhook_event_url": None,
        "webhook_event_failover_url": None,
        "created_at": text_of(world.began_at),
        "updated_at": text_of(world.began_at),
    }
    shown = [
        {name: one.get(name) for name in other}
        | {
            "connection_name": ", ".join(one["tags"]) if isinstance(one["tags"], list) else None,
            "anchorsite_override": "Latency",
        }
        | {"outbound_voice_profile_id": (one.get("outbound") or {}).get("outbound_voice_profile_id")}
        for one in (*world.connections.values(), other)
    ]
    return page(call, shown)


@route("GET /external_connections")
def list_connections(world: World, call: Call) -> Any:
    """List."""
    found = list(world.connections.values())
    if (wanted := call.filter("id")) is not None:
        found = [c for c in found if c["id"] == wanted]
    if (name := call.filter("connection_name", "contains")) is not None:
        if len(name) < 3:
            raise invalid("filter[connection_name][contains]", "At least three characters.")
        found = [c for c in found if name.lower() in " ".join(c["tags"]).lower()]
    if (kind := call.filter("external_sip_connection")) is not None:
        if kind not in ("zoom", "operator_connect"):
            raise invalid("filter[external_sip_connection]", "One of zoom, operator_connect.")
        found = [c for c in found if c["external_sip_connection"] == kind]
    if (day := call.filter("created_at")) is not None:
        found = [c for c in found if c["created_at"].startswith(day)]
    if (number := call.filter("phone_number", "contains")) is not None:
        numbers = world.numbers
        found = [c for c in found if any(n["telephone_number"] == number for n in numbers[c["id"]].values())]
    return page(call, found)


@route("POST /external_connections")
def create_connection(world: World, call: Call) -> Any:
    """Create one; only to Zoom."""
    call.choice("external_sip_connection", ("zoom",), required=True)
    values = _common(call)
    outbound = _limits(call, "outbound", required=True)
    inbound = _limits(call, "inbound", required=False)
    connection = add_connection(world, "zoom", **values)
    connection["outbound"] = {"channel_limit": None, "outbound_voice_profile_id": None} | outbound
    connection["inbound"] = {"channel_limit": None} | {k: v for k, v in inbound.items() if k == "channel_limit"}
    add_address(world, connection["id"])
    return {"data": connection}


@route("GET /external_connections/{id}")
def retrieve_connection(world: World, call: Call) -> Any:
    """Retrieve one."""
    return {"data": connection_of(world, call)}


@route("PATCH /external_connections/{id}")
def update_connection(world: World, call: Call) -> Any:
    """Change one."""
    connection = connection_of(world, call)
    outbound = _limits(call, "outbound", required=True)
    if not outbound.get("outbound_voice_profile_id"):
        raise invalid("/outbound/outbound_voice_profile_id", "The 'outbound_voice_profile_id' parameter is required.")
    inbound = _limits(call, "inbound", required=False)
    connection |= _common(call)
    connection["outbound"] = connection["outbound"] | outbound
    connection["inbound"] = connection["inbound"] | inbound
    connection["updated_at"] = text_of(now())
    return {"data": connection}


@route("DELETE /external_connections/{id}")
def delete_connection(world: World, call: Call) -> Any:
    """Delete one, if nothing stands against it."""
    connection = connection_of(world, call)
    if connection["active"] or connection["external_sip_connection"] == "operator_connect":
        raise invalid("/id", "The connection is active, or to Operator Connect.")
    if world.numbers[connection["id"]]:
        raise invalid("/id", "The connection has phone numbers assigned.")
    del world.connections[connection["id"]]
    return {"data": connection}


@route("GET /external_connections/{id}/civic_addresses")
def list_addresses(world: World, call: Call) -> Any:
    """List all, without pages."""
    found = list(world.addresses[connection_of(world, call)["id"]].values())
    if countries := call.filter_list("country"):
        found = [a for a in found if a["country"] in countries]
    return {"data": found}


@route("GET /external_connections/{id}/civic_addresses/{address_id}")
def retrieve_address(world: World, call: Call) -> Any:
    """Retrieve one."""
    found = world.addresses[connection_of(world, call)["id"]].get(call.path["address_id"])
    if found is None:
        raise not_found()
    return {"data": found}


def locations_of(world: World, connection_id: str) -> set[str]:
    """The ids of all locations of a connection's addresses."""
    addresses = world.addresses[connection_id].values()
    return {location["id"] for address in addresses for location in address["locations"]}


@route("PATCH /external_connections/{id}/locations/{location_id}")
def update_location(world: World, call: Call) -> Any:
    """Set the emergency address of a location; the address must be known."""
    connection_id = connection_of(world, call)["id"]
    if call.path["location_id"] not in locations_of(world, connection_id):
        raise not_found()
    address_id = call.need("static_emergency_address_id")
    if address_id not in world.addresses[connection_id]:
        raise invalid("/static_emergency_address_id", "The address is not known.")
    data = {
        "accepted_address_suggestions": True,
        "location_id": call.path["location_id"],
        "static_emergency_address_id": address_id,
    }
    return {"data": data}


def by_number(call: Call, found: Iterable[Any], numbers: Any) -> list[Any]:
    """Those of which one of their `numbers` fits the filter by phone number."""
    if (wanted := call.filter("phone_number", "eq")) is not None:
        found = [item for item in found if wanted in numbers(item)]
    if (part := call.filter("phone_number", "contains")) is not None:
        if not 3 <= len(part) <= 15:
            raise invalid("filter[phone_number][contains]", "From 3 to 15 digits.")
        found = [item for item in found if any(part in number for number in numbers(item))]
    return list(found)


@route("GET /external_connections/{id}/phone_numbers")
def list_numbers(world: World, call: Call) -> Any:
    """List."""
    found = list(world.numbers[connection_of(world, call)["id"]].values())
    found = by_number(call, found, lambda n: [n["telephone_number"]])
    for name in ("civic_address_id", "location_id"):
        if (wanted := call.filter(name, "eq")) is not None:
            found = [n for n in found if n[name] == wanted]
    return page(call, found)


def _number(world: World, call: Call) -> dict[str, Any]:
    found = world.numbers[connection_of(world, call)["id"]].get(call.path["phone_number_id"])
    if found is None:
        raise not_found()
    return found


@route("GET /external_connections/{id}/phone_numbers/{phone_number_id}")
def retrieve_number(world: World, call: Call) -> Any:
    """Retrieve one."""
    return {"data": _number(world, call)}


@route("PATCH /external_connections/{id}/phone_numbers/{phone_number_id}")
def update_number(world: World, call: Call) -> Any:
    """Move one to a location; an unknown location gets a log message, since the work is done later."""
    number = _number(world, call)
    location_id = call.body.get("location_id")
    if location_id is not None:
        if location_id in locations_of(world, call.path["id"]):
            number["location_id"] = location_id
        else:
            telephone = number["telephone_number"]
            detail = f"The location {location_id} is not known."
            world.log(call.path["id"], "10015", "Invalid attribute", detail, telephone_number=telephone)
    return {"data": number}


@route("POST /operator_connect/actions/refresh")
def refresh_operator_connect(world: World, call: Call) -> Any:
    """Read the state at Microsoft again: it makes a connection, and says so by a log message."""
    connection = add_connection(world, "operator_connect", tags=["discovered"])
    add_address(world, connection["id"])
    world.log(connection["id"], "20001", "Operator Connect refreshed", "A new tenant was found.")
    return {"success": True, "message": "The Operator Connect refresh has been started."}
