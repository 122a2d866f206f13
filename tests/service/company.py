"""A company with two teams: recordings inside and outside the scope of a role, for tests of every way in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from archive import layout
from lab.processes import receiver, wait_for
from tests.audio.build import wav
from tests.seals.small import SmallArchive, noon
from tests.service.test_access_log import ARCHIVE_ID, TOKEN, environment
from tests.service.test_roles import bearer, make_token
from text.times import format_instant
from workers.keys import CONNECTION_NAMES, DELETIONS_DUE

DAY = 2  # days ago, not sealed yet
INSIDE, OUTSIDE, LATER, UNKNOWN = (f"aaaaaaaa-0000-4000-8000-00000000000{n}" for n in range(4))
OURS, THEIRS = "1494404757140276705", "2214404757140298804"  # so long that no random token holds one
GERMAN, FOREIGN = "+493012345678", "+13125550147"

# What only the recordings outside have: none of it may be in an answer to whoever may not see them.
SECRETS = (OUTSIDE, THEIRS, FOREIGN, "zebra", f"leg-of-{THEIRS}", "their trunk", "case of theirs")


def add(small: SmallArchive, recording_id: str, connection: str, number: str, words: str, seconds: int = 1) -> str:
    """Archive a recording of one call session, with a transcription; returns its folder."""
    folder, at = small.folder(DAY, recording_id), noon(DAY)
    small._commit(folder, recording_id, wav(bytes(16_000 * seconds)), at)
    record = small.read(layout.commit_key(folder))
    record["recording"] |= {
        "connection_id": connection,
        "from": number,
        "to": "+15550001111",
        "call_session_id": "call",
    }
    record["recording"] |= {
        "call_leg_id": f"leg-of-{connection}",
        "caller": number,
        "caller_name": f"Ann ({number[1:]})",
    }
    record["recording"] |= {"recording_started_at": format_instant(at), "duration_millis": 1000 * seconds}
    record["audio"]["findings"] = ["silent"]
    small.write(layout.commit_key(folder), record)
    said = {"id": f"t-{recording_id}", "transcription_text": words, "created_at": format_instant(at)}
    key = layout.transcription_key(folder, f"t-{recording_id}")
    small.write(key, {"schema": "callvault.transcription/1", "transcription": said})
    return folder


@dataclass
class Company:
    """A receiver on an archive with a recording of ours, one of theirs in the same call, and whoever looks at them."""

    client: httpx.Client
    small: SmallArchive
    settings: dict[str, str]
    tokens: dict[str, dict[str, str]] = field(default_factory=dict)

    def who(self, role: str, *options: str) -> dict[str, str]:
        """The headers of somebody with a role and these limits."""
        name = f"{role} {' '.join(options)}"
        if name not in self.tokens:
            self.tokens[name] = bearer(make_token(self.settings, role, *options)["token"])
        return self.tokens[name]

    def ask(self, method: str, path: str, headers: dict[str, str], **more: Any) -> httpx.Response:
        """The answer to a request, once the catalogue is complete: until then, what it does not have is not called unknown."""

        def answer() -> httpx.Response | None:
            found = self.client.request(method, path, headers=headers, **more)
            return None if found.status_code == 503 and "not in the catalogue" in found.text else found

        asked: httpx.Response = wait_for(lambda: [one] if (one := answer()) is not None else None, 60, "the catalogue")[
            0
        ]
        return asked

    def api(self, path: str, headers: dict[str, str], **query: str) -> Any:
        return self.client.get(f"/api{path}", headers=headers, params=query).raise_for_status().json()

    def found(self, headers: dict[str, str], **query: str) -> tuple[list[str], int]:
        answer = self.api("/recordings", headers, **query)
        return [hit["row"]["recording_id"] for hit in answer["hits"]], answer["total"]

    def written(self) -> set[str]:
        """The keys of the archive, without those of tokens and of the access log."""
        keys = {str(path.relative_to(self.small.root)) for path in self.small.root.rglob("*") if path.is_file()}
        return {key for key in keys if not key.startswith(("api-tokens/", "access-log/"))}


@contextmanager
def make_company(redis_url: str, redis: Any, tmp_path: Path) -> Iterator[Company]:
    """Run the receiver of a company."""
    small = SmallArchive(tmp_path / "archive", {"id": ARCHIVE_ID})
    folders = [
        add(small, INSIDE, OURS, GERMAN, "a giraffe, please"),
        add(small, OUTSIDE, THEIRS, FOREIGN, "a zebra, please", 2),
    ]
    redis.zadd(DELETIONS_DUE, dict.fromkeys(folders, time.time() + 3600))
    redis.hset(CONNECTION_NAMES, mapping={OURS: "our trunk", THEIRS: "their trunk"})
    held: tuple[tuple[str, layout.Scope], ...] = ((OUTSIDE, "recording"), (THEIRS, "connection"))
    for subject, scope in held:
        decision = {"schema": "callvault.decision/2", "id": "cd" * 16, "decision": "hold", "scope": scope}
        decision |= {"subject": subject, "why": "case of theirs", "by": "Ben", "at": format_instant(noon(DAY))}
        small.write(layout.decision_key(scope, subject, "cd" * 16), decision)
    settings = environment(redis_url, small, CALLVAULT_DELETE_ORIGINALS="verified")
    with receiver(settings) as (client, _):
        everyone = Company(client, small, settings)
        assert set(everyone.found(bearer(TOKEN), session="call")[0]) == {INSIDE, OUTSIDE}
        yield everyone
