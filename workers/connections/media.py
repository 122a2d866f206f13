"""`archive_media`: stored media with their bytes, before they expire; a changed file is a new version.

If a medium cannot be archived, it gets a job of its own, `archive_medium`. That job retries it, and gives up by the table of
failure classes; the other media do not wait for it.
"""

from __future__ import annotations

import hashlib

from archive import layout
from process.logs import get_logger
from telnyx_api.errors import NotFound, UnreadableRow, UnreadableRows
from telnyx_api.models import Media
from telnyx_api.pages import read_all
from text.times import first_instant, utc_now
from workers.engine.one_by_one import OneByOne
from workers.keys import ARQ_JOB, DEAD_LETTERS, MEDIA_SEEN
from workers.queue.jobs import Job, enqueue
from workers.queue.script import write_when_full
from workers.reconcile.unreadable import alert_unreadable
from workers.recordings.requests import MediumRequest, medium_job
from workers.runtime import Runtime

log = get_logger()


async def archive_media(runtime: Runtime) -> None:
    """Archive every medium that is new or has changed; a failed one gets a job.

    Raises:
        TelnyxError, StoreError: Telnyx or the store is away; the next turn archives the rest.
    """

    async def answers(_: str) -> None:
        await runtime.assert_bound()
        await runtime.in_thread(runtime.archive.assert_identity)
        await runtime.telnyx.count(runtime.telnyx.media.list)

    alone = OneByOne(Exception, answers=answers)
    listed, unreadable = await read_all(runtime.telnyx.media.list())
    seen = {
        name.decode(): changed_at.decode() for name, changed_at in (await runtime.redis.hgetall(MEDIA_SEEN)).items()
    }
    if unreadable is not None:
        await alert_unreadable(runtime, unreadable)
    elif gone := seen.keys() - {media.media_name for media in listed}:  # otherwise the hash would grow for ever
        await runtime.redis.hdel(MEDIA_SEEN, *gone)
    for media in listed:
        if media.media_name is None:
            await alert_unreadable(runtime, UnreadableRows("/media", [UnreadableRow(None, "media_name: missing")]))
            continue
        name, request = media.media_name, MediumRequest(medium=media.as_returned())
        job = medium_job(name, _changed_at(media), request)
        if seen.get(name) == _changed_at(media) or await _is_left_to_its_job(runtime, job):
            continue
        async with alone.of("medium", name):
            try:
                await archive_medium(runtime, request)
            except Exception:
                await enqueue(runtime.redis, job)
                raise


async def archive_medium(runtime: Runtime, request: MediumRequest) -> None:
    """The job: archive one version of a medium.

    Raises:
        NotFound: Telnyx lists it, but does not deliver it.
        TelnyxError, StoreError: Telnyx or the store is away.
        ValueError: no request can carry its name.
    """
    media = Media.model_validate(request.medium)
    name = str(media.media_name)
    try:
        content = await runtime.telnyx.media.download(name)
    except NotFound:
        if await _is_at_telnyx(runtime, name):
            raise
        # It expired between the list and the download.
        text = f"Telnyx no longer has medium {name}; it was not archived in time."
        await runtime.alerts.send("media-lost", name, text, "Upload it again if it is still needed.")
        return
    day = (first_instant(_changed_at(media)) or utc_now()).date()
    folder = layout.media_folder(day, name, hashlib.sha256(content).hexdigest())
    content_type = media.content_type or "application/octet-stream"
    record = await runtime.in_thread(runtime.archive.put_media, folder, content, request.medium, content_type)
    await runtime.announce(layout.media_key(folder), record)
    await write_when_full(runtime.redis, ("HSET", MEDIA_SEEN, name, _changed_at(media)))
    log.info("medium archived", media_name=name, bytes=len(content))


def _changed_at(media: Media) -> str:
    return media.updated_at or media.created_at or ""


async def _is_left_to_its_job(runtime: Runtime, job: Job) -> bool:
    """Whether its job waits or runs, or is a dead letter, which waits for a person."""
    return bool(await runtime.redis.exists(ARQ_JOB + job.id) or await runtime.redis.hexists(DEAD_LETTERS, job.id))


async def _is_at_telnyx(runtime: Runtime, name: str) -> bool:
    """Whether Telnyx lists it, or may. Its name may not fit into an address, so this reads the list."""
    listed, unreadable = await read_all(runtime.telnyx.media.list())
    return unreadable is not None or any(media.media_name == name for media in listed)
