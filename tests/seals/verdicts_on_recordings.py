"""Archives, made by one function each that says what a verification must find: recordings, receipts, versions and seals."""

from __future__ import annotations

import shutil
from datetime import timedelta

from archive import layout
from tests.seals.small import FIRST, LAST, SmallArchive, ago, noon
from text.times import end_of_day, utc_now


def nothing(one: SmallArchive) -> set[tuple[str, str]]:
    return set()


def originals_deleted_after_the_seal(one: SmallArchive) -> set[tuple[str, str]]:
    for days in range(FIRST, LAST - 1, -1):
        if days % 2:
            one.receipt(one.folder(days, f"{days}-one"), utc_now())
            one.receipt(one.folder(days, f"{days}-two"), utc_now(), "gone.json")
    return set()


def a_late_transcription_waits(one: SmallArchive) -> set[tuple[str, str]]:
    one.transcription(5, "5-one", "late", utc_now())
    return set()


def a_late_recording_waits(one: SmallArchive) -> set[tuple[str, str]]:
    one.recording(5, "5-late", at=utc_now())
    return set()


def a_receipt_that_was_on_its_way_while_its_day_was_sealed_waits(one: SmallArchive) -> set[tuple[str, str]]:
    """A deletion is confirmed, then the day is sealed, then the receipt is written."""
    _receipt_before_the_comparison(one, timedelta(minutes=30))
    return set()


def a_receipt_that_should_have_been_there_when_its_day_was_sealed(one: SmallArchive) -> set[tuple[str, str]]:
    return {("unlisted", _receipt_before_the_comparison(one, timedelta(minutes=90)))}


def _receipt_before_the_comparison(one: SmallArchive, before: timedelta) -> str:
    one.recording(LAST - 1, "sealed-today")
    one.seal(LAST - 1)
    return one.receipt(one.folder(LAST - 1, "sealed-today"), end_of_day(ago(LAST - 1)) + timedelta(days=2) - before)


def what_came_long_ago_and_was_never_sealed(one: SmallArchive) -> set[tuple[str, str]]:
    return {("unlisted", one.receipt(one.folder(5, "5-one"), noon(300)))}


