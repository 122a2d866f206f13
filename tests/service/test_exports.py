"""Exports from the pages: asked for, made by a worker, downloaded, shared, and removed after their end."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import threading
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pyrage
import pytest

from archive.archive import Archive
from archive.cases import new_id as new_case_id
from archive.cases import put_case
from archive.decision_records import CaseQuery, CaseRecord
from archive.source import Source
from archive.stores.store import StoreError, StoreRefused, open_store
from lab.processes import receiver
from lab.worker import own_runtime, settings_of
from tests.seals.bundles import check
from tests.seals.small import SmallArchive
from tests.service.test_access_log import ARCHIVE_ID, TOKEN, environment, in_redis
from tests.service.test_roles import bearer, make_token
from text.times import format_instant, utc_now
from workers.engine.worker import Retry
from workers.export import keep, make
from workers.export.place import End, Exports, open_exports
from workers.keys import EXPORTING
from workers.recordings.requests import ExportRequest
from workers.running import publish, running_here
from workers.runtime import Runtime

DAY = "state:archived"  # eight recordings


def opened(settings: dict[str, str], root: Path) -> Exports:
    """The place of exports, as processes with these settings open it for the archive in a folder."""
    return open_exports(settings_of(settings), Archive(open_store(root.as_uri())))


@dataclass
class Site:
    """A receiver on a small archive, and what its worker would run with."""

    client: httpx.Client
    small: SmallArchive
    settings: dict[str, str]
    redis: Any

    @property
    def exports(self) -> Exports:
        return opened(self.settings, self.small.root)

    @property
    def folder(self) -> Path:
        return self.small.root.parent / "data" / "exports"

    def ask(self, status: int = 303, form: dict[str, str] | None = None, **fields: str) -> httpx.Response:
        answer = self.client.post("/ops/exports/ask", data=fields | (form or {}), headers=bearer(TOKEN))
        assert answer.status_code == status, answer.text
        return answer

    def shown(self) -> list[dict[str, Any]]:
        answer = self.client.get("/api/exports", headers=bearer(TOKEN)).raise_for_status().json()
        return list(answer["exports"])

    def change(self, what: str, export_id: str, status: int = 303) -> httpx.Response:
        answer = self.client.post(f"/ops/exports/{what}", data={"id": export_id}, headers=bearer(TOKEN))
        assert answer.status_code == status, answer.text
        return answer

    def download(self, export_id: str, **headers: str) -> httpx.Response:
        return self.client.get(f"/ops/exports/{export_id}/bundle", headers=bearer(TOKEN) | headers)

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Runtime]:
        async with own_runtime(self.settings | {"TELNYX_API_KEY": "KEY"}) as runtime:
            yield runtime

    async def make(self, runtime: Runtime) -> None:
        """Make all exports that have not ended, as their jobs do."""
        exports = self.exports
        for one in exports.all():
            if one.end is None:
                await make.make_export(runtime, ExportRequest(export_id=one.id, place=exports.known_id()))


@pytest.fixture
def site(redis_url: str, redis: Any, tmp_path: Path) -> Iterator[Site]:
    small = SmallArchive(tmp_path / "archive", {"id": ARCHIVE_ID})
    settings = environment(redis_url, small)
    with receiver(settings) as (client, _):
        yield Site(client, small, settings, redis)


def unpacked(data: bytes, folder: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        packed.extractall(folder)
    (found,) = folder.iterdir()
    return found


async def test_an_export_is_asked_for_made_downloaded_and_shared(site: Site, tmp_path: Path) -> None:
    site.ask(search=DAY, hours="24", why="Doe v. Example")
    (waiting,) = site.shown()
    assert (waiting["state"], waiting["recordings"], waiting["query"]) == ("waiting", 8, DAY)
    (line,) = in_redis(site.redis)
    assert (line["what"], line["query"], line["found"], line["why"]) == ("export", DAY, 8, "Doe v. Example")
    assert line["bytes"] == waiting["size_bytes"] > 0 and waiting["id"] in line["about"]
    assert site.redis.zscore("arq:queue:bulk", f"make_export:{waiting['id']}") is not None
    assert site.download(waiting["id"]).status_code == 409
    async with site.worker() as runtime:
        await site.make(runtime)
        await site.make(runtime)  # a job may run twice
    (ready,) = site.shown()
    assert (ready["state"], ready["done"], ready["problems"], ready["unsealed"]) == ("ready", 8, 0, 0)
    whole = site.download(ready["id"])
    bundle = unpacked(whole.content, tmp_path / "unpacked")
    assert check(bundle)[0] == 0 and len(list((bundle / "audio").iterdir())) == 8
    part = site.download(ready["id"], Range="bytes=10-19")
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert [one["what"] for one in in_redis(site.redis)] == ["export", "download", "download"]
    said = site.change("link", ready["id"], 200).text
    address = said.partition('<code id="shared-url">')[2].partition("</code>")[0]
    with httpx.Client(trust_env=False) as stranger:
        page = stranger.get(address)
        assert page.status_code == 200 and "8 recordings" in page.text and ready["sha256"] in page.text
        assert stranger.get(f"{address}/file").content == whole.content
        assert stranger.get(f"{address[:-3]}xyz/file").status_code == 404
        assert in_redis(site.redis)[-1]["how"] == "shared address"
        lines = len(in_redis(site.redis))
        outside = stranger.get(f"{address}/file", headers={"Range": f"bytes={len(whole.content)}-"})
        assert (outside.status_code, len(in_redis(site.redis))) == (416, lines), "nothing was sent"
        site.change("remove", ready["id"])
        assert stranger.get(f"{address}/file").status_code == 410
    assert site.shown() == [] and list(site.folder.glob("*/bundle-*"))
    async with site.worker() as runtime:
        await keep.look_after(runtime, site.exports)
    assert [path.name for path in site.folder.rglob("*") if path.is_file()] == ["place.json"]
    assert site.download(ready["id"]).status_code == 404


async def test_an_encrypted_export_of_selected_recordings_is_for_its_recipients(site: Site, tmp_path: Path) -> None:
    key = pyrage.x25519.Identity.generate()
    form = {"ids": "11-one 9-two", "hours": "24", "recipients": f"# court\n{key.to_public()}"}
    site.ask(303, form)
    line = in_redis(site.redis)[0]
    assert line["recordings"] == ["11-one", "9-two"] and "encrypted for 1 recipient" in line["about"]
    async with site.worker() as runtime:
        await site.make(runtime)
    (ready,) = site.shown()
    data = site.download(ready["id"]).content
    assert data.startswith(b"age-encryption.org") and ready["recipients"] == 1
    assert check(unpacked(pyrage.decrypt(data, [key]), tmp_path / "unpacked"))[0] == 0
    assert not any(b"audio of" in path.read_bytes() for path in site.folder.rglob("*") if path.is_file())


async def test_the_page_of_a_case_leads_to_a_bundle_that_names_it(site: Site, tmp_path: Path) -> None:
    case_id, at = new_case_id(), format_instant(utc_now())
    row = CaseRecord(
        id=case_id, number=1, state="open", name="Doe", query=CaseQuery(id="11-one"), why="a", by="b", at=at
    )
    put_case(Archive(open_store(site.small.root.as_uri())), row)
    page = site.client.get(f"/ops/cases/{case_id}", headers=bearer(TOKEN)).raise_for_status().text
    link = page.partition('<a href="/ops/exports/new')[2].partition('"')[0]
    form = site.client.get(f"/ops/exports/new{link}", headers=bearer(TOKEN)).raise_for_status().text
    search = form.partition('name="search" value="')[2].partition('"')[0]
    assert f"of the case Doe, <code>{search}</code>" in form
    site.ask(search=search)
    page = site.client.get("/ops/exports", headers=bearer(TOKEN)).raise_for_status().text
    assert ">Case Doe <" in page and f"<code>case:{case_id}</code>" in page
    async with site.worker() as runtime:
        await site.make(runtime)
    (ready,) = site.shown()
    bundle = unpacked(site.download(ready["id"]).content, tmp_path / "unpacked")
    summary = json.loads((bundle / "proof" / "bundle.json").read_bytes())
    assert (ready["recordings"], summary["case"], summary["case_name"]) == (1, case_id, "Doe")


@pytest.mark.parametrize(
    ("form", "status", "said"),
    [
        ({"search": "nobody-said-this"}, 404, "no recording matches"),
        ({}, 400, "search for something or select"),
        ({"ids": "none-such"}, 404, "not in the archive: none-such"),
        ({"search": DAY, "hours": "169"}, 400, "hours: expected a number from 1 to 168"),
        ({"search": DAY, "recipients": "age1xyz"}, 400, "cannot be used"),
        ({"search": DAY, "recipients": "AGE-SECRET-KEY-1QQ"}, 400, "this is a secret one"),
        ({"search": DAY, "path": "/etc"}, 400, "unknown field"),
        ({"search": "colour:red"}, 400, "colour"),
    ],
)
async def test_what_cannot_be_exported_is_refused_and_leaves_nothing(
    site: Site, form: dict[str, str], status: int, said: str
) -> None:
    assert said.lower() in site.ask(status, form).text.lower()
    assert site.shown() == [] and in_redis(site.redis) == []


async def test_only_who_sees_all_in_full_gets_bundles(site: Site) -> None:
    site.ask(search=DAY)
    async with site.worker() as runtime:
        await site.make(runtime)
    (ready,) = site.shown()
    for options in (("--mask",), ("--connection", "1")):
        own = bearer(make_token(site.settings, "officer", *options)["token"])
        refused = site.client.post("/ops/exports/ask", data={"search": DAY}, headers=own)
        assert refused.status_code == 403
        assert site.client.get(f"/ops/exports/{ready['id']}/bundle", headers=own).status_code == 403


async def test_a_cancelled_export_is_stopped_and_leaves_no_bundle(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it is cancelled in the moment in which the bundle is whole."""
    site.ask(search=DAY)
    (one,) = site.shown()
    put = Exports.put_bundle

    def cancelled(exports: Exports, export_id: str, source: Source, *, is_encrypted: bool) -> str:
        key = put(exports, export_id, source, is_encrypted=is_encrypted)
        site.change("cancel", one["id"])
        return key

    monkeypatch.setattr(Exports, "put_bundle", cancelled)
    async with site.worker() as runtime:
        await site.make(runtime)
        assert [(row["state"], row["why"]) for row in site.shown()] == [("cancelled", "by api")]
        assert not list(site.folder.glob("*/bundle-*")) and not site.redis.exists(EXPORTING + one["id"])
        assert "has ended already" in site.change("cancel", one["id"], 400).text


