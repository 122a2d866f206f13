"""THE table of managed objects: how to read, create, update and delete each. To add one: a row in `FAMILIES`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from telnyx_api.client import TelnyxClient
from telnyx_api.errors import NotFound
from telnyx_api.models import ExternalConnection, Model
from telnyx_api.pages import LARGEST_PAGE

Fields = dict[str, Any]

OUR_TAG = "callvault:"
_MOST_NUMBERS = 1000  # of one upload; more is answered 413


@dataclass(frozen=True)
class Live:
    """One object at Telnyx.

    Attributes:
        key: its name in the file.
        id: its id at Telnyx.
        fields: its fields at Telnyx, by the names of the file.
    """

    key: str
    id: str
    fields: Fields


@dataclass(frozen=True)
class ManagedFamily:
    """A row of the table.

    Attributes:
        fields: the fields that the file may set.
        required: the fields that it must set.
        read: the object of a key, or None; also gets the fields of the file, which may contain its id.
        list_all: lists all objects of the family; None if the API has no list.
        is_returned: whether Telnyx returns what is set. If not, apply sets it each time, and drift cannot be seen.
        is_exported: whether `export` writes the objects: those of the list or, without a list, the one of each connection.
    """

    fields: tuple[str, ...]
    required: tuple[str, ...]
    read: Callable[[TelnyxClient, str, Fields], Awaitable[Live | None]]
    create: Callable[[TelnyxClient, str, Fields], Awaitable[object]]
    update: Callable[[TelnyxClient, Live, Fields], Awaitable[object]]
    delete: Callable[[TelnyxClient, Live], Awaitable[object]]
    list_all: Callable[[TelnyxClient], AsyncIterator[Live]] | None = None
    is_returned: bool = True
    is_exported: bool = False


async def _by_key(key: str, answer: Awaitable[Model]) -> Live | None:
    """An object that Telnyx finds by its name in the file."""
    try:
        return Live(key, key, (await answer).as_returned())
    except NotFound:
        return None


# External connections: matched by id, else by a tag that Callvault adds to those that it creates.


def _connection(found: ExternalConnection) -> Live:
    fields = found.as_returned()
    tags = fields.get("tags") or []
    named = next((tag.removeprefix(OUR_TAG) for tag in tags if tag.startswith(OUR_TAG)), None)
    fields["tags"] = [tag for tag in tags if not tag.startswith(OUR_TAG)]
    return Live(named or str(found.id), str(found.id), fields)


async def _list_connections(client: TelnyxClient) -> AsyncIterator[Live]:
    async for found in client.external_connections.list(page_size=LARGEST_PAGE):
        yield _connection(found)


async def _read_connection(client: TelnyxClient, key: str, fields: Fields) -> Live | None:
    if (id_ := fields.get("id")) is not None:
        try:
            return _connection(await client.external_connections.retrieve(id_))
        except NotFound:
            return None
    async for live in _list_connections(client):  # raises if a row is unreadable: it may be this one
        if live.key == key:
            return live
    return None


def _tagged(key: str, fields: Fields) -> Fields:
    return fields | {"tags": [*fields.get("tags", []), OUR_TAG + key]}


async def _create_connection(client: TelnyxClient, key: str, fields: Fields) -> object:
    body = {
        name: value for name, value in _tagged(key, fields).items() if name not in ("id", "external_sip_connection")
    }
    body.setdefault("outbound", {})
    return await client.external_connections.create(external_sip_connection="zoom", **body)


async def _update_connection(client: TelnyxClient, live: Live, fields: Fields) -> object:
    body = {name: value for name, value in fields.items() if name not in ("id", "external_sip_connection")}
    body["outbound"] = {k: v for k, v in (live.fields.get("outbound") or {}).items() if v is not None} | body.get(
        "outbound", {}
    )
    if "tags" in body and live.key != live.id:
        body = _tagged(live.key, body)
    return await client.external_connections.update(live.id, **body)


# Custom storage credentials and Dialogflow connections: one of each a connection, by its id; no list at Telnyx.


async def _read_storage(client: TelnyxClient, key: str, fields: Fields) -> Live | None:
    found = await _by_key(key, client.custom_storage_credentials.retrieve(key))
    return None if found is None else replace(found, fields=found.fields.get("data") or {})


def _storage_body(fields: Fields) -> Fields:
    return {"backend": fields["backend"], "configuration": {"backend": fields["backend"]} | fields["configuration"]}


def _dialogflow_body(fields: Fields) -> Fields:
    account = fields["service_account"]
    return fields | {"service_account": json.loads(account) if isinstance(account, str) else account}


# Uploads: numbers that are assigned to a connection, or will be.


async def _read_uploads(client: TelnyxClient, key: str, fields: Fields) -> Live | None:
    """The wanted numbers that are assigned or pending."""
    there = {str(number.number_id) async for number in client.phone_numbers.list(key, page_size=LARGEST_PAGE)}
    async for upload in client.uploads.list(key, page_size=LARGEST_PAGE):
        if upload.status in ("pending_upload", "pending", "in_progress", "success"):
            there |= {str(entry.number_id) for entry in upload.tn_upload_entries or ()}
    wanted = fields.get("number_ids", [])
    return Live(key, key, {"number_ids": [number_id for number_id in wanted if number_id in there]})


async def _update_uploads(client: TelnyxClient, live: Live, fields: Fields) -> object:
    missing = [number_id for number_id in fields["number_ids"] if number_id not in live.fields["number_ids"]]
    return [
        await client.uploads.create(live.id, **(fields | {"number_ids": missing[i : i + _MOST_NUMBERS]}))
        for i in range(0, len(missing), _MOST_NUMBERS)
    ]


# Locations of civic addresses: the emergency address can be set but not read.


async def _read_location(client: TelnyxClient, key: str, fields: Fields) -> Live | None:
    return Live(key, key, {})


async def _update_location(client: TelnyxClient, live: Live, fields: Fields) -> object:
    connection_id, _, location_id = live.id.partition("/")
    return await client.locations.update(connection_id, location_id, **fields)


async def _never(*_: object) -> object:
    raise AssertionError("these families are only ever updated")


async def _list_media(client: TelnyxClient) -> AsyncIterator[Live]:
    async for found in client.media.list():
        yield Live(str(found.media_name), str(found.media_name), found.as_returned())


# In the order of application: what others refer to comes first.
FAMILIES: dict[str, ManagedFamily] = {
    "external_connections": ManagedFamily(
        fields=(
            "id",
            "external_sip_connection",
            "active",
            "tags",
            "inbound",
            "outbound",
            "webhook_event_url",
            "webhook_event_failover_url",
            "webhook_timeout_secs",
        ),
        required=(),
        read=_read_connection,
        create=_create_connection,
        update=_update_connection,
        delete=lambda client, live: client.external_connections.delete(live.id),
        list_all=_list_connections,
        is_exported=True,
    ),
    "uploads": ManagedFamily(
        fields=("number_ids", "usage", "additional_usages", "location_id", "civic_address_id"),
        required=("number_ids",),
        read=_read_uploads,
        create=_never,
        update=_update_uploads,
        delete=_never,
    ),
    "locations": ManagedFamily(
        fields=("static_emergency_address_id",),
        required=("static_emergency_address_id",),
        read=_read_location,
        create=_never,
        update=_update_location,
        delete=_never,
        is_returned=False,
    ),
    "custom_storage_credentials": ManagedFamily(
        fields=("backend", "configuration"),
        required=("backend", "configuration"),
        read=_read_storage,
        create=lambda client, key, fields: client.custom_storage_credentials.create(key, **_storage_body(fields)),
        update=lambda client, live, fields: client.custom_storage_credentials.update(live.id, **_storage_body(fields)),
        delete=lambda client, live: client.custom_storage_credentials.delete(live.id),
        is_exported=True,
    ),
    "dialogflow_connections": ManagedFamily(
        fields=("service_account", "dialogflow_api", "conversation_profile_id", "location", "environment"),
        required=("service_account",),
        read=lambda client, key, fields: _by_key(key, client.dialogflow_connections.retrieve(key)),
        create=lambda client, key, fields: client.dialogflow_connections.create(key, **_dialogflow_body(fields)),
        update=lambda client, live, fields: client.dialogflow_connections.update(live.id, **_dialogflow_body(fields)),
        delete=lambda client, live: client.dialogflow_connections.delete(live.id),
        is_exported=True,
    ),
    "siprec_connectors": ManagedFamily(
        fields=("host", "port", "app_subdomain"),
        required=("host", "port"),
        read=lambda client, key, fields: _by_key(key, client.siprec_connectors.retrieve(key)),
        create=lambda client, key, fields: client.siprec_connectors.create(name=key, **fields),
        update=lambda client, live, fields: client.siprec_connectors.update(live.id, name=live.key, **fields),
        delete=lambda client, live: client.siprec_connectors.delete(live.id),
    ),
    "media": ManagedFamily(
        fields=("media_url", "ttl_secs"),
        required=("media_url",),
        read=lambda client, key, fields: _by_key(key, client.media.retrieve(key)),
        create=lambda client, key, fields: client.media.upload(media_name=key, **fields),
        update=lambda client, live, fields: client.media.update(live.id, **fields),
        delete=lambda client, live: client.media.delete(live.id),
        list_all=_list_media,  # not exported: Telnyx does not return the source of a medium
    ),
}
