"""The answers of Telnyx, typed. Every field may be missing, and unknown fields are kept.

Times stay the text that Telnyx wrote: a commit record holds an answer as returned. Source of the fields:
the official SDK 4.189.0 (`telnyx/types/`) and developers.telnyx.com/api-reference.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from text.times import first_instant


class Model(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(extra="allow", frozen=True, coerce_numbers_to_str=True)

    def as_returned(self) -> dict[str, Any]:
        """The fields that Telnyx sent, as it sent them."""
        return self.model_dump(mode="json", exclude_unset=True)


class StorageConfiguration(Model):
    """Where Telnyx stores the recordings of a connection. It holds secrets, so its repr shows only the backend."""

    backend: str | None = None

    def __repr__(self) -> str:
        return f"StorageConfiguration(backend={self.backend!r}, …)"

    __str__ = __repr__


class StorageCredentials(Model):
    """The `data` of custom storage credentials."""

    backend: str | None = None
    configuration: StorageConfiguration | None = None


class CustomStorageCredentials(Model):
    """Custom storage credentials of a connection; a bare answer whose `data` is only a part of it."""

    connection_id: str | None = None
    record_type: str | None = None
    data: StorageCredentials | None = None


class DialogflowConnection(Model):
    """A Dialogflow connection; `service_account` is a secret and left out of the repr."""

    connection_id: str | None = None
    record_type: str | None = None
    conversation_profile_id: str | None = None
    environment: str | None = None
    service_account: str | dict[str, Any] | None = Field(default=None, repr=False)


class Limits(Model):
    """`inbound` or `outbound` of an external connection."""

    channel_limit: int | None = None
    outbound_voice_profile_id: str | None = None


class ExternalConnection(Model):
    """A connection to Zoom or Microsoft Operator Connect."""

    id: str | None = None
    record_type: str | None = None
    external_sip_connection: str | None = None
    active: bool | None = None
    credential_active: bool | None = None
    created_at: str | None = None
    updated_at: str | None = None
    inbound: Limits | None = None
    outbound: Limits | None = None
    tags: list[str] | None = None
    webhook_api_version: str | None = None
    webhook_event_url: str | None = None
    webhook_event_failover_url: str | None = None
    webhook_timeout_secs: int | None = None


class Connection(Model):
    """A connection of any type: a SIP connection, or an application of Call Control or TeXML."""

    id: str | None = None
    record_type: str | None = None
    connection_name: str | None = None
    active: bool | None = None
    anchorsite_override: str | None = None
    outbound_voice_profile_id: str | None = None
    tags: list[str] | None = None
    webhook_api_version: str | None = None
    webhook_event_url: str | None = None
    webhook_event_failover_url: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class LogSource(Model):
    """Which part of a request a log message is about."""

    pointer: str | None = None


class LogMeta(Model):
    """Which connection, number and upload a log message is about."""

    external_connection_id: str | None = None
    telephone_number: str | None = None
    ticket_id: str | None = None


class LogMessage(Model):
    """A log message of an external connection. Documented without id, time or severity; a live one may carry `id`."""

    id: str | None = None
    code: str | None = None
    title: str | None = None
    detail: str | None = None
    source: LogSource | None = None
    meta: LogMeta | None = None


class Location(Model):
    """A location of a civic address."""

    id: str | None = None
    additional_info: str | None = None
    description: str | None = None
    is_default: bool | None = None


class CivicAddress(Model):
    """A civic address of an external connection."""

    id: str | None = None
    record_type: str | None = None
    city_or_town: str | None = None
    city_or_town_alias: str | None = None
    company_name: str | None = None
    country: str | None = None
    country_or_district: str | None = None
    default_location_id: str | None = None
    description: str | None = None
    house_number: str | None = None
    house_number_suffix: str | None = None
    locations: list[Location] | None = None
    postal_or_zip_code: str | None = None
    state_or_province: str | None = None
    street_name: str | None = None
    street_suffix: str | None = None


class LocationUpdate(Model):
    """The emergency address of a location after an update."""

    accepted_address_suggestions: bool | None = None
    location_id: str | None = None
    static_emergency_address_id: str | None = None


class PhoneNumber(Model):
    """A phone number of an external connection."""

    number_id: str | None = None
    telephone_number: str | None = None
    acquired_capabilities: list[str] | None = None
    civic_address_id: str | None = None
    location_id: str | None = None
    displayed_country_code: str | None = None
    ticket_id: str | None = None


class ReleasedNumber(Model):
    """A number in a release."""

    number_id: str | None = None
    phone_number: str | None = None


class Release(Model):
    """A release of numbers from an external connection."""

    ticket_id: str | None = None
    tenant_id: str | None = None
    created_at: str | None = None
    error_message: str | None = None
    status: str | None = None
    telephone_numbers: list[ReleasedNumber] | None = None


class UploadEntry(Model):
    """One number of an upload."""

    number_id: str | None = None
    phone_number: str | None = None
    civic_address_id: str | None = None
    location_id: str | None = None
    status: str | None = None
    internal_status: str | None = None
    error_code: str | None = None
    error_message: str | None = None


class Upload(Model):
    """An upload of numbers to an external connection. It has no creation time."""

    ticket_id: str | None = None
    tenant_id: str | None = None
    location_id: str | None = None
    status: str | None = None
    available_usages: list[str] | None = None
    error_code: str | None = None
    error_message: str | None = None
    tn_upload_entries: list[UploadEntry] | None = None


class UploadCreated(Model):
    """The bare answer to a new upload."""

    success: bool | None = None
    ticket_id: str | None = None


class PendingCount(Model):
    """How many numbers and orders of a connection's uploads are pending."""

    pending_numbers_count: int | None = None
    pending_orders_count: int | None = None


