"""Objects that must be restored before they can be read: neither missing nor damaged, on every store that has such classes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from msgspec import structs

from archive.archive import Archive
from archive.proof import Damaged
from archive.register import look
from archive.source import Source
from archive.stores import s3_cold
from archive.stores.audio_rule import audio_rule
from archive.stores.gcs import _lifecycle_rule
from archive.stores.lifecycle import LifecycleRule, harms_of, moves_audio
from archive.stores.s3 import S3Store
from archive.stores.store import KeyExists, RestoreWish, Store, StoreCold
from lab.processes import wait_for
from lab.stores import BUCKET, PART, SMALL_PARTS, Emulator, environ
from tests.contract.test_stores import LARGE, data_of, put

# The coldest class of each store, and whether its objects must be restored.
COLDEST: dict[str, tuple[str, bool]] = {
    "s3-strict": ("DEEP_ARCHIVE", True),
    "s3-strict-tls": ("GLACIER", True),
    "s3-strict-by-boto3": ("GLACIER", True),
    "gcs": ("ARCHIVE", False),
    "azure": ("Archive", True),
}


def in_class(emulator: Emulator, prefix: str, storage_class: str) -> Store:
    """The store, whose audio goes into a class at once; lifecycle rules do that later."""
    return emulator.open(prefix, dataclasses.replace(SMALL_PARTS, storage_class=storage_class))


def archive_blob(emulator: Emulator, prefix: str, key: str) -> None:
    """Move a blob of Azure into its archive tier, as a lifecycle rule does."""
    from azure.storage.blob import BlobServiceClient

    connection = emulator.environment["AZURE_STORAGE_CONNECTION_STRING"]
    with BlobServiceClient.from_connection_string(connection) as service:
        service.get_blob_client(BUCKET, f"{prefix}/{key}").set_standard_blob_tier("Archive")


@pytest.mark.parametrize("size", [1000, LARGE])
def test_a_cold_object_is_proven_or_says_that_it_is_cold_and_can_be_read_after_its_restore(
    size: int, emulator: Emulator, prefix: str
) -> None:
    storage_class, needs_restore = COLDEST.get(emulator.name, ("", False))
    if not storage_class:
        return  # a folder and rclone have one class
    data, key = data_of(size), "recordings/2026/01/01/x/audio.wav"
    if emulator.name == "azure":
        store = emulator.open(prefix, SMALL_PARTS)
        archived = put(store, key, data)
        before = store.stat(key)
        archive_blob(emulator, prefix, key)
        after = store.stat(key)
        assert before is not None and after is not None and before.version == after.version, "the mark stays"
    else:
        store = in_class(emulator, prefix, storage_class)
        archived = put(store, key, data)
    forgets = emulator.name == "gcs" and size == LARGE  # fake-gcs-server, the class of a resumable upload
    shown = "STANDARD" if forgets else storage_class
    assert [(o.key, o.storage_class) for o in store.list("")][-1] == (key, shown)
    stored = store.stat(key)
    assert stored is not None and (stored.storage_class, stored.size) == (shown, size)
    archive = Archive(store)
    if not needs_restore:
        assert stored.state == "readable"
        assert b"".join(store.read(key)) == data
        store.restore(key, RestoreWish())
        return
    assert stored.state == "cold"
    for start, end in ((0, None), (5, 50)):
        with pytest.raises(StoreCold, match=rf"^{key}: it is in {storage_class} and must be restored") as caught:
            list(store.read(key, start, end))
        assert not caught.value.is_restoring
    if emulator.name == "azure":  # it shows no blocks of an archived blob
        with pytest.raises(StoreCold):
            archive.prove_again(archived)
    else:
        assert archive.prove_again(archived) == archived, "the store vouches for its bytes"
    with pytest.raises(StoreCold):
        archive.prove_again(archived, "read-back")
    with pytest.raises(Damaged, match=r"bytes? in the store"):
        archive.prove_again(structs.replace(archived, size=size + 1))
    with pytest.raises(StoreCold):
        look(archive, key)
    with pytest.raises(KeyExists):
        put_again(store, key)
    store.restore(key, RestoreWish(days=2, speed="bulk"))
    store.restore(key, RestoreWish(days=2, speed="bulk"))  # asked for already, or ready
    if isinstance(store, S3Store):  # two people at once both saw it cold
        s3_cold.restore(store._bucket, key, stored, RestoreWish())
    if (now := store.stat(key)) is not None and now.state == "restoring":
        with pytest.raises(StoreCold, match="is being restored and cannot be read yet") as caught:
            list(store.read(key))
        assert caught.value.is_restoring

    def is_ready() -> bool:
        found = store.stat(key)
        return found is not None and found.state == "readable"

    wait_for(is_ready, 30, "the restore")
    assert b"".join(store.read(key)) == data
    assert b"".join(store.read(key, 5, 50)) == data[5:50]
    assert archive.prove_again(archived).sha256 == archived.sha256
    ready = store.stat(key)
    assert ready is not None and (ready.readable_until is not None) == emulator.url.startswith("s3")
    store.restore(key, RestoreWish())


def put_again(store: Store, key: str) -> None:
    store.put(key, Source(iter([b"x" * PART * 2])), "audio/wav", {})


def test_the_restore_of_nothing_and_of_what_is_readable_changes_nothing(store: Store) -> None:
    with pytest.raises(KeyError):
        store.restore("nothing", RestoreWish())
    put(store, "a", b"readable")
    store.restore("a", RestoreWish())
    stored = store.stat("a")
    assert stored is not None and stored.state == "readable"
    assert b"".join(store.read("a")) == b"readable"


def test_only_audio_is_written_into_the_users_class(emulator: Emulator, prefix: str) -> None:
    classes = {"gcs": "NEARLINE", "azure": "Cool"}
    if emulator.name in ("file", "s3-weak"):
        return
    wanted = classes.get(emulator.name, "STANDARD_IA")
    archive = Archive(in_class(emulator, prefix, wanted))
    sizes = {"small": 100} if emulator.name == "gcs" else {"small": 100, "large": LARGE}  # see `forgets` above
    for key, size in sizes.items():
        archive.put(f"{key}.wav", iter([data_of(size)]), "audio/wav")
        archive.put(f"{key}.json", iter([data_of(size)]), "application/json")
    found = {o.key: o.storage_class for o in archive.store.list("") if not o.key.startswith("probe/")}
    assert {key for key, name in found.items() if name == wanted} == {f"{key}.wav" for key in sizes}
    assert len(found) == 2 * len(sizes)


def s3_rules(emulator: Emulator, configuration: dict[str, Any] | None) -> None:
    import boto3

    with environ(emulator.environment):
        client = boto3.client("s3")
        if configuration is None:
            client.delete_bucket_lifecycle(Bucket=BUCKET)
        else:
            client.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration=configuration)


def test_the_rules_of_a_bucket_are_read_and_judged(emulator: Emulator, prefix: str) -> None:
    store = emulator.open(prefix)
    if emulator.name == "azure":
        assert store.lifecycle() is None
        return
    if not emulator.name.startswith("s3-strict"):
        assert store.lifecycle() in ((), None)
        return
    place = f"{prefix}/"
    try:
        s3_rules(emulator, None)
        assert store.lifecycle() == ()
        s3_rules(emulator, audio_rule(f"s3://{BUCKET}/{prefix}", "DEEP_ARCHIVE", 90))
        rules = store.lifecycle()
        assert rules is not None and len(rules) == 1
        assert (rules[0].storage_class, rules[0].after_days, rules[0].least_bytes) == ("DEEP_ARCHIVE", 90, 1024 * 1024)
        assert harms_of(rules, place) == [] and moves_audio(rules[0], place)
        bad = [
            {"ID": "off", "Status": "Disabled", "Filter": {"Prefix": place}, "Expiration": {"Days": 1}},
            {"ID": "gone", "Status": "Enabled", "Filter": {"Prefix": place}, "Expiration": {"Days": 3650}},
            {
                "ID": "all",
                "Status": "Enabled",
                "Filter": {"Prefix": f"{place}recordings/"},
                "Transitions": [{"Days": 30, "StorageClass": "GLACIER"}],
            },
            {"ID": "other", "Status": "Enabled", "Filter": {"Prefix": "elsewhere/"}, "Expiration": {"Days": 1}},
        ]
        s3_rules(emulator, {"Rules": bad})
        rules = store.lifecycle()
        assert rules is not None
        assert [(harm.is_grave, harm.what.split(",")[0]) for harm in harms_of(rules, place)] == [
            (True, "rule 'gone' deletes after 3650 d what belongs to the archive"),
            (True, "rule 'all' moves after 30 d records too"),
        ]
    finally:
        s3_rules(emulator, None)


AUDIO_ONLY = {"prefixes": ("a/recordings/",), "least_bytes": 1024 * 1024}


@pytest.mark.parametrize(
    "rule, harm",
    [
        ({"does": "delete"}, "deletes"),
        ({"does": "delete", "prefixes": ("a",)}, "deletes"),
        ({"does": "delete", "prefixes": ("a/recordings/2026/",)}, "deletes"),
        ({"does": "delete", "tags": {"kind": "audio"}}, "deletes"),
        ({"does": "delete", "prefixes": ("b/", "a/seals/")}, "deletes"),
        ({"does": "delete", "prefixes": ("b/",)}, ""),
        ({"does": "delete", "prefixes": ("a/probe/", "b/")}, ""),
        ({"does": "delete", "tags": {"temporary": "yes"}}, ""),
        ({"does": "delete", "tags": {"kind": "backup"}}, ""),
        ({"does": "move", "storage_class": "GLACIER"}, "records too"),
        ({"does": "move", "storage_class": "GLACIER", "least_bytes": 1024 * 1024}, "records too"),  # manifests of seals
        ({"does": "move", "storage_class": "GLACIER", **AUDIO_ONLY, "least_bytes": 131072}, "records too"),
        ({"does": "move", "storage_class": "GLACIER", **AUDIO_ONLY}, ""),
        ({"does": "move", "storage_class": "GLACIER", "tags": {"kind": "audio"}}, ""),
        ({"does": "move", "storage_class": "ARCHIVE", "ends": (".wav", ".mp3")}, ""),
        ({"does": "move", "storage_class": "ARCHIVE", "ends": (".wav", ".json")}, "cost more"),
        ({"does": "move", "storage_class": "STANDARD_IA"}, "cost more"),
        ({"does": "move", "storage_class": "INTELLIGENT_TIERING"}, ""),
    ],
)
def test_a_rule_that_would_lose_or_hide_something_is_told_from_one_for_audio(rule: dict[str, Any], harm: str) -> None:
    found = harms_of([LifecycleRule("x", **rule)], "a/")
    assert [harm in one.what for one in found] == ([True] if harm else [])
    assert all(one.is_grave == ("cost more" not in one.what) for one in found)


def test_the_rules_that_are_printed_for_google_and_azure_reach_audio_alone() -> None:
    row = audio_rule("gs://bucket/a", "ARCHIVE", 365)["rule"][0]
    rule = _lifecycle_rule(row)
    assert rule is not None and (rule.does, rule.storage_class, rule.after_days) == ("move", "ARCHIVE", 365)
    assert harms_of([rule], "a/") == [] and moves_audio(rule, "a/")
    old = {"action": {"type": "Delete"}, "condition": {"numNewerVersions": 3}}
    assert _lifecycle_rule(old) is None, "it deletes what is not current"
    custom = {"action": {"type": "Delete"}, "condition": {"daysSinceCustomTime": 3}}
    assert _lifecycle_rule(custom) is None, "Callvault sets no such time"
    gone = _lifecycle_rule({"action": {"type": "Delete"}, "condition": {"age": 30}})
    assert gone is not None and harms_of([gone], "a/")[0].is_grave
    policy = audio_rule("az://container/a", "Archive", 180)
    definition = policy["rules"][0]["definition"]
    assert definition["filters"]["prefixMatch"] == ["container/a/recordings/"]
    assert definition["filters"]["blobIndexMatch"] == [{"name": "kind", "op": "==", "value": "audio"}]
    assert definition["actions"]["baseBlob"]["tierToArchive"]["daysAfterLastTierChangeGreaterThan"] == 7
    json.dumps(policy)