async def test_an_export_that_is_removed_while_it_is_made_leaves_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ask(search=DAY)
    (one,) = site.shown()
    put = Exports.put_bundle

    def removed(exports: Exports, export_id: str, source: Source, *, is_encrypted: bool) -> str:
        site.change("remove", one["id"])
        keep._clean(exports)
        return put(exports, export_id, source, is_encrypted=is_encrypted)

    monkeypatch.setattr(Exports, "put_bundle", removed)
    async with site.worker() as runtime:
        await site.make(runtime)
    assert [path.name for path in site.folder.rglob("*") if path.is_file()] == ["place.json"]


async def test_a_worker_that_stops_ends_at_once_and_the_next_begins_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ask(search=DAY)
    reached, go = threading.Event(), threading.Event()
    show = make._Making.show

    def slow(making: Any, recordings: int, size_bytes: int) -> None:
        reached.set()
        go.wait(30)
        show(making, recordings, size_bytes)

    monkeypatch.setattr(make._Making, "show", slow)
    async with site.worker() as runtime:
        job = asyncio.create_task(site.make(runtime))
        await asyncio.to_thread(reached.wait, 30)
        while not site.redis.exists(EXPORTING + site.shown()[0]["id"]):
            await asyncio.sleep(0.05)  # published beside the thread
        assert [row["state"] for row in site.shown()] == ["working"]
        job.cancel()
        await asyncio.wait([job])
        go.set()
        assert job.cancelled() and [row["state"] for row in site.shown()] == ["waiting"]
        monkeypatch.undo()
        await site.make(runtime)
    assert [row["state"] for row in site.shown()] == ["ready"]