class Outcome(Model):
    """A bare `{success}`, sometimes with a message."""

    success: bool | None = None
    message: str | None = None


class Media(Model):
    """A media file: a prompt or another audio asset, which expires."""

    media_name: str | None = None
    content_type: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    expires_at: str | None = None


class RecordingTranscription(Model):
    """A transcription of a recording; its text is there once `status` is `completed`."""

    id: str | None = None
    recording_id: str | None = None
    record_type: str | None = None
    status: str | None = None
    transcription_text: str | None = Field(default=None, repr=False)
    duration_millis: int | None = None
    created_at: str | None = None
    updated_at: str | None = None


class DownloadUrls(Model):
    """Download addresses by format; presigned and short-lived, so left out of reprs."""

    mp3: str | None = Field(default=None, repr=False)
    wav: str | None = Field(default=None, repr=False)


class Recording(Model):
    """A recording of a call or conference. Telnyx gives no format, size or checksum, so proof uses our own."""

    id: str | None = None
    record_type: str | None = None
    call_control_id: str | None = None
    call_leg_id: str | None = None
    call_session_id: str | None = None
    conference_id: str | None = None
    connection_id: str | None = None
    channels: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    download_urls: DownloadUrls | None = None
    duration_millis: int | None = None
    initiated_by: str | None = None
    source: str | None = None
    status: str | None = None
    recording_started_at: str | None = None
    recording_ended_at: str | None = None

    @property
    def dated(self) -> datetime:
        """The time that decides its place in the archive: `recording_started_at`, else `created_at`.

        Raises:
            ValueError: neither is a valid time.
        """
        if (instant := first_instant(self.recording_started_at, self.created_at)) is None:
            raise ValueError(f"recording {self.id} has neither recording_started_at nor created_at")
        return instant


class BulkDeletion(Model):
    """The bare `{status}` of a bulk deletion: no result per id."""

    status: str | None = None


class SiprecConnector(Model):
    """A SIPREC connector."""

    name: str | None = None
    host: str | None = None
    port: int | None = None
    app_subdomain: str | None = None
    record_type: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class DeliveredEvent(Model):
    """The original event of a webhook delivery, replayable."""

    id: str | None = None
    event_type: str | None = None
    occurred_at: str | None = None
    payload: dict[str, Any] | None = Field(default=None, repr=False)
    record_type: str | None = None


class WebhookDelivery(Model):
    """The delivery of one webhook, as Telnyx recorded it."""

    id: str | None = None
    user_id: str | None = None
    record_type: str | None = None
    status: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    webhook: DeliveredEvent | None = None
    attempts: list[dict[str, Any]] | None = Field(default=None, repr=False)
