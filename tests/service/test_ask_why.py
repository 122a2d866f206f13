"""Where CALLVAULT_ASK_WHY wants a reason, nothing is shown or taken without one, and the line has it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.processes import receiver as _receiver
from lab.processes import run_callvault
from lab.servers import RunningSandbox
from tests.audio.build import pcm, wav
from tests.seals.small import SmallArchive, ago
from tests.service.test_access_log import ARCHIVE_ID, TOKEN, environment, in_redis, signed_in
from workers.keys import ACCESS_WAITING

ONE = "/ops/recordings/11-one"
PROGRAM = {"Authorization": f"Bearer {TOKEN}"}
EVERYTHING = "look,listen,download,export,inventory"


@pytest.fixture
def small(tmp_path: Path) -> SmallArchive:
    return SmallArchive(tmp_path / "archive", {"id": ARCHIVE_ID})


@contextmanager
def receiver(redis_url: str, small: SmallArchive, asked: str) -> Iterator[tuple[httpx.Client, Any]]:
    with _receiver(environment(redis_url, small, CALLVAULT_ASK_WHY=asked)) as both:
        yield both


def lines(redis: Any) -> list[tuple[str, str]]:
    """The word and the reason of each line but sign-ins."""
    return [(row["what"], row.get("why", "")) for row in in_redis(redis) if row["what"] != "sign-in"]


def give(client: httpx.Client, page: httpx.Response, why: str, button: str) -> httpx.Response:
    """Fill in the form of a page that has this button, as a browser does."""
    forms = re.findall(r'<form class="line why".*?</form>', page.text, re.DOTALL)
    (form,) = [one for one in forms if f">{button}</button>" in one]
    fields = {name: html.unescape(value) for name, value in re.findall(r'name="(csrf|next)" value="([^"]*)"', form)}
    return client.post("/ops/why", data=fields | {"why": why}, follow_redirects=True)


def test_a_program_needs_a_reason_and_the_answer_names_the_header_and_the_parameter(
    redis_url: str, redis: Any, small: SmallArchive
) -> None:
    day = f"/ops/evidence/{ago(11).isoformat()}/recordings.csv"
    small.recording(11, "11-two", audio=wav(pcm(1)))
    with receiver(redis_url, small, EVERYTHING) as (client, _):
        for path, what in (
            ("/api/recordings/11-one", "read"),
            ("/ops/recordings/11-two/levels.json", "levels"),
            (f"{ONE}/audio.wav", "play"),
            (f"{ONE}/audio.wav?download=1", "download"),
            ("/ops/recordings.csv?id=11-one", "export"),
            (day, "inventory"),
        ):
            before = lines(redis)
            refused = client.get(path, headers=PROGRAM)
            assert refused.status_code == 428 and "audio of" not in refused.text, path
            assert "X-Callvault-Why" in refused.text and "parameter `why`" in html.unescape(refused.text).replace(
                "<code>", "`"
            ).replace("</code>", "`"), refused.text
            assert lines(redis) == before, "what was not shown is no line"
            reason = {b"X-Callvault-Why": "Fall 17, prüfen".encode()}
            by_header = client.get(
                path, headers={name.encode(): text.encode() for name, text in PROGRAM.items()} | reason
            )
            by_parameter = client.get(path, params={**httpx.URL(path).params, "why": "case 18"}, headers=PROGRAM)
            assert (by_header.status_code, by_parameter.status_code) == (200, 200), path
            assert lines(redis)[len(before) :] == [(what, "Fall 17, prüfen"), (what, "case 18")], path
        blank = client.get(f"{ONE}/audio.wav?why=%20%20", headers=PROGRAM)
        too_long = client.get(f"{ONE}/audio.wav", headers=PROGRAM | {"X-Callvault-Why": "x" * 201})
        assert (blank.status_code, too_long.status_code) == (428, 400)
        assert client.get("/api/recordings", headers=PROGRAM).status_code == 200, "a search asks for none"
        assert client.get("/ops/recordings/none/audio.wav", headers=PROGRAM).status_code == 404


def test_a_person_is_asked_once_for_a_recording_and_anew_for_the_next(
    redis_url: str, redis: Any, small: SmallArchive
) -> None:
    with receiver(redis_url, small, "listen,download") as (_, process), signed_in(process) as (ann, csrf):
        export = {"id": "none", "csrf": csrf}
        assert ann.post("/ops/exports/link", data=export).status_code == 428, (
            "whoever has the address downloads without one"
        )
        page = ann.get(ONE)
        assert page.status_code == 200 and "<audio" not in page.text and "Download" not in page.text
        assert ann.get(f"{ONE}/audio.wav").status_code == 428
        shown = give(ann, page, "case 17", "Show the player")
        assert shown.status_code == 200 and "<audio" in shown.text and str(shown.url).endswith(ONE)
        for n in range(3):
            answer = ann.get(f"{ONE}/audio.wav", headers={"Range": f"bytes={n}-{n}"})
            assert answer.status_code == 206
        assert ann.get(f"{ONE}/audio.wav?download=1").status_code == 200
        taken = [line for line in lines(redis) if line[0] in ("play", "download")]
        assert taken == [("play", "case 17"), ("download", "case 17")]
        assert ann.get("/ops/recordings/11-two/audio.wav").status_code == 428, "it was given for the other recording"
        for link in ("/ops/recordings/11-two/audio.wav?why=case+17", "/api/recordings/11-two/audio.wav?why=case+17"):
            assert ann.get(link).status_code == 428, "a link gives no reason"
        header = {"X-Callvault-Why": "case 17"}  # no link sends one
        assert ann.get("/api/recordings/11-two/audio.wav", headers=header).status_code == 200
        (cookie,) = [one for one in ann.cookies.jar if one.name == "callvault_why"]
        assert cookie.path == ONE
        with signed_in(process, "Ben") as (ben, _):
            ben.cookies.set("callvault_why", cookie.value or "", domain="127.0.0.1", path=ONE)
            assert ben.get(f"{ONE}/audio.wav").status_code == 428, "it was given in another session"


def test_a_page_that_may_not_be_opened_without_a_reason_asks_and_then_opens(
    redis_url: str, redis: Any, small: SmallArchive
) -> None:
    with receiver(redis_url, small, "look,export,inventory") as (_, process), signed_in(process) as (ann, csrf):
        asked = ann.get(f"{ONE}?text=hello")
        assert asked.status_code == 428 and "Say why you open a recording" in asked.text
        assert "blockquote" not in asked.text and lines(redis) == []
        opened = give(ann, asked, "case 17", "Continue")
        assert opened.status_code == 200 and "History" in opened.text and opened.url.query == b"text=hello"
        assert lines(redis) == [("look", "case 17")]
        anew = ann.get("/ops/recordings/11-two", headers={"HX-Request": "true"})
        assert (anew.status_code, anew.headers["hx-refresh"]) == (428, "true"), "the whole page asks"
        taken = give(ann, ann.get("/ops/recordings?q=id:11-one"), "case 18", "Export")
        assert taken.headers["content-type"].startswith("text/csv") and "11-one" in taken.text
        assert lines(redis)[-1] == ("export", "case 18")
        assert ann.get("/ops/recordings.csv?q=id:11-two").status_code == 428, "another search asks anew"
        day = f"/ops/evidence/{ago(11).isoformat()}"
        assert give(ann, ann.get(day), "audit", "Take the inventory").headers["content-type"].startswith("text/csv")
        form = {"ids": "11-one", "csrf": csrf}
        assert ann.post("/ops/recordings/export", data=form).status_code == 428
        assert ann.post("/ops/recordings/export", data=form | {"why": "case 19"}).status_code == 200
        assert lines(redis)[-2:] == [("inventory", "audit"), ("export", "case 19")]
        assert ann.post("/ops/evidence/share", data={"day": day[-10:], "csrf": csrf}).status_code == 428


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"why": "x", "next": "https://evil.example/"}, 400),
        ({"why": "x", "next": "//evil.example/ops/"}, 400),
        ({"why": " ", "next": ONE}, 400),
        ({"why": "x" * 201, "next": ONE}, 400),
        ({"why": "x", "next": f"{ONE}\r\nSet-Cookie: a=b"}, 400),
        ({"why": "x", "next": f"{ONE};path=/"}, 303),
    ],
)
def test_a_reason_leads_nowhere_else_and_sets_no_other_cookie(
    form: dict[str, str], status: int, redis_url: str, small: SmallArchive
) -> None:
    with receiver(redis_url, small, "listen") as (_, process), signed_in(process) as (ann, csrf):
        assert ann.post("/ops/why", data=form).status_code == 403, "not without the token of the session"
        done = ann.post("/ops/why", data=form | {"csrf": csrf})
        assert done.status_code == status, done.text
        if status == 303:
            assert done.headers["location"].startswith("/ops/recordings/11-one%3B")
            assert "Path=/ops/recordings/11-one%3Bpath%3D" in done.headers["set-cookie"]


def test_commands_need_the_option_and_the_line_has_the_reason(
    redis_url: str, redis: Any, small: SmallArchive, tmp_path: Path
) -> None:
    settings = environment(redis_url, small, CALLVAULT_ASK_WHY="look,download,export")
    for number, (command, act) in enumerate(
        (
            (["get", "11-one", "--out", str(tmp_path / "a.wav")], "take a copy of the audio"),
            (["get", "11-one", "--transcript"], "open a recording, or read it or its transcript"),
            (["export", "id:11-one", "--out", str(tmp_path / "out")], "export recordings or a list of them"),
            (["find", "id:11-one", "--csv"], "export recordings or a list of them"),
        )
    ):
        refused = run_callvault(command, settings)
        assert refused.returncode == 2 and refused.stdout == ""
        assert refused.stderr == f"callvault: --why: missing; CALLVAULT_ASK_WHY wants a reason to {act}\n"
        assert redis.llen(ACCESS_WAITING + ARCHIVE_ID) == number
        if "--transcript" not in command:  # this recording has none
            assert run_callvault([*command, "--why", "case 17"], settings).returncode == 0
        else:
            redis.rpush(ACCESS_WAITING + ARCHIVE_ID, b"{}")
    rows = in_redis(redis)
    assert [row.get("why") for row in rows] == ["case 17", None, "case 17", "case 17"]
    assert [row.get("what") for row in rows] == ["get", None, "export", "export"], (
        "as CALLVAULT_UNUSUAL_RECORDINGS counts"
    )


def test_what_a_command_does_at_telnyx_needs_a_reason_too(
    redis_url: str, redis: Any, small: SmallArchive, sandbox: RunningSandbox, tmp_path: Path
) -> None:
    settings = sandbox.environment | environment(redis_url, small, CALLVAULT_ASK_WHY="telnyx")
    recording_id = sandbox.world.add_recording(seconds=0.25).data["id"]
    document = tmp_path / "telnyx.toml"
    document.write_text("")
    assert run_callvault(["deletions", "holds"], settings).returncode == 0, "Redis now belongs to the archive"
    for command in (
        ["telnyx", "recordings", "retrieve", recording_id],
        ["telnyx", "recordings", "delete", recording_id],
        ["connections", "apply", str(document)],
    ):
        refused = run_callvault(command, settings)
        assert (refused.returncode, refused.stdout) == (2, ""), refused.stderr
        assert refused.stderr.startswith(
            "callvault: --why: missing; CALLVAULT_ASK_WHY wants a reason to see recordings at"
        )
        done = run_callvault([*command, "--why", "case 17"], settings)
        assert done.returncode == 0, done.stderr
    assert [(row["what"], row["why"]) for row in in_redis(redis)] == [("telnyx", "case 17")] * 2, (
        "nothing to apply: no line"
    )
    shows_none = run_callvault(["telnyx", "uploads", "list", "--help"], settings)
    assert "--why" not in shows_none.stdout, "a look at the configuration writes no line"


def test_a_word_that_is_not_known_stops_the_start() -> None:
    done = run_callvault(["config"], {"CALLVAULT_ASK_WHY": "listen,hear"})
    assert done.returncode == 2 and "CALLVAULT_ASK_WHY: cannot use 'listen,hear'" in done.stderr
    assert "expected words from look, listen, download, export, telnyx, inventory" in done.stderr
