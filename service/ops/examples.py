"""Examples of what `/api/` takes and gives, for its OpenAPI document; a test checks each against its schema."""

from __future__ import annotations

from typing import Any

_ID = "5d158a2f-f2ee-4e45-9d7c-8a1c2f0e6b11"
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_ROW = {
    "recording_id": _ID,
    "day": "2026-11-26",
    "started_at": "2026-11-26T12:07:00.000000Z",
    "ended_at": "2026-11-26T12:09:10.000000Z",
    "from_number": "+13125550100",
    "to_number": "+4930123456",
    "direction": "inbound",
    "connection_id": "1684641123236054244",
    "duration_ms": 130000,
    "bytes": 4160044,
    "key": f"recordings/2026/11/26/{_ID}/audio.wav",
    "sha256": _SHA256,
    "proof": "checksum",
    "archived_at": "2026-11-26T12:09:31.000000Z",
    "found_by": "webhook",
}

# Of parameters in the path and in the query, by name.
PARAMETERS: dict[str, str] = {
    "recording_id": _ID,
    "audio_format": "wav",
    "day": "2026-11-26",
    "q": "number:+13125550100 since:7d",
    "number": "+13125550100",
    "since": "2026-11-01",
    "until": "2026-11-26T12:00",
    "connection": "1684641123236054244",
    "session": "428c31b6-7af4-4bcb-b7f5-5013ef9657c1",
    "leg": "428c31b6-7af4-4bcb-b7f5-5013ef9657c2",
    "id": _ID,
    "text": 'refund "account number"',
    "min_duration": "30s",
    "max_duration": "10m",
    "state": "held",
    "findings": "1",
    "case": "0f3a9c51d2e7",
    "case_id": "0f3a9c51d2e7",
    "after": "2026-11-26T12:07:00.000000Z~17",
    "who": "help desk",
    "recording": _ID,
}

_WHY = {"why": "complaint 4711", "by": "Ann"}

# Of bodies, by the name of the operation.
BODIES: dict[str, Any] = {
    "createAudioAddress": {"minutes": 15, "why": "ticket 17", "by": "Ann"},
    "restoreAudio": {"tier": "bulk", "days": 3, "by": "Ann"},
    "holdRecording": _WHY,
    "releaseRecording": {"why": "complaint 4711 is settled"},
    "approveFindings": {"why": "listened to it: it is a silent voice mail"},
}


def _outcome(decision: str, note: str) -> dict[str, Any]:
    return {"recording_id": _ID, "decision": decision, "is_new": True, "came_too_late": False, "note": note}


# Of answers, by the name of the operation.
ANSWERS: dict[str, Any] = {
    "getRecordings": {
        "query": {"number": "+13125550100"},
        "hits": [
            {
                "row": _ROW,
                "state": "archived",
                "words": None,
                "opening": "I would like a refund",
                "place": "2026-11-26T12:07:00.000000Z~17",
            }
        ],
        "total": 1,
        "after": None,
        "note": None,
    },
    "createAudioAddress": {
        "recording_id": _ID,
        "id": "1f2e3d4c5b6a",
        "url": "https://your.host/api/audio/WyI1ZDE1OGEy...",
        "path": "/api/audio/WyI1ZDE1OGEy...",
        "ends_at": "2026-11-27T09:15:00.000000Z",
        "format": "wav",
        "content_type": "audio/wav",
        "size_bytes": 4160044,
        "sha256": _SHA256,
        "duration_ms": 130000,
    },
    "getTranscript": {
        "recording_id": _ID,
        "transcriptions": [
            {"id": "tr-1", "text": "I would like a refund.", "created_at": "2026-11-26T12:10:02.000000Z"}
        ],
    },
    "getTranscriptText": "I would like a refund.\n",
    "restoreAudio": {
        "recording_id": _ID,
        "storage": [
            {
                "key": f"recordings/2026/11/26/{_ID}/audio.wav",
                "storage_class": "DEEP_ARCHIVE",
                "state": "restoring",
                "readable_until": None,
            }
        ],
        "note": f"recordings/2026/11/26/{_ID}/audio.wav: asked for its restore from DEEP_ARCHIVE at the speed bulk; usually "
        "ready within 48 hours, then readable for 3 days.",
    },
    "holdRecording": _outcome("hold", f"recording {_ID} is on hold"),
    "releaseRecording": _outcome(
        "release", f"recording {_ID} is released; a worker deletes its original when it is due"
    ),
    "approveFindings": _outcome(
        "approve", f"recording {_ID}: approved silent; a worker deletes its original when it is due"
    ),
}

# What `detail` says, by status.
DETAILS: dict[int, str] = {
    400: "number: 'abc' is neither a telephone number nor a SIP address",
    401: "the API token is unknown, revoked, or past its end",
    403: "this needs the role officer or admin, and you have listener; ask an admin of Callvault for it",
    404: f"recording {_ID} is not in the archive",
    409: f"recording {_ID} has no findings, so there is nothing to approve",
    410: "this address has ended; ask for a new one",
    413: "the body is larger than 64 KiB",
    415: "the body is text/plain; send it as Content-Type: application/json",
    416: "the range is outside the audio",
    428: "a reason to listen to a recording is missing",
    429: "too many requests with this token; it may send 600 requests a minute",
    500: "Callvault could not show this page; see its log for the error",
    502: "Telnyx: 503 Service Unavailable",
    503: "Redis does not answer",
}
