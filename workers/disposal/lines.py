"""The lines of disposal in the access log: one before each recording, another if it was not done."""

from __future__ import annotations

import socket
from contextlib import suppress

from archive.access import AccessLine, new_line
from archive.archive import Archive
from archive.retention import Term
from text.one_line import one_line
from workers.access.log import AccessLog, NotWritten
from workers.disposal.may_dispose import Stopped
from workers.runtime import Runtime


class Lines:
    """Writes the lines.

    Args:
        runtime: the worker's parts.
        who: who disposes.
        how: how that is known: `worker` or `command`.
    """

    def __init__(self, runtime: Runtime, who: str, how: str) -> None:
        self._runtime, self._who, self._how = runtime, who, how
        self._log = AccessLog(runtime.redis, self._archive, self._archive_id)

    async def begin(self, recording_id: str, due: Term) -> AccessLine:
        """Say that something of a recording goes, before it does.

        Raises:
            Stopped: that cannot be written, so nothing may go.
        """
        why = f"rule {due.rule} of applied rules {due.number}: {due.why}"
        line = new_line("dispose", self._who, self._how, socket.gethostname(), [recording_id], why=why)
        try:
            await self._log.write(line)
        except NotWritten as error:
            raise Stopped(str(error)) from None
        return line

    async def fail(self, line: AccessLine, error: Exception) -> None:
        """Say that a disposal was not done, or not to its end; the first line stands in any case."""
        failed = new_line(
            "failed", line.who, line.how, line.address, line.recordings, of=line.id, error=one_line(error)
        )
        with suppress(NotWritten):
            await self._log.write(failed)

    async def _archive(self) -> Archive:
        return self._runtime.archive

    def _archive_id(self) -> str:
        return self._runtime.archive.identity.id if self._runtime.archive.is_known else ""
