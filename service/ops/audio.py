"""Play and download the audio of a recording. A whole answer always matches the commit record byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from archive import kinds, layout
from archive.erasures import disposed_keys
from archive.levels import Levels
from archive.problems import advice_for
from archive.proof import Damaged, Missing
from archive.records import ArchivedObject
from archive.stores.store import StoreCold
from service.ops.parts import Ops
from service.ops.person import Refused
from service.ops.ranges import Bytes, asked_part, begun
from service.ops.recording import report_seen
from service.ops.view import View, view_of
from text.times import format_moment
from workers.damage.damaged import DamagedObjects

_PROVEN_SECONDS, _MOST_PROVEN = 60.0, 1_000
_STEPS, _MOST_LEVELS = 600, 500


async def audio(ops: Ops, request: Request) -> Response:
    """The audio of a recording in one format, whole or a range (RFC 9110, section 14).

    Raises:
        Refused: the archive does not have this audio, or it is damaged.
        StoreError: the archive cannot be read now.
    """
    recording_id, audio_format = request.path_params["recording_id"], request.path_params["audio_format"]
    wanted, milliseconds = await wanted_audio(ops, view_of(request), recording_id, audio_format)
    request.state.bytes_per_second = wanted.size / milliseconds * 1000 if milliseconds else 0
    is_download = "download" in request.query_params
    name = f"{layout.encode_name(recording_id)}.{audio_format}" if is_download else ""
    part = asked_part(request, wanted.size, wanted.sha256, name)
    if isinstance(part, Response):
        return part
    if request.method == "HEAD":  # no byte leaves, so the access log must not count any
        await assert_there(ops, wanted)
        return Response(None, part.status, part.headers, wanted.content_type)
    try:  # find damage before the answer starts
        if await _is_known_damaged(ops, wanted):
            await asyncio.to_thread(ops.runtime.archive.prove_again, wanted, "read-back")
        elif part.status == 206:
            await asyncio.to_thread(_prove_recently, ops, wanted)
        try:
            chunks = await begun(ops.runtime.archive.store.read(wanted.key, part.start, part.end))
        except KeyError:
            raise Missing(wanted.key, "gone from the archive") from None
    except Damaged as damage:
        raise await _reported(ops, damage) from None
    except StoreCold as error:
        raise _refused_as_cold(error) from None
    if part.status == 200:
        chunks = _hashed(ops, wanted, chunks)
    return Bytes(chunks, part, wanted.content_type, "playback cut off", recording_id=recording_id)


async def download(ops: Ops, request: Request, _: None) -> Response:
    """The audio of a recording for a program, as `audio` gives it.

    Raises:
        Refused: also for a range outside the audio.
    """
    response = await audio(ops, request)
    if response.status_code == 416:
        raise Refused(416, "the range is outside the audio", {"Content-Range": response.headers["Content-Range"]})
    return response


async def levels(ops: Ops, request: Request) -> Response:
    """How loud each channel of a WAV is over time, for the picture above the player, as JSON.

    It is read from the archive when somebody looks, one recording at a time, and kept in memory: to compute it while
    audio is archived would cost every recording what a few need.

    Raises:
        Refused: the archive does not have this audio, it is damaged, or its codec has no samples.
        StoreError: the archive cannot be read now.
    """
    wanted, _ = await wanted_audio(ops, view_of(request), request.path_params["recording_id"], "wav")
    if (found := ops.levels.get(wanted.sha256)) is not None:
        await assert_there(ops, wanted)
    else:
        async with ops.looking_at_levels:
            if (found := ops.levels.get(wanted.sha256)) is None:  # nobody has read it since
                found = await _levels_of(ops, wanted)
    if not found["channels"]:
        raise Refused(404, "the codec of this audio has no samples to look at")
    return JSONResponse(found)


async def _levels_of(ops: Ops, wanted: ArchivedObject) -> dict[str, Any]:
    """Read the levels of an object, and keep them: they are those of its SHA-256."""
    try:
        found = await asyncio.to_thread(_read_levels, ops, wanted)
    except Damaged as damage:
        raise await _reported(ops, damage) from None
    except StoreCold as error:
        raise _refused_as_cold(error) from None
    if len(ops.levels) >= _MOST_LEVELS:
        ops.levels.clear()
    ops.levels[wanted.sha256] = found
    return found


def _read_levels(ops: Ops, wanted: ArchivedObject) -> dict[str, Any]:
    """Read all of an object; blocks.

    Raises:
        Damaged: it is gone, or does not match its commit record.
        StoreError: the archive cannot be read now.
    """
    reader, digest = Levels(), hashlib.sha256()
    try:
        for chunk in ops.runtime.archive.store.read(wanted.key):
            digest.update(chunk)
            reader.feed(chunk)
    except KeyError:
        raise Missing(wanted.key, "gone from the archive") from None
    _assert_same(wanted, digest.hexdigest())
    return {"seconds": reader.seconds, "channels": reader.channels(_STEPS)}


def _assert_same(known: ArchivedObject, sha256: str) -> None:
    if sha256 != known.sha256:
        raise Damaged(known.key, f"reads back with SHA-256 {sha256}, not {known.sha256}")


async def assert_there(ops: Ops, wanted: ArchivedObject) -> None:
    """Check that an object is in the store, where nothing reads it now.

    Raises:
        Refused: it was disposed of, or is missing.
        StoreError: the archive cannot be read now.
    """
    if await asyncio.to_thread(ops.runtime.archive.store.stat, wanted.key) is None:
        raise await _reported(ops, Missing(wanted.key, "gone from the archive"))


async def _reported(ops: Ops, damage: Damaged) -> Refused:
    """Report damage to the register; returns the answer to the person. What was disposed of is no damage."""
    place = kinds.place_of(damage.key)
    disposed = await asyncio.to_thread(disposed_keys, ops.runtime.archive, place.folder) if place.recording_id else {}
    if isinstance(damage, Missing) and (record := disposed.get(damage.key)) is not None:
        under = f"under retention rule {record.rule} of applied rules {record.rules_number}"
        return Refused(
            404,
            f"the audio of recording {place.recording_id} was disposed of {under} at {format_moment(record.disposed_at)}",
        )
    await report_seen(ops, [damage])
    state, status = ("missing", 404) if isinstance(damage, Missing) else ("damaged", 409)
    advice = advice_for(damage.key, state, ops.runtime.archive.store.url)
    return Refused(status, f"{damage}; {advice}")


def _refused_as_cold(error: StoreCold) -> Refused:
    """The answer about audio that is neither missing nor damaged, and cannot be read now."""
    what = (
        "wait until it is ready"
        if error.is_restoring
        else "ask for its restore, on its page or by POST /api/recordings/ID/restore"
    )
    return Refused(409, f"{error}; {what}")


async def wanted_audio(ops: Ops, view: View, recording_id: str, audio_format: str) -> tuple[ArchivedObject, int]:
    """The audio of a recording in one format, as its commit record names it, and its length in milliseconds.

    Without a format, it is the first that the recording has.

    Raises:
        Refused: the archive does not have it.
    """
    hit = await view.find(recording_id)
    if hit is None or hit.state == "erased":
        raise Refused(404, f"recording {recording_id} is not in the archive")
    folder = layout.recording_folder(hit.row.date, recording_id)
    record = await asyncio.to_thread(ops.runtime.archive.commit_record, folder)
    suffixes = (f".{audio_format}",) if audio_format else (".wav", ".mp3")
    wanted = next((o for o in record.objects if o.key.endswith(suffixes)), None) if record else None
    if record is None or wanted is None:
        raise Refused(404, f"recording {recording_id} has no {audio_format or 'audio'}")
    return wanted, record.audio.duration_ms


async def _is_known_damaged(ops: Ops, known: ArchivedObject) -> bool:
    """Whether an object is known to be damaged; then every byte is checked before the first is sent."""
    with suppress(RedisError, OSError):
        return known.key in await DamagedObjects(ops.redis).all()
    return False


def _prove_recently(ops: Ops, known: ArchivedObject) -> None:
    """Check that an object, of which a part is sent, matches its commit record; blocks.

    An object is proven again when its version at the store changes; at a store without versions, once a minute.

    Raises:
        Damaged: it does not match.
        StoreError: the store does not answer.
    """
    stored = ops.runtime.archive.store.stat(known.key)
    if stored is None:
        raise Missing(known.key, "gone from the archive")
    seen, now = (known.key, stored.version, stored.size), time.monotonic()
    if now - ops.proven.get(seen, -math.inf) < (_PROVEN_SECONDS if stored.version is None else math.inf):
        return
    ops.runtime.archive.prove_again(known)
    if len(ops.proven) >= _MOST_PROVEN:
        ops.proven.clear()
    ops.proven[seen] = now


async def _hashed(ops: Ops, known: ArchivedObject, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks of a whole object; the last one only if the bytes match the commit record.

    Raises:
        Damaged: the bytes do not match; the answer stays incomplete.
        StoreError: the store does not deliver all of them.
    """
    digest, held = hashlib.sha256(), b""
    async for chunk in chunks:
        digest.update(chunk)
        if held:
            yield held
        held = chunk
    try:
        _assert_same(known, digest.hexdigest())
    except Damaged as damage:
        await report_seen(ops, [damage])
        raise
    yield held
