"""Whatever a person looks at, hears, exports or decides is in the access log before the answer is."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
import pytest

from archive.access import encode_line, new_line
from lab.processes import Receiver, receiver
from lab.redis import Server
from tests.audio.build import pcm, wav
from tests.seals.small import SmallArchive, ago
from tests.service.test_roles import make_token
from workers.engine.attempts import DeadLetter
from workers.keys import ACCESS_WAITING, DEAD_LETTERS, INSPECTION

TOKEN = "a-token-for-tests-only"
ARCHIVE_ID = "ab" * 16
_AUDIO = b"audio of 11-one"


@pytest.fixture
def small(tmp_path: Path) -> SmallArchive:
    return SmallArchive(tmp_path / "archive", {"id": ARCHIVE_ID})


def environment(redis_url: str, small: SmallArchive, **more: str) -> dict[str, str]:
    """Settings without a key of Telnyx, so that nothing waits for its answer."""
    found = {"REDIS_URL": redis_url, "CALLVAULT_ARCHIVE_URL": small.root.as_uri(), "CALLVAULT_OPS_TOKEN": TOKEN}
    return found | {"CALLVAULT_DATA": str(small.root.parent / "data")} | more


def in_redis(client: Any) -> list[dict[str, Any]]:
    return [json.loads(row) for row in client.lrange(ACCESS_WAITING + ARCHIVE_ID, 0, -1)]


def in_archive(small: SmallArchive) -> list[dict[str, Any]]:
    paths = sorted((small.root / "access-log").rglob("*.jsonl"))
    return [json.loads(row) for path in paths for row in path.read_bytes().splitlines()]


@contextmanager
def signed_in(process: Receiver, name: str = "Ann") -> Iterator[tuple[httpx.Client, str]]:
    """A client with a session, and its CSRF token."""
    with httpx.Client(base_url=process.url, trust_env=False, timeout=30) as client:
        assert client.post("/ops/sign-in", data={"name": name, "token": TOKEN}).status_code == 303
        yield client, client.get("/ops").text.partition('X-CSRF-Token": "')[2].partition('"')[0]


def test_each_look_and_each_decision_is_a_line(redis_url: str, redis: Any, small: SmallArchive) -> None:
    one, day = "/ops/recordings/11-one", ago(11).isoformat()
    with receiver(environment(redis_url, small)) as (_, process), signed_in(process) as (client, csrf):
        said = in_redis(redis)
        assert [(row["what"], row["who"], row["how"], row["address"]) for row in said] == [
            ("sign-in", "Ann", "token", "127.0.0.1")
        ]
        for path, what, about in (
            (one, "look", {"recordings": ["11-one"]}),
            ("/api/recordings/11-one", "read", {"recordings": ["11-one"]}),
            (f"{one}/audio.wav", "play", {"recordings": ["11-one"]}),
            (f"{one}/audio.wav?download=1", "download", {"recordings": ["11-one"]}),
            ("/ops/recordings?q=id:11-one&findings=0", "search", {"query": "id:11-one findings:0", "found": 1}),
            ("/api/recordings", "search", {"found": 8}),
            ("/ops/recordings.csv?id=11-one", "export", {"query": "id:11-one"}),
            (f"/ops/evidence/{day}/recordings.csv", "inventory", {"query": f"day:{day}"}),
        ):
            assert client.get(path).status_code == 200
            row = in_redis(redis)[-1]
            assert {"what": what, "who": "Ann", "how": "token"} | about == {
                name: row[name] for name in ("what", "who", "how", *about)
            }, path
            assert row["schema"] == "callvault.access/1"
        before = len(in_redis(redis))
        for path, status in (
            ("/ops", 200),
            ("/ops/recordings?q=id:none", 200),
            ("/ops/recordings?state=never", 400),
            ("/ops/recordings/none", 404),
            ("/ops/recordings/none/audio.wav", 404),
            (f"{one}/audio.wav?levels=1", 400),  # nobody hears audio as anything but a play or a download
            ("/ops/static/ops.css", 200),
        ):
            assert client.get(path).status_code == status
        assert len(in_redis(redis)) == before, "what shows no recording is no line"
        for path, form, expected in (
            ("/ops/deletions/hold", {"id": "11-one", "why": "case 17"}, {"recordings": ["11-one"], "why": "case 17"}),
            ("/ops/recordings/hold", {"ids": "11-one 11-two", "why": "x"}, {"recordings": ["11-one", "11-two"]}),
            ("/ops/deletions/release", {"id": "11-one", "why": "closed"}, {"recordings": ["11-one"], "why": "closed"}),
            ("/ops/deletions/pause", {"why": "moving"}, {"recordings": [], "why": "moving"}),
            ("/ops/deletions/resume", {}, {"recordings": []}),
            ("/ops/dead-letters/retry", {"id": "a-job"}, {"about": "dead-letters a-job"}),
            ("/ops/dead-letters/discard", {"id": "a-job", "died_at": "x"}, {"about": "dead-letters a-job"}),
        ):
            assert client.post(path, data=form | {"csrf": csrf}).status_code == 303
            row = in_redis(redis)[-1]
            assert row["what"] == path.rpartition("/")[2] and row.items() >= expected.items(), path
        chosen = client.post("/ops/recordings/export", data={"ids": "11-one 11-two", "csrf": csrf})
        assert chosen.status_code == 200 and in_redis(redis)[-1]["recordings"] == ["11-one", "11-two"]
        failed = client.post("/ops/deletions/approve", data={"id": "11-one", "why": "x", "csrf": csrf})
        asked, refused = in_redis(redis)[-2:]
        assert failed.status_code == 400 and (asked["what"], refused["what"]) == ("approve", "failed")
        assert refused["of"] == asked["id"] and "11-one" in refused["error"]


def test_the_lists_of_deletions_dead_letters_and_the_quarantine_are_lines_once_they_have_anything(
    redis_url: str, redis: Any, small: SmallArchive
) -> None:
    with receiver(environment(redis_url, small)) as (_, process), signed_in(process) as (client, csrf):
        letter = DeadLetter("a", "archive_recording", {}, "arq:queue", "unexpected", "x", "2026-11-25T09:00:00Z", [])
        redis.hset(DEAD_LETTERS, "a", msgspec.json.encode(letter))
        for path in ("/ops/deletions", "/api/deletions", "/ops/quarantine", "/api/quarantine", "/ops/dead-letters"):
            assert client.get(path).status_code == 200
        assert [row["what"] for row in in_redis(redis)] == ["sign-in"], "they are empty"
        client.post("/ops/deletions/hold", data={"id": "11-one", "why": "x", "csrf": csrf})
        redis.lpush(INSPECTION, b'{"words": "of a call"}')
        letter = msgspec.structs.replace(letter, payload={"recording_id": "11-one"})
        redis.hset(DEAD_LETTERS, "a", msgspec.json.encode(letter))
        for path, about in (
            ("/ops/deletions", "deletions"),
            ("/api/quarantine", "quarantine"),
            ("/ops/dead-letters", "dead letters"),
            ("/api/dead-letters", "dead letters"),
        ):
            assert client.get(path).status_code == 200
            row = in_redis(redis)[-1]
            assert (row["what"], row["about"], row["found"]) == ("list", about, 1), path


def test_the_picture_of_a_page_is_no_line_beside_the_look(redis_url: str, redis: Any, small: SmallArchive) -> None:
    one = "/ops/recordings/11-one"
    for recording_id in ("11-one", "11-two"):
        small.recording(11, recording_id, audio=wav(pcm(1)))  # it has levels

    def said() -> list[tuple[str, str]]:
        return [(row["what"], row["who"]) for row in in_redis(redis) if row["what"] != "sign-in"]

    with receiver(environment(redis_url, small)) as (_, process), signed_in(process) as (ann, _):
        address = re.findall(r'data-levels="([^"]+)"', ann.get(one).text)[0]
        assert ann.get(address).json()["channels"] and said() == [("look", "Ann")]
        assert ann.get(f"{one}/levels.json").status_code == 200
        assert ann.get(address.replace("11-one", "11-two")).status_code == 200
        assert ann.get(f"{one}/levels.json?look=forged").status_code == 200
        with signed_in(process, "Ben") as (ben, _):
            assert ben.get(address).status_code == 200
        assert said() == [("look", "Ann"), *[("levels", "Ann")] * 3, ("levels", "Ben")]


@pytest.mark.parametrize("number", [201, 400])
def test_more_than_one_request_takes_are_refused_with_their_number(
    redis_url: str, small: SmallArchive, number: int
) -> None:
    ids = [("ids", f"{n}-none") for n in range(number)]
    with receiver(environment(redis_url, small)) as (_, process), signed_in(process) as (client, csrf):
        for path, form in (("export", ids), ("hold", [*ids, ("why", "x")])):
            refused = client.post(f"/ops/recordings/{path}", content=urlencode([*form, ("csrf", csrf)]))
            assert refused.status_code == 400
            assert f"{number} recordings selected; select 200 at most at once" in refused.text, refused.text


def test_a_sign_in_that_is_refused_is_a_line(redis_url: str, redis: Any, small: SmallArchive) -> None:
    with receiver(environment(redis_url, small)) as (client, _):
        forged = 'Eve\n{"who": "Ann"}'
        assert client.post("/ops/sign-in", data={"name": forged, "token": "wrong"}).status_code == 401
        assert client.get("/api/overview", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/api/overview").status_code == 401
        assert client.get("/ops/recordings", headers={"Authorization": "bearer wrong"}).status_code == 401
        assert client.get("/api/overview", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
        for _ in range(12):  # what is no token is no attempt, so nobody fills the log with it
            assert client.get("/api/overview", headers={"Authorization": "Basic eDp5"}).status_code == 401
        assert client.get("/api/overview", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    rows = redis.lrange(ACCESS_WAITING, 0, -1) + redis.lrange(ACCESS_WAITING + ARCHIVE_ID, 0, -1)
    assert [(json.loads(row)["what"], json.loads(row)["who"]) for row in rows] == [
        ("sign-in-refused", forged),
        ("sign-in-refused", "api"),
        ("sign-in-refused", "api"),
    ]
    assert not any("\n" in row for row in rows)


def test_without_a_token_the_user_of_this_machine_is_named_as_local(
    redis_url: str, redis: Any, small: SmallArchive
) -> None:
    settings = environment(redis_url, small)
    del settings["CALLVAULT_OPS_TOKEN"]
    with receiver(settings) as (client, _):
        assert client.get("/ops/recordings/11-one").status_code == 200
        wrong = client.get("/api/recordings/11-one", headers={"Authorization": "Bearer a-guess-of-the-token"})
    row, refused = in_redis(redis)
    assert (row["what"], row["who"], row["how"]) == ("look", "somebody on this machine", "local")
    assert (wrong.status_code, refused["what"]) == (401, "sign-in-refused"), "somebody meant to be somebody else"


def test_many_ranges_at_two_receivers_are_one_play_with_all_that_was_sent(
    redis_url: str, redis: Any, small: SmallArchive
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    settings = environment(redis_url, small)
    with receiver(settings) as (first, one), receiver(settings) as (second, other):

        def ask(n: int) -> tuple[int, bytes]:
            ranged = headers | {"Range": f"bytes={n}-{n}"}
            answer = (first, second)[n % 2].get("/ops/recordings/11-one/audio.wav", headers=ranged)
            return answer.status_code, answer.content

        with ThreadPoolExecutor(len(_AUDIO)) as threads:
            found = [*threads.map(ask, range(len(_AUDIO)))]
        assert found == [(206, _AUDIO[n : n + 1]) for n in range(len(_AUDIO))]
        asked = first.head("/ops/recordings/11-one/audio.wav", headers=headers)
        assert (asked.status_code, asked.headers["content-length"]) == (200, str(len(_AUDIO))), "and nothing is sent"
        for _ in range(2):
            assert first.get("/ops/recordings/11-one/audio.wav?download=1", headers=headers).content == _AUDIO
        assert (one.stop(), other.stop()) == (0, 0)
    rows = in_redis(redis)
    play, *downloads = [row for row in rows if row["what"] in ("play", "download")]
    assert play["what"] == "play" and [row["what"] for row in downloads] == ["download", "download"]
    sent = Counter[str]()
    for row in rows:
        if row["what"] == "sent":
            sent[row["of"]] += row["bytes"]
    assert sent == {row["id"]: len(_AUDIO) for row in (play, *downloads)}


def test_a_killed_receiver_loses_no_line_that_was_answered(redis_url: str, redis: Any, small: SmallArchive) -> None:
    answered: list[tuple[str, str]] = []
    taken = threading.Lock()
    enough = threading.Event()

    def person(name: str, process: Receiver) -> None:
        with suppress(httpx.TransportError), signed_in(process, name) as (client, _):
            for n in range(250):
                recording = f"{(5, 7, 9, 11)[n % 4]}-{'one' if n % 8 < 4 else 'two'}"
                path = f"/ops/recordings/{recording}"
                is_play = n % 3 == 0
                done = client.get(f"{path}/audio.wav?download=1" if is_play else path)
                assert done.status_code == 200
                with taken:
                    answered.append((name, "download" if is_play else "look"))
                    if len(answered) >= 250:
                        enough.set()

    with receiver(environment(redis_url, small)) as (_, process), ThreadPoolExecutor(8) as people:
        running = [people.submit(person, f"person {n}", process) for n in range(8)]
        assert enough.wait(100), "250 looks and plays"
        process.send_signal(signal.SIGKILL)
        for one in running:
            one.result(30)
    rows = Counter((row["who"], row["what"]) for row in in_redis(redis))
    assert not Counter(answered) - rows, "each that was answered is there"
    assert len(answered) >= 250


def test_without_redis_the_archive_has_the_lines_and_without_both_nothing_is_shown(
    small: SmallArchive, tmp_path: Path
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with Server(tmp_path) as server, receiver(environment(server.url, small)) as (client, _):
        assert client.get("/ops/recordings/11-one", headers=headers).status_code == 200
        server.kill()
        looked = client.get("/ops/recordings/11-two", headers=headers)
        with ThreadPoolExecutor(8) as threads:
            ranges = [headers | {"Range": f"bytes={n}-"} for n in range(8)]
            played = [*threads.map(lambda one: client.get("/ops/recordings/11-two/audio.wav", headers=one), ranges)]
        assert (looked.status_code, played[0].content) == (200, b"audio of 11-two")
        assert [row["what"] for row in in_archive(small)] == ["look", "play"]
        (small.root / ".incoming").rename(small.root / "elsewhere")
        (small.root / ".incoming").write_text("a file where the folder of new objects was")
        for path in ("/ops/recordings/11-two", "/ops/recordings/11-one/audio.wav", "/api/recordings?id=11-one"):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 503 and b"audio of" not in answer.content, path
            assert "ccess log cannot be written" in answer.text, answer.text
        assert client.get("/ops", headers=headers).status_code == 200, "what shows no recording is shown"


def test_the_page_finds_lines_by_person_recording_and_time(redis_url: str, small: SmallArchive) -> None:
    with receiver(environment(redis_url, small)) as (_, process), signed_in(process, "Ann <b>") as (ann, _):
        assert "Nobody yet." in ann.get("/ops/recordings/11-one").text
        page = ann.get("/ops/recordings/11-one").text
        assert "looked at" in page and "Ann &lt;b&gt;" in page and "<b>" not in page.partition("accesses")[2][:2_000]
        with signed_in(process, "Ben") as (ben, _):
            assert ben.get("/ops/recordings/11-two/audio.wav?download=1").content == b"audio of 11-two"
        found = ann.get("/api/access-log", params={"who": "ben"}).json()
        assert [(row["line"]["what"], row["line"]["recordings"]) for row in found["entries"]] == [
            ("download", ["11-two"]),
            ("sign-in", []),
        ]
        found = ann.get("/api/access-log", params={"recording": "11-one"}).json()
        assert [row["line"]["what"] for row in found["entries"]] == ["look", "look"]
        assert all(row["object"] is None for row in found["entries"]), "Redis alone has them yet"
        assert ann.get("/api/access-log", params={"until": ago(1).isoformat()}).json()["entries"] == []
        page = ann.get("/ops/access-log", params={"who": "ben"}).text
        assert "downloaded" in page and "11-two" in page and "11-one" not in page
        assert ann.post("/ops/sign-in", data={"name": "Eve\u202e nnA\x1b[2J", "token": "wrong"}).status_code == 401
        page = ann.get("/ops/access-log").text
        assert "Eve  nnA [2J" in page and "\u202e" not in page and "\x1b" not in page
        wrong = ann.get("/ops/access-log", params={"since": "never"})
        assert wrong.status_code == 400 and "since: " in wrong.text.lower()
        assert ann.get("/ops/access-log", params={"after": "x"}).status_code == 400
        assert ann.get("/api/access-log", params={"what": "look"}).status_code == 400


def test_pages_of_lines_follow_one_another(redis_url: str, redis: Any, small: SmallArchive) -> None:
    lines = [new_line("look", f"person {n}", "token", "192.0.2.7", ["11-one"]) for n in range(250)]
    redis.rpush(ACCESS_WAITING + ARCHIVE_ID, *(encode_line(line) for line in lines))
    headers, found, query = {"Authorization": f"Bearer {TOKEN}"}, [], {"recording": "11-one"}
    with receiver(environment(redis_url, small)) as (client, _):
        for count in (100, 100, 50):
            page = client.get("/api/access-log", params=query, headers=headers).raise_for_status().json()
            assert len(page["entries"]) == count
            found += [row["line"]["id"] for row in page["entries"]]
            query["after"] = page["after"]
    assert sorted(found) == sorted(line.id for line in lines) and query["after"] is None


def test_numbers_in_searches_are_masked_where_numbers_are(redis_url: str, redis: Any, small: SmallArchive) -> None:
    asked = "number:+4930123456 since:2026-11-25 until:2026-11-26T07:30 text:refund sip:ann@example.com"
    line = new_line("search", "Ann", "token", "192.0.2.7", query=asked, found=1)
    redis.rpush(ACCESS_WAITING + ARCHIVE_ID, encode_line(line))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for settings, shown in (
        ({}, asked),
        (
            {"CALLVAULT_OPS_MASK_NUMBERS": "true"},
            "number:+49******56 since:2026-11-25 until:2026-11-26T07:30 text:refund ***@example.com",
        ),
    ):
        with receiver(environment(redis_url, small, **settings)) as (client, _):
            (row,) = client.get("/api/access-log", headers=headers).json()["entries"]
            assert row["line"]["query"] == shown
            assert shown in client.get("/ops/access-log", headers=headers).text
    assert in_redis(redis)[0]["query"] == asked, "the record itself is whole"


def test_a_listener_sees_no_access_log_and_a_refusal_is_a_line(redis_url: str, redis: Any, small: SmallArchive) -> None:
    settings = environment(redis_url, small)
    made = {role: make_token(settings, role, name=f"a {role}") for role in ("listener", "auditor")}
    with receiver(settings) as (client, _):
        listener = {"Authorization": f"Bearer {made['listener']['token']}"}
        assert client.get("/ops/access-log", headers=listener).status_code == 403
        refused = in_redis(redis)[-1]
        assert (refused["what"], refused["who"], refused["how"]) == ("not-allowed", "a listener", "api token")
        assert (refused["about"], refused["role"]) == ("/ops/access-log", "listener")
        assert client.get("/api/recordings/11-one", headers=listener).json()["accesses"] is None
        auditor = {"Authorization": f"Bearer {made['auditor']['token']}"}
        found = client.get("/api/access-log", headers=auditor).json()["entries"]
        assert [row["line"]["what"] for row in found] == ["read", "not-allowed", "create-token", "create-token"]
        assert client.get("/api/overview", headers={"Authorization": "Bearer cvt_wrong"}).status_code == 401
        assert in_redis(redis)[-1]["what"] == "sign-in-refused"
