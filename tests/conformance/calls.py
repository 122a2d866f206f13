"""All 48 operations, called the same way on our client and on the official SDK: one row an operation.

A row prepares what it needs in the sandbox's world, then calls both with the same arguments. `ours` and `theirs` get
the client and a dict of prepared names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sandbox import connections as family
from sandbox import tickets
from sandbox.webhooks import recording_payload
from sandbox.world import World, now, text_of

S3 = {
    "backend": "s3",
    "bucket": "calls",
    "region": "us-east-1",
    "aws_access_key_id": "AKIA",
    "aws_secret_access_key": "secret",
}
GENERIC = {**S3, "backend": "s3-generic", "endpoint": "https://s3.example.com"}
ACCOUNT = {"type": "service_account", "project_id": "p"}
LIMITS = {"channel_limit": 5, "outbound_voice_profile_id": "1911630617284445511"}
SPAN = {"gte": "2020-01-01T00:00:00Z", "lte": "2099-01-01T00:00:00Z"}


@dataclass(frozen=True)
class Row:
    """One operation on both sides."""

    name: str
    ours: Callable[[Any, dict[str, Any]], Any]
    theirs: Callable[[Any, dict[str, Any]], Any]


def prepare(world: World, sample_url: str) -> dict[str, Any]:
    """A world with everything that the rows name."""
    zoom = family.add_connection(world, "zoom", tags=["office"])
    address = family.add_address(world, zoom["id"])
    number = family.add_number(world, zoom["id"], "+13125550100")
    idle = family.add_connection(world, "zoom", active=False)
    family.add_address(world, idle["id"])
    upload = tickets.add_upload(
        world, zoom["id"], ["123-fails"], tickets.USAGES[:1], address["id"], address["default_location_id"]
    )
    upload.ahead.clear()
    tickets.set_status(world, upload, "error")
    release = tickets.add_release(world, zoom["id"], "failed", number, "It failed.")
    message = world.log(zoom["id"], "10015", "Invalid attribute", "detail", telephone_number="+13125550100")
    recordings = [world.add_recording(seconds=1, formats=("wav", "mp3"), source=s) for s in ("call", "conference")]
    spare = [world.add_recording(seconds=1) for _ in range(3)]
    transcription = world.add_transcription(recordings[0])
    world.complete_transcription(transcription)
    doomed = world.add_transcription(recordings[0])
    data = {
        "media_name": "prompt.mp3",
        "content_type": "audio/mpeg",
        "created_at": text_of(now()),
        "updated_at": text_of(now()),
        "expires_at": "2099-01-01T00:00:00.000000Z",
    }
    world.media["prompt.mp3"] = (data, b"audio")
    world.media["doomed.mp3"] = (data | {"media_name": "doomed.mp3"}, b"audio")
    for key in ("kept", "doomed"):
        storage = {"backend": "s3", "configuration": S3}
        world.storage[key] = {"connection_id": key, "record_type": "custom_storage_credentials", "data": storage}
        world.dialogflow[key] = {
            "connection_id": key,
            "record_type": "dialogflow_connection",
            "conversation_profile_id": "profile",
            "environment": "draft",
            "service_account": "{}",
        }
        world.siprec[key] = {
            "name": key,
            "host": "siprec.example.com",
            "port": 5060,
            "app_subdomain": "app",
            "record_type": "siprec_connector",
            "created_at": text_of(now()),
            "updated_at": text_of(now()),
        }
    delivery: dict[str, Any] = {
        "id": world.new_uuid(),
        "user_id": world.account_id,
        "record_type": "webhook_delivery",
        "status": "failed",
        "started_at": text_of(now()),
        "finished_at": text_of(now()),
        "webhook": {
            "record_type": "event",
            "event_type": "call.recording.saved",
            "id": world.new_uuid(),
            "occurred_at": text_of(now()),
            "payload": recording_payload(world, recordings[0]),
        },
        "attempts": [],
    }
    world.deliveries[delivery["id"]] = delivery
    return {
        "delivery": delivery["id"],
        "zoom": zoom["id"],
        "idle": idle["id"],
        "address": address["id"],
        "location": address["locations"][1]["id"],
        "number": number["number_id"],
        "upload": upload.data["ticket_id"],
        "release": release.data["ticket_id"],
        "message": message["id"],
        "recording": recordings[0].data["id"],
        "spare": [r.data["id"] for r in spare],
        "transcription": transcription["id"],
        "doomed": doomed["id"],
        "sample": sample_url,
    }


def both(
    title: str, ours: str, theirs: str, /, *path: str, their_path: dict[str, str] | None = None, **body: Any
) -> Row:
    """A row whose two sides differ in method name and in how they pass the path."""

    def find(client: Any, dotted: str) -> Any:
        for part in dotted.split("."):
            client = getattr(client, part)
        return client

    def resolve(value: Any, names: dict[str, Any]) -> Any:
        if isinstance(value, str) and value.startswith("@"):
            return names[value[1:]]
        return value

    def call_ours(client: Any, names: dict[str, Any]) -> Any:
        arguments = {k: resolve(v, names) for k, v in body.items()}
        return find(client, ours)(*(resolve(p, names) for p in path), **arguments)

    def call_theirs(client: Any, names: dict[str, Any]) -> Any:
        arguments = {k: resolve(v, names) for k, v in body.items()}
        if their_path is None:
            return find(client, theirs)(*(resolve(p, names) for p in path), **arguments)
        keywords = {k: resolve(v, names) for k, v in their_path.items()}
        last = () if not path else (resolve(path[-1], names),)
        return find(client, theirs)(*last, **keywords, **arguments)

    return Row(title, call_ours, call_theirs)


ZOOM = {"id": "@zoom"}
UPLOADS = "external_connections.uploads"
ROWS = [
    both("storage create", "custom_storage_credentials.create", "custom_storage_credentials.create", "new-1",
         backend="s3-generic", configuration=GENERIC),
    both("storage retrieve", "custom_storage_credentials.retrieve", "custom_storage_credentials.retrieve", "kept"),
    both("storage update", "custom_storage_credentials.update", "custom_storage_credentials.update", "kept",
         backend="gcs", configuration={"backend": "gcs", "bucket": "b", "credentials": "{}"}),
    both("storage delete", "custom_storage_credentials.delete", "custom_storage_credentials.delete", "doomed"),
    both("dialogflow create", "dialogflow_connections.create", "dialogflow_connections.create", "new-1",
         service_account=ACCOUNT, dialogflow_api="cx", conversation_profile_id="p", location="us", environment="e"),
    both("dialogflow retrieve", "dialogflow_connections.retrieve", "dialogflow_connections.retrieve", "kept"),
    both("dialogflow update", "dialogflow_connections.update", "dialogflow_connections.update", "kept",
         service_account=ACCOUNT),
    both("dialogflow delete", "dialogflow_connections.delete", "dialogflow_connections.delete", "doomed"),
    both("connections list", "external_connections.list", "external_connections.list",
         filter={"external_sip_connection": "zoom", "connection_name": {"contains": "office"}}, page_size=2,
         page_number=1),
    both("connections create", "external_connections.create", "external_connections.create",
         external_sip_connection="zoom", outbound=LIMITS, inbound=LIMITS, active=False, tags=["a", "b"],
         webhook_event_url="https://example.com/hook", webhook_event_failover_url=None, webhook_timeout_secs=25),
    both("connections retrieve", "external_connections.retrieve", "external_connections.retrieve", "@zoom"),
    both("connections update", "external_connections.update", "external_connections.update", "@zoom",
         outbound=LIMITS, tags=[]),
    both("connections delete", "external_connections.delete", "external_connections.delete", "@idle"),
    both("log messages list", "log_messages.list", "external_connections.log_messages.list",
         filter={"telephone_number": {"contains": "312"}}, page_size=10),
    both("log messages retrieve", "log_messages.retrieve", "external_connections.log_messages.retrieve", "@message"),
    both("log messages dismiss", "log_messages.dismiss", "external_connections.log_messages.dismiss", "@message"),
    both("addresses list", "civic_addresses.list", "external_connections.civic_addresses.list", "@zoom",
         filter={"country": ["US", "CA"]}),
    both("addresses retrieve", "civic_addresses.retrieve", "external_connections.civic_addresses.retrieve", "@zoom",
         "@address", their_path=ZOOM),
    both("locations update", "locations.update", "external_connections.update_location", "@zoom", "@location",
         their_path=ZOOM, static_emergency_address_id="@address"),
    both("numbers list", "phone_numbers.list", "external_connections.phone_numbers.list", "@zoom",
         filter={"phone_number": {"contains": "3125550100"}, "civic_address_id": {"eq": "none"}}, page_size=5),
    both("numbers retrieve", "phone_numbers.retrieve", "external_connections.phone_numbers.retrieve", "@zoom",
         "@number", their_path=ZOOM),
    both("numbers update", "phone_numbers.update", "external_connections.phone_numbers.update", "@zoom", "@number",
         their_path=ZOOM, location_id="@location"),
    both("releases list", "releases.list", "external_connections.releases.list", "@zoom",
         filter={"status": {"eq": ["failed", "expired"]}, "phone_number": {"eq": "+13125550100"}}),
    both("releases retrieve", "releases.retrieve", "external_connections.releases.retrieve", "@zoom", "@release",
         their_path=ZOOM),
    both("uploads list", "uploads.list", f"{UPLOADS}.list", "@zoom", filter={"status": {"eq": ["error"]}}),
    both("uploads create", "uploads.create", f"{UPLOADS}.create", "@zoom", number_ids=["1", "2"],
         usage="calling_user_assignment", additional_usages=["first_party_app_assignment"], location_id="@location"),
    both("uploads refresh", "uploads.refresh", f"{UPLOADS}.refresh_status", "@zoom"),
    both("uploads pending count", "uploads.pending_count", f"{UPLOADS}.pending_count", "@zoom"),
    both("uploads retrieve", "uploads.retrieve", f"{UPLOADS}.retrieve", "@zoom", "@upload", their_path=ZOOM),
    both("uploads retry", "uploads.retry", f"{UPLOADS}.retry", "@zoom", "@upload", their_path=ZOOM),
    both("media list", "media.list", "media.list", filter={"content_type": ["audio/mpeg"]}),
    both("media upload", "media.upload", "media.upload", media_url="@sample", media_name="new.mp3", ttl_secs=3600),
    both("media retrieve", "media.retrieve", "media.retrieve", "prompt.mp3"),
    both("media update", "media.update", "media.update", "prompt.mp3", ttl_secs=7200),
    both("media delete", "media.delete", "media.delete", "doomed.mp3"),
    both("media download", "media.download", "media.download", "prompt.mp3"),
    both("operator connect refresh", "operator_connect.refresh", "operator_connect.actions.refresh"),
    both("transcriptions list", "recording_transcriptions.list", "recording_transcriptions.list",
         filter={"recording_id": "none", "created_at": SPAN}, page_size=250),
    both("transcriptions retrieve", "recording_transcriptions.retrieve", "recording_transcriptions.retrieve",
         "@transcription"),
    both("transcriptions delete", "recording_transcriptions.delete", "recording_transcriptions.delete", "@doomed"),
    both("recordings list", "recordings.list", "recordings.list",
         filter={"created_at": SPAN, "from": "+1", "conference_id": "x"}, page_size=3, page_number=2),
    both("recordings retrieve", "recordings.retrieve", "recordings.retrieve", "@recording"),
    both("recordings bulk delete", "recordings.bulk_delete", "recordings.actions.delete", ids="@spare"),
    both("recordings delete", "recordings.delete", "recordings.delete", "@recording"),
    both("siprec create", "siprec_connectors.create", "siprec_connectors.create", name="new", host="h.example.com",
         port=5060, app_subdomain="sub"),
    both("siprec retrieve", "siprec_connectors.retrieve", "siprec_connectors.retrieve", "kept"),
    both("siprec update", "siprec_connectors.update", "siprec_connectors.update", "kept", name="kept", host="h",
         port=5061),
    both("siprec delete", "siprec_connectors.delete", "siprec_connectors.delete", "doomed"),
]  # fmt: skip

BEYOND = [  # the 48
    both("deliveries list", "webhook_deliveries.list", "webhook_deliveries.list",
         filter={"status": {"eq": "failed"}, "started_at": SPAN}),
    both("deliveries retrieve", "webhook_deliveries.retrieve", "webhook_deliveries.retrieve", "@delivery"),
    both("connections list", "connections.list", "connections.list", page_size=3, page_number=1),
]  # fmt: skip
