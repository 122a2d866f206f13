"""One suite for every store, on real servers: the promises of `Store`, and of the archive on it."""

from __future__ import annotations

import hashlib
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import httpx
import pytest

from archive.archive import Archive, ArchiveConflict
from archive.proof import Damaged
from archive.records import ArchivedObject, Proof
from archive.source import Source
from archive.stores.store import KeyExists, Store, StoreOptions, StoreRefused, open_store
from config.values import read_archive_url
from lab.stores import BUCKET, PART, SMALL_PARTS, Emulator, environ, rclone
from tests.contract.conftest import STORES

LARGE = 12 * PART // 5 + 12345


def data_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def chunks_of(data: bytes, chunk: int = 256 * 1024) -> Iterator[bytes]:
    for i in range(0, len(data), chunk):
        yield data[i : i + chunk]


def put(store: Store, key: str, data: bytes) -> ArchivedObject:
    return Archive(store).put(key, chunks_of(data, PART // 4), "audio/wav")


@pytest.mark.parametrize("size", [0, 1, 1000, PART - 1, PART, PART + 1, 2 * PART, LARGE])
def test_an_object_comes_back_as_it_was_and_is_proven(size: int, store: Store, emulator: Emulator) -> None:
    data = data_of(size)
    archived = put(store, "recordings/a.wav", data)
    assert (archived.size, archived.sha256) == (size, hashlib.sha256(data).hexdigest())
    assert b"".join(store.read("recordings/a.wav")) == data
    expected = emulator.proof_levels[size >= PART]
    assert archived.proof.by == expected
    assert archived.proof.version is not None or emulator.name == "file"
    assert Archive(store).prove_again(archived) == archived


@pytest.mark.parametrize("size", [1000, LARGE])
def test_read_back_can_be_demanded_always(size: int, store: Store) -> None:
    archived = Archive(store, "read-back").put("a", chunks_of(data_of(size)), "audio/wav")
    assert (archived.proof.by, archived.proof.value) == ("read-back", archived.sha256)


@pytest.mark.parametrize("size", [1000, LARGE])
def test_the_same_content_again_is_success_and_other_content_a_conflict(size: int, store: Store) -> None:
    data = data_of(size)
    first = put(store, "a", data)
    again = put(store, "a", data)
    assert (again.sha256, again.size) == (first.sha256, first.size)
    for other in (data[:-1] + bytes([data[-1] ^ 1]), data + b"x", data_of(50)):
        with pytest.raises(ArchiveConflict, match="Callvault does not overwrite it"):
            put(store, "a", other)
    assert b"".join(store.read("a")) == data


@pytest.mark.parametrize("size", [1000, LARGE])
def test_one_of_several_concurrent_writers_wins_and_its_bytes_stay(size: int, store: Store, emulator: Emulator) -> None:
    start = threading.Barrier(4)
    outcomes: list[tuple[int, ArchivedObject | Exception]] = []

    def write(n: int) -> None:
        start.wait()
        try:
            outcomes.append((n, put(store, "race", data_of(size, n))))
        except (ArchiveConflict, Damaged) as error:
            outcomes.append((n, error))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    there = hashlib.sha256(b"".join(store.read("race"))).hexdigest()
    winners = [o for _, o in outcomes if isinstance(o, ArchivedObject)]
    assert winners
    if emulator.keeps_conditions and not (emulator.name == "gcs" and size == LARGE):
        assert [w.sha256 for w in winners] == [there]
    else:  # this emulator lets the last writer win; the earlier ones cannot prove their object any more
        assert there in {w.sha256 for w in winners}
        for winner in winners:
            if winner.sha256 != there:
                with pytest.raises(Damaged):
                    Archive(store).prove_again(winner)


def test_a_record_waits_for_no_upload(emulator: Emulator, prefix: str) -> None:
    store = emulator.open(prefix, StoreOptions(part_bytes=PART, buffer_bytes=PART))  # so one upload at a time
    begun, gate = threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"begun"
        begun.set()
        assert gate.wait(30)
        yield b"ended"

    upload = threading.Thread(target=store.put, args=("slow", Source(slow()), "audio/wav", {}))
    upload.start()
    assert begun.wait(30)
    Archive(store).put("record", b"{}", "application/json")
    assert store.stat("slow") is None, "it is still under way"
    gate.set()
    upload.join(30)
    assert b"".join(store.read("slow")) == b"begunended"


@pytest.mark.parametrize("broken_at", [0, 1000, PART, PART + 5, LARGE - 10])
def test_a_broken_stream_leaves_no_object_and_no_part(
    broken_at: int, store: Store, emulator: Emulator, prefix: str
) -> None:
    class Broken(Exception):
        pass

    def chunks() -> Iterator[bytes]:
        yield from chunks_of(data_of(broken_at))
        raise Broken

    with pytest.raises(Broken):
        store.put("a", Source(chunks()), "audio/wav", {})
    assert store.stat("a") is None
    assert [o for o in store.list("") if not o.key.startswith("probe/")] == []
    assert uploads_left(emulator, prefix) == 0
    put(store, "a", b"and then it works")


def uploads_left(emulator: Emulator, prefix: str) -> int:
    if emulator.name == "file":
        return len(list(Path(emulator.rclone, prefix, ".incoming").iterdir()))
    if not emulator.url.startswith("s3") or emulator.name == "s3-weak":
        return 0
    import boto3

    with environ(emulator.environment):
        listed = boto3.client("s3").list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
    return len(listed.get("Uploads", []))


def test_a_missing_object_gives_none_or_a_key_error(store: Store) -> None:
    assert store.stat("nothing") is None
    with pytest.raises(KeyError):
        list(store.read("nothing"))
    assert list(store.list("nothing/")) == []


@pytest.mark.parametrize("size", [100, LARGE])
def test_a_range_is_read(size: int, store: Store) -> None:
    data = data_of(size)
    put(store, "a", data)
    for start, end in ((0, 10), (5, 50), (size - 1, size), (0, size), (50, None), (7, 7), (size - 5, size + 100)):
        assert b"".join(store.read("a", start, end)) == data[start:end], (start, end)


def test_small_objects_are_read_together_in_the_order_asked_and_absent_ones_are_none(store: Store) -> None:
    sizes = [n * 97 for n in range(40)]
    for size in sizes:
        put(store, f"small/{size}.json", data_of(size))
    keys = [f"small/{size}.json" for size in reversed(sizes)]
    keys.insert(20, "small/absent.json")
    expected: list[bytes | None] = [data_of(size)[:3000] for size in reversed(sizes)]
    expected.insert(20, None)
    assert store.read_small(keys, 3000) == expected
    assert store.read_small([], 3000) == []


def test_objects_are_listed_by_prefix_in_order(store: Store) -> None:
    keys = [f"recordings/2026/01/{day:02d}/id/audio.wav" for day in range(1, 12)]
    for key in reversed(keys):
        put(store, key, key.encode())
    assert [(o.key, o.size) for o in store.list("recordings/")] == [(key, len(key)) for key in keys]
    assert [o.key for o in store.list("recordings/2026/01/0")] == keys[:9]
    assert [o.key for o in store.list("recordings/2026/01/05/")] == keys[4:5]


# What a name may contain has nothing to do with TLS.
takes_names = pytest.mark.parametrize(
    "emulator", [name for name in STORES if name != "s3-strict-tls"], indirect=True, scope="session"
)
ODD_NAMES = [
    "a%2Fb", "with space", "plus+sign", "ünï", "u\u0308ni\u0308", "日本📞", "a&b=c?d#e",
    "%", "~x", "a'b\"c", "a;b:c@d,e", "[x]{y}(z)*", "<x>|^`",
    " a ", "a.", ".a", "a..b",
]  # fmt: skip


@takes_names
@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_names(name: str, store: Store, emulator: Emulator, prefix: str) -> None:
    key = f"recordings/{name}/audio.wav"
    archived = put(store, key, b"xyz")
    assert Archive(store).prove_again(archived) == archived
    assert [o.key for o in store.list("recordings/")] == [key]
    assert [o.key for o in store.list(f"recordings/{name}/")] == [key]
    assert b"".join(store.read(key)) == b"xyz"
    assert b"".join(store.read(key, 1, 2)) == b"y"
    if emulator.name != "file":  # custom storage names its objects by their own address
        at = store.key_of(address_of(emulator, f"{prefix}/{key}"))
        assert at == f"/{prefix}/{key}"
        assert Archive(store).adopt(at, "audio/wav", ()).size == 3
    store.erase(key)
    assert store.stat(key) is None
    assert list(store.list("recordings/")) == []


def address_of(emulator: Emulator, name: str) -> str:
    """An object's own address, as Telnyx gives it: an https address is encoded, the others are not."""
    if emulator.name != "azure":
        return f"{emulator.url}/{name}"
    endpoint = emulator.environment["AZURE_STORAGE_CONNECTION_STRING"].split("BlobEndpoint=")[1].strip(";")
    return f"{endpoint}/{BUCKET}/{quote(name)}"


ODD_PREFIXES = [
    "plus+sign", "ünï", "u\u0308ni\u0308", "日本/📞", "a&b=c", "it's", "~x", "a:b@c", "a;b,c", "$a!b", "(x)*",
    "[x]{y}", '"q"', "<x>|^`", "a.",
    ".a", "-x", "a..b", "with blank", "with%20percent", "100%", "a#b", "a?b", "a\\b", "a//b", "a/./b", "a/../b", "tab\tin",
]  # fmt: skip


@takes_names
@pytest.mark.parametrize("odd", ODD_PREFIXES)
def test_an_odd_prefix_works_or_is_refused_at_the_start(odd: str, emulator: Emulator, prefix: str) -> None:
    place = f"{prefix}/{odd}"
    try:
        address = str(read_archive_url(f"{emulator.url}/{place}"))
    except ValueError as error:
        assert "\n" not in str(error)
        return
    with environ(emulator.environment):
        store = open_store(address, SMALL_PARTS)
        store.create_place()
    for key, size in (("recordings/a%2Fb/audio.wav", 1000), ("recordings/a%2Fb/large", PART + 1)):
        data = data_of(size)
        archived = put(store, key, data)
        assert Archive(store).prove_again(archived) == archived
        assert b"".join(store.read(key)) == data
        assert b"".join(store.read(key, 5, 50)) == data[5:50]
        with pytest.raises(KeyExists):
            store.put(key, Source(iter([b"y"])), "audio/wav", {})
    keys = ["recordings/a%2Fb/audio.wav", "recordings/a%2Fb/large"]
    assert [o.key for o in store.list("recordings/")] == keys
    assert [o.key for o in store.list("recordings/a%2Fb/l")] == keys[1:]
    if emulator.name == "file":
        assert Path(emulator.rclone, prefix, unquote(odd), keys[0]).is_file()
    else:
        assert [o.key for o in emulator.open(prefix).list(f"{odd}/recordings/")] == [f"{odd}/{key}" for key in keys]
    with environ(emulator.environment):
        signed = store.presign(keys[0], 60)
    if signed and not emulator.url.startswith("s3"):
        assert httpx.get(signed, trust_env=False).content == data_of(1000)
    store.erase(keys[0])
    assert store.stat(keys[0]) is None
    assert [o.key for o in store.list("recordings/")] == keys[1:]


def test_an_address_for_a_while_gives_the_object(store: Store, emulator: Emulator) -> None:
    data = data_of(1000)
    put(store, "a/b.wav", data)
    with environ(emulator.environment):
        url = store.presign("a/b.wav", 60)
    if emulator.name == "file":
        assert url is None
        return
    assert url is not None
    if emulator.url.startswith("s3"):  # neither emulator checks a version 4 address as AWS does
        assert "X-Amz-Signature=" in url
        assert "X-Amz-Expires=60" in url
        return
    assert httpx.get(url, trust_env=False).content == data


def test_a_key_of_the_bucket_itself_can_be_read(store: Store, emulator: Emulator, prefix: str) -> None:
    """For objects of custom storage: keys that begin with a slash leave the prefix."""
    if emulator.name == "file":
        return
    put(store, "a", b"adopted")
    other = emulator.open("another-prefix")
    key = other.key_of(address_of(emulator, f"{prefix}/a"))
    assert key == f"/{prefix}/a"
    seen: list[bytes] = []
    adopted = Archive(other).adopt(key, "audio/wav", (seen.append,))
    assert (adopted.key, adopted.sha256, b"".join(seen)) == (key, hashlib.sha256(b"adopted").hexdigest(), b"adopted")
    assert Archive(other).prove_again(adopted).sha256 == adopted.sha256
    assert other.key_of("https://example.com/x") is None


def overwrite(emulator: Emulator, prefix: str, key: str, data: bytes | None) -> None:
    """Change an object behind our back, as somebody with write access could."""
    name = f"{prefix}/{key}"
    if emulator.name == "file":
        path = Path(emulator.rclone) / name
        path.unlink(missing_ok=True)
        if data is not None:
            path.write_bytes(data)
        return
    with environ(emulator.environment):
        if emulator.url.startswith("s3"):
            import boto3

            client = boto3.client("s3")
            client.delete_object(Bucket=BUCKET, Key=name)
            if data is not None:
                client.put_object(Bucket=BUCKET, Key=name, Body=data)
        elif emulator.name == "gcs":
            from google.cloud import storage

            blob = storage.Client().bucket(BUCKET).blob(name)
            if data is None:
                blob.delete()
            else:
                blob.upload_from_string(data)
        else:
            from azure.storage.blob import BlobServiceClient

            connection = emulator.environment["AZURE_STORAGE_CONNECTION_STRING"]
            blob_client = BlobServiceClient.from_connection_string(connection).get_blob_client(BUCKET, name)
            blob_client.delete_blob() if data is None else blob_client.upload_blob(data, overwrite=True)


@pytest.mark.parametrize("size", [1000, LARGE])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_damage_after_the_commit_is_found_by_proving_again(
    damage: str, size: int, store: Store, emulator: Emulator, prefix: str
) -> None:
    data = data_of(size)
    archived = put(store, "a", data)
    damaged = {"flipped": data[:-1] + bytes([data[-1] ^ 1]), "cut": data[:-1], "gone": None}[damage]
    overwrite(emulator, prefix, "a", damaged)
    with pytest.raises(Damaged, match="a: "):
        Archive(store).prove_again(archived)


@pytest.mark.parametrize("size", [1000, LARGE])
def test_the_same_bytes_under_another_mark_are_proven_by_reading_and_others_are_damage(
    size: int, store: Store, emulator: Emulator, prefix: str
) -> None:
    data = data_of(size)
    archived = put(store, "a", data)
    overwrite(emulator, prefix, "a", None)
    overwrite(emulator, prefix, "a", data)
    stored = store.stat("a")
    assert stored is not None
    proven = Archive(store).prove_again(archived)
    assert (proven.sha256, proven.proof.version) == (archived.sha256, stored.version)
    if stored.version != archived.proof.version:
        assert (proven.proof.by, proven.proof.value) == ("read-back", archived.sha256)
        assert Archive(store).prove_again(proven).proof == proven.proof, "its new ETag holds from then on"
    else:
        assert emulator.name in ("file", "s3-strict", "s3-strict-tls", "s3-weak"), (
            "a store of versions has another ETag"
        )
    overwrite(emulator, prefix, "a", data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Damaged, match="a: reads back with SHA-256"):
        Archive(store).prove_again(archived)


@pytest.mark.parametrize("size", [1000, LARGE])
def test_an_archive_that_was_moved_to_another_store_is_proven_by_reading(
    size: int, store: Store, emulator: Emulator, prefix: str, tmp_path: Path
) -> None:
    data = data_of(size)
    elsewhere = open_store((tmp_path / "elsewhere").as_uri())
    elsewhere.create_place()
    here, there = put(store, "a", data), put(elsewhere, "b", data)
    overwrite(emulator, prefix, "b", data)
    (tmp_path / "elsewhere" / "a").write_bytes(data)
    assert Archive(elsewhere).prove_again(here).proof.by == "read-back"
    assert Archive(store).prove_again(there).sha256 == there.sha256


def test_another_process_opens_the_same_archive(emulator: Emulator, prefix: str) -> None:
    archived = put(emulator.open(prefix), "a", data_of(1000))
    assert Archive(emulator.open(prefix)).prove_again(archived).sha256 == archived.sha256


def test_rclone_reads_the_archive_byte_for_byte(
    store: Store, emulator: Emulator, prefix: str, download_folder: Path
) -> None:
    archived = [put(store, f"recordings/x/{n}.wav", data_of(size, n)) for n, size in enumerate((10, 1000, LARGE))]
    done = subprocess.run(
        [rclone(), "copy", f"{emulator.rclone}/{prefix}", str(download_folder), "--config", "/dev/null"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = "".join(f"{o.sha256}  {o.key}\n" for o in archived)
    checked = subprocess.run(
        ["sha256sum", "-c", "-"], input=lines, capture_output=True, text=True, cwd=download_folder, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_orphans_of_today_are_left_alone(store: Store) -> None:
    assert store.remove_orphans() == 0


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("s3://nowhere-at-all", "the bucket does not exist"),
        ("gs://nowhere-at-all", "the bucket does not exist"),
        ("az://nowhere-at-all", "the container does not exist"),
    ],
)
def test_a_missing_bucket_is_reported_as_missing(url: str, text: str, emulator: Emulator) -> None:
    if url[:2] != emulator.url[:2] or emulator.name == "s3-weak":
        return
    with environ(emulator.environment):
        store = open_store(url)
    with pytest.raises(StoreRefused, match=text):
        put(store, "a", b"x")


def test_an_existing_key_is_reported_before_anything_is_written(store: Store) -> None:
    put(store, "a", b"x")
    with pytest.raises(KeyExists):
        store.put("a", Source(iter([b"y"])), "audio/wav", {})


def test_an_old_proof_of_another_kind_is_proven_by_reading(store: Store) -> None:
    archived = put(store, "a", b"x")
    older = ArchivedObject("a", 1, archived.sha256, "audio/wav", Proof("checksum", "of-the-future", "?", None))
    assert Archive(store).prove_again(older).sha256 == archived.sha256


def test_an_erasure_removes_one_recording_and_nothing_else(store: Store) -> None:
    for key in ("erase/a", "erase/a.b", "erase/b"):
        put(store, key, data_of(1000))
    store.erase("erase/a")
    store.erase("erase/a")  # again, after an interruption
    assert store.stat("erase/a") is None
    assert [stored.key for stored in store.list("erase/")] == ["erase/a.b", "erase/b"]
    put(store, "erase/a", data_of(10))
    assert b"".join(store.read("erase/a")) == data_of(10)