async def test_a_full_disk_fails_an_export_and_an_outage_delays_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    full = StoreError("bundle: No space left on device")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    for failure in (StoreError("the bucket is away"), full):
        site.ask(search=DAY)

        def fail(*_: Any, failure: StoreError = failure, **__: Any) -> str:
            raise failure

        monkeypatch.setattr(Exports, "put_bundle", fail)
        async with site.worker() as runtime:
            if failure is full:
                await site.make(runtime)
            else:
                with pytest.raises(StoreError):
                    await site.make(runtime)
                assert [row["state"] for row in site.shown()] == ["waiting"]
                site.change("cancel", site.shown()[0]["id"])
    assert site.shown()[0]["why"] == "the disk of the exports is full: bundle: No space left on device"
    monkeypatch.setattr(make, "free_bytes", lambda folder: 10)
    monkeypatch.setattr(make, "_ROOM", 1000.0)
    site.ask(search=DAY)
    async with site.worker() as runtime:
        await site.make(runtime)
    assert site.shown()[0]["why"].startswith("the disk of the exports has 10 B free")


async def test_exports_end_by_their_time_and_what_no_job_makes_is_enqueued_again(site: Site) -> None:
    site.ask(search=DAY)
    (one,) = site.shown()
    exports = site.exports
    site.redis.flushall()  # with it the job
    async with site.worker() as runtime:
        await keep.look_after(runtime, exports)
        assert site.redis.zscore("arq:queue:bulk", f"make_export:{one['id']}") is not None
        await site.make(runtime)
        left = exports.put_bundle(one["id"], Source(b"of a killed attempt"), is_encrypted=False)
        await keep.look_after(runtime, exports)
        assert exports.store.stat(left) is None and site.download(one["id"]).status_code == 200
        path = site.folder / one["id"] / "end.json"
        end = msgspec.json.decode(path.read_bytes(), type=End)
        path.write_bytes(msgspec.json.encode(msgspec.structs.replace(end, ends_at=format_instant(utc_now()))))
        assert site.download(one["id"]).status_code == 410 and site.shown() == []
        old = f"{utc_now() - timedelta(days=4):%Y%m%dT%H%M%S.%fZ}-{'0' * 16}"
        older = f"{utc_now() - timedelta(days=15):%Y%m%dT%H%M%S.%fZ}-{'0' * 16}"
        asked = json.loads((site.folder / one["id"] / "request.json").read_bytes())
        for export_id in (old, older):
            exports.store.put(f"{export_id}/request.json", Source(json.dumps(asked).encode()), "application/json", {})
        await keep.look_after(runtime, exports)
    assert exports.store.stat(f"{one['id']}/request.json") is None
    assert exports.store.stat(f"{older}/request.json") is None
    assert [(row["id"], row["state"]) for row in site.shown()] == [(old, "failed")]


