"""THE table: all 48 operations of Telnyx's SIP-integration API in its 14 families, the webhook deliveries and the connections.

To add one: declare its signature in its family; the method, `callvault telnyx`, and `docs/telnyx-operations.md`
(`make docs`) come from it. Parameters have Telnyx's own names. Bodies are supplied by the decorator, so there are none
here. Source: developers.telnyx.com/api-reference, and the official SDK 4.189.0 where the two differ.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from msgspec import UNSET, UnsetType

from telnyx_api.operation import Family, Operation, Pages, operation

if TYPE_CHECKING:  # an operation resolves its types when it is called
    from telnyx_api.models import (
        BulkDeletion,
        CivicAddress,
        Connection,
        CustomStorageCredentials,
        DialogflowConnection,
        ExternalConnection,
        LocationUpdate,
        LogMessage,
        Media,
        Outcome,
        PendingCount,
        PhoneNumber,
        Recording,
        RecordingTranscription,
        Release,
        SiprecConnector,
        Upload,
        UploadCreated,
        WebhookDelivery,
    )

Backend = Literal["gcs", "s3", "s3-generic", "azure"]
Usage = Literal["calling_user_assignment", "first_party_app_assignment"]


class Since(TypedDict, total=False):
    """Instants, ISO 8601, inclusive."""

    gte: str
    lte: str


class Match(TypedDict, total=False):
    """A whole or a part."""

    eq: str
    contains: str


class Equal(TypedDict, total=False):
    """One of these."""

    eq: str | list[str]


class Contains(TypedDict, total=False):
    """A part."""

    contains: str


class ConnectionFilter(TypedDict, total=False):
    """`phone_number` needs a full E.164 number in spite of `contains`; `connection_name` at least three characters."""

    id: str
    connection_name: Contains
    external_sip_connection: Literal["zoom", "operator_connect"]
    created_at: str
    phone_number: Contains


class CountryFilter(TypedDict, total=False):
    """Civic addresses by country."""

    country: list[str]


class LogMessageFilter(TypedDict, total=False):
    """Either value may be the text `null` for messages of no connection or number. There is no date."""

    external_connection_id: str
    telephone_number: Match


class PhoneNumberFilter(TypedDict, total=False):
    """Phone numbers of a connection."""

    phone_number: Match
    civic_address_id: Equal
    location_id: Equal


class TicketFilter(TypedDict, total=False):
    """Uploads and releases of a connection; uploads cannot be filtered by `partial_success`."""

    status: Equal
    phone_number: Match
    civic_address_id: Equal
    location_id: Equal


class MediaFilter(TypedDict, total=False):
    """Media by content type."""

    content_type: list[str]


class TranscriptionFilter(TypedDict, total=False):
    """Transcriptions; instants are ISO 8601, inclusive."""

    recording_id: str
    created_at: Since


RecordingFilter = TypedDict(
    "RecordingFilter",
    {
        "conference_id": str,
        "conference_region": str,
        "connection_id": str,
        "call_control_id": str,
        "call_leg_id": str,
        "call_session_id": str,
        "sip_call_id": str,
        "from": str,
        "to": str,
        "created_at": Since,
        "start_time": Since,
        "end_time": Since,
    },
    total=False,
)


class DeliveryFilter(TypedDict, total=False):
    """Webhook deliveries; instants are ISO 8601, inclusive."""

    status: Equal
    event_type: str
    webhook: Contains
    attempts: Contains
    started_at: Since
    finished_at: Since


class LimitsIn(TypedDict, total=False):
    """`inbound` or `outbound` of an external connection."""

    channel_limit: int
    outbound_voice_profile_id: str


class CustomStorage(Family):
    """Custom storage credentials of a connection: where Telnyx puts its recordings."""

    name = "custom-storage-credentials"

    @operation("POST /custom_storage_credentials/{connection_id}", envelope="bare")
    async def create(
        self, connection_id: str, *, backend: Backend, configuration: dict[str, Any]
    ) -> CustomStorageCredentials:
        """Create the credentials of a connection; `configuration` repeats the backend."""

    @operation("GET /custom_storage_credentials/{connection_id}", envelope="bare")
    async def retrieve(self, connection_id: str) -> CustomStorageCredentials:
        """Retrieve the credentials of a connection."""

    @operation("PUT /custom_storage_credentials/{connection_id}", envelope="bare")
    async def update(
        self, connection_id: str, *, backend: Backend, configuration: dict[str, Any]
    ) -> CustomStorageCredentials:
        """Replace the credentials of a connection."""

    @operation("DELETE /custom_storage_credentials/{connection_id}", envelope="empty")
    async def delete(self, connection_id: str) -> None:
        """Delete the credentials of a connection."""


class Dialogflow(Family):
    """Dialogflow connections."""

    name = "dialogflow-connections"

    @operation("POST /dialogflow_connections/{connection_id}")
    async def create(
        self,
        connection_id: str,
        *,
        service_account: dict[str, Any],
        dialogflow_api: Literal["cx", "es"] | UnsetType = UNSET,
        conversation_profile_id: str | UnsetType = UNSET,
        location: str | UnsetType = UNSET,
        environment: str | UnsetType = UNSET,
    ) -> DialogflowConnection:
        """Create the Dialogflow connection of a connection."""

    @operation("GET /dialogflow_connections/{connection_id}")
    async def retrieve(self, connection_id: str) -> DialogflowConnection:
        """Retrieve the Dialogflow connection of a connection."""

    @operation("PUT /dialogflow_connections/{connection_id}")
    async def update(
        self,
        connection_id: str,
        *,
        service_account: dict[str, Any],
        dialogflow_api: Literal["cx", "es"] | UnsetType = UNSET,
        conversation_profile_id: str | UnsetType = UNSET,
        location: str | UnsetType = UNSET,
        environment: str | UnsetType = UNSET,
    ) -> DialogflowConnection:
        """Replace the Dialogflow connection of a connection."""

    @operation("DELETE /dialogflow_connections/{connection_id}", envelope="empty")
    async def delete(self, connection_id: str) -> None:
        """Delete the Dialogflow connection of a connection."""


class ExternalConnections(Family):
    """Connections to Zoom and Microsoft Operator Connect."""

    name = "external-connections"

    @operation("GET /external_connections")
    def list(
        self,
        *,
        filter: ConnectionFilter | UnsetType = UNSET,
        page_number: int | UnsetType = UNSET,
        page_size: int | UnsetType = UNSET,
    ) -> Pages[ExternalConnection]:
        """List the external connections."""

    @operation("POST /external_connections")
    async def create(
        self,
        *,
        external_sip_connection: Literal["zoom"],
        outbound: LimitsIn,
        inbound: LimitsIn | UnsetType = UNSET,
        active: bool | UnsetType = UNSET,
        tags: builtins.list[str] | UnsetType = UNSET,
        webhook_event_url: str | UnsetType = UNSET,
        webhook_event_failover_url: str | UnsetType | None = UNSET,
        webhook_timeout_secs: int | UnsetType | None = UNSET,
    ) -> ExternalConnection:
        """Create an external connection; only one to Zoom can be created."""

    @operation("GET /external_connections/{id}")
    async def retrieve(self, id: str) -> ExternalConnection:
        """Retrieve an external connection."""

    @operation("PATCH /external_connections/{id}")
    async def update(
        self,
        id: str,
        *,
        outbound: LimitsIn,
        inbound: LimitsIn | UnsetType = UNSET,
        active: bool | UnsetType = UNSET,
        tags: builtins.list[str] | UnsetType = UNSET,
        webhook_event_url: str | UnsetType = UNSET,
        webhook_event_failover_url: str | UnsetType | None = UNSET,
        webhook_timeout_secs: int | UnsetType | None = UNSET,
    ) -> ExternalConnection:
        """Change an external connection."""

    @operation("DELETE /external_connections/{id}")
    async def delete(self, id: str) -> ExternalConnection:
        """Delete an external connection; refused while it is active, has numbers, or is Operator Connect."""


class LogMessages(Family):
    """Log messages of external connections."""

    name = "log-messages"

    @operation("GET /external_connections/log_messages", envelope="log_messages")
    def list(
        self,
        *,
        filter: LogMessageFilter | UnsetType = UNSET,
        page_number: int | UnsetType = UNSET,
        page_size: int | UnsetType = UNSET,
    ) -> Pages[LogMessage]:
        """List the log messages."""

    @operation("GET /external_connections/log_messages/{id}", envelope="log_messages")
    async def retrieve(self, id: str) -> LogMessage:
        """Retrieve a log message; the answer is a list of exactly one."""

    @operation("DELETE /external_connections/log_messages/{id}", envelope="bare")
    async def dismiss(self, id: str) -> Outcome:
        """Dismiss a log message."""


class CivicAddresses(Family):
    """Civic addresses of an external connection."""

    name = "civic-addresses"

    @operation("GET /external_connections/{id}/civic_addresses")
    def list(self, id: str, *, filter: CountryFilter | UnsetType = UNSET) -> Pages[CivicAddress]:
        """List the civic addresses of a connection; all in one answer."""

    @operation("GET /external_connections/{id}/civic_addresses/{address_id}")
    async def retrieve(self, id: str, address_id: str) -> CivicAddress:
        """Retrieve a civic address."""


class Locations(Family):
    """Locations of civic addresses."""

    name = "locations"

    @operation("PATCH /external_connections/{id}/locations/{location_id}")
    async def update(self, id: str, location_id: str, *, static_emergency_address_id: str) -> LocationUpdate:
        """Set the static emergency address of a location."""


class PhoneNumbers(Family):
    """Phone numbers of an external connection."""

    name = "phone-numbers"

    @operation("GET /external_connections/{id}/phone_numbers")
    def list(
        self,
        id: str,
        *,
        filter: PhoneNumberFilter | UnsetType = UNSET,
        page_number: int | UnsetType = UNSET,
        page_size: int | UnsetType = UNSET,
    ) -> Pages[PhoneNumber]:
        """List the phone numbers of a connection."""

    @operation("GET /external_connections/{id}/phone_numbers/{phone_number_id}")
    async def retrieve(self, id: str, phone_number_id: str) -> PhoneNumber:
        """Retrieve a phone number."""

    @operation("PATCH /external_connections/{id}/phone_numbers/{phone_number_id}")
    async def update(self, id: str, phone_number_id: str, *, location_id: str | UnsetType = UNSET) -> PhoneNumber:
        """Move a phone number to a location; Telnyx does it later, and reports it by log messages."""


class Releases(Family):
    """Releases of numbers from an external connection."""

    name = "releases"

    @operation("GET /external_connections/{id}/releases")
    def list(
        self,
        id: str,
        *,
        filter: TicketFilter | UnsetType = UNSET,
        page_number: int | UnsetType = UNSET,
        page_size: int | UnsetType = UNSET,
    ) -> Pages[Release]:
        """List the releases of a connection."""

    @operation("GET /external_connections/{id}/releases/{release_id}")
    async def retrieve(self, id: str, release_id: str) -> Release:
        """Retrieve a release by its ticket id."""


class Uploads(Family):
    """Uploads of numbers to an external connection."""

    name = "uploads"

    @operation("GET /external_connections/{id}/uploads")
    def list(
        self,
        id: str,
        *,
        filter: TicketFilter | UnsetType = UNSET,
        page_number: int | UnsetType = UNSET,
        page_size: int | UnsetType = UNSET,
    ) -> Pages[Upload]:
        """List the uploads of a connection."""

    @operation("POST /external_connections/{id}/uploads", envelope="bare")
    async def create(
        self,
        id: str,
        *,
        number_ids: builtins.list[str],
        usage: Usage | UnsetType = UNSET,
        additional_usages: builtins.list[Usage] | UnsetType = UNSET,
        location_id: str | UnsetType = UNSET,
        civic_address_id: str | UnsetType = UNSET,
    ) -> UploadCreated:
        """Upload up to 1,000 numbers, to a location or a civic address but not both."""

    @operation("POST /external_connections/{id}/uploads/refresh", envelope="bare", repeatable=True)
    async def refresh(self, id: str) -> Outcome:
        """Have Telnyx check the uploads of a connection again."""

    @operation("GET /external_connections/{id}/uploads/status")
    async def pending_count(self, id: str) -> PendingCount:
        """Count the numbers and orders of uploads that are pending."""

    @operation("GET /external_connections/{id}/uploads/{ticket_id}")
    async def retrieve(self, id: str, ticket_id: str) -> Upload:
        """Retrieve an upload."""

    @operation("POST /external_connections/{id}/uploads/{ticket_id}/retry")
    async def retry(self, id: str, ticket_id: str) -> Upload:
        """Try a failed upload again; the answer may carry a new ticket id."""


class MediaFamily(Family):
    """Stored media: prompts and other audio assets."""

    name = "media"

    @operation("GET /media")
    def list(self, *, filter: MediaFilter | UnsetType = UNSET) -> Pages[Media]:
        """List the media."""

    @operation("POST /media")
    async def upload(
        self, *, media_url: str, media_name: str | UnsetType = UNSET, ttl_secs: int | UnsetType = UNSET
    ) -> Media:
        """Have Telnyx fetch and store a medium of up to 20 MB; it expires after two days unless `ttl_secs` is set."""

    @operation("GET /media/{media_name}")
    async def retrieve(self, media_name: str) -> Media:
        """Retrieve what is known of a medium."""

    @operation("PUT /media/{media_name}")
    async def update(
        self, media_name: str, *, media_url: str | UnsetType = UNSET, ttl_secs: int | UnsetType = UNSET
    ) -> Media:
        """Replace a medium or its time to live."""

    @operation("DELETE /media/{media_name}", envelope="empty")
    async def delete(self, media_name: str) -> None:
        """Delete a medium."""

    @operation("GET /media/{media_name}/download", envelope="bytes")
    async def download(self, media_name: str) -> bytes:
        """Download the bytes of a medium."""


class OperatorConnect(Family):
    """Microsoft Operator Connect."""

    name = "operator-connect"

    @operation("POST /operator_connect/actions/refresh", envelope="bare", repeatable=True)
    async def refresh(self) -> Outcome:
        """Have Telnyx read the Operator Connect state again; its results come as log messages and connections."""


class RecordingTranscriptions(Family):
    """Transcriptions of recordings."""

    name = "recording-transcriptions"

    @operation("GET /recording_transcriptions")
    def list(
        self,
        *,
        filter: TranscriptionFilter | UnsetType = UNSET,
        page_number: int | UnsetType = UNSET,
        page_size: int | UnsetType = UNSET,
    ) -> Pages[RecordingTranscription]:
        """List the transcriptions."""

    @operation("GET /recording_transcriptions/{recording_transcription_id}", tells_id=True)
    async def retrieve(self, recording_transcription_id: str) -> RecordingTranscription:
        """Retrieve a transcription."""

    @operation("DELETE /recording_transcriptions/{recording_transcription_id}")
    async def delete(self, recording_transcription_id: str) -> RecordingTranscription:
        """Delete a transcription."""


class Recordings(Family):
    """Recordings of calls and conferences."""

    name = "recordings"

    @operation("GET /recordings")
    def list(
        self,
        *,
        filter: RecordingFilter | UnsetType = UNSET,
        page_number: int | UnsetType = UNSET,
        page_size: int | UnsetType = UNSET,
    ) -> Pages[Recording]:
        """List the recordings."""

    @operation("GET /recordings/{recording_id}", tells_id=True)
    async def retrieve(self, recording_id: str) -> Recording:
        """Retrieve a recording, with fresh download addresses."""

    @operation("DELETE /recordings/{recording_id}")
    async def delete(self, recording_id: str) -> Recording:
        """Delete a recording for good."""

    @operation("POST /recordings/actions/delete", envelope="bare", repeatable=True)
    async def bulk_delete(self, *, ids: builtins.list[str]) -> BulkDeletion:
        """Delete several recordings for good; there is no result per id."""


class SiprecConnectors(Family):
    """SIPREC connectors."""

    name = "siprec-connectors"

    @operation("POST /siprec_connectors")
    async def create(
        self, *, name: str, host: str, port: int, app_subdomain: str | UnsetType = UNSET
    ) -> SiprecConnector:
        """Create a SIPREC connector."""

    @operation("GET /siprec_connectors/{connector_name}")
    async def retrieve(self, connector_name: str) -> SiprecConnector:
        """Retrieve a SIPREC connector."""

    @operation("PUT /siprec_connectors/{connector_name}")
    async def update(
        self, connector_name: str, *, name: str, host: str, port: int, app_subdomain: str | UnsetType = UNSET
    ) -> SiprecConnector:
        """Replace a SIPREC connector."""

    @operation("DELETE /siprec_connectors/{connector_name}", envelope="empty")
    async def delete(self, connector_name: str) -> None:
        """Delete a SIPREC connector."""


class WebhookDeliveries(Family):
    """What Telnyx remembers of the webhooks it sent; beyond the 48, for recovery."""

    name = "webhook-deliveries"

    @operation("GET /webhook_deliveries")
    def list(
        self,
        *,
        filter: DeliveryFilter | UnsetType = UNSET,
        page_number: int | UnsetType = UNSET,
        page_size: int | UnsetType = UNSET,
    ) -> Pages[WebhookDelivery]:
        """List the deliveries, failed ones by `filter[status][eq]=failed`."""

    @operation("GET /webhook_deliveries/{id}")
    async def retrieve(self, id: str) -> WebhookDelivery:
        """Retrieve a delivery with its attempts and the original event."""


class Connections(Family):
    """Connections of all types; beyond the 48, for their names, which recordings and external connections do not have."""

    name = "connections"

    @operation("GET /connections")
    def list(
        self,
        *,
        page_number: int | UnsetType = UNSET,
        page_size: int | UnsetType = UNSET,
    ) -> Pages[Connection]:
        """List the connections of all types."""


FAMILIES: tuple[type[Family], ...] = (
    CustomStorage,
    Dialogflow,
    ExternalConnections,
    LogMessages,
    CivicAddresses,
    Locations,
    PhoneNumbers,
    Releases,
    Uploads,
    MediaFamily,
    OperatorConnect,
    RecordingTranscriptions,
    Recordings,
    SiprecConnectors,
    WebhookDeliveries,
    Connections,
)


def all_operations() -> list[Operation[Any]]:
    """All rows of the table, in its order."""
    return [
        declared.operation_of(family.name)
        for family in FAMILIES
        for declared in vars(family).values()
        if hasattr(declared, "operation_of")
    ]
