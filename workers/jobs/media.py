"""`archive_media`: stored media with their bytes, before they expire; a changed file is a new version."""

from __future__ import annotations

import hashlib

from config.logs import get_logger
from config.times import first_instant, utc_now
from workers.archive import layout
from workers.keys import MEDIA_SEEN
from workers.runtime import Runtime
from workers.telnyx.errors import NotFound
from workers.telnyx.models import Media

log = get_logger()


async def archive_media(runtime: Runtime) -> None:
    """Archive every medium that is new or has changed since.

    Raises:
        TelnyxError, StoreError: one of them is away; the next turn does the rest.
    """
    async for media in runtime.telnyx.media.list():
        name, updated_at = str(media.media_name), media.updated_at or media.created_at or ""
        known = await runtime.redis.hget(MEDIA_SEEN, name)
        if known is not None and known.decode() == updated_at:
            continue
        try:
            await _archive(runtime, media, name, updated_at)
        except NotFound:  # it expired between the list and the download
            text = f"Medium {name} was gone before it could be archived."
            await runtime.alerts.send("media-lost", name, text, "Upload it again if it is still needed.")
            continue
        await runtime.redis.hset(MEDIA_SEEN, name, updated_at)


async def _archive(runtime: Runtime, media: Media, name: str, updated_at: str) -> None:
    content = await runtime.telnyx.media.download(name)
    day = (first_instant(updated_at) or utc_now()).date()
    folder = layout.media_folder(day, name, hashlib.sha256(content).hexdigest())
    content_type = media.content_type or "application/octet-stream"
    record = await runtime.in_thread(runtime.archive.put_media, folder, content, media.as_returned(), content_type)
    await runtime.announce(layout.media_key(folder), record)
    log.info("medium archived", media_name=name, bytes=len(content))
