"""The evidence of a day on the pages: what is checked of a seal, and what somebody without an account is shown."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from itsdangerous import TimestampSigner, URLSafeTimedSerializer

from archive import layout
from lab.processes import callvault_here, receiver
from tests.seals.conftest import CALLS_A_DAY, Sealed
from tests.seals.small import ago
from text.times import parse_instant, utc_now
from workers.keys import WITNESSED_HEAD

TOKEN = "a-token-for-tests-only"
DAY = ago(4).isoformat()
SEALS = f"/ops/evidence/{DAY}/seals"


@contextmanager
def pages(sealed: Sealed, folder: Path, **more: str) -> Iterator[tuple[httpx.Client, Any, dict[str, str]]]:
    """A receiver on a copy of the archive, a signed-in client of it, and its environment."""
    archive = folder / "archive"
    if not archive.exists():
        sealed.copy(archive)
    own = {"CALLVAULT_ARCHIVE_URL": archive.as_uri(), "CALLVAULT_DATA": str(folder / "data")}
    environment = sealed.environment | own | {"CALLVAULT_OPS_TOKEN": TOKEN} | more
    with receiver({name: value for name, value in environment.items() if value}) as (client, process):
        if environment["CALLVAULT_OPS_TOKEN"]:
            form = {"name": "Ada", "token": environment["CALLVAULT_OPS_TOKEN"]}
            assert client.post("/ops/sign-in", data=form).status_code == 303
        yield client, process, environment


def seal_of(client: httpx.Client) -> dict[str, Any]:
    (seal,) = client.get(f"/api/evidence/{DAY}").raise_for_status().json()["seals"]
    return dict(seal)


def shared(client: httpx.Client, day: str = DAY, status: int = 200) -> str:
    """The path of the address of a day; if that is refused, the answer."""
    csrf = client.get("/ops").text.partition('X-CSRF-Token": "')[2].partition('"')[0]
    form = {"csrf": csrf, "day": day}
    assert client.post("/ops/evidence/share", data=form | {"csrf": "x"}).status_code == 403
    answer = client.post("/ops/evidence/share", data=form, headers={"HX-Request": "true"})
    assert answer.status_code == status, answer.text
    found = re.search(rf"{client.base_url}(/ops/shared/[\w.-]+)", answer.text)
    return answer.text if found is None else found.group(1)


def test_a_seal_is_shown_with_what_was_checked_of_it(sealed: Sealed, tmp_path: Path, redis: Any) -> None:
    with pages(sealed, tmp_path) as (client, _, _):
        seal = seal_of(client)
        assert [seal[name]["state"] for name in ("manifest", "signature", "time_stamp")] == ["good"] * 3
        key = subprocess.run(
            ["ssh-keygen", "-lf", str(sealed.root / "key.pub")], capture_output=True, text=True, timeout=30, check=True
        ).stdout.split()[1]
        assert seal["signature"]["text"] == f"valid, by the key {key}, which CALLVAULT_SEAL_KEY names"
        assert seal["time_stamp"]["text"].endswith("of an authority in CALLVAULT_TIMESTAMP_CA")
        assert seal["witness"] == {"state": "unknown", "text": "none is known to have its head"}
        assert (seal["recordings"], len(seal["files"])) == (CALLS_A_DAY, 4)
        redis.set(WITNESSED_HEAD, json.dumps({"sequence": seal["sequence"], "sha256": "x", "at": 1_760_000_000}))
        assert seal_of(client)["witness"]["state"] == "good"
        page = client.get(f"/ops/evidence/{DAY}").text
        assert key in page and "ssh-keygen -Y check-novalidate" in page and f"{ago(4):%a %-d %b %Y}" in page
        assert client.get(f"{SEALS}/{seal['sequence'] % 3 + 1:010d}.json").status_code == 404, "of another day"


def test_the_files_of_a_seal_are_checked_with_common_tools(sealed: Sealed, tmp_path: Path) -> None:
    folder = tmp_path / "seals"
    folder.mkdir()
    with pages(sealed, tmp_path) as (client, _, _):
        seal = seal_of(client)
        for name in seal["files"]:
            (folder / name).write_bytes(client.get(f"{SEALS}/{name}").raise_for_status().content)
    stem = f"seals/{seal['sequence']:010d}"
    signature = f"ssh-keygen -Y check-novalidate -n callvault-seal -s {stem}.sig < {stem}.json"
    stamp = f"openssl ts -verify -in {stem}.tsr -data {stem}.json -CAfile {sealed.authority_root}"
    for command in (signature, stamp):
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
    hashes = subprocess.run(
        ["sha256sum", f"{stem}.sha256", f"{stem}.json"], cwd=tmp_path, capture_output=True, timeout=30
    )
    assert [line.split()[0] for line in hashes.stdout.decode().splitlines()] == [
        seal["manifest_sha256"],
        seal["sha256"],
    ]


def test_what_is_wrong_with_a_seal_is_shown_and_what_is_not_checked_is_not_called_good(
    sealed: Sealed, tmp_path: Path
) -> None:
    archive = sealed.copy(tmp_path / "archive")
    number = next(seal["sequence"] for seal in sealed.seals() if seal["day"] == DAY)
    files = {suffix: archive / layout.seal_key(number, suffix) for suffix in ("sha256", "sig", "tsr")}
    for suffix, changed in (("sha256", b"x"), ("sig", b"not a signature"), ("tsr", b"not a stamp")):
        path = files[suffix]
        path.rename(f"{path}.away")
        path.write_bytes(changed)
    with pages(sealed, tmp_path) as (client, _, _):
        seal = seal_of(client)
        assert [seal[name]["state"] for name in ("manifest", "signature", "time_stamp")] == ["bad"] * 3
        for path in files.values():
            path.unlink()
        seal = seal_of(client)
        assert [seal[name]["state"] for name in ("manifest", "signature", "time_stamp")] == [
            "bad",
            "unknown",
            "unknown",
        ]
        for path in files.values():
            Path(f"{path}.away").rename(path)
    with pages(sealed, tmp_path, CALLVAULT_SEAL_KEY="", CALLVAULT_TIMESTAMP_CA="") as (client, _, _):
        seal = seal_of(client)
        assert "CALLVAULT_SEAL_KEY is not set here to compare it with" in seal["signature"]["text"]
        assert seal["time_stamp"]["text"].endswith(
            "CALLVAULT_TIMESTAMP_CA is not set here, so the authority was not checked"
        )


def test_an_auditor_without_an_account_sees_one_day_and_nothing_else(
    sealed: Sealed, tmp_path: Path, redis: Any
) -> None:
    with pages(sealed, tmp_path) as (client, process, environment):
        path = shared(client)
        token = path.rpartition("/")[2]
        with httpx.Client(base_url=client.base_url, trust_env=False, timeout=30) as auditor:
            page = auditor.get(path)
            seal = seal_of(client)
            assert page.status_code == 200 and seal["sha256"] in page.text and "Ada shared this page" in page.text
            assert "<nav" not in page.text and "form" not in page.text.partition("<main")[2]
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert page.headers["x-robots-tag"] == "noindex" and page.headers["referrer-policy"] == "no-referrer"
            rows = list(csv.DictReader(auditor.get(f"{path}/recordings.csv").text.splitlines()))
            assert {row["sha256"] for row in rows} == {call["sha256"] for call in sealed.calls[4]}
            assert {(row["from_number"], row["to_number"]) for row in rows} == {("", "")}
            manifest = auditor.get(f"{path}/seals/{seal['sequence']:010d}.sha256")
            assert manifest.text.count("\n") > CALLS_A_DAY
            for other in (
                f"{path}/seals/{seal['sequence'] % 3 + 1:010d}.json",
                f"{path}/seals/..%2f..%2farchive.json",
                f"{path}/audio",
                f"{path[:-2]}xx",
                "/ops/shared/x",
            ):
                assert auditor.get(other).status_code in (303, 404), other
            for inside in (
                "/ops",
                "/ops/evidence",
                f"/api/evidence/{DAY}",
                f"/ops/recordings/{rows[0]['recording_id']}",
            ):
                assert auditor.get(inside, headers={"Cookie": f"callvault_session={token}"}).status_code in (303, 401)
            assert auditor.post(path).status_code == 405
            numbers = {call["from"] for call in sealed.calls[4]} | {call["to"] for call in sealed.calls[4]}
            assert not any(number in page.text for number in numbers)
        assert token not in process.output, "the log does not hold the address"
    status, output = callvault_here(["access-log", "--json"], environment)
    lines = [json.loads(line) for line in output.splitlines()]
    by_guest = [(line["what"], line["about"]) for line in lines if line["how"] == "shared address"]
    assert status == 0 and ("inventory", f"evidence {DAY}") in by_guest and ("evidence", f"evidence {DAY}") in by_guest
    assert ("share", f"evidence {DAY}") in [(line["what"], line.get("about")) for line in lines if line["who"] == "Ada"]


def test_an_address_ends_after_a_week_and_with_the_token(sealed: Sealed, tmp_path: Path) -> None:
    def made(seconds: int) -> str:
        """An address that a receiver has made some seconds from now."""

        class Elsewhere(TimestampSigner):
            def get_timestamp(self) -> int:
                return super().get_timestamp() + seconds

        signer = URLSafeTimedSerializer(TOKEN, salt="callvault shared evidence", signer=Elsewhere)
        return f"/ops/shared/{signer.dumps([DAY, 'Ada'])}"

    with pages(sealed, tmp_path) as (client, _, _):
        path = shared(client)
        shown = re.search(r'ends on <time datetime="([^"]+)"', httpx.get(f"{client.base_url}{path}").text)
        assert shown is not None
        assert abs((parse_instant(shown.group(1)) - utc_now()).total_seconds() - 7 * 24 * 3600) < 120
        assert client.get(made(30)).status_code == 200, "by a receiver whose clock is ahead"
        assert client.get(made(90)).status_code == 404, "by none of ours"
        assert client.get(made(-7 * 24 * 3600 + 10)).status_code == 200
        answer = client.get(made(-7 * 24 * 3600 - 10))
        assert answer.status_code == 410 and "This address ended on" in answer.text
        assert "has no seal yet" in shared(client, ago(0).isoformat(), 400)
        assert "is not a day" in shared(client, "never", 400)
    with pages(sealed, tmp_path, CALLVAULT_OPS_TOKEN="another-token-of-16") as (client, _, _):
        assert client.get(path).status_code == 404
    with pages(sealed, tmp_path, CALLVAULT_OPS_TOKEN="") as (client, _, _):
        assert client.get(path).status_code == 404
        assert "set it to share evidence" in shared(client, DAY, 400)


def test_numbers_in_a_shared_inventory_are_masked_where_pages_mask_them(sealed: Sealed, tmp_path: Path) -> None:
    with pages(sealed, tmp_path, CALLVAULT_OPS_MASK_NUMBERS="true") as (client, _, _):
        path = shared(client)
        rows = list(csv.DictReader(httpx.get(f"{client.base_url}{path}/recordings.csv").text.splitlines()))
        assert all(re.fullmatch(r"'?\+\d\d\*+\d\d", row["from_number"]) for row in rows)
