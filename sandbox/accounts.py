"""What is kept per connection or per name: custom storage credentials, Dialogflow connections, SIPREC connectors, media
(families 5.1, 5.2, 5.5 and 5.9 of the API)."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx

from sandbox.api import Call, Raw, page, route
from sandbox.errors import ApiError, invalid, not_found
from sandbox.world import World, now, text_of

BACKENDS = {
    "gcs": (),
    "azure": (),
    "s3": ("bucket", "region", "aws_access_key_id", "aws_secret_access_key"),
    "s3-generic": ("bucket", "region", "endpoint", "aws_access_key_id", "aws_secret_access_key"),
}
_MEDIA_TTL_SECONDS = 2 * 24 * 3600
_LONGEST_TTL_SECONDS = 630_720_000
_LARGEST_MEDIA_BYTES = 20 * 1024 * 1024


def _storage(call: Call) -> dict[str, Any]:
    backend = call.choice("backend", tuple(BACKENDS), required=True)
    configuration = call.need("configuration", dict)
    if configuration.get("backend", backend) != backend:
        raise invalid("/configuration/backend", "The backend must be the same in both places.")
    for name in BACKENDS[str(backend)]:
        if not configuration.get(name):
            raise invalid(f"/configuration/{name}", f"The '{name}' parameter is required.")
    return {
        "connection_id": call.path["connection_id"],
        "record_type": "custom_storage_credentials",
        "data": {"backend": backend, "configuration": {"backend": backend} | configuration},
    }


@route("POST /custom_storage_credentials/{connection_id}")
def create_storage(world: World, call: Call) -> Any:
    """Create."""
    if call.path["connection_id"] in world.storage:
        raise ApiError(422, "10012", "Duplicate resource", "The connection has credentials already.")
    world.storage[call.path["connection_id"]] = made = _storage(call)
    return made


@route("GET /custom_storage_credentials/{connection_id}")
def retrieve_storage(world: World, call: Call) -> Any:
    """Retrieve."""
    if call.path["connection_id"] not in world.storage:
        raise not_found()
    return world.storage[call.path["connection_id"]]


@route("PUT /custom_storage_credentials/{connection_id}")
def update_storage(world: World, call: Call) -> Any:
    """Replace."""
    retrieve_storage(world, call)
    world.storage[call.path["connection_id"]] = made = _storage(call)
    return made


@route("DELETE /custom_storage_credentials/{connection_id}")
def delete_storage(world: World, call: Call) -> Any:
    """Delete."""
    retrieve_storage(world, call)
    del world.storage[call.path["connection_id"]]
    return Raw(204)


def _dialogflow(call: Call) -> dict[str, Any]:
    service_account = call.need("service_account", dict)
    if call.choice("dialogflow_api", ("cx", "es")) == "cx":
        for name in ("conversation_profile_id", "location"):
            call.need(name)
    return {
        "connection_id": call.path["connection_id"],
        "record_type": "dialogflow_connection",
        "conversation_profile_id": call.body.get("conversation_profile_id"),
        "environment": call.body.get("environment"),
        "service_account": json.dumps(service_account),
    }


@route("POST /dialogflow_connections/{connection_id}")
def create_dialogflow(world: World, call: Call) -> Any:
    """Create."""
    if call.path["connection_id"] in world.dialogflow:
        raise ApiError(422, "10012", "Duplicate resource", "The connection has a Dialogflow connection already.")
    world.dialogflow[call.path["connection_id"]] = made = _dialogflow(call)
    return {"data": made}


@route("GET /dialogflow_connections/{connection_id}")
def retrieve_dialogflow(world: World, call: Call) -> Any:
    """Retrieve."""
    if call.path["connection_id"] not in world.dialogflow:
        raise not_found()
    return {"data": world.dialogflow[call.path["connection_id"]]}


@route("PUT /dialogflow_connections/{connection_id}")
def update_dialogflow(world: World, call: Call) -> Any:
    """Replace."""
    retrieve_dialogflow(world, call)
    world.dialogflow[call.path["connection_id"]] = made = _dialogflow(call)
    return {"data": made}


@route("DELETE /dialogflow_connections/{connection_id}")
def delete_dialogflow(world: World, call: Call) -> Any:
    """Delete."""
    retrieve_dialogflow(world, call)
    del world.dialogflow[call.path["connection_id"]]
    return Raw(204)


def _siprec(call: Call, created_at: str) -> dict[str, Any]:
    port = call.need("port", int)
    if not 1 <= port <= 65535:
        raise invalid("/port", "The 'port' parameter must be from 1 to 65535.")
    return {
        "name": call.need("name"),
        "host": call.need("host"),
        "port": port,
        "app_subdomain": call.body.get("app_subdomain"),
        "record_type": "siprec_connector",
        "created_at": created_at,
        "updated_at": text_of(now()),
    }


@route("POST /siprec_connectors")
def create_siprec(world: World, call: Call) -> Any:
    """Create."""
    made = _siprec(call, text_of(now()))
    if made["name"] in world.siprec:
        raise ApiError(422, "10012", "Duplicate resource", "There is a connector of this name.", "/name")
    world.siprec[made["name"]] = made
    return {"data": made}


@route("GET /siprec_connectors/{connector_name}")
def retrieve_siprec(world: World, call: Call) -> Any:
    """Retrieve."""
    return {"data": _connector(world, call)}


def _connector(world: World, call: Call) -> dict[str, Any]:
    if call.path["connector_name"] not in world.siprec:
        raise not_found()
    return world.siprec[call.path["connector_name"]]


@route("PUT /siprec_connectors/{connector_name}")
def update_siprec(world: World, call: Call) -> Any:
    """Replace, maybe under another name."""
    old = _connector(world, call)
    made = _siprec(call, old["created_at"])
    del world.siprec[old["name"]]
    world.siprec[made["name"]] = made
    return {"data": made}


@route("DELETE /siprec_connectors/{connector_name}")
def delete_siprec(world: World, call: Call) -> Any:
    """Delete."""
    _connector(world, call)
    del world.siprec[call.path["connector_name"]]
    return Raw(204)


def _live_media(world: World, call: Call) -> tuple[dict[str, Any], bytes]:
    found = world.media.get(call.path["media_name"])
    if found is None or found[0]["expires_at"] <= text_of(now()):
        raise not_found()
    return found


async def _fetch(call: Call) -> tuple[bytes, str, str]:
    """Fetch a medium from its address, as Telnyx does."""
    url = call.need("media_url")
    try:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            answer = await client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL):
        raise invalid("/media_url", "The media could not be fetched.") from None
    if not answer.is_success or len(answer.content) > _LARGEST_MEDIA_BYTES:
        raise invalid("/media_url", "The media could not be fetched, or is larger than 20 MB.")
    name = urlsplit(url).path.rpartition("/")[2]
    return answer.content, answer.headers.get("content-type", "application/octet-stream"), name


def _ttl(call: Call) -> int:
    seconds = call.body.get("ttl_secs", _MEDIA_TTL_SECONDS)
    if not isinstance(seconds, int) or not 0 < seconds <= _LONGEST_TTL_SECONDS:
        raise invalid("/ttl_secs", f"The 'ttl_secs' parameter must be from 1 to {_LONGEST_TTL_SECONDS}.")
    return seconds


@route("GET /media")
def list_media(world: World, call: Call) -> Any:
    """List what has not expired."""
    found = [data for data, _ in world.media.values() if data["expires_at"] > text_of(now())]
    if types := call.filter_list("content_type"):
        found = [data for data in found if data["content_type"] in types]
    return page(call, found)


@route("POST /media")
async def upload_media(world: World, call: Call) -> Any:
    """Fetch and keep."""
    seconds = _ttl(call)
    content, content_type, name = await _fetch(call)
    name = call.body.get("media_name") or name
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", name):
        raise invalid("/media_name", "Letters, digits, dots, dashes and underscores only.")
    if name in world.media:
        raise ApiError(422, "10012", "Duplicate resource", "There is a medium of this name.", "/media_name")
    instant = now()
    data = {
        "media_name": name,
        "content_type": content_type,
        "created_at": text_of(instant),
        "updated_at": text_of(instant),
        "expires_at": text_of(instant + timedelta(seconds=seconds)),
    }
    world.media[name] = (data, content)
    return {"data": data}


@route("GET /media/{media_name}")
def retrieve_media(world: World, call: Call) -> Any:
    """Retrieve what is known of one."""
    return {"data": _live_media(world, call)[0]}


@route("PUT /media/{media_name}")
async def update_media(world: World, call: Call) -> Any:
    """Replace the bytes, or the time to live."""
    data, content = _live_media(world, call)
    if call.body.get("media_url"):
        content, data["content_type"], _ = await _fetch(call)
    instant = now()
    data["updated_at"] = text_of(instant)
    if "ttl_secs" in call.body:
        data["expires_at"] = text_of(instant + timedelta(seconds=_ttl(call)))
    world.media[data["media_name"]] = (data, content)
    return {"data": data}


@route("DELETE /media/{media_name}")
def delete_media(world: World, call: Call) -> Any:
    """Delete."""
    _live_media(world, call)
    del world.media[call.path["media_name"]]
    return Raw(204)


@route("GET /media/{media_name}/download")
def download_media(world: World, call: Call) -> Any:
    """Give the bytes."""
    data, content = _live_media(world, call)
    return Raw(200, content, data["content_type"])
