"""Roles with a scope: outside it a recording does not exist, whatever way somebody takes; and masked numbers."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from archive import layout
from service.ops import view
from service.ops.may import EVERYONE, assert_guarded
from service.ops.page import Change, File, Operation, Page
from service.ops.site import _Door, _unknown, routes
from service.ops.tables import CHANGES, FILES, OPERATIONS, PAGES
from tests.seals.small import ago
from tests.service.company import (
    DAY,
    FOREIGN,
    GERMAN,
    INSIDE,
    LATER,
    OURS,
    OUTSIDE,
    SECRETS,
    THEIRS,
    UNKNOWN,
    Company,
    add,
)
from tests.service.test_roles import make_token

LIMITS = (("--connection", OURS), ("--number", "+49"), ("--connection", OURS, "--number", "+49", "--number", "+7"))


def _path(path: str, recording_id: str) -> str:
    values = {"recording_id": recording_id, "audio_format": "wav", "day": ago(DAY).isoformat()}
    values |= {"case_id": "none"}
    values |= {"sequence:int": "1", "name": "0000000001.json", "export_id": f"20260102T000000.000000Z-{'0' * 16}"}
    return re.sub(r"\{([^}]+)\}", lambda found: values[found[1]], path)


def _requests(recording_id: str) -> Iterator[tuple[Page | File | Change | Operation, str, str, dict[str, str]]]:
    """Each row of the tables: the method, path and form of a request about a recording; of an operation its body."""
    for page in PAGES:
        for path in (f"/ops{page.path}", f"/api{page.path or '/overview'}"):
            yield page, "GET", _path(path, recording_id), {}
    for file in FILES:
        yield file, file.method, _path(file.path, recording_id), {"ids": recording_id} if file.method == "POST" else {}
    for one in OPERATIONS:
        yield one, one.method, _path(one.path, recording_id), {} if one.body is None else {"why": "a test"}
    for path, change in CHANGES.items():
        values = {"id": recording_id, "ids": recording_id, "why": "a test"}
        yield (
            change,
            "POST",
            f"/ops{path}",
            {name: values.get(name, "x") for name in dict.fromkeys((*change.fields, "why"))},
        )


def test_every_row_of_the_tables_keeps_a_scope(company: Company) -> None:
    for role, limits in itertools.product(("listener", "officer"), LIMITS):
        _assert_rows_keep(role, limits, company)


def _assert_rows_keep(role: str, limits: tuple[str, ...], company: Company) -> None:
    headers = company.who(role, *limits)
    before = company.written()
    for about in (INSIDE, OUTSIDE):
        for row, method, path, form in _requests(about):
            if role not in row.may:
                continue
            sent: dict[str, Any] = {"json": form} if isinstance(row, Operation) and form else {"data": form}
            answer = company.ask(method, path, headers, **sent)
            case = (role, limits, method, path, answer.status_code, answer.text[:300])
            if row.scoped in ("whole", "full"):
                is_start = path == "/ops" and answer.headers.get("location") == "/ops/recordings"
                assert is_start or (answer.status_code == 403 and "concerns the whole archive" in answer.text), case
                continue
            names_it = row.scoped == "one" or "ids" in form
            if about == OUTSIDE and names_it:
                unknown = {name: value.replace(OUTSIDE, UNKNOWN) for name, value in form.items()}
                sent = dict.fromkeys(sent, unknown)
                same = company.ask(method, path.replace(OUTSIDE, UNKNOWN), headers, **sent)
                assert answer.status_code == same.status_code == 404, case
                assert _without_chance(answer.text).replace(OUTSIDE, UNKNOWN) == _without_chance(same.text), case
            elif method == "GET":
                assert answer.status_code == (400 if path.endswith("access-log") else 200), case
                assert not [secret for secret in SECRETS if secret in answer.text], case
        if about == OUTSIDE:
            continue
        done = company.written() - before
        assert all(OUTSIDE not in key for key in done) and bool(done) is (role == "officer"), done
        before = company.written()
    assert company.written() == before, "nothing is written about what is outside"


def _without_chance(page: str) -> str:
    """A page without what differs from one request to the next."""
    return re.sub(r'(X-CSRF-Token": "|name="csrf" value=")[^"]*|<time[^>]*>[^<]*</time>', "", page)


def test_nothing_but_the_view_of_a_person_asks_the_catalogue_for_recordings() -> None:
    asks = re.compile(
        r"catalogue\.ask\(|catalogue\.search import .*\b(search|count|search_ids|search_all|ids_beginning)\b"
    )
    folder = Path(view.__file__).parent
    assert [path.name for path in sorted(folder.glob("*.py")) if asks.search(path.read_text())] == ["view.py"]


@pytest.mark.parametrize("row", [Page, File, Change, Operation, _Door])
def test_a_row_that_does_not_say_how_it_treats_a_scope_cannot_be_made(row: Any) -> None:
    arguments = {Page: ("",) * 6, File: ("",) * 4, Change: ("",) * 4, Operation: ("",) * 7, _Door: ("",)}[row]
    with pytest.raises(TypeError, match="scoped"):
        row(*arguments, **({"may": EVERYONE} if row is _Door else {}))
    unknown: dict[str, Any] = {"may": EVERYONE, "scoped": "some"}
    with pytest.raises(TypeError, match="/ops/new: no row says how it treats a role with a scope"):
        assert_guarded([*routes(), Route("/ops/new", _Door(_unknown, **unknown))])


def test_whoever_has_no_scope_sees_all_of_it(company: Company) -> None:
    headers = company.who("officer")
    text = "".join(
        company.client.request(method, path, headers=headers).text
        for row, method, path, _ in _requests(OUTSIDE)
        if method == "GET" and "officer" in row.may and row.scoped not in ("whole", "full")
    )
    assert not [secret for secret in SECRETS if secret not in text]


def test_no_search_finds_or_counts_what_is_outside(company: Company) -> None:
    for limits in LIMITS:
        _assert_searches_keep(limits, company)


def _assert_searches_keep(limits: tuple[str, ...], company: Company) -> None:
    headers = company.who("listener", *limits)
    for query in (
        {},
        {"session": "call"},
        {"number": "+15550001111"},
        {"q": "please"},
        {"since": ago(DAY).isoformat()},
        {"state": "kept"},
        {"q": INSIDE},
    ):
        assert company.found(headers, **query) == ([INSIDE], 1), query
    for query in (
        {"q": OUTSIDE},
        {"id": OUTSIDE},
        {"id": UNKNOWN},
        {"connection": THEIRS},
        {"number": FOREIGN},
        {"number": "0147"},
        {"text": "zebra"},
        {"leg": f"leg-of-{THEIRS}"},
        {"state": "held"},
        {"min_duration": "2s"},
    ):
        assert company.found(headers, **query) == ([], 0), query
    assert company.api(f"/recordings/{INSIDE}", headers)["related"] == []
    assert company.api(f"/recordings/{INSIDE}", company.who("listener"))["related"][0]["row"]["recording_id"] == OUTSIDE


def test_a_page_goes_on_after_a_recording_within_the_scope_alone(company: Company) -> None:
    """The place of a hit in the catalogue would tell how many recordings there are."""
    headers = company.who("listener", "--connection", OURS)
    (hit,) = company.api("/recordings", headers)["hits"]
    assert hit["place"] == INSIDE
    assert company.found(headers, after=INSIDE) == ([], 1)
    whole = company.api("/recordings", company.who("listener"))["hits"]
    refused = [
        company.client.get("/api/recordings", headers=headers, params={"after": one}) for one in (OUTSIDE, UNKNOWN)
    ]
    refused += [company.client.get("/api/recordings", headers=headers, params={"after": hit["place"]}) for hit in whole]
    assert {(one.status_code, one.text) for one in refused} == {(400, refused[0].text)}


def test_a_record_that_says_otherwise_counts_more_than_the_catalogue(company: Company) -> None:
    headers = company.who("officer", "--connection", OURS)
    one = f"/api/recordings/{INSIDE}"
    assert company.client.get(one, headers=headers).status_code == 200
    path = company.small.root / layout.commit_key(company.small.folder(DAY, INSIDE))
    path.write_text(path.read_text().replace(OURS, THEIRS))
    answers = [company.client.get(one, headers=headers)]
    answers.append(company.client.get(f"/ops/recordings/{INSIDE}/audio.wav", headers=headers))
    answers.append(company.client.post("/ops/deletions/hold", headers=headers, data={"id": INSIDE, "why": "x"}))
    path.write_text("not a record")
    answers.append(company.client.get(one, headers=headers))
    assert [answer.status_code for answer in answers] == [404] * 4
    assert company.client.get(one, headers=company.who("officer")).status_code == 200, "it is shown as damaged"


def test_of_several_recordings_those_outside_stay_as_they_are(company: Company) -> None:
    add(company.small, LATER, OURS, GERMAN, "one more")
    headers = company.who("officer", "--connection", OURS)
    assert set(company.found(company.who("officer"), session="call")[0]) >= {INSIDE, OUTSIDE}
    before = company.written()
    form = {"ids": [INSIDE, OUTSIDE, UNKNOWN], "why": "a case"}
    answer = company.client.post("/ops/recordings/hold", headers=headers, data=form)
    assert answer.status_code == 207 and "1 recording is on hold" in answer.text, answer.text
    assert f"{OUTSIDE}, {UNKNOWN}: not in the archive" in answer.text
    assert all(INSIDE in key for key in company.written() - before) and company.written() != before
    refused = company.client.post("/ops/recordings/hold", headers=headers, data=form | {"ids": [OUTSIDE, UNKNOWN]})
    assert refused.status_code == 404
    exported = company.client.post("/ops/recordings/export", headers=headers, data={"ids": [INSIDE, OUTSIDE, UNKNOWN]})
    assert exported.status_code == 404 and f"{OUTSIDE}, {UNKNOWN}" in exported.text and GERMAN not in exported.text


def test_numbers_are_masked_for_a_role_that_says_so(company: Company) -> None:
    for role in ("listener", "officer", "auditor"):
        headers = company.who(role, "--mask")
        for row, method, path, _ in _requests(INSIDE):
            if role in row.may and method == "GET" and row.scoped not in ("whole", "full"):
                answer = company.client.get(path, headers=headers)
                assert answer.status_code == 200, (path, answer.text)
                assert not [one for one in (GERMAN, FOREIGN, "+15550001111") if one[1:] in answer.text], path
        csv = company.client.get("/ops/recordings.csv", headers=headers)
        assert role != "officer" or "+49" in csv.text, "as it is shown elsewhere"
    for row, method, path, form in _requests(INSIDE):
        if row.scoped == "full":
            refused = company.client.request(method, path, headers=company.who("officer", "--mask"), data=form)
            assert refused.status_code == 403 and "nothing can be masked" in refused.text, path
    detail = company.api(f"/recordings/{INSIDE}", company.who("listener", "--mask"))
    assert detail["record"]["recording"]["from"] == detail["row"]["from_number"] == "+49********78"
    masked = company.who("listener", "--mask")
    for known in (GERMAN, GERMAN[1:], "030 12345678", "30 12345678", "@example.com"):
        assert company.found(masked, number=known)[0] == ([INSIDE] if known[0] != "@" else []), "who knows it finds it"
    for part in ("+49301234", "49301234", "30123456", "012345678", "+4930123456"):
        assert company.found(masked, number=part) == ([], 0), "not after the first eight digits either"
        assert company.found(company.who("listener"), number=part)[0] == [INSIDE], part
    for part in ("+493", "45678", "ann@", "sip:an"):
        guessed = company.client.get("/api/recordings", headers=masked, params={"number": part})
        assert guessed.status_code == 400 and "number: numbers are masked for you" in guessed.text, part
    seen = [one["line"] for one in company.api("/access-log", company.who("auditor"))["entries"]]
    assert {("number:+49301234", 0), (f"number:{GERMAN}", 1)} <= {(one.get("query"), one.get("found")) for one in seen}
    assert company.api(f"/recordings/{INSIDE}", company.who("listener"))["row"]["from_number"] == GERMAN


def test_a_case_finds_no_masked_number_out_digit_by_digit(company: Company) -> None:
    masked, form = company.who("officer", "--mask"), {"name": "a guess", "why": "to count what it holds"}
    before = company.written()
    for part in ("number:+493", "45678", "number:sip:an"):
        guessed = company.client.post("/ops/cases/open", headers=masked, data=form | {"query": part})
        assert guessed.status_code == 400 and "number: numbers are masked for you" in guessed.text, part
    assert company.written() == before, "no case is open"
    for query, headers in ((f"number:{GERMAN}", masked), ("number:+493", company.who("officer"))):
        opened = company.client.post("/ops/cases/open", headers=headers, data=form | {"query": query})
        assert opened.status_code == 303, opened.text


def test_a_case_outside_is_answered_as_one_that_does_not_exist(company: Company) -> None:
    form = {"name": "theirs", "query": f"connection:{THEIRS}", "why": "a letter"}
    officer = company.who("officer")
    assert company.client.post("/ops/cases/open", headers=officer, data=form).status_code == 303
    (case_id,) = [
        one["case"]["id"] for one in company.api("/cases", officer)["cases"] if one["case"]["name"] == "theirs"
    ]
    held, _ = company.found(officer, case=case_id)
    assert OUTSIDE in held and INSIDE not in held
    for limits in LIMITS:
        headers = company.who("listener", *limits)
        outside, unknown = (
            company.client.get("/api/recordings", headers=headers, params={"case": one}) for one in (case_id, "none")
        )
        assert (outside.status_code, unknown.status_code) == (200, 200)
        assert outside.text.replace(case_id, "none") == unknown.text
    unknown = company.client.get("/api/recordings", headers=company.who("listener"), params={"case": "none"})
    assert unknown.status_code == 400, "a person without a scope learns that the id is wrong"


def test_an_officer_with_a_scope_reads_the_access_log_of_one_recording_at_a_time(company: Company) -> None:
    headers, whole = company.who("officer", "--connection", OURS), company.who("officer")
    company.client.post("/ops/recordings/export", headers=whole, data={"ids": [INSIDE, OUTSIDE]})
    company.found(whole, number=FOREIGN)
    company.api(f"/recordings/{OUTSIDE}", whole)
    refused = company.client.get("/api/access-log", headers=headers)
    assert refused.status_code == 400 and "recording: your role is limited to some recordings" in refused.text
    seen = company.api("/access-log", headers, recording=INSIDE)["entries"]
    assert [(one["line"]["what"], one["line"]["recordings"]) for one in seen] == [("export", [INSIDE])]
    assert company.api("/access-log", headers, recording=OUTSIDE) == company.api(
        "/access-log", headers, recording=UNKNOWN
    ) | {"query": {"recording": OUTSIDE}}
    assert len(company.api("/access-log", whole, recording=OUTSIDE)["entries"]) == 2
    shown = company.api(f"/recordings/{INSIDE}", headers)["accesses"]
    assert shown and not [secret for secret in SECRETS if secret in json.dumps(shown)]


def test_who_asks_for_what_is_outside_is_in_the_access_log_whether_it_exists_or_not(company: Company) -> None:
    headers, whole = company.who("officer", "--connection", OURS), company.who("officer")
    for about in (OUTSIDE, UNKNOWN):
        for path in (f"/ops/recordings/{about}", f"/api/recordings/{about}/audio.wav"):
            assert company.ask("GET", path, headers).status_code == 404
        hold = {"ids": [INSIDE, about], "why": "a test"}
        assert company.client.post("/ops/recordings/hold", headers=headers, data=hold).status_code == 207
        entries = company.api("/access-log", whole, recording=about)["entries"]
        assert [
            (one["line"]["what"], one["line"]["recordings"], one["line"]["about"]) for one in reversed(entries)
        ] == [
            ("not-allowed", [about], f"/ops/recordings/{about}"),
            ("not-allowed", [about], f"/api/recordings/{about}/audio.wav"),
            ("not-allowed", [about], "/ops/recordings/hold"),
        ]
    assert company.api("/access-log", headers, recording=OUTSIDE)["entries"] == []


def test_what_failed_for_others_is_not_named_in_the_access_log_of_one_recording(company: Company) -> None:
    whole = company.who("officer")
    held = company.client.post("/ops/deletions/hold", headers=whole, data={"id": INSIDE, "why": "a test"})
    freed = company.client.post("/ops/deletions/release", headers=whole, data={"id": OUTSIDE, "why": "a test"})
    assert (held.status_code, freed.status_code) == (303, 303)
    both = {"ids": f"{INSIDE} {OUTSIDE}", "why": "a test"}
    partly = company.client.post("/ops/recordings/release", headers=whole, data=both)
    assert partly.status_code == 207 and OUTSIDE in partly.text
    scoped = company.who("officer", "--connection", OURS)
    for headers, is_named in ((whole, True), (scoped, False)):
        entries = company.api("/access-log", headers, recording=INSIDE)["entries"]
        (failed,) = [one for one in entries if one["error"] is not None]
        assert (OUTSIDE in failed["error"], OUTSIDE in json.dumps(entries)) == (is_named, is_named), failed
    own = company.client.post("/ops/deletions/release", headers=whole, data={"id": INSIDE, "why": "a test"})
    assert own.status_code == 400
    latest = company.api("/access-log", scoped, recording=INSIDE)["entries"][0]
    assert INSIDE in latest["error"], "what failed for this one alone is said"


def test_the_pages_of_a_role_with_a_scope_offer_what_it_can_use(company: Company) -> None:
    row = make_token(company.settings, "officer", "--connection", OURS)
    with httpx.Client(base_url=company.client.base_url, trust_env=False, timeout=30, follow_redirects=True) as browser:
        signed = browser.post("/ops/sign-in", data={"name": "Eve", "token": row["token"]})
        assert signed.url.path == "/ops/recordings"
        nav = signed.text.partition("<nav")[2].partition("</nav>")[0]
        assert re.findall(r">([A-Z][a-z ]+)</a>", nav) == ["Recordings", "Deletions", "Access log"]
        assert (
            "Your role shows recordings for connection our trunk." in signed.text and "their trunk" not in signed.text
        )
        assert 'class="bad"' not in browser.get("/ops/access-log").text, "nobody has asked for anything wrong yet"
        one, deletions = browser.get(f"/ops/recordings/{INSIDE}"), browser.get("/ops/deletions")
        assert "/ops/deletions/hold" in one.text and "/ops/evidence" not in one.text
        assert "/ops/deletions/pause" not in deletions.text and INSIDE in deletions.text
        refused = browser.get("/ops/evidence").text
        assert "Search recordings" in refused and "overview" not in refused
        for page in (signed, one, deletions):
            for link in re.findall(r'href="(/ops[^"#]*)"', page.text):
                if "/static/" not in link:
                    answer = browser.get(link.replace("&amp;", "&"))
                    assert answer.status_code != 403, link