def a_receipt_without_its_commit_record(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.folder(LAST, "gone-before-its-seal")  # so no seal lists it
    one.seal(LAST, only=[one.receipt(folder, noon(LAST))])
    return {("missing", f"{folder}recording.json")}


def a_gone_record_without_its_commit_record(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.folder(1, "gone-before-its-seal")  # of a day that is not sealed yet
    one.receipt(folder, utc_now(), "gone.json")
    return {("missing", f"{folder}recording.json")}


def audio_and_commit_record_removed_and_the_receipt_left(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.folder(5, "5-one")
    one.receipt(folder, utc_now())
    names = ("audio.wav", "recording.json")
    one.remove(*(folder + name for name in names))
    return {("missing", folder + name) for name in names}


def audio_removed(one: SmallArchive) -> set[tuple[str, str]]:
    key = one.folder(5, "5-one") + "audio.wav"
    one.remove(key)
    return {("missing", key)}


def audio_changed(one: SmallArchive) -> set[tuple[str, str]]:
    key = one.folder(5, "5-one") + "audio.wav"
    one.write(key, b"other bytes")
    return {("damaged", key)}


def a_recording_cut_out(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.folder(5, "5-one")
    shutil.rmtree(one.root / folder)
    names = ("audio.wav", "recording.json", "transcriptions/first.json")
    return {("missing", folder + name) for name in names}


def the_end_of_the_chain_cut_off_with_its_days(one: SmallArchive) -> set[tuple[str, str]]:
    for days, sequence in ((5, FIRST - 5 + 1), (LAST, FIRST - LAST + 1)):
        shutil.rmtree(one.root / layout.day_prefix(ago(days)), ignore_errors=True)
        one.remove(layout.seal_key(sequence), layout.seal_key(sequence, "sha256"))
    return {("unsealed", layout.day_prefix(ago(5)))}


def a_seal_gone_from_the_middle(one: SmallArchive) -> set[tuple[str, str]]:
    one.remove(layout.seal_key(2), layout.seal_key(2, "sha256"))
    day = ago(FIRST - 1)
    return {("gap", layout.seal_key(2)), ("unsealed", layout.day_prefix(day))}


def a_last_seal_gone(one: SmallArchive) -> set[tuple[str, str]]:
    key = layout.seal_key(one.seal(LAST - 1))
    one.remove(key)
    return {("gap", key)}


def a_last_seal_gone_of_a_day_that_is_due(one: SmallArchive) -> set[tuple[str, str]]:
    key = layout.seal_key(one.sequence)
    one.remove(key)
    return {("gap", key), ("unsealed", layout.day_prefix(ago(LAST)))}


def a_last_seal_gone_that_was_signed(one: SmallArchive) -> set[tuple[str, str]]:
    key = layout.seal_key(one.seal(LAST - 1))
    one.remove(key)
    one.write(layout.seal_key(one.sequence, "sig"), b"a signature is written after its seal")
    return {("gap", key)}


def a_last_manifest_gone(one: SmallArchive) -> set[tuple[str, str]]:
    key = layout.seal_key(one.seal(LAST - 1), "sha256")
    one.remove(key)
    return {("gap", key)}


def a_void_seal(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.recording(LAST, "listed-and-then-erased")
    keys = [folder + name for name in ("audio.wav", "recording.json", "transcriptions/first.json")]
    one.seal(LAST, only=keys, void="lists what was erased")
    one.erase(folder)
    one.seal(LAST)
    return set()


def what_only_a_void_seal_lists(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.recording(LAST, "listed-by-a-void-seal")
    keys = [folder + name for name in ("audio.wav", "recording.json", "transcriptions/first.json")]
    one.seal(LAST, only=keys, void="a reason")
    one.seal(LAST, only=[])
    return {("unlisted", key) for key in keys}


def the_manifest_of_a_void_seal_altered(one: SmallArchive) -> set[tuple[str, str]]:
    number = one.seal(LAST, only=[], void="a reason")
    one.write(layout.seal_key(number, "sha256"), b"0" * 64 + b"  x\n")
    return {("seal-altered", layout.seal_key(number, "sha256"))}


def a_seal_made_void_afterwards(one: SmallArchive) -> set[tuple[str, str]]:
    one.write(layout.seal_key(2), one.read(layout.seal_key(2)) | {"void": "by a forger"})
    return {("seal-altered", layout.seal_key(3)), ("unsealed", layout.day_prefix(ago(FIRST - 1)))}


def an_altered_seal(one: SmallArchive) -> set[tuple[str, str]]:
    one.write(layout.seal_key(2), one.read(layout.seal_key(2)) | {"recordings": 7})
    return {("seal-altered", layout.seal_key(3))}


def versions_beside_a_recording(one: SmallArchive) -> set[tuple[str, str]]:
    one.version(one.folder(5, "5-one"), "other-bytes", utc_now())
    one.version(one.folder(5, "5-two"), "same-bytes", utc_now(), None)
    one.version(one.recording(LAST, "sealed-with-its-version"), "v", noon(LAST))
    one.seal(LAST)
    return set()


def a_version_damaged_and_one_half_written(one: SmallArchive) -> set[tuple[str, str]]:
    damaged = one.version(one.folder(5, "5-one"), "damaged", utc_now()) + "audio.wav"
    one.write(damaged, b"changed")
    half = one.version(one.recording(1, "young"), "half", utc_now())
    one.remove(f"{half}recording.json")
    return {("damaged", damaged), ("uncommitted", f"{half}audio.wav")}


def a_commit_record_that_cannot_be_read(one: SmallArchive) -> set[tuple[str, str]]:
    """Its audio was committed nevertheless, so nothing asks for another fetch."""
    folder = one.recording(1, "young")
    one.write(folder + "recording.json", b"{x")
    return {("damaged", folder + "recording.json")}


def a_version_whose_first_is_gone(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.recording(1, "young")
    one.version(folder, "v", utc_now())
    one.remove(f"{folder}recording.json", f"{folder}audio.wav")
    return {("missing", f"{folder}recording.json")}


def what_is_nobodys(one: SmallArchive) -> set[tuple[str, str]]:
    folder = one.folder(1, "stranger")
    one.write(folder + "audio.wav", b"x")
    one.write(folder + "notes.txt", b"x")
    one.write("recordings/2026/99/99/x/recording.json", b"x")
    one.write(one.folder(1, "alone") + "erased.sig", b"x")
    return {
        ("uncommitted", folder + "audio.wav"),
        ("unknown", folder + "notes.txt"),
        ("unknown", "recordings/2026/99/99/x/recording.json"),
        ("unknown", one.folder(1, "alone") + "erased.sig"),
    }


def what_only_looks_like_a_key_of_the_archive(one: SmallArchive) -> set[tuple[str, str]]:
    one.write("archive.json.bak", b"x")  # somebody's copy
    keys = [
        f"recordings/{year}/11/20/a/recording.json" for year in ("0001", "1899", "3000", "\u0662\u0660\u0662\u0666")
    ]
    for key in keys:
        one.write(key, b"x")
    return {("unknown", key) for key in keys}


def a_receipt_of_another_recording(one: SmallArchive) -> set[tuple[str, str]]:
    key = one.receipt(one.recording(1, "young"), utc_now())
    one.write(key, one.read(key) | {"recording_id": "another"})
    return {("damaged", key)}
