"""An answer about another recording than the requested one, as of a broken cache, is rejected everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.servers import RunningSandbox
from lab.worker import archive, delete_what_is_due, runtime_of
from telnyx_api.errors import UnexpectedAnswer
from tests.workers.steps import committed, has_left
from workers.recordings.requests import TranscriptionRequest
from workers.recordings.transcriptions import archive_transcription
from workers.runtime import Runtime


async def test_nothing_is_archived_under_the_id_of_another(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    """Objects are written once, so a wrong commit record would exclude the right one forever."""
    one, other = (sandbox.world.add_recording(seconds=0.2) for _ in range(2))
    recording_id, transcription = one.data["id"], sandbox.world.add_transcription(one)
    sandbox.world.complete_transcription(transcription)
    request = TranscriptionRequest(transcription_id=transcription["id"], recording_id=recording_id)
    sandbox.world.recordings[recording_id] = other
    sandbox.world.transcriptions[transcription["id"]] = transcription | {"id": "another"}
    with pytest.raises(UnexpectedAnswer, match=f"asked for {recording_id}; Telnyx answered about {other.data['id']}"):
        await archive(runtime, one)
    with pytest.raises(UnexpectedAnswer, match="Telnyx answered about another"):
        await archive_transcription(runtime, request)
    assert list(archive_folder.rglob("audio.*")) == []
    sandbox.world.recordings[recording_id] = one
    await archive(runtime, one, other)
    assert committed(archive_folder, one) and committed(archive_folder, other)


async def test_no_original_is_deleted_on_an_answer_about_another(
    sandbox: RunningSandbox, deleting: dict[str, str], async_redis: Any
) -> None:
    one, other = (sandbox.world.add_recording(seconds=0.2) for _ in range(2))
    async with runtime_of(deleting, async_redis) as runtime:
        await archive(runtime, one)
        sandbox.world.recordings[one.data["id"]] = other
        await delete_what_is_due(runtime)
        assert not has_left(one) and not has_left(other)
