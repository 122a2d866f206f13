"""Finding a call by number, words, day and other fields; a lost or corrupt catalogue is rebuilt."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cli.find import write_table
from lab.processes import callvault, callvault_here, run_callvault, wait_for
from lab.servers import RunningSandbox
from tests.seals.conftest import CALLS_A_DAY, TRANSCRIBED_A_DAY, Sealed
from tests.workers.steps import ask, committed
from tests.workers.test_deletion import DELETING
from text.times import utc_now
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.file import CatalogueBusy
from workers.catalogue.inventory import csv_lines
from workers.catalogue.query import BadQuery, Query, read_box, read_query, write_box
from workers.catalogue.reach import EVERYTHING
from workers.catalogue.rows import Row
from workers.catalogue.search import Hit, count, ids_beginning, search, search_ids

pytestmark = pytest.mark.timeout(300)  # the first test process makes the archive, and the others wait for it


def find(environment: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
    code, out = callvault_here(["find", "--json", *arguments], environment)
    assert code == 0
    return [json.loads(line) for line in out.splitlines()]


def ids(rows: list[dict[str, Any]]) -> set[str]:
    return {row["recording_id"] for row in rows}


def day(days: int) -> str:
    return (utc_now() - timedelta(days=days)).date().isoformat()


def test_a_call_is_found_by_either_number_as_people_write_it(sealed: Sealed) -> None:
    world = [call for calls in sealed.calls.values() for call in calls]
    wanted = world[-3]
    expected = {data["id"] for data in world if wanted["from"] in (data["from"], data["to"])}
    digits = wanted["from"][1:]
    national = f"({digits[1:4]}) {digits[4:7]}-{digits[7:]}"
    for text in (wanted["from"], "00" + digits, national, "0" + digits[1:]):
        assert ids(find(sealed.environment, "--number", text)) == expected, text
    ends = {data["id"] for data in world if digits[-4:] in data["from"] or digits[-4:] in data["to"]}
    assert ids(find(sealed.environment, "--number", digits[-4:])) == ends
    begins = {data["id"] for data in world if data["to"].startswith("+14155551")}
    assert ids(find(sealed.environment, "--number", "+14155551")) == begins


def test_a_call_is_found_by_every_known_field(sealed: Sealed) -> None:
    data = sealed.calls[4][4]
    for option, name in (("--id", "id"), ("--leg", "call_leg_id"), ("--session", "call_session_id")):
        (row,) = find(sealed.environment, option, data[name])
        assert row["recording_id"] == data["id"]
    assert (row["from_number"], row["to_number"]) == (data["from"], data["to"])
    assert (row["state"], row["findings"], row["proof"]) == ("archived", [], "read-back")
    assert row["duration_ms"] == data["duration_millis"]
    assert row["started_at"] == data["recording_started_at"]
    audio = (sealed.archive / row["key"]).read_bytes()
    assert (row["bytes"], row["sha256"]) == (len(audio), hashlib.sha256(audio).hexdigest())
    of_day = find(sealed.environment, "--since", day(4), "--until", day(4))
    assert ids(of_day) == {call["id"] for call in sealed.calls[4]}
    times = [row["started_at"] for row in of_day]
    assert times == sorted(times, reverse=True)
    assert len(find(sealed.environment, "--connection", data["connection_id"])) == 3 * CALLS_A_DAY
    assert find(sealed.environment, "--connection", "1") == []
    assert find(sealed.environment, "--min-duration", "10s") == []
    assert len(find(sealed.environment, "--max-duration", "10s", "--since", day(4), "--until", day(4))) == CALLS_A_DAY
    assert find(sealed.environment, "--max-duration", "1ms") == []
    assert find(sealed.environment, "--findings") == []
    assert len(find(sealed.environment, "--state", "archived", "--limit", "7")) == 7


def test_words_without_an_option_mean_what_they_mean_in_the_search_box(sealed: Sealed) -> None:
    data = sealed.calls[4][4]
    assert ids(find(sealed.environment, data["id"])) == {data["id"]}
    assert find(sealed.environment, data["from"]) == find(sealed.environment, "--number", data["from"])
    of_day = find(sealed.environment, "--since", day(4), "--until", day(4))
    assert find(sealed.environment, day(4)) == of_day
    assert find(sealed.environment, f"since:{day(4)}", "state:archived", "--until", day(4)) == of_day
    spoken = sealed.transcriptions[0]["transcription_text"].split()[2:5]
    assert find(sealed.environment, *spoken) == find(sealed.environment, "--text", " ".join(spoken)) != []


def test_a_call_is_found_by_spoken_words_which_are_marked(sealed: Sealed) -> None:
    texts = {t["recording_id"]: t["transcription_text"] for t in sealed.transcriptions}
    recording_id, text = next(iter(texts.items()))
    words = text.split()
    phrase = " ".join(words[2:5]).strip(".,?!")
    expected = {one for one, said in texts.items() if phrase.lower() in said.lower()}
    rows = find(sealed.environment, "--text", f'"{phrase}"')
    assert ids(rows) == expected
    marked = next(row["words"] for row in rows if row["recording_id"] == recording_id)
    assert "[" in marked
    word = words[2].strip(".,?!").lower()
    both = find(sealed.environment, "--text", f'{word} "{phrase}"', "--since", day(5))
    assert ids(both) == expected
    assert find(sealed.environment, "--text", "xyzzy") == []
    assert find(sealed.environment, "--text", "OR NOT NEAR(") == [], "no word of the index's query language"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--number", "12"], "'12' is too short; give at least 3 digits"),
        (["--number", "12-not 3"], "'12-not 3' is neither a telephone number nor a SIP address"),
        (["--number", "+4912345678901234567"], "a telephone number has at most 15"),
        (["--since", "32.1.2026"], "'32.1.2026' is not a day"),
        (["--since", "today", "--until", "yesterday"], "must be after since"),
        (["--text", '"refund'], "has an unclosed quote"),
        (["--text", "..."], "contains no word"),
        (["--min-duration", "long"], "--min-duration: 'long' is not a duration"),
        (
            ["--state", "lost"],
            "--state: 'lost' is not a state; expected archived, kept, held, deleted, disposed, erased or damaged",
        ),
        (["--id", "a\nb"], r"id: 'a\nb' is not an id"),
        (["--number", "abc"], "write a part of an address as ann@"),
        (["--since", "2026-11-26T7h"], "such as 2026-11-25T07:30"),
        (["--id", ""], "--id: is empty"),
        (["--min-duration", " "], "--min-duration: is empty"),
        (["--csv", "--json"], "--csv and --json exclude each other"),
        (["--max-duration", "1m", "--min-duration", "90s"], "--max-duration: 1m is shorter than min_duration (90s)"),
        (["state:lost"], "--state: 'lost' is not a state"),
        (["colour:red"], "unknown field 'colour'"),
        (["state:held", "--state", "kept"], "--state: given twice"),
        (["", " "], "WORDS: is empty"),
    ],
)
def test_a_search_that_cannot_be_is_one_clear_line(
    arguments: list[str], text: str, environment: dict[str, str]
) -> None:
    done = run_callvault(["find", *arguments], environment)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith("callvault: ")
    assert text in done.stderr
    assert not (Path(environment["CALLVAULT_DATA"]) / "catalogue.sqlite").exists(), "nothing changed"


def test_an_inventory_for_an_auditor_is_csv(sealed: Sealed) -> None:
    done = run_callvault(["find", "--since", day(5), "--until", day(4), "--csv"], sealed.environment)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 2 * CALLS_A_DAY
    wanted = {
        "recording_id",
        "started_at",
        "ended_at",
        "from_number",
        "to_number",
        "duration_ms",
        "key",
        "sha256",
        "seal",
    }
    assert wanted <= rows[0].keys()
    seals = {seal["day"]: str(seal["sequence"]) for seal in sealed.seals()}
    assert {(row["started_at"][:10], row["seal"]) for row in rows} == {(d, seals[d]) for d in (day(5), day(4))}
    assert rows[0]["from_number"].startswith("+1")


def test_a_table_is_for_people(sealed: Sealed) -> None:
    done = run_callvault(["find", "--id", sealed.calls[4][4]["id"]], sealed.environment | {"COLUMNS": "160"})
    assert "started (UTC)" in done.stdout
    assert sealed.calls[4][4]["from"] in done.stdout
    assert done.stdout.endswith("1 recording\n")
    said = run_callvault(["find", "--text", "the", "--limit", "2"], sealed.environment | {"COLUMNS": "80"}).stdout
    assert len(said.splitlines()) == 6, "a header, two hits with their text below, the count"


def test_audio_and_text_come_out_checked(sealed: Sealed, tmp_path: Path) -> None:
    call = sealed.calls[4][0]
    out = tmp_path / "call.wav"
    done = run_callvault(["get", call["id"], "--out", str(out)], sealed.environment)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(out.read_bytes()).hexdigest() == call["sha256"]
    again = run_callvault(["get", call["id"], "--out", str(out)], sealed.environment)
    assert (again.returncode, "already exists; choose another file with --out" in again.stderr) == (1, True)
    said = next(t for t in sealed.transcriptions if t["recording_id"] == call["id"])
    done = run_callvault(["get", call["id"], "--transcript"], sealed.environment)
    assert done.stdout == said["transcription_text"] + "\n"
    for arguments, text in (
        (["no-such-id"], "is not in the archive"),
        ([call["id"], "--format", "mp3"], "has no mp3; it has wav"),
        ([sealed.calls[4][1]["id"], "--transcript"], "has no transcription"),
    ):
        done = run_callvault(["get", *arguments], sealed.environment)
        assert (done.returncode, text in done.stderr) == (1, True), done.stderr


def test_audio_that_differs_from_its_commit_record_is_not_given_out(sealed: Sealed, tmp_path: Path) -> None:
    archive = sealed.copy(tmp_path / "archive")
    environment = sealed.environment | {
        "CALLVAULT_ARCHIVE_URL": archive.as_uri(),
        "CALLVAULT_DATA": str(tmp_path / "data"),
    }
    (row,) = find(environment, "--id", sealed.calls[4][4]["id"])
    path = archive / row["key"]
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + b"\0\0")
    done = run_callvault(["get", row["recording_id"], "--out", str(tmp_path / "out.wav")], environment)
    assert (done.returncode, "its commit record says" in done.stderr) == (1, True)
    assert list(tmp_path.glob("*out*")) == []


def test_redis_and_the_catalogue_lost_and_rebuilt_give_the_same_answers(
    sealed: Sealed, redis_url: str, tmp_path: Path
) -> None:
    questions = (["--since", day(6)], ["--number", "555", "--limit", "50"], ["--text", "the"])
    answers = [find(sealed.environment, *question) for question in questions]
    assert len(answers[0]) == 3 * CALLS_A_DAY
    lost = sealed.environment | {"REDIS_URL": redis_url, "CALLVAULT_DATA": str(tmp_path)}
    done = run_callvault(["index", "--rebuild", "--json"], lost, seconds=100)
    assert json.loads(done.stdout)["recordings"] == 3 * CALLS_A_DAY
    assert "building the catalogue: sealed day" in done.stderr
    assert [find(lost, *question) for question in questions] == answers
    away = lost | {"REDIS_URL": "redis://127.0.0.1:1/0"}
    assert find(away, *questions[2]) == answers[2], "it needs no Redis"
    without_parquet = tmp_path / "archive"
    sealed.copy(without_parquet)
    shutil.rmtree(without_parquet / "catalogue")
    lost |= {"CALLVAULT_ARCHIVE_URL": without_parquet.as_uri()}
    done = run_callvault(["index", "--rebuild"], lost, seconds=100)
    assert f"{3 * CALLS_A_DAY} recordings" in done.stdout
    assert [find(lost, *question) for question in questions] == answers, "from the small objects too"


def test_a_corrupt_catalogue_is_set_aside_and_built_anew(sealed: Sealed, redis_url: str, tmp_path: Path) -> None:
    environment = sealed.environment | {"REDIS_URL": redis_url, "CALLVAULT_DATA": str(tmp_path)}
    question = ["--since", day(4), "--until", day(4)]
    answer = find(environment, *question)
    path = tmp_path / "catalogue.sqlite"
    size = path.stat().st_size
    for damage in (b"not a database at all" * 500, path.read_bytes()[: size // 2], bytes(size)):
        path.write_bytes(damage)
        done = run_callvault(["find", "--json", *question], environment, seconds=100)
        assert done.returncode == 0, done.stderr
        assert [json.loads(line) for line in done.stdout.splitlines()] == answer
        if damage.strip(b"\0"):
            assert "the catalogue is unusable; rebuilding it" in done.stderr
            assert path.with_name("catalogue.sqlite.unusable").exists()


def test_a_recording_is_got_though_the_catalogue_turns_out_corrupt(
    sealed: Sealed, redis_url: str, tmp_path: Path
) -> None:
    environment = sealed.environment | {"REDIS_URL": redis_url, "CALLVAULT_DATA": str(tmp_path)}
    one = find(environment, "--since", day(4), "--until", day(4))[0]["recording_id"]
    path = tmp_path / "catalogue.sqlite"
    with closing(sqlite3.connect(path)) as db:  # it opens, but no recording can be read
        roots = [root for (root,) in db.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'recordings'")]
        (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        for root in roots:
            file.seek((root - 1) * page_bytes)
            file.write(b"\xff" * page_bytes)
    done = run_callvault(["get", one, "--out", str(tmp_path / "audio")], environment, seconds=100)
    assert done.returncode == 0 and "the catalogue is unusable; rebuilding it" in done.stderr, done.stderr


async def test_a_search_finds_new_recordings_within_seconds(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    first, second = (sandbox.world.add_recording(seconds=0.2) for _ in range(2))
    with callvault(["worker"], environment | DELETING, "worker ready"):
        await ask(async_redis, first)
        assert wait_for(lambda: find(environment, "--id", first.data["id"]), 10, "its row")[0]["seal"] is None
        wait_for(lambda: find(environment, "--state", "deleted"), 20, "its receipt")
        done = run_callvault(["deletions", "hold", second.data["id"], "--why", "case 17"], environment)
        assert done.returncode == 0, done.stderr
        await ask(async_redis, second)
        wait_for(lambda: ids(find(environment, "--state", "held")) == {second.data["id"]}, 10, "a row on hold")
    third = sandbox.world.add_recording(seconds=0.2)
    with callvault(["worker"], environment, "worker ready"):
        await ask(async_redis, third)
        wait_for(lambda: committed(archive_folder, third))
    redis.flushall()  # with the entries of the third in the stream
    assert len(find(environment)) == 3


def test_every_duckdb_form_of_the_documents_runs(sealed: Sealed) -> None:
    text = (Path(__file__).parents[2] / "docs" / "analytics.md").read_text()
    statements = [statement for block in re.findall(r"```sql\n(.*?)```", text, re.S) for statement in block.split(";")]
    statements = [s.replace("ARCHIVE", str(sealed.archive)) for s in statements if s.strip()]
    assert len(statements) == 6
    database = duckdb.connect()
    view, without, minutes, _, findings, deleted = (database.execute(s).fetchall() for s in statements)
    assert len(without) == 3 * (CALLS_A_DAY - TRANSCRIBED_A_DAY)
    seconds = sum(call["duration_millis"] for calls in sealed.calls.values() for call in calls) / 1000
    assert abs(sum(row[2] for row in minutes) - seconds / 60) < 0.2
    assert (findings, deleted) == ([], [])
    del view
    one = sealed.calls[4][4]
    calls = statements[3].replace("+13125550100", one["from"])
    assert one["id"] in {row[4] for row in database.execute(calls).fetchall()}


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", {}),
        ("  ", {}),
        ("+1 312 555-0100", {"number": "+1 312 555-0100"}),
        ("0100", {"number": "0100"}),
        ("sip:anna@example.com", {"number": "sip:anna@example.com"}),
        ("5d158a2f-f2ee-4e45-99f9-919c895fd7b3", {"id": "5d158a2f-f2ee-4e45-99f9-919c895fd7b3"}),
        ("yesterday", {"since": "yesterday", "until": "yesterday"}),
        ("2026-11-25", {"since": "2026-11-25", "until": "2026-11-25"}),
        ("wrong amount", {"text": "wrong amount"}),
        ('"wrong amount"', {"text": '"wrong amount"'}),
        ("state:held 0100", {"state": "held", "number": "0100"}),
        ('text:"account number" since:7d', {"text": "account number", "since": "7d"}),
        ('"colour:red"', {"text": '"colour:red"'}),
        ("at 12:30", {"text": "at 12:30"}),
        ("findings:0 state:held", {"findings": "0", "state": "held"}),
        ("tel:+1-312-555-0100;ext=22", {"number": "tel:+1-312-555-0100;ext=22"}),
        ("sip:anna", {"number": "sip:anna"}),
        ('"wrong amount" now state:held', {"text": '"wrong amount" now', "state": "held"}),
        ('"at 12:30" leg:a"b:c', {"text": '"at 12:30"', "leg": 'a"b:c'}),
        ("@example.com state:held", {"number": "@example.com", "state": "held"}),
        ('"Ann" <sip:anna@example.com>', {"number": '"Ann" <sip:anna@example.com>'}),
    ],
)
def test_a_search_in_one_box_is_understood_and_written_again(typed: str, words: dict[str, str]) -> None:
    assert read_box(typed) == words
    assert read_box(write_box(words)) == words


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("colour:red", "unknown field 'colour'; expected one of number, since,"),
        ("min-duration:90s", "unknown field 'min-duration'"),
        ("https://example.com", "Put words with a colon in quotes"),
        ("state:", "state: no value"),
        ("state: held", "state: no value"),
        ('text:""', "text: no value"),
        ("state:held state:kept", "state: given twice"),
        ("text:refund money", "text: given twice"),
        ("since:7d yesterday", "since: given twice"),
        ("2026-11-26T07:30", "write since:2026-11-26T07:30 or until:2026-11-26T07:30"),
        ("a" * 1001, "at most 1000 are allowed"),
    ],
)
def test_an_unintelligible_search_is_refused(typed: str, said: str) -> None:
    with pytest.raises(BadQuery, match=re.escape(said)):
        read_box(typed)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"colour": "red"}, "unknown field 'colour'; expected one of number"),
        ({"number": "abc"}, "number: 'abc' is neither"),
        ({"findings": "maybe"}, "findings: 'maybe' is not 1 or 0"),
        ({"state": "Held"}, "state: 'Held' is not a state"),
        ({"id": "a b"}, "id: 'a b' is not an id"),
        ({"connection": "x" * 201}, "connection: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' is not an id"),
        ({"text": "re\x1bfund"}, "text: 're\\x1bfund' contains a control character"),
        ({"since": "2026-11-26T7h"}, "since: "),
        ({"until": "07:30"}, "until: "),
        (
            {"since": "2026-11-26T07:30", "until": "2026-11-26T07:30"},
            "until: 2026-11-26T07:30 must be after since (2026-11-26T07:30)",
        ),
        ({"min_duration": "5 parsecs"}, "min_duration: "),
        ({"min_duration": "10s", "max_duration": "0s"}, "max_duration: 0s is shorter than min_duration (10s)"),
    ],
)
def test_an_unusable_search_value_is_refused_by_name(words: dict[str, str], said: str) -> None:
    with pytest.raises(BadQuery, match=re.escape(said)):
        read_query(words)


@pytest.mark.parametrize(
    "typed",
    [
        '"wrong amount" state:held',
        'refund "account number" since:7d',
        "since:2026-11-26T07:30 until:today",
        'number:"+49 30 1"',
    ],
)
def test_a_search_that_is_written_back_means_the_same(typed: str) -> None:
    assert read_box(write_box(read_box(typed))) == read_box(typed)


def test_instants_select_a_part_of_a_day(sealed: Sealed) -> None:
    calls = sealed.calls[4]
    first, last = calls[1]["recording_started_at"], calls[5]["recording_started_at"]
    found = ids(find(sealed.environment, "--since", first, "--until", last))
    assert found == {call["id"] for call in calls[1:5]}


def test_a_length_is_shown_to_the_second(capsys: pytest.CaptureFixture[str]) -> None:
    write_table([Hit(row=Row(recording_id="one", day="2026-11-25", duration_ms=95_000), state="archived")], None)
    assert " 1m35s " in capsys.readouterr().out


@pytest.mark.parametrize("said", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "+1312555x"])
def test_an_inventory_holds_no_formulas(said: str) -> None:
    hit = Hit(row=Row(recording_id="r", day="2026-11-25", from_number=said, to_number="+13125550100"), state="archived")
    (row,) = csv.DictReader(io.StringIO("".join(csv_lines([hit]))))
    assert (row["from_number"], row["to_number"]) == ("'" + said, "+13125550100")


def test_a_catalogue_that_is_locked_or_has_no_room_is_not_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    catalogue = Catalogue(path)
    row = Row(recording_id="r", day="2026-11-25", started_at="2026-11-25T00:00:00.000000Z", key="k")
    with catalogue.writing():
        catalogue.put_rows([row])
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
        with catalogue.writing(), pytest.raises(sqlite3.OperationalError) as locked:
            other.execute("BEGIN IMMEDIATE")
        other.execute(f"PRAGMA max_page_count = {other.execute('PRAGMA page_count').fetchone()[0]}")
        with pytest.raises(sqlite3.OperationalError) as full:
            other.execute("INSERT INTO state VALUES ('large', zeroblob(1000000))")
    for passing in (locked.value, full.value):
        with pytest.raises(CatalogueBusy, match=r"locked|full"):
            catalogue.start_anew(passing)
    assert catalogue.count() == 1 and not list(tmp_path.glob("*.unusable*"))
    catalogue.close()


@pytest.mark.parametrize("name", ["calls #1", "calls?", "100%25"])
def test_a_data_folder_may_have_any_name(name: str, tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / name / "catalogue.sqlite")
    with catalogue.filling(), catalogue.writing():
        catalogue.put_rows([Row(recording_id="r1", day="2026-11-25", key="k")])
    catalogue.close()
    assert [hit.row.recording_id for hit in search(catalogue.path, Query(), EVERYTHING)] == ["r1"]
    assert count(catalogue.path, Query(), EVERYTHING) == 1 and [*search_ids(catalogue.path, ["r1"], EVERYTHING)] == [
        "r1"
    ]
    assert ids_beginning(catalogue.path, "r", 2) == ["r1"]
