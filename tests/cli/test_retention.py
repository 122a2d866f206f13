"""`callvault retention`: what a person sees before and after rules are applied, on a folder with three years of calls."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from lab.clock import Clock, SkewedServer
from lab.processes import free_port, run_callvault
from text.times import format_instant, parse_instant, utc_now
from workers.retention.file import BadRules, read_rules_file

DAY = timedelta(days=1)


def put_recording(root: Path, name: str, ended_at: datetime, **fields: Any) -> str:
    """Write a committed recording of 1,000 bytes, as the documented format has it."""
    folder = layout.recording_folder(ended_at, name)
    audio, key = b"a" * 1000, f"{folder}audio.wav"
    sha256 = hashlib.sha256(audio).hexdigest()
    proof = {"by": "read-back", "algorithm": "sha256", "value": sha256, "version": None}
    ended = format_instant(ended_at)
    recording = {"id": name, "connection_id": "17", "from": "+493012345", "to": "+13125550100", "channels": "dual"}
    recording |= {"recording_started_at": ended, "recording_ended_at": ended, "created_at": ended} | fields
    record = {
        "schema": "callvault.recording/1",
        "recording": recording,
        "objects": [{"key": key, "size": 1000, "sha256": sha256, "content_type": "audio/wav", "proof": proof}],
        "audio": {"format": "wav", "channels": 2, "sample_rate_hz": 8000, "duration_ms": 0, "findings": []},
        "archived_at": format_instant(ended_at + timedelta(hours=1)),
        "event_id": None,
        "found_by": "webhook",
    }
    path = root / folder
    path.mkdir(parents=True)
    (path / "audio.wav").write_bytes(audio)
    (path / "recording.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def here(environment: dict[str, str], archive_folder: Path, tmp_path: Path) -> dict[str, str]:
    """Forty calls over three years, and a file of rules that nobody has applied."""
    for n in range(40):
        at = datetime(2023, 11, 28, 12, tzinfo=UTC) + n * 27 * DAY
        put_recording(archive_folder, f"call-{n:02}", at, connection_id=str(17 + n % 2))
    path = tmp_path / "retention.toml"
    path.write_text('[rules.desk]\nconnections = ["17"]\nkeep = "7 years"\n\n[default]\nkeep = "5 years"\n')
    return environment | {"CALLVAULT_RETENTION_FILE": str(path)}


def retention(here: dict[str, str], *words: str, status: int = 0) -> str:
    done = run_callvault(["retention", *words], here)
    assert done.returncode == status, (done.stdout, done.stderr)
    return done.stderr if status else done.stdout


def report(here: dict[str, str], *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(retention(here, *words, "--json"))
    return found


def write(here: dict[str, str], text: str) -> None:
    Path(here["CALLVAULT_RETENTION_FILE"]).write_text(text)


def test_a_plan_shows_the_file_as_if_applied_and_explain_only_what_is_in_force(
    here: dict[str, str], archive_folder: Path
) -> None:
    plan = report(here, "plan")
    assert (plan["in_force"], plan["number"], plan["looked_at"], plan["commit_records_read"]) == (False, 0, 40, 0)
    assert {one["name"]: one["recordings"] for one in plan["rules"]} == {"desk": 20, "default": 20}
    assert sum(line["recordings"] for line in plan["lines"]) == 40
    assert sum(line["bytes"] for line in plan["lines"] if line["rule"] == "desk") == 20_000
    first = plan["lines"][0]
    assert (first["when"], first["rule"], first["goes"]) == ("2028-12", "default", ["audio", "transcripts"])
    assert report(here, "plan", "--day")["lines"][0]["when"] == "2028-12-25"
    assert "NOT in force" in retention(here, "plan")
    assert not [*archive_folder.glob("retention/*")]
    found = report(here, "explain", "call-00")
    assert (found["terms"], found["kept_for_ever"], found["number"]) == ([], ["audio", "transcripts"], 0)
    assert found["with_file"][0]["ends_at"] == "2030-11-28T12:00:00.000000Z"


def test_audio_in_custom_storage_is_kept_for_ever_whatever_the_rules_say(
    here: dict[str, str], archive_folder: Path
) -> None:
    (path,) = archive_folder.glob("recordings/*/*/*/call-00/recording.json")
    path.write_text(
        path.read_text().replace(f"{path.parent.relative_to(archive_folder)}/audio.wav", "/theirs/audio.wav")
    )
    plan = report(here, "plan")
    assert sum(line["recordings"] for line in plan["lines"]) == 39
    assert (plan["looked_at"], plan["kept_for_ever"]["recordings"]) == (40, 1)
    assert report(here, "apply", "--yes")["earlier"]["recordings"] == 39


def test_a_rule_that_asks_more_than_the_catalogue_knows_reads_the_commit_records(
    here: dict[str, str], archive_folder: Path
) -> None:
    put_recording(archive_folder, "conference", utc_now() - 60 * DAY, source="conference", connection_id="99")
    put_recording(archive_folder, "endless", utc_now() - 60 * DAY, recording_ended_at="", connection_id="99")
    write(here, '[rules.a]\nconnections = "99"\nkeep = "9 years"\n[default]\nkeep = "5 years"\n')
    assert report(here, "plan")["commit_records_read"] == 1, "of the one without an end"
    write(here, '[rules.a]\nsources = "conference"\nkeep = "9 years"\n[default]\nkeep = "5 years"\n')
    plan = report(here, "plan")
    assert (plan["looked_at"], plan["commit_records_read"]) == (42, 42)
    assert {one["name"]: (one["recordings"], one["may_match"]) for one in plan["rules"]} == {
        "a": (42, 41),  # the records of the others do not say what they are
        "default": (0, 0),
    }


def test_applied_rules_count_and_a_changed_file_does_not_until_it_is_applied(
    here: dict[str, str], archive_folder: Path
) -> None:
    applied = report(here, "apply", "--yes", "--by", "Ann")
    assert (applied["is_new"], applied["number"], applied["earlier"]["recordings"]) == (True, 1, 40)
    row = json.loads((archive_folder / layout.retention_key(1)).read_text())
    assert (row["by"], row["grace_seconds"], row["zone"]) == ("Ann", 7 * 86_400, "UTC")
    assert row["file_sha256"] == hashlib.sha256(Path(here["CALLVAULT_RETENTION_FILE"]).read_bytes()).hexdigest()
    assert [one["name"] for one in row["rules"]] == ["desk", "default"]
    (term,) = report(here, "explain", "call-00")["terms"]
    assert (term["rule"], term["ends_at"], term["is_over"]) == ("desk", "2030-11-28T12:00:00.000000Z", False)

    write(here, 'grace = "0d"\n[default]\nkeep = "5 days" # a typo\n')
    assert report(here, "explain", "call-00")["terms"] == [term]
    assert report(here, "plan")["in_force"] is False
    again = run_callvault(["retention", "apply", "--json"], here)
    assert again.returncode == 2
    assert "--yes: missing" in again.stderr
    assert [one.name for one in archive_folder.glob("retention/*")] == ["00000001.json"]

    lines = retention(here, "apply", "--yes")
    assert "- desk: connections=17 keep=7 years" in lines
    assert "~ default: keep=5 years -> keep=5 days" in lines
    assert "goes earlier: 40 recordings, 40.0 kB of audio" in lines
    assert "past their end once the grace (7d) is over: 40 recordings" in lines, "the longer grace of the two counts"
    assert "applied as rules 2; longer periods count now, shorter ones after 7d" in lines
    (short,) = report(here, "explain", "call-00")["terms"]
    row = json.loads((archive_folder / layout.retention_key(2)).read_text())
    assert parse_instant(short["ends_at"]) == parse_instant(row["at"]) + 7 * DAY
    assert "grace" in short["why"]

    write(here, '# mended\n[default]\nkeep = "5 years"\n[rules.desk]\nconnections = 17\nkeep = "7y"\n')
    assert report(here, "plan")["in_force"] is False
    assert "goes later, or stays for ever: 40 recordings" in retention(here, "apply", "--yes")
    assert report(here, "explain", "call-00")["terms"][0]["ends_at"] == term["ends_at"]
    assert report(here, "apply", "--yes")["is_new"] is False
    assert report(here, "plan")["in_force"] is True


def test_a_person_is_asked_and_a_no_applies_nothing(here: dict[str, str], archive_folder: Path) -> None:
    done = run_callvault(["retention", "apply"], here, stdin="n\n")
    assert done.returncode == 1
    assert "These are the first rules: until now, everything is kept for ever." in done.stdout
    assert "nothing was applied" in done.stdout
    assert "standard input has no answer" in retention(here, "apply", status=2)
    assert "locked" not in done.stdout
    locking = {"CALLVAULT_LOCK_BY_RULES": "true", "CALLVAULT_RETENTION_MODE": "compliance"}
    done = run_callvault(["retention", "apply"], here | locking, stdin="n\n")
    assert "locked to the end of its rule (CALLVAULT_LOCK_BY_RULES); nobody can end a lock earlier" in done.stdout
    assert not [*archive_folder.glob("retention/*")]


def test_by_a_clock_that_telnyx_does_not_share_nothing_is_applied(
    here: dict[str, str], archive_folder: Path, tmp_path: Path
) -> None:
    """By a clock that is a year behind, the grace would be over before it has begun."""
    clock = Clock(tmp_path, "machine", -365 * 86_400)
    behind = here | clock.environment
    assert "clock and the Redis server's differ by 365d" in retention(behind, "apply", "--yes", status=1)
    server = SkewedServer(tmp_path / "redis", clock)
    server.start()
    try:
        said = retention(behind | {"REDIS_URL": server.url}, "apply", "--yes", status=1)
    finally:
        server.stop()
    assert "this machine's clock and Telnyx's differ by 365d" in said
    assert "nothing was applied. Synchronize this machine and the Redis server with NTP" in said
    nobody = f"http://127.0.0.1:{free_port()}/v2"
    said = retention(here | {"TELNYX_BASE_URL": nobody}, "apply", "--yes", status=1)
    assert (
        "callvault: Telnyx does not tell the time (ConnectError), and the grace counts from now; nothing was applied"
        in said
    )
    assert f"nothing was applied. Run the command again once {nobody} answers here" in said
    assert not [*archive_folder.glob("retention/*")]


def test_explain_reads_the_archive_and_names_what_holds_a_recording(here: dict[str, str], archive_folder: Path) -> None:
    write(
        here,
        'zone = "Europe/Berlin"\n[rules.inbound]\ndirection = "inbound"\nkeep = "9 years"\n[default]\nkeep = "1 year"',
    )
    retention(here, "apply", "--yes")
    put_recording(archive_folder, "odd-one", utc_now() - 40 * DAY, recording_ended_at="1970-01-01T00:00:00Z")
    done = run_callvault(["deletions", "hold", "odd-one", "--why", "case 17"], here)
    assert "odd-one is on hold" in done.stdout
    found = report(here, "explain", "odd-one")
    assert [(one["scope"], one["why"]) for one in found["holds"]] == [("recording", "case 17")]
    assert "cannot all be right" in found["counted_from_what"]
    assert [(one["rule"], one["fit"], one["missing"]) for one in found["rules"][:2]] == [
        ("inbound", "may match", ["direction"]),
        ("default", "default", []),
    ]
    assert found["terms"][0]["ends_at_local"][-6:] in ("+01:00", "+02:00")
    lines = retention(here, "explain", "odd-one")
    assert "kept by a hold on it, whatever the rules say: case 17" in lines
    assert "(Europe/Berlin)" in lines


def test_what_rules_have_disposed_of_is_not_planned_again(here: dict[str, str], archive_folder: Path) -> None:
    write(here, 'grace = "0s"\n[default]\nkeep = "1 month"\n')
    retention(here, "apply", "--yes")
    before = report(here, "plan")["over"]["recordings"]
    folder = put_recording(archive_folder, "half-gone", utc_now() - 60 * DAY)
    gone = {"key": f"{folder}audio.wav", "size": 1000, "sha256": "0" * 64}
    said = {"schema": "callvault.disposal/1", "recording_id": "half-gone", "number": 1, "goes": ["audio"]}
    said |= {"objects": [gone], "why": "x", "by": "y", "rule": "default", "rules_number": 1}
    said |= {"ended_at": format_instant(utc_now()), "disposed_at": format_instant(utc_now())}
    path = archive_folder / layout.disposal_key(folder, 1)
    path.parent.mkdir()
    path.write_text(json.dumps(said))
    (archive_folder / folder / "audio.wav").unlink()
    found = report(here, "explain", "half-gone")
    assert (found["gone"], found["kept_for_ever"]) == (["audio"], [])
    assert report(here, "plan")["over"]["recordings"] == before


def test_the_doctor_says_whether_the_file_is_in_force(here: dict[str, str]) -> None:
    def row() -> tuple[bool, str]:
        checks = json.loads(run_callvault(["doctor", "--json"], here).stdout)["checks"]
        (found,) = [one for one in checks if one["check"] == "retention rules"]
        return found["advice"] == "", found["found"]

    assert row() == (False, "the rules of retention.toml were never applied, so everything is kept for ever")
    retention(here, "apply", "--yes")
    assert row() == (True, "rules 1 are in force")
    write(here, '[default]\nkeep = "4 years"\n')
    assert row() == (False, "retention.toml differs from rules 1 in force: default, desk")


def test_rules_that_cannot_be_read_stop_every_command_with_one_line(here: dict[str, str], archive_folder: Path) -> None:
    retention(here, "apply", "--yes")
    (archive_folder / layout.retention_key(2)).write_text("{}")
    for words in (["plan"], ["explain", "call-00"], ["apply", "--yes"]):
        said = retention(here, *words, status=1).splitlines()[-1]
        assert said.startswith("callvault: retention/00000002.json: not retention rules")
        assert "nothing is disposed of until it can be read" in said


BAD: list[tuple[str, str]] = [
    ("", "has no rule"),
    ("x =", "invalid TOML"),
    ("[rule.a]\nkeep = '1 day'", "unknown field 'rule'"),
    ("[rules.a]\nconnection = '1'\nkeep = '1 day'", "unknown field 'connection'"),
    ("[rules.a]\nconnections = '1'", "keep is missing"),
    ("[rules.a]\nkeep = '1 day'", "has no condition"),
    ("[rules.default]\nconnections = '1'\nkeep = '1 day'", "write it as [default]"),
    ("[rules.a]\nconnections = []\nkeep = '1 day'", "expected one or several texts"),
    ("[rules.a]\nnumbers = '030 12'\nkeep = '1 day'", "is not a number with its country"),
    ("[rules.a]\nnumbers = '+49 (0)30 12*'\nkeep = '1 day'", "leave out the (0)"),
    ("[rules.a]\nnumbers = '@*.example'\nkeep = '1 day'", "is not a number with its country"),
    ("[rules.a]\nconnections = '17*'\nkeep = '1 day'", "cannot be the ID of a connection"),
    ("[rules.a]\nnumbers = '*'\nkeep = '1 day'", "is not a number with its country"),
    ("[rules.a]\nnumbers = '@'\nkeep = '1 day'", "is not a number with its country"),
    ("[rules.a]\nchannels = true\nkeep = '1 day'", "expected a number"),
    ("[rules.a]\ndirection = 'in'\nkeep = '1 day'", "expected inbound or outbound"),
    ("[default]\nkeep = 5", "is not a period"),
    ("[default]\nkeep = '0 days'", "not between 1 day and 100 years"),
    ("[default]\nkeep = '101 years'", "not between 1 day and 100 years"),
    ("[default]\nkeep = '5 m'", "is not a period"),
    ("[default]\nkeep = '5 years'\ngoes = 'audio'\nstays = 'hashes'", "leave one of the two out"),
    ("zone = '../UTC'\n[default]\nkeep = '5 years'", "is not a time zone"),
    ("zone = 'localtime'\n[default]\nkeep = '5 years'", "is not a time zone"),
    ("zone = 'europe/berlin'\n[default]\nkeep = '5 years'", "is not a time zone"),
    ("zone = 1\n[default]\nkeep = '5 years'", "is not a time zone"),
    ("grace = '1.5s'\n[default]\nkeep = '5 years'", "whole seconds"),
    ("default = 5", "expected a table"),
]


@pytest.mark.parametrize(("text", "why"), BAD)
def test_a_file_with_a_mistake_is_refused_with_one_line(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(text)
    with pytest.raises(BadRules) as refused:
        read_rules_file(path)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_example_of_the_document_is_a_file_that_can_be_applied(here: dict[str, str], archive_folder: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "retention.md").read_text()
    section = document.split("## Write the rules")[1].split("The name of a rule")[0]
    example = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    write(here, example)
    assert report(here, "apply", "--yes")["is_new"]
    row = json.loads((archive_folder / layout.retention_key(1)).read_text())
    names = ["trading-desk", "clinic", "marketing", "conferences-in-words", "default"]
    assert [one["name"] for one in row["rules"]] == names
    (term,) = report(here, "explain", "call-00")["terms"]
    assert (term["rule"], term["ends_at"]) == ("clinic", "2029-11-28T12:00:00.000000Z")
