"""Seals made by the service are verified by it, by an independent script, and by common tools."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archive.layout import recording_folder
from archive.signatures import BadKey, SealKeys
from lab.processes import callvault_here, run_callvault
from tests.seals.authority import openssl
from tests.seals.conftest import CALLS_A_DAY, DAYS, TRANSCRIBED_A_DAY, Sealed
from tests.seals.scripts import VERIFY_ARCHIVE, run_script
from text.times import format_instant, parse_instant, utc_now

pytestmark = pytest.mark.timeout(300)  # the first test process makes the archive, and the others wait for it


def verify(environment: dict[str, str], archive: Path, *options: str) -> tuple[int, dict[str, Any]]:
    chosen = environment | {"CALLVAULT_ARCHIVE_URL": archive.as_uri()}
    code, out = callvault_here(["verify", "--seals", "--json", *options], chosen)
    return code, json.loads(out)


def by_script(archive: Path) -> tuple[int, list[str]]:
    done = run_script(VERIFY_ARCHIVE, str(archive))
    return done.returncode, done.stdout.splitlines()


def folder(archive: Path, call: dict[str, Any]) -> Path:
    return archive / recording_folder(parse_instant(call["recording_started_at"]), call["id"])


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def test_two_workers_at_once_make_one_chain_of_one_seal_a_day(sealed: Sealed) -> None:
    seals = sealed.seals()
    assert [seal["sequence"] for seal in seals] == [1, 2, 3]
    days = {(utc_now() - timedelta(days=days)).date().isoformat() for days in DAYS}
    assert {seal["day"] for seal in seals} == days
    before = None
    for seal in seals:
        assert (seal["schema"], seal["recordings"], seal["transcriptions"]) == (
            "callvault.seal/1",
            CALLS_A_DAY,
            TRANSCRIBED_A_DAY,
        )
        assert seal["previous_sha256"] == before
        path = sealed.archive / "seals" / f"{seal['sequence']:010d}.json"
        before = hashlib.sha256(path.read_bytes()).hexdigest()
        manifest = path.with_suffix(".sha256").read_bytes()
        assert seal["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()
        keys = [line[66:] for line in manifest.decode().splitlines()]
        assert keys == sorted(keys)
        assert len(keys) == 2 * CALLS_A_DAY + TRANSCRIBED_A_DAY
        assert seal["bytes"] == sum((sealed.archive / key).stat().st_size for key in keys)
        assert seal["reconciled_at"] <= seal["sealed_at"]
        parquet = sealed.archive / "catalogue" / f"day={seal['day']}" / f"{seal['sequence']:010d}.parquet"
        assert parquet.exists()


def test_the_whole_archive_is_found_whole_by_the_service_and_by_others(sealed: Sealed) -> None:
    code, report = verify(sealed.environment, sealed.archive)
    assert (code, report["problems"]) == (0, [])
    assert (report["seals"], report["sealed_objects"]) == (3, 3 * (2 * CALLS_A_DAY + TRANSCRIBED_A_DAY))
    code, lines = by_script(sealed.archive)
    assert (code, lines) == (0, [f"3 seals, {3 * (2 * CALLS_A_DAY + TRANSCRIBED_A_DAY)} objects, 0 problems"])
    done = run_callvault(["verify", "--seals"], sealed.environment)
    assert sum("seals 3/3" in line for line in done.stderr.splitlines()) < 5, "progress, not one line for each object"
    told = done.stdout
    assert f"3 seals of {3 * (2 * CALLS_A_DAY + TRANSCRIBED_A_DAY)} objects" in told
    assert told.endswith("no problems found\n")


def pythons(version: str) -> Iterator[str | Path]:
    """Where a Python of this version may be: this one, on the path, or what a shim of pyenv there stands for."""
    if sys.version.startswith(f"{version}."):
        yield sys.executable
    if (found := shutil.which(f"python{version}")) is not None:
        yield found
        yield from Path(found).parent.parent.glob(f"versions/{version}.*/bin/python{version}")


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_the_script_runs_on_every_python_without_packages(version: str, sealed: Sealed) -> None:
    def run(python: str | Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [python, "-I", "-S", "-W", "error", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    python = next((one for one in pythons(version) if run(one, "--version").returncode == 0), None)
    if python is None:
        pytest.skip(f"Python {version} is not installed here")
    done = run(python, str(VERIFY_ARCHIVE), str(sealed.archive))
    assert (done.returncode, done.stdout.splitlines()[-1].endswith(" 0 problems")) == (0, True), done


def test_sha256sum_ssh_keygen_and_openssl_accept_it(sealed: Sealed, tmp_path: Path) -> None:
    signers = tmp_path / "allowed_signers"
    signers.write_text("callvault " + (sealed.root / "key.pub").read_text())
    for number in ("0000000001", "0000000003"):
        seal = sealed.archive / "seals" / number
        check = ["sha256sum", "--quiet", "--strict", "-c", f"seals/{number}.sha256"]
        done = subprocess.run(check, cwd=sealed.archive, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, b""), done.stderr
        signature = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", "callvault", "-n", "callvault-seal"]
        data = seal.with_suffix(".json").read_bytes()
        for body, expected in ((data, 0), (data + b" ", 255)):
            signed = subprocess.run(
                [*signature, "-s", str(seal.with_suffix(".sig"))],
                input=body,
                capture_output=True,
                timeout=30,
                check=False,
            )
            assert signed.returncode == expected, signed.stderr
        stamp = ("ts", "-verify", "-in", f"{seal}.tsr", "-CAfile", str(sealed.authority_root), "-data")
        assert openssl(*stamp, f"{seal}.json", cwd=tmp_path).returncode == 0
        (tmp_path / "other").write_bytes(data + b" ")
        assert openssl(*stamp, "other", cwd=tmp_path).returncode != 0


Damage = Callable[[Path, Path, Path], str]


def _cut(archive: Path, _: Path, one: Path) -> str:
    path = one / "audio.wav"
    replace(path, path.read_bytes()[:-1])
    return str(path.relative_to(archive))


def _flip(archive: Path, _: Path, one: Path) -> str:
    path = one / "audio.wav"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    replace(path, bytes(data))
    return str(path.relative_to(archive))


def _record_altered(archive: Path, _: Path, one: Path) -> str:
    path = one / "recording.json"
    replace(path, path.read_bytes().replace(b"+1312", b"+1313"))
    return str(path.relative_to(archive))


def _recording_gone(archive: Path, _: Path, one: Path) -> str:
    shutil.rmtree(one)
    return str((one / "recording.json").relative_to(archive))


def _planted(archive: Path, _: Path, one: Path) -> str:
    shutil.copytree(one, one.with_name("00000000-0000-4000-8000-000000000000"))
    return str((one.with_name("00000000-0000-4000-8000-000000000000") / "audio.wav").relative_to(archive))


def _planted_beside(archive: Path, _: Path, one: Path) -> str:
    (one / "transcriptions").mkdir(exist_ok=True)
    (one / "transcriptions" / "x.json").write_text("{}")
    return str((one / "transcriptions" / "x.json").relative_to(archive))


def _seal_gone(archive: Path, seals: Path, _: Path) -> str:
    (seals / "0000000002.json").unlink()
    return "seals/0000000002.json"


def _seal_altered(archive: Path, seals: Path, _: Path) -> str:
    path = seals / "0000000002.json"
    replace(path, path.read_bytes().replace(b'"recordings": %d' % CALLS_A_DAY, b'"recordings": 199'))
    return "seals/0000000003.json"  # the next seal no longer matches its hash, and its signature is wrong


def _first_seal_altered_as_if_it_had_one_before(archive: Path, seals: Path, _: Path) -> str:
    path = seals / "0000000001.json"
    replace(path, path.read_bytes().replace(b'"previous_sha256": null', b'"previous_sha256": "%s"' % (b"0" * 64)))
    return "seals/0000000001.json"


def _manifest_shortened(archive: Path, seals: Path, _: Path) -> str:
    path = seals / "0000000002.sha256"
    replace(path, b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    return "seals/0000000002.sha256"


def _manifest_gone(archive: Path, seals: Path, _: Path) -> str:
    (seals / "0000000002.sha256").unlink()
    return "seals/0000000002.sha256"


def _last_seal_cut_off(archive: Path, seals: Path, _: Path) -> str:
    for path in seals.glob("0000000003.*"):
        path.unlink()
    return "seals/0000000003.json"


def _signature_of_another(archive: Path, seals: Path, _: Path) -> str:
    replace(seals / "0000000002.sig", (seals / "0000000001.sig").read_bytes())
    return "seals/0000000002.sig"


def _signature_gone(archive: Path, seals: Path, _: Path) -> str:
    (seals / "0000000002.sig").unlink()
    return "seals/0000000002.sig"


def _stamp_of_another(archive: Path, seals: Path, _: Path) -> str:
    replace(seals / "0000000002.tsr", (seals / "0000000001.tsr").read_bytes())
    return "seals/0000000002.tsr"


# damage, the problem of `verify`, the problem of the script (None: it checks no signatures)
DAMAGES: list[tuple[Damage, str, str | None]] = [
    (_cut, "damaged", "damaged"),
    (_flip, "damaged", "damaged"),
    (_record_altered, "damaged", "damaged"),
    (_recording_gone, "missing", "missing"),
    (_planted, "unlisted", "unlisted"),
    (_planted_beside, "unlisted", "unlisted"),
    (_seal_gone, "gap", "gap"),
    (_seal_altered, "seal-altered", "seal-altered"),
    (_first_seal_altered_as_if_it_had_one_before, "seal-altered", "seal-altered"),
    (_manifest_shortened, "seal-altered", "seal-altered"),
    (_manifest_gone, "gap", "gap"),
    (_last_seal_cut_off, "gap", "gap"),
    (_signature_of_another, "signature", None),
    (_signature_gone, "signature", None),
    (_stamp_of_another, "time-stamp", None),
]


@pytest.mark.parametrize(("damage", "kind", "script_kind"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_damage_is_named_exactly(
    damage: Damage, kind: str, script_kind: str | None, sealed: Sealed, tmp_path: Path
) -> None:
    archive = sealed.copy(tmp_path / "archive")
    key = damage(archive, archive / "seals", folder(archive, sealed.calls[4][4]))
    day = (utc_now() - timedelta(days=4)).date().isoformat()
    code, report = verify(
        sealed.environment | {"CALLVAULT_DATA": str(tmp_path)}, archive, "--since", day, "--until", day
    )
    found = {(problem["kind"], problem["key"]) for problem in report["problems"]}
    assert code == 1
    assert (kind, key) in found
    assert len(found) <= 4, found
    assert all(problem["advice"] for problem in report["problems"])
    code, lines = by_script(archive)
    if script_kind is None:
        assert (code, len(lines)) == (0, 1), "unchecked parts are listed on standard error"
    else:
        assert code == 1
        assert any(line.startswith(f"{script_kind}: ") for line in lines), lines


def test_a_signature_by_an_unknown_key_is_reported(sealed: Sealed, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True, timeout=30)
    environment = sealed.environment | {"CALLVAULT_DATA": str(tmp_path)}
    code, report = verify(environment | {"CALLVAULT_SEAL_KEY": str(other)}, sealed.archive)
    assert code == 1
    assert {problem["kind"] for problem in report["problems"]} == {"signature"}
    rotated = f"{other},{sealed.root / 'key.pub'}"  # the former public key, after the one that signs now
    assert verify(environment | {"CALLVAULT_SEAL_KEY": rotated}, sealed.archive)[0] == 0


def test_a_receipt_that_came_after_the_seal_waits_for_the_next_and_is_no_problem(
    sealed: Sealed, tmp_path: Path
) -> None:
    archive = sealed.copy(tmp_path / "archive")
    one = folder(archive, sealed.calls[4][3])
    receipt = {
        "schema": "callvault.deletion/1",
        "recording_id": one.name,
        "objects": [],
        "transcription_ids": [],
        "confirmed_gone_at": format_instant(utc_now()),
    }
    (one / "deleted.json").write_text(json.dumps(receipt))
    environment = sealed.environment | {"CALLVAULT_DATA": str(tmp_path)}
    code, report = verify(environment, archive)
    assert (code, report["waiting"]) == (0, 1)
    replace(one / "deleted.json", json.dumps(receipt | {"confirmed_gone_at": "2020-01-01T00:00:00Z"}).encode())
    assert verify(environment, archive)[0] == 1, "one that should have been sealed long ago"


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("absent", "cannot read the file (No such file or directory)"),
        ("garbage", "not an OpenSSH private key without a passphrase"),
        ("passphrase", "not an OpenSSH private key without a passphrase"),
        ("rsa", "not an Ed25519 key; make one with `ssh-keygen -t ed25519 -N ''`"),
        ("public", "not an OpenSSH private key without a passphrase"),
        ("behind", "a key after the first is not an OpenSSH public key"),
    ],
)
def test_an_unusable_key_is_one_clear_line(how: str, text: str, sealed: Sealed, tmp_path: Path) -> None:
    path = tmp_path / "key"
    made = {"passphrase": ["ed25519", "-N", "secret"], "rsa": ["rsa", "-b", "2048", "-N", ""]}
    if how in made:
        subprocess.run(["ssh-keygen", "-q", "-f", str(path), "-t", *made[how]], check=True, timeout=30)
    elif how != "absent":
        path.write_text("no key" if how in ("garbage", "behind") else (sealed.root / "key.pub").read_text())
    value = f"{sealed.root / 'key'},{path}" if how == "behind" else str(path)
    with pytest.raises(BadKey) as found:
        SealKeys(value)
    assert str(found.value) == text
    if how == "garbage":
        done = run_callvault(["verify", "--seals"], sealed.environment | {"CALLVAULT_SEAL_KEY": value})
        assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"callvault: CALLVAULT_SEAL_KEY: {text}")


def test_status_shows_the_seals(sealed: Sealed) -> None:
    done = run_callvault(["status", "--json"], sealed.environment)
    report = json.loads(done.stdout)
    assert (report["seals"]["count"], report["seals"]["overdue"]) == (3, [])
    told = run_callvault(["status"], sealed.environment).stdout
    assert any(line.startswith("seals") and line.split()[1].startswith("3,") for line in told.splitlines()), told
