"""Grants with a scope: of API tokens, of entries of the access file, and what `access check` says of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from archive import layout
from archive.decision_records import ApiToken
from lab.processes import callvault_here, receiver, run_callvault
from tests.service.company import FOREIGN, GERMAN, INSIDE, OURS, OUTSIDE, THEIRS, UNKNOWN, Company
from tests.service.test_roles import bearer, make_token
from workers.api_tokens import grant_of


def test_a_token_says_its_limits_and_earlier_versions_take_it_for_dead(company: Company) -> None:
    limits = ["--connection", OURS, "--connection", "x.y", "--number", "+49", "--mask"]
    row = make_token(company.settings, "listener", *limits, name="CRM")
    assert (row["connections"], row["numbers"], row["mask"]) == ([OURS, "x.y"], ["+49"], True)
    status, output = callvault_here(["tokens", "list"], company.settings)
    assert status == 0 and f"CRM (for connections {OURS}, x.y and number +49, numbers masked)\n" in output
    path = company.small.root / layout.api_token_key(row["id"], 1)
    kept = json.loads(path.read_text())
    assert kept["schema"] == "callvault.api-token/2", "a version without scopes reads the first schema alone"
    assert company.found(bearer(row["token"])) == ([INSIDE], 1)
    mistakes: tuple[dict[str, Any], ...] = (
        {"numbers": ["49"]},
        {"connections": []},
        {"role": "auditor"},
        {"role": "boss"},
    )
    for unusable in mistakes:
        assert grant_of(msgspec.convert(kept | unusable, ApiToken)) is None, "it lets nobody do anything"
    plain = make_token(company.settings, "listener", name="plain")
    written = (company.small.root / layout.api_token_key(plain["id"], 1)).read_text()
    assert "connections" not in written and json.loads(written)["schema"] == "callvault.api-token/1"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--role", "auditor", "--number", "+49"],
            "--role: the role auditor cannot have a scope, because it concerns the",
        ),
        (["--role", "listener", "--number", "49"], "--number: '49' is not the beginning of a number, such as +49"),
        (["--role", "listener", "--connection", "a b"], "--connection: 'a b' is not the id of a connection"),
    ],
)
def test_a_scope_that_cannot_be_used_is_refused_in_one_line(arguments: list[str], expected: str) -> None:
    done = run_callvault(["tokens", "create", "x", *arguments])
    assert (done.returncode, done.stdout) == (2, "") and expected in done.stderr, done.stderr


ACCESS = f"""
[groups]
support = {{ role = "listener", connections = ["{OURS}"], mask = true }}
german = {{ role = "listener", numbers = ["+49"] }}
everything = "listener"
voice = "operator"
auditors = "auditor"
leads = ["listener", {{ role = "officer", connections = ["{OURS}"] }}]
"""


@pytest.fixture
def access_file(tmp_path: Path) -> Path:
    path = tmp_path / "access.toml"
    path.write_text(ACCESS)
    return path


def test_access_check_says_whether_somebody_may_hear_a_recording_and_why(company: Company, access_file: Path) -> None:
    def check(recording: str, *groups: str) -> tuple[int, list[str]]:
        asked = [part for group in groups for part in ("--group", group)]
        arguments = ["access", "check", *asked, "--recording", recording, "--file", str(access_file)]
        status, output = callvault_here(arguments, company.settings)
        return status, output.splitlines()

    support, german = (
        f"listener for connection {OURS}, numbers masked (group support)",
        "listener for number +49 (group german)",
    )
    within = [f"may hear recording {INSIDE}, numbers masked", f"yes  {support}: it is within the scope"]
    assert check(INSIDE, "support") == (0, within)
    both = [
        f"may hear recording {INSIDE}",
        f"yes  {support}: it is within the scope",
        f"yes  {german}: it is within the scope",
    ]
    assert check(INSIDE, "support", "german") == (0, both)
    assert check(OUTSIDE, "support", "german", "voice") == (
        1,
        [
            f"may not hear recording {OUTSIDE}",
            f"no   {support}: its connection is {THEIRS}",
            f"no   {german}: neither number begins so: {FOREIGN} and +15550001111",
            "no   operator (group voice): this role hears no recording",
        ],
    )
    assert check(OUTSIDE, "everything") == (
        0,
        [f"may hear recording {OUTSIDE}", "yes  listener (group everything): all recordings"],
    )
    assert check(INSIDE, "none")[1][1].startswith("no role: no entry of ")
    status, output = callvault_here(
        ["access", "check", "--group", "support", "--recording", OUTSIDE, "--file", str(access_file), "--json"],
        company.settings,
    )
    report = json.loads(output)
    assert (status, report["may_hear"], report["because"][0]["reaches"]) == (1, False, False)


def test_a_lead_hears_all_recordings_and_holds_those_within_the_scope(
    company: Company, access_file: Path, tmp_path: Path
) -> None:
    proxy = {"CALLVAULT_PROXY_USER_HEADER": "X-User", "CALLVAULT_PROXY_GROUPS_HEADER": "X-Groups"}
    proxy |= {"CALLVAULT_PROXY_ADDRESSES": "127.0.0.1", "CALLVAULT_ACCESS_FILE": str(access_file)}
    settings = company.settings | proxy | {"CALLVAULT_DATA": str(tmp_path / "data-of-another")}
    with receiver(settings) as (client, _):
        client.headers.update({"X-User": "lea", "X-Groups": "leads"})
        first = client.get("/ops/recordings")
        assert set(re.findall(r"/ops/recordings/([0-9a-f-]{36})", first.text)) == {INSIDE, OUTSIDE}
        forms = {one: "/ops/deletions/hold" in client.get(f"/ops/recordings/{one}").text for one in (INSIDE, OUTSIDE)}
        assert forms == {INSIDE: True, OUTSIDE: False}
        csrf = first.text.partition('X-CSRF-Token": "')[2].partition('"')[0]
        answers = [
            client.post("/ops/deletions/hold", data={"id": one, "why": "a case", "csrf": csrf})
            for one in (INSIDE, OUTSIDE)
        ]
        assert [answer.status_code for answer in answers] == [303, 403]
        assert f"officer for connection {OURS}, and recording {OUTSIDE} is outside" in answers[1].text
        client.headers["X-Groups"] = "support,auditors"
        seen_otherwise = client.get(f"/ops/recordings/{OUTSIDE}")
        assert seen_otherwise.status_code == 403, "an auditor sees in inventories that it is there"
        assert client.get(f"/ops/recordings/{UNKNOWN}").status_code == 404
        client.headers["X-Groups"] = "support"
        assert client.get(f"/ops/recordings/{OUTSIDE}").status_code == 404, "whoever loses a group loses it at once"
        page = client.get("/ops/recordings").text
        assert "Your role shows recordings for connection our trunk." in page and GERMAN not in page