async def test_an_export_that_cannot_be_read_holds_up_no_other_and_goes_in_the_end(site: Site) -> None:
    site.ask(search=DAY)
    (one,) = site.shown()
    site.redis.flushall()
    young, old = (f"{utc_now() - timedelta(days=days):%Y%m%dT%H%M%S.%fZ}-{'0' * 16}/request.json" for days in (1, 15))
    for key in (young, old):
        site.exports.store.put(key, Source(b"{"), "application/json", {})
    async with site.worker() as runtime:
        await keep.look_after(runtime, site.exports)
    assert site.redis.zscore("arq:queue:bulk", f"make_export:{one['id']}") is not None
    assert [row["id"] for row in site.shown()] == [one["id"]]
    assert [site.exports.store.stat(key) is None for key in (young, old)] == [False, True]


async def test_workers_that_see_another_place_leave_an_export_to_others(site: Site, tmp_path: Path) -> None:
    site.ask(search=DAY)
    (one,) = site.shown()
    async with site.worker() as runtime:
        with pytest.raises(Retry):
            await make.make_export(runtime, ExportRequest(export_id=one["id"], place="another"))
        own = await running_here(runtime.settings, "worker", "w1")
        await publish(runtime.redis, msgspec.structs.replace(own, exports_place="another"))
        assert "o worker sees the place of exports of this receiver" in site.ask(503, search=DAY).text
        await publish(runtime.redis, msgspec.structs.replace(own, exports_place=site.exports.known_id()))
        site.ask(search=DAY)


async def test_an_export_waits_for_a_worker_that_has_just_started_to_say_which_place_it_sees(site: Site) -> None:
    async with site.worker() as runtime:
        own = await running_here(runtime.settings, "worker", "w1")
        await publish(runtime.redis, own)  # it has not reached the place yet
        asking = asyncio.create_task(asyncio.to_thread(site.ask, 303, search=DAY))
        await asyncio.sleep(0.5)
        assert not asking.done()
        await publish(runtime.redis, msgspec.structs.replace(own, exports_place=site.exports.known_id()))
        await asking
    assert len(site.shown()) == 1


def test_the_place_of_exports_is_never_in_the_archive_nor_of_another(site: Site, tmp_path: Path) -> None:
    def refused(why: str, root: Path = site.small.root, **settings: str) -> None:
        with pytest.raises(StoreRefused, match=why):
            opened(site.settings | settings, root)

    (tmp_path / "link").symlink_to(site.small.root)
    for url in (f"{site.small.root.as_uri()}/exports", tmp_path.as_uri(), f"{(tmp_path / 'link').as_uri()}/exports"):
        refused("lie in each other", CALLVAULT_EXPORTS_URL=url)
    for archive, url in (("s3://b", "s3://b/exports"), ("s3://b/exports/archive", "s3://b/exports")):
        refused("lie in each other", CALLVAULT_EXPORTS_URL=url, CALLVAULT_ARCHIVE_URL=archive)
    refused("does not exist", CALLVAULT_EXPORTS_URL=(tmp_path / "none").as_uri())
    assert site.exports.known_id() == site.exports.known_id() and site.folder.stat().st_mode & 0o077 == 0
    refused("the exports of another archive lie in", SmallArchive(tmp_path / "other", {"id": "cd" * 16}).root)
