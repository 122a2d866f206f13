"""`callvault verify` on a small sealed archive: what it checks, and what it reports as unchecked."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from archive import layout
from archive.archive import Archive
from archive.erase import erase, sign_erasure
from archive.signatures import SealKeys, fingerprint
from archive.stores.store import StoreError, open_store
from archive.verify import Verified
from archive.verify import verify as verify_recordings
from archive.verify_seals import verify_seals
from lab.processes import callvault_here, run_callvault
from tests.seals.small import FIRST, LAST, SmallArchive, ago, noon
from tests.seals.test_same_verdict import by_script, verify
from text.errors import UserError
from text.times import format_instant, format_moment, utc_now

SEALS = FIRST - LAST + 1


def key_in(folder: Path, name: str) -> Path:
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=30)
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return key_in(tmp_path, "key")


@pytest.fixture
def small(tmp_path: Path) -> SmallArchive:
    return SmallArchive(tmp_path / "archive")


@pytest.fixture
def signed(tmp_path: Path, key: Path) -> SmallArchive:
    return SmallArchive(tmp_path / "archive", keys=SealKeys(str(key)))


def kinds(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(problem["kind"], problem["key"]) for problem in report["problems"]}


def told(archive: Path, tmp_path: Path, *options: str, **environment: str) -> str:
    settings = {"CALLVAULT_ARCHIVE_URL": archive.as_uri(), "CALLVAULT_DATA": str(tmp_path / "data")} | environment
    return callvault_here(["verify", *options], settings)[1]


# The chain's end.


def test_every_day_from_the_archives_beginning_must_have_a_seal_up_to_what_the_clock_requires(
    small: SmallArchive, tmp_path: Path
) -> None:
    assert verify(small.root, tmp_path)[0] == 0
    small.remove(layout.seal_key(SEALS), layout.seal_key(SEALS, "sha256"))
    day = layout.day_prefix(ago(LAST))
    code, report = verify(small.root, tmp_path)
    assert (code, kinds(report)) == (1, {("unsealed", day)}), "an empty day, which nothing else mentions"
    assert verify(small.root, tmp_path, CALLVAULT_SEAL_AFTER="3d")[0] == 0, "its seal is not due then"
    assert verify(small.root, tmp_path, "--until", ago(LAST + 1).isoformat())[0] == 0, "not of the days asked for"
    assert by_script(small.root, "--seal-after", "72") == (0, set())


def test_days_that_follow_each_other_are_one_line(small: SmallArchive, tmp_path: Path) -> None:
    for sequence in range(4, SEALS + 1):
        small.remove(layout.seal_key(sequence), layout.seal_key(sequence, "sha256"))
    _, report = verify(small.root, tmp_path)
    (problem,) = report["problems"]
    assert problem["what"].startswith(f"{ago(FIRST - 3)} to {ago(LAST)} have no seal")


def test_an_archive_without_an_identity_needs_seals_where_it_holds_something(
    small: SmallArchive, tmp_path: Path
) -> None:
    small.remove("archive.json", layout.seal_key(SEALS), layout.seal_key(SEALS, "sha256"))
    assert by_script(small.root) == (0, set()), "an empty day: older versions sealed none"
    small.remove(layout.seal_key(SEALS - 1), layout.seal_key(SEALS - 1, "sha256"))
    assert by_script(small.root) == (1, {("unsealed", layout.day_prefix(ago(LAST + 1)))})


def test_an_archive_that_was_taken_up_keeps_the_seals_that_it_had(tmp_path: Path) -> None:
    probe = SmallArchive(tmp_path / "probe")
    head = probe.sha256(layout.seal_key(3))
    adopted = {"adopted": True, "adopted_seals": 3, "adopted_head": head, "created_at": format_instant(noon(7))}
    small = SmallArchive(tmp_path / "archive", adopted)
    assert (verify(small.root, tmp_path)[0], by_script(small.root)) == (0, (0, set()))
    small.write("archive.json", small.read("archive.json") | {"adopted_head": "0" * 64})
    assert kinds(verify(small.root, tmp_path)[1]) == {("seal-altered", layout.seal_key(3))}
    assert by_script(small.root) == (1, {("seal-altered", layout.seal_key(3))})
    small.write("archive.json", small.read("archive.json") | {"adopted_seals": SEALS + 2})
    assert kinds(verify(small.root, tmp_path)[1]) == {("gap", layout.seal_key(SEALS + 1))}
    assert by_script(small.root) == (1, {("gap", layout.seal_key(SEALS + 1))})


def test_an_identity_that_is_younger_than_its_seals_is_damage(tmp_path: Path) -> None:
    small = SmallArchive(tmp_path / "archive", {"created_at": format_instant(utc_now())})
    assert kinds(verify(small.root, tmp_path)[1]) == {("damaged", "archive.json")}
    assert by_script(small.root) == (1, {("damaged", "archive.json")})


def test_both_report_an_unreadable_identity(small: SmallArchive, tmp_path: Path) -> None:
    small.write("archive.json", b"{")
    settings = {"CALLVAULT_ARCHIVE_URL": small.root.as_uri(), "CALLVAULT_DATA": str(tmp_path / "data")}
    done = run_callvault(["verify", "--seals"], settings)
    assert (done.returncode, "archive.json: not an archive's identity" in done.stderr) == (1, True), done.stderr
    assert by_script(small.root) == (1, {("damaged", "archive.json")})


def test_a_head_kept_elsewhere_must_be_in_the_chain(small: SmallArchive, tmp_path: Path) -> None:
    head = small.sha256(layout.seal_key(SEALS - 2))
    code, report = verify(small.root, tmp_path, "--head", head.upper())
    assert (code, report["head"]) == (0, {"sha256": head, "sequence": SEALS - 2, "seals_after": 2})
    text = told(small.root, tmp_path, "--head", head)
    assert f"head found: seal {SEALS - 2}, followed by 2 later seals" in text
    assert by_script(small.root, "--head", head) == (0, set())
    for sequence in (SEALS - 2, SEALS - 1, SEALS):
        small.remove(layout.seal_key(sequence), layout.seal_key(sequence, "sha256"))
    code, report = verify(small.root, tmp_path, "--head", head, CALLVAULT_SEAL_AFTER="5d")
    assert (code, kinds(report), report["head"]["sequence"]) == (1, {("head", "seals/")}, None)
    assert by_script(small.root, "--head", head, "--seal-after", "120") == (1, {("head", "seals/")})
    wrong = run_callvault(["verify", "--head", "x"], {"CALLVAULT_DATA": str(tmp_path)})
    assert (wrong.returncode, "64 hexadecimal digits" in wrong.stderr) == (2, True)


@pytest.mark.parametrize("there", ["the manifest", "the rows"])
def test_a_seal_that_is_being_made_is_no_gap(there: str, small: SmallArchive, tmp_path: Path) -> None:
    """Its manifest is written first, and a listing may show the rows before the seal."""
    seal, manifest = (small.root / layout.seal_key(small.sequence, one) for one in ("json", "sha256"))
    rows = small.root / layout.parquet_key(ago(LAST), small.sequence)
    late = {seal} if there == "the manifest" else {seal, manifest}
    kept = {one: one.read_bytes() for one in late}
    for one in late:
        one.unlink()
    if there == "the rows":
        rows.parent.mkdir(parents=True, exist_ok=True)
        rows.touch()
    comes = threading.Timer(1, lambda: [one.write_bytes(kept[one]) for one in sorted(late, reverse=True)])
    comes.start()
    _, report = verify(small.root, tmp_path)
    comes.join()
    assert not any(kind == "gap" for kind, _ in kinds(report)), report


def test_an_adopted_seal_of_which_only_the_manifest_is_left_is_a_gap(tmp_path: Path) -> None:
    probe = SmallArchive(tmp_path / "probe")
    adopted = {"adopted": True, "adopted_seals": SEALS, "adopted_head": probe.head}
    small = SmallArchive(tmp_path / "archive", adopted)
    small.remove(layout.seal_key(SEALS))
    expected = {("gap", layout.seal_key(SEALS)), ("unsealed", layout.day_prefix(ago(LAST)))}
    assert kinds(verify(small.root, tmp_path)[1]) == expected
    assert by_script(small.root) == (1, expected)


def test_void_seals_are_counted_and_reported(small: SmallArchive, tmp_path: Path) -> None:
    small.seal(LAST, only=[], void="half made")
    code, report = verify(small.root, tmp_path)
    assert (code, report["void"], report["seals"]) == (0, 1, SEALS + 1)
    assert "void seals: 1; the archive records why their numbers are skipped" in told(small.root, tmp_path, "--seals")


# Who signed.


def test_without_the_key_the_signer_and_the_unchecked_parts_are_shown(
    signed: SmallArchive, key: Path, tmp_path: Path
) -> None:
    signed.remove(layout.seal_key(2, "sig"))
    code, report = verify(signed.root, tmp_path)
    signer = fingerprint(SealKeys(str(key)).public)
    assert (code, report["signed"], report["unsigned"], report["stamped"]) == (0, SEALS - 1, 1, 0)
    assert report["signed_by"] == {signer: SEALS - 1}
    assert any("signatures of seals" in line for line in report["not_checked"])
    text = told(signed.root, tmp_path, "--seals")
    assert f"seals signed: {SEALS - 1} by {signer}; unsigned: 1; time-stamped: 0" in text
    assert "not checked: signatures of seals and erasures" in text
    code, report = verify(signed.root, tmp_path, CALLVAULT_SEAL_KEY=str(key))
    assert (code, kinds(report)) == (1, {("signature", layout.seal_key(2, "sig"))})
    assert not any("who signed" in line for line in report["not_checked"])


def test_a_signature_that_cannot_be_checked_names_what_to_install(
    signed: SmallArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "archive.signatures", None)
    with pytest.raises(UserError, match=r"seals/0000000001\.sig: .*pip install 'callvault\[seals\]'"):
        verify_seals(Archive(open_store(signed.root.as_uri())), Verified())


def test_an_erasure_is_held_to_its_signature(signed: SmallArchive, key: Path, tmp_path: Path) -> None:
    with_key = {"CALLVAULT_SEAL_KEY": str(key)}
    keys = SealKeys(str(key))
    unsigned = signed.erase(signed.folder(5, "5-one"))
    signature = unsigned.replace(".json", ".sig")
    assert verify(signed.root, tmp_path)[0] == 0, "unknown without the key"
    for options in (["--json"], ["--seals", "--json"]):
        out = callvault_here(
            ["verify", *options],
            {"CALLVAULT_ARCHIVE_URL": signed.root.as_uri(), "CALLVAULT_DATA": str(tmp_path)} | with_key,
        )[1]
        assert kinds(json.loads(out)) == {("erasure", unsigned)}, options
    signed.write(signature, SealKeys(str(key_in(tmp_path, "other"))).sign((signed.root / unsigned).read_bytes()))
    assert kinds(verify(signed.root, tmp_path, **with_key)[1]) == {("erasure", signature)}
    signed.write(signature, keys.sign(b"something else"))
    assert kinds(verify(signed.root, tmp_path, **with_key)[1]) == {("erasure", signature)}
    assert verify(signed.root, tmp_path)[0] == 1, "a signature is checked against itself, even without the key"
    signed.write(signature, keys.sign((signed.root / unsigned).read_bytes()))
    code, report = verify(signed.root, tmp_path, **with_key)
    assert (code, report["problems"], report["erased"]) == (0, [], 3)
    lawful = signed.erase(signed.folder(5, "5-two"), sign_with=keys)
    signed.seal(5)
    code, report = verify(signed.root, tmp_path, **with_key)
    assert (code, report["erased"], report["waiting"]) == (0, 6, 0)
    assert lawful.replace(".json", ".sig") in (signed.root / layout.seal_key(SEALS + 1, "sha256")).read_text()


def test_an_erasure_from_before_signatures_is_believed_if_an_adopted_seal_lists_it(tmp_path: Path, key: Path) -> None:
    keys = SealKeys(str(key))
    small = SmallArchive(tmp_path / "archive", keys=keys)
    erased = small.erase(small.folder(5, "5-one"))
    number = small.seal(5)
    identity = small.read("archive.json") | {"adopted": True, "created_at": format_instant(utc_now())}
    small.write("archive.json", identity | {"adopted_seals": number, "adopted_head": small.head})
    with_key = {"CALLVAULT_SEAL_KEY": str(key)}
    assert verify(small.root, tmp_path, **with_key)[0] == 0
    later = small.erase(small.folder(5, "5-two"))
    assert kinds(verify(small.root, tmp_path, **with_key)[1]) == {("erasure", later)}, "this one could have been signed"
    small.write(later.replace(".json", ".sig"), keys.sign((small.root / later).read_bytes()))
    small.write("archive.json", identity | {"adopted_seals": number, "adopted_head": "0" * 64})
    assert ("erasure", erased) in kinds(verify(small.root, tmp_path, **with_key)[1]), (
        "a chain that is not the adopted one"
    )


def test_an_erasure_signs_its_record_before_anything_goes(signed: SmallArchive, key: Path, tmp_path: Path) -> None:
    archive, keys = Archive(open_store(signed.root.as_uri())), SealKeys(str(key))
    folder = signed.folder(5, "5-one")
    erase(archive, folder, "a request", "dpo", keys)
    left = {path.name for path in (signed.root / folder).rglob("*") if path.is_file()}
    assert left == {"erased.json", "erased.sig"}
    assert verify(signed.root, tmp_path, CALLVAULT_SEAL_KEY=str(key))[0] == 0
    erase(archive, folder, "a request", "dpo", keys)  # once more, after an interruption

    other = signed.folder(5, "5-two")
    erase(archive, other, "a request", "dpo")
    assert kinds(verify(signed.root, tmp_path, CALLVAULT_SEAL_KEY=str(key))[1]) == {("erasure", f"{other}erased.json")}
    sign_erasure(archive, other, keys)
    assert verify(signed.root, tmp_path, CALLVAULT_SEAL_KEY=str(key))[0] == 0


def test_a_transcription_is_erased_whatever_its_id_ends_in(signed: SmallArchive) -> None:
    folder = signed.folder(5, "5-one")
    names = ("deleted", "x-gone", "an-erased")
    keys = [signed.transcription(5, "5-one", name, utc_now()) for name in names]
    receipt = signed.receipt(folder, utc_now())
    erase(Archive(open_store(signed.root.as_uri())), folder, "a request", "dpo")
    assert not any((signed.root / key).exists() for key in keys)
    assert (signed.root / receipt).exists(), "it holds ids and hashes"


def test_a_record_with_other_hashes_than_the_seals_is_not_signed(signed: SmallArchive, key: Path) -> None:
    folder = signed.folder(5, "5-one")
    signed.erase(folder, sha256="0" * 64)
    archive = Archive(open_store(signed.root.as_uri()))
    with pytest.raises(Exception, match="differs from the seal's; nothing was signed"):
        sign_erasure(archive, folder, SealKeys(str(key)))
    with pytest.raises(Exception, match="nothing was signed"):
        erase(archive, folder, "a request", "dpo", SealKeys(str(key)))
    assert not (signed.root / folder / "erased.sig").exists()


def test_a_record_with_the_hashes_of_an_altered_manifest_is_not_signed(signed: SmallArchive, key: Path) -> None:
    folder = signed.folder(5, "5-one")
    signed.erase(folder, sha256="0" * 64)
    for manifest in (signed.root / "seals").glob("*.sha256"):
        rows = [line.partition("  ")[2] for line in manifest.read_text().splitlines()]
        manifest.write_text("".join(f"{'0' * 64}  {name}\n" for name in rows))
    with pytest.raises(UserError, match=r"not the manifest .*; nothing was signed"):
        sign_erasure(Archive(open_store(signed.root.as_uri())), folder, SealKeys(str(key)))
    assert not (signed.root / folder / "erased.sig").exists()


# What was checked.


def test_read_back_is_obeyed_and_unread_objects_are_reported(small: SmallArchive, tmp_path: Path) -> None:
    _, report = verify(small.root, tmp_path)
    assert report["checked_by"] == {"read-back": 8}, "a folder proves by reading"
    assert "objects checked: 8 by reading every byte" in told(small.root, tmp_path)
    assert "not checked: seals, media, log messages" in told(small.root, tmp_path)
    assert "not checked: days before" in told(small.root, tmp_path, "--since", "7d")


def test_the_bytes_of_media_are_checked_too(small: SmallArchive, tmp_path: Path) -> None:
    folder = layout.media_folder(ago(LAST), "greeting", "0" * 64)
    small.write(f"{folder}content", b"a greeting")
    row = {
        "key": f"{folder}content",
        "size": 10,
        "sha256": small.sha256(f"{folder}content"),
        "content_type": "audio/wav",
    }
    proof = {"by": "read-back", "algorithm": "sha256", "value": row["sha256"], "version": None}
    small.write(f"{folder}media.json", {"schema": "callvault.media/1", "media": {}, "object": row | {"proof": proof}})
    small.seal(LAST)
    assert verify(small.root, tmp_path)[0] == 0
    small.write(f"{folder}content", b"b greeting")
    assert kinds(verify(small.root, tmp_path)[1]) == {("damaged", f"{folder}content")}
    small.remove(f"{folder}content")
    assert kinds(verify(small.root, tmp_path)[1]) == {("missing", f"{folder}content")}


def stop_a_run_after_the_first_recordings(small: SmallArchive, tmp_path: Path) -> None:
    """A run that stops because the store fails at a record of the second day with recordings."""
    record = small.root / small.folder(9, "9-one") / "recording.json"
    data = record.read_bytes()
    record.unlink()
    record.symlink_to("/proc/self/mem")  # it exists, and reading it fails
    settings = {"CALLVAULT_ARCHIVE_URL": small.root.as_uri(), "CALLVAULT_DATA": str(tmp_path / "data")}
    stopped = run_callvault(["verify"], settings)
    assert (stopped.returncode, stopped.stdout) == (1, ""), stopped.stdout
    small.write(str(record.relative_to(small.root)), data)


def test_a_stopped_run_resumes_only_on_request_and_shows_earlier_results(small: SmallArchive, tmp_path: Path) -> None:
    stop_a_run_after_the_first_recordings(small, tmp_path)
    settings = {"CALLVAULT_ARCHIVE_URL": small.root.as_uri(), "CALLVAULT_DATA": str(tmp_path / "data")}
    state = next((tmp_path / "data").glob("verify-*.json"))
    stopped = state.read_bytes()
    small.write(small.folder(11, "11-one") + "audio.wav", b"changed since it was seen")

    resumed = run_callvault(["verify", "--resume", "--json"], settings)
    report = json.loads(resumed.stdout)
    assert (resumed.returncode, report["recordings"]) == (0, 8), "the first two were seen before they were damaged"
    earlier = report["earlier"]
    assert (earlier["recordings"], earlier["through"]) == (2, ago(11).isoformat())
    assert earlier["begun_at"] < earlier["stopped_at"] < format_instant(utc_now())
    begun_at = format_moment(earlier["begun_at"], None)
    assert f"an earlier run checked 2 recordings up to {ago(11)}, between {begun_at} and " in resumed.stderr
    assert not state.exists(), "a finished run leaves nothing to resume"

    state.write_bytes(stopped)
    again = run_callvault(["verify", "--resume"], settings)
    assert f"resumed: an earlier run checked 2 recordings up to {ago(11)}" in again.stdout
    assert "no problems found" in again.stdout

    state.write_bytes(stopped)
    anew = run_callvault(["verify", "--json"], settings)
    report = json.loads(anew.stdout)
    assert (anew.returncode, report["earlier"], len(report["problems"])) == (1, None, 1)
    assert "An earlier run was stopped at" in anew.stderr and "use --resume to continue it" in anew.stderr

    state.write_bytes(stopped)
    fresh = run_callvault(["verify", "--fresh", "--json"], settings)
    assert (fresh.returncode, "earlier run" in fresh.stderr) == (1, False)
    nothing = run_callvault(["verify", "--resume", "--json"], settings)
    assert "No stopped run to resume" in nothing.stderr
    assert run_callvault(["verify", "--resume", "--fresh"], settings).returncode == 2


def test_a_resumed_run_reports_keys_of_no_recording_once_wherever_the_earlier_run_stopped(small: SmallArchive) -> None:
    strays = [f"recordings/{name}" for name in ("0/first", f"{ago(9):%Y/%m/%d}/between", "x/last")]
    for stray in strays:
        small.write(stray, b"x")
    archive = Archive(open_store(small.root.as_uri()))
    days: list[str] = []
    verify_recordings(archive, Verified(), save=lambda state: days.append(state.through))
    assert days == sorted(days)
    for stop_after in days:
        saved: list[bytes] = []

        def save(state: Verified, after: str = stop_after, saved: list[bytes] = saved) -> None:
            saved.append(msgspec.json.encode(state))
            if state.through == after:
                raise StoreError("the store is away")

        with pytest.raises(StoreError):
            verify_recordings(archive, Verified(), save=save)
        resumed = verify_recordings(archive, msgspec.json.decode(saved[-1], type=Verified))
        assert sorted(problem.key for problem in resumed.problems) == sorted(strays)
