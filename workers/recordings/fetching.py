"""Fetch the audio of a recording from Telnyx. One thread does it all: read, hash, analyse, write."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from archive.audio import AudioReader, Expected
from archive.records import AudioSummary
from process.logs import get_logger
from telnyx_api.downloads import AudioRefused, CannotBeResumed, Download, DownloadFailed, TooSlow
from telnyx_api.models import Recording
from telnyx_api.source_mark import SourceMark
from workers.engine.failure_classes import NotFinished
from workers.runtime import Runtime

T = TypeVar("T")

log = get_logger()

# The count of audio that Telnyx gave; audio in custom storage does not count.
DOWNLOADED = "downloaded"
CONTENT_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg"}

_BEGINNINGS = 4
_BEGIN_AGAIN_SECONDS = 0.5
_RENEWAL_SECONDS = 60


class OtherBytes(DownloadFailed):
    """The bytes are not the expected ones; nothing was written."""


@dataclass(frozen=True)
class Fetched(Generic[T]):
    """Audio that was fetched.

    Attributes:
        taken: the result of the consumer of the bytes.
        summary: what the audio itself shows.
        source: what the download address reported.
    """

    taken: T
    summary: AudioSummary
    source: SourceMark


def addresses_of(recording: Recording) -> dict[str, str]:
    """The download addresses of a recording by format; unknown formats are left out."""
    return {f: url for f in CONTENT_TYPES if (url := getattr(recording.download_urls, f, None))}


def as_archived(recording: Recording) -> dict[str, Any]:
    """A recording as commit records keep it: as Telnyx returned it, without the addresses, which soon expire."""
    return {name: value for name, value in recording.as_returned().items() if name != "download_urls"}


def expected_audio(runtime: Runtime, recording: Recording) -> Expected:
    """What the audio of a recording is compared with."""
    settings = runtime.settings
    tolerance_ms = settings.audio_tolerance.total_seconds() * 1000
    return Expected(recording.duration_millis, recording.channels, tolerance_ms, settings.audio_tolerance_percent)


def why_refused(recording: Recording, error: Exception) -> str | None:
    """Why Telnyx or its download host gives no audio of a recording that Telnyx lists.

    Args:
        recording: as Telnyx shows it.
        error: the error of its archiving.

    Returns:
        One line; None if something else failed, so that the audio may still come.
    """
    if isinstance(error, AudioRefused):
        return str(error)
    if not isinstance(error, NotFinished):
        return None
    if recording.status not in (None, "completed"):
        return f"Telnyx lists it as {recording.status}"
    return None if addresses_of(recording) else "Telnyx lists it without a download address"


def only_if(sha256: str, chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """The bytes; raises at their end if they have another hash, so that the store never creates the object.

    Raises:
        OtherBytes: their SHA-256 is another.
    """
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise OtherBytes(f"{key}: its SHA-256 is {sha256}, and these bytes have {digest.hexdigest()}")


async def fetch_audio(
    runtime: Runtime, recording: Recording, audio_format: str, url: str, take: Callable[[Iterator[bytes]], T]
) -> Fetched[T]:
    """Stream one format of a recording to a function.

    Args:
        runtime: the worker's parts.
        recording: as Telnyx returned it.
        audio_format: `wav` or `mp3`.
        url: its download address.
        take: draws the bytes to their end, in a thread. They end in an error if they are not whole, so what it makes must
            not be there before. It is called again with all of them where a download cannot be resumed.

    Raises:
        DownloadFailed: the bytes could not be had whole.
        NotFinished: Telnyx has no address for it any more.
    """
    loop = asyncio.get_running_loop()
    cancelled = threading.Event()

    def renew() -> str:
        again = asyncio.run_coroutine_threadsafe(runtime.telnyx.recordings.retrieve(str(recording.id)), loop)
        fresh = addresses_of(again.result(_RENEWAL_SECONDS)).get(audio_format)
        if not fresh:
            raise NotFinished(f"recording {recording.id} has no {audio_format} address any more")
        return fresh

    expected = expected_audio(runtime, recording)

    def once() -> Fetched[T]:
        reader = AudioReader(audio_format)
        download = runtime.downloads.stream(url, renew, cancelled)
        taken = take(_whole(download, reader, expected))
        return Fetched(taken, reader.summary(expected), download.source)

    def stream() -> Fetched[T]:
        for beginning in range(1, _BEGINNINGS):
            try:
                return once()
            except CannotBeResumed as error:
                log.info("download restarted", recording_id=recording.id, format=audio_format, why=str(error))
                time.sleep(_BEGIN_AGAIN_SECONDS * beginning)
        return once()

    try:
        fetched = await runtime.in_thread(stream)
        runtime.history.add(DOWNLOADED)
        return fetched
    except TooSlow as error:
        log.warning("download too slow", recording_id=recording.id, format=audio_format, why=str(error))
        raise
    finally:
        cancelled.set()  # a cancelled job must not leave its thread downloading


def _whole(download: Download, reader: AudioReader, expected: Expected) -> Iterator[bytes]:
    """The bytes of a download, watched; where the server did not say how many there are, the audio must show its end."""
    for chunk in download:
        reader.feed(chunk)
        yield chunk
    if not download.is_measured and not reader.is_whole(expected):
        raise DownloadFailed("neither its server nor the audio itself says that it is whole")
