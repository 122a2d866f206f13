"""A command that fails prints one clear line: what failed, in the user's terms, and what to do."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lab.processes import callvault, free_port, receiver, run_callvault, wait_for
from tests.seals.small import SmallArchive
from text.one_line import one_line
from text.times import utc_now
from workers.engine.failure_classes import NotYet
from workers.queue.embedded import EmbeddedServer


@pytest.fixture
def small(tmp_path: Path) -> SmallArchive:
    return SmallArchive(tmp_path / "archive", {"id": "ab" * 16})


@pytest.fixture
def here(small: SmallArchive, redis_url: str, tmp_path: Path) -> dict[str, str]:
    environment = {"REDIS_URL": redis_url, "CALLVAULT_ARCHIVE_URL": small.root.as_uri(), "TELNYX_API_KEY": "KEY"}
    return environment | {"TELNYX_BASE_URL": "http://127.0.0.1:9/v2", "CALLVAULT_DATA": str(tmp_path / "data")}


def line_of(arguments: list[str], environment: dict[str, str]) -> str:
    """The one line that a command prints on standard error, apart from progress."""
    done = run_callvault(arguments, environment)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("building the catalogue")]
    assert done.returncode in (1, 2) and len(lines) == 1 and lines[0].startswith("callvault: "), done.stderr
    return lines[0]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["find", "--min-duration", "long"], "--min-duration: 'long' is not a duration"),
        (["find", "--state", "lost"], "--state: 'lost' is not a state; expected archived, kept,"),
        (["find", "--since", "today", "--until", "yesterday"], "--until: yesterday must be after since (today)"),
        (["seal"], "give a day, --due, or --sign with a number"),
        (["verify", "--head", "x"], "--head: expected the SHA-256"),
        (["seal", "--sign", "x"], "--sign: cannot use 'x'; expected a number such as 7"),
        (["seal", "soon"], "'soon' is not a day such as 2026-11-25"),
        (["verify", "--until", "soon"], "--until: 'soon' is not a day such as 2026-11-25"),
        (
            ["verify", "--since", "2026-11-27", "--until", "2026-11-20"],
            "--until: 2026-11-20 must not be before --since (2026-11-27)",
        ),
        (
            ["backfill", "--since", "2026-11-27", "--until", "2026-11-20"],
            "--until: 2026-11-20 must not be before --since (2026-11-27)",
        ),
        (["backfill", "--since", "soon"], "--since: 'soon' is not a day such as 2026-11-25"),
        (["logs", "list", "--since", "soon"], "--since: 'soon' is not a day such as 2026-11-25"),
        (["get", "nope"], "recording nope is not in the archive"),
        (["find", "--sinse", "7d"], "unknown option --sinse; did you mean --since?"),
        (["find", "--colour"], "unknown option --colour; see `callvault find --help`"),
        (["status", "a", "b"], "unexpected argument: a b; see `callvault status --help`"),
        (["find", "--since"], "--since needs a value"),
        (["find", "--csv=1"], "--csv does not take a value"),
        (["verfy"], "unknown command verfy; did you mean verify?"),
        (["release", "ID"], "unknown command release; see `callvault --help`"),
        (["deletions", "lst"], "unknown command lst; did you mean list?"),
        (["telnyx", "recording", "list"], "unknown command recording; did you mean recordings?"),
        (["get"], "missing argument ID; see `callvault get --help`"),
        (["backfill"], "missing option --since; see `callvault backfill --help`"),
        (["serve", "--port", "99999"], "--port: expected at most 65535"),
        (["serve", "--port", "http"], "--port: expected a whole number"),
        (["dead-letters", "accept", "ID", "--why", " "], "--why: give a reason; the archive keeps it"),
        (["deletions", "hold", "ID", "--why", " "], "--why: give a reason; the archive keeps it"),
        (["demo", "--audio", "/nowhere"], "--audio: '/nowhere' does not exist"),
    ],
)
def test_an_option_is_called_as_it_is_typed(arguments: list[str], said: str, here: dict[str, str]) -> None:
    if arguments[0] == "get":
        here |= {"TELNYX_API_KEY": ""}
    assert line_of(arguments, here).startswith(f"callvault: {said}")


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("CALLVAULT_DELETE_ORIGINALS", "foo", "cannot use 'foo'; expected never or verified"),
        ("CALLVAULT_DELETE_AFTER", "foo", "cannot use 'foo'; expected a duration such as 2s, 15m, 24h or 30d"),
        ("CALLVAULT_CONCURRENCY", "0", "cannot use '0'; expected a number from 1 to 256"),
        (
            "CALLVAULT_RETENTION",
            "1ms",
            "cannot use '1ms' (the minimum is 1s); expected a duration such as 365d, at least 1s",
        ),
    ],
)
def test_a_setting_states_once_what_is_expected(name: str, value: str, said: str, here: dict[str, str]) -> None:
    assert line_of(["status"], here | {name: value}) == f"callvault: {name}: {said}"


@pytest.mark.parametrize("arguments", [["status"], ["dead-letters", "list"], ["deletions", "list"], ["init"]])
def test_an_unreachable_redis_is_reported_with_its_address_and_what_to_do(
    arguments: list[str], here: dict[str, str]
) -> None:
    address = f"127.0.0.1:{free_port()}"
    line = line_of(arguments, here | {"REDIS_URL": f"redis://callvault:secret@{address}/0"})
    assert line.startswith(f"callvault: Redis does not answer at {address}; check that it runs, and check REDIS_URL")
    assert "secret" not in line and "Error 1" not in line


@pytest.mark.parametrize("arguments", [["verify"], ["find"], ["index"]])
def test_a_store_that_is_away_is_one_line(arguments: list[str], here: dict[str, str]) -> None:
    aws = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "AWS_REGION": "eu-central-1"}
    aws |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "CALLVAULT_ARCHIVE_URL": "s3://bucket/here"}
    line = line_of(arguments, here | aws)
    assert line.startswith("callvault: s3://bucket/here/archive.json: ")
    assert line.endswith("; run `callvault doctor` for details")


def test_an_error_is_shown_without_its_class_name() -> None:
    assert one_line(NotYet("recording x\n is not at Telnyx")) == "recording x is not at Telnyx"
    assert (
        one_line(FileNotFoundError(2, "No such file or directory", "/nowhere")) == "/nowhere: No such file or directory"
    )
    assert one_line(TimeoutError()) == "TimeoutError", "an error without a text shows at least its name"


def test_changed_audio_is_reported_with_its_path_and_moved_away_before_repair(
    small: SmallArchive, here: dict[str, str], redis: Any, tmp_path: Path
) -> None:
    key = small.folder(11, "11-one") + "audio.wav"
    whole = (small.root / key).read_bytes()
    (tmp_path / "copy.wav").write_bytes(whole)
    small.write(key, whole[:-1] + b"?")
    gone = small.folder(11, "11-two") + "audio.wav"
    small.remove(gone)
    path, repair = f"{small.root.as_uri()}/{key}", "`callvault repair 11-one`"

    got = line_of(["get", "11-one", "--out", str(tmp_path / "out.wav")], here)
    assert f"find out who changed it and move {path} out of the archive; then run {repair} to restore it" in got
    refused = line_of(["repair", "11-one", "--from", str(tmp_path / "copy.wav")], here)
    assert "something else lies there" in refused and f"move {path} out of the archive; then run {repair}" in refused
    report = json.loads(run_callvault(["verify", "--deep", "--json"], here).stdout)
    advice = {problem["key"]: problem["advice"] for problem in report["problems"]}
    assert f"move {key} out of the archive; then run {repair}" in advice[key]
    assert advice[gone].startswith("run `callvault repair 11-two` to restore it from Telnyx")
    text = run_callvault(["status"], here).stdout
    assert f"move {path} out of the archive; then run {repair}" in text and "`callvault repair 11-two`" in text
    with receiver(here) as (client, _):
        page = wait_for(lambda: "11-one" in (text := client.get("/ops/recordings/11-one").text) and text)
        assert f"move {path} out of the archive; then run <code>callvault repair 11-one</code>" in page
        overview = client.get("/ops").text
        assert (
            f"move {path} out of" in overview and "Run <code>callvault repair 11-two</code> to restore it" in overview
        )

    (small.root / key).rename(tmp_path / "altered.wav")
    mended = run_callvault(["repair", "11-one", "--from", str(tmp_path / "copy.wav")], here)
    assert (mended.returncode, mended.stderr) == (0, ""), "the result is printed once"
    assert mended.stdout.startswith(f"{key}: restored, {len(whole)} bytes")
    (alert,) = [
        row for row in map(json.loads, redis.lrange("callvault:alerts", 0, -1)) if row["kind"] == "archive-repaired"
    ]
    assert alert["severity"] == "info" and key in alert["text"]


def test_a_damaged_or_missing_commit_record_is_reported_with_what_to_do_and_stays_known(
    small: SmallArchive, here: dict[str, str]
) -> None:
    damaged, gone = (small.folder(11, one) + "recording.json" for one in ("11-one", "11-two"))
    assert run_callvault(["find"], here).returncode == 0, "the catalogue knows both"
    small.write(damaged, b"{x")
    small.remove(gone)
    said = line_of(["get", "11-one"], here)
    assert f"move {small.root.as_uri()}/{damaged} out of the archive; then restore it from a copy" in said
    assert f"restore {small.root.as_uri()}/{gone} from a copy of the archive" in line_of(["get", "11-two"], here)
    found = json.loads(run_callvault(["status", "--json"], here).stdout)["conditions"]
    assert {one["about"] for one in found if one["kind"] == "damaged"} == {damaged, gone}


def test_a_worker_that_cannot_start_records_the_reason(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = (tmp_path / "empty").as_uri()
    refused = line_of(["worker"], environment | {"CALLVAULT_ARCHIVE_URL": empty})
    assert empty in refused and "callvault init" in refused
    found = json.loads(run_callvault(["status", "--json"], environment).stdout)["conditions"]
    (no_worker,) = [one["what"] for one in found if one["kind"] == "no-worker"]
    assert no_worker.endswith(f"The last worker ended: {refused.removeprefix('callvault: ')}")
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: json.loads(run_callvault(["status", "--json"], environment).stdout)["conditions"] == [])


@pytest.mark.timeout(240)
def test_a_worker_that_stops_itself_reports_what_failed_why_and_what_to_do(
    environment: dict[str, str], tmp_path: Path
) -> None:
    server = EmbeddedServer(tmp_path / "own")
    server.start()
    with callvault(["worker"], environment | {"REDIS_URL": server.url}, "worker ready") as worker:
        server.stop()
        wait_for(lambda: worker.has_ended, 200, "the end of the worker")
        assert worker.stop() == 1
    last = worker.output.splitlines()[-1]
    assert last == (
        f"callvault: the worker stopped itself: Redis does not answer at {server.socket} (No such file or directory); check "
        "that it runs, and check REDIS_URL. It cannot claim jobs without Redis. Start it again; its unfinished jobs run again"
    ), worker.output


def test_status_and_seal_agree_on_a_day_that_is_not_due(environment: dict[str, str], redis: Any) -> None:
    tomorrow = time.time() + 86_400
    redis.zadd("callvault:unsealed", {utc_now().date().isoformat(): tomorrow})
    at = datetime.fromtimestamp(tomorrow, UTC)
    words = f"1 day waits for its seal, due at {at:%Y-%m-%d %H:%M} UTC"
    assert words in run_callvault(["status"], environment).stdout
    assert run_callvault(["seal", "--due"], environment).stdout == f"{words}\n"
