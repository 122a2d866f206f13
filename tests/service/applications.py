"""A receiver as the applications of a company see it, with a token for each role."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from lab.processes import receiver
from lab.servers import RunningSandbox
from sandbox.world import World
from tests.seals.small import SmallArchive, noon
from tests.service.test_roles import OPS_TOKEN, bearer, make_token
from workers.queue.embedded import EmbeddedServer

ONE = "11-one"


class Api(NamedTuple):
    """A receiver on a small archive, and its tokens by role."""

    client: httpx.Client
    small: SmallArchive
    environment: dict[str, str]
    tokens: dict[str, dict[str, Any]]
    process: Any

    def post(self, path: str, body: object = None, role: str = "officer", **more: Any) -> httpx.Response:
        headers = bearer(self.tokens[role]["token"]) | more.pop("headers", {})
        return self.client.post(f"/api/recordings/{path}", json=body, headers=headers, **more)

    def get(self, path: str, role: str = "listener", **more: Any) -> httpx.Response:
        return self.client.get(path, headers=bearer(self.tokens[role]["token"]) | more.pop("headers", {}), **more)

    def lines(self, recording_id: str) -> list[dict[str, Any]]:
        """The access log about a recording, the earliest first."""
        found = self.get("/api/access-log", "auditor", params={"recording": recording_id}).raise_for_status().json()
        return [entry["line"] for entry in reversed(found["entries"])]


@contextmanager
def make_api(folder: Path) -> Iterator[Api]:
    """Run the receiver, with a token for each role."""
    server, sandbox = EmbeddedServer(folder / "valkey"), RunningSandbox(World())
    server.start()
    small = SmallArchive(folder / "archive", {"id": "ab" * 16})
    said = small.read(key := small.transcription(11, ONE, "second", noon(11)))
    said["transcription"]["transcription_text"] = "I would like a refund."
    small.write(key, said)
    environment = sandbox.environment | {"REDIS_URL": server.url, "CALLVAULT_ARCHIVE_URL": small.root.as_uri()}
    environment |= {"CALLVAULT_DATA": str(folder / "data"), "CALLVAULT_OPS_TOKEN": OPS_TOKEN}
    tokens = {role: make_token(environment, role) for role in ("listener", "officer", "auditor", "operator")}
    with receiver(environment) as (client, process):
        yield Api(client, small, environment, tokens, process)
    sandbox.stop()
    server.stop()
