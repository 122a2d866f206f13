"""The chain of seals as this process and Redis remember it, so that neither a reconcile nor a seal reads all of it again.

Each use compares it with the archive first: the archive must hold the last seal, byte for byte, and each seal must name the one
before. If not, the archive is new, was emptied or is an older copy, and the chain is read again. The memory of the process is
used only while Redis remembers as many seals: otherwise another worker has added some, or Redis has lost them.
"""

from __future__ import annotations

import hashlib
import itertools

import msgspec

from archive import layout
from archive.archive import Archive
from archive.problems import Problem
from archive.seals import Chain, Link
from workers.damage.damage import report_problems
from workers.keys import SEALED_DAYS, SEALS, UNSEALED_KNOWN
from workers.queue.script import write_when_full
from workers.queue.state import read_state
from workers.runtime import Runtime


async def read_chain(runtime: Runtime) -> Chain:
    """The chain, from the copy in Redis and the seals written since; sends an alert if the archive holds another chain.

    Raises:
        UnreadableRecord: a seal cannot be read.
        StoreError: the store cannot be read now.
    """
    chain = await _known_here(runtime)
    if chain is None:
        links = await _remembered(runtime)
        if not await _is_true(runtime, links):
            await _forget(runtime, links[-1])
            links = []
        chain = Chain(runtime.archive, links)
    known = len(chain.links)
    await runtime.in_thread(chain.refresh)
    await remember_chain(runtime, chain, known)
    return chain


async def known_chain(runtime: Runtime) -> Chain:
    """The chain as Redis remembers it, which workers keep current; one small read of the archive.

    It is read from the archive if Redis has none, or another than the archive.

    Raises:
        UnreadableRecord, StoreError: as `read_chain`.
    """
    if (chain := await _known_here(runtime)) is not None:
        return chain
    links = await _remembered(runtime)
    if links and await _is_true(runtime, links):
        chain = Chain(runtime.archive, links)
        runtime.chain.become(chain)
        return chain
    return await read_chain(runtime)


async def remembered_chain(runtime: Runtime) -> Chain:
    """The chain as Redis remembers it, unchecked, for use while the archive does not answer; the caller reports that."""
    return Chain(runtime.archive, await _remembered(runtime))


async def _known_here(runtime: Runtime) -> Chain | None:
    """The chain as this process read it last, if Redis remembers as many seals and the archive holds the last of them."""
    known = runtime.chain.copy()
    if not known.links or len(known.links) != await runtime.redis.hlen(SEALS):
        return None
    return known if await _is_true(runtime, known.links) else None


async def _remembered(runtime: Runtime) -> list[Link]:
    """The chain's beginning as Redis remembers it, up to the first link that it does not, or that names another before it."""
    rows = await read_state(runtime.redis, SEALS, Link)
    links: list[Link] = []
    for sequence in itertools.count(1):
        link, before = rows.get(str(sequence)), links[-1].sha256 if links else None
        if link is None or (link.seal.sequence, link.seal.previous_sha256) != (sequence, before):
            break
        links.append(link)
    return links


async def _is_true(runtime: Runtime, links: list[Link]) -> bool:
    """Whether the archive holds these links, by the last of them; none are always true."""
    return not links or await runtime.in_thread(_lies_there, runtime.archive, links[-1])


def _lies_there(archive: Archive, link: Link) -> bool:
    """Whether the archive holds this seal to the byte; by the hashes in it, all before it are the same too."""
    data = archive.read_small(layout.seal_key(link.seal.sequence))
    return data is not None and hashlib.sha256(data).hexdigest() == link.sha256


async def _forget(runtime: Runtime, last: Link) -> None:
    """Forget what follows from a chain that the archive does not hold: its seals, the days without a seal."""
    await runtime.redis.delete(SEALS, SEALED_DAYS, UNSEALED_KNOWN)
    seal = last.seal
    text = f"Seal {seal.sequence} of {seal.day} is missing from the archive, or another seal is in its place."
    advice = (
        "If you restored an older copy of the archive on purpose, do nothing: workers fetch what is missing while Telnyx has it. "
        "Otherwise compare the archive with a copy: `callvault verify --seals`."
    )
    problem = Problem("seal-altered", layout.seal_key(seal.sequence), "gone, or another lies there than was made")
    await report_problems(runtime.redis, [problem], "seal")
    await runtime.alerts.send("archive-damaged", "seals", text, advice)


async def remember_chain(runtime: Runtime, chain: Chain, known: int) -> None:
    """Remember a chain in this process, and in Redis its links behind the first so many."""
    runtime.chain.become(chain)
    rows = [("HSET", SEALS, link.seal.sequence, msgspec.json.encode(link)) for link in chain.links[known:]]
    if rows:
        await write_when_full(runtime.redis, *rows, ("SET", SEALED_DAYS, len(chain.days)))


async def follow_the_archive(runtime: Runtime) -> None:
    """Before `is_sealed`: see that the archive still holds the chain that is followed, by its last seal; one small read.

    Raises:
        UnreadableRecord, StoreError: as `read_chain`.
        redis.exceptions.RedisError: Redis is away.
    """
    last = runtime.sealed.last
    if last is not None and not await _is_true(runtime, [last]):
        async with runtime.sealed.reading:
            runtime.sealed.follow(await read_chain(runtime))


async def is_sealed(runtime: Runtime, folder: str) -> bool:
    """Whether a seal that counts lists the commit record of a recording.

    It costs one read of Redis if the manifests of the day are cached. The caller first compares the chain with the archive
    (`follow_the_archive`).

    Args:
        runtime: the worker's parts.
        folder: of the recording, with a slash at its end.

    Raises:
        UnreadableRecord: a seal or a manifest cannot be read, or a manifest is not the one of its seal.
        StoreError: the store cannot be read now.
        redis.exceptions.RedisError: Redis is away.
    """
    sealed, key = runtime.sealed, layout.commit_key(folder)
    if sealed.seals == await runtime.redis.hlen(SEALS) and (listed := sealed.lists(key)) is not None:
        return listed
    async with sealed.reading:
        if sealed.seals is None or sealed.seals != await runtime.redis.hlen(SEALS):
            sealed.follow(await read_chain(runtime))
        while (listed := sealed.lists(key)) is None:  # once, unless a job that was cancelled still reads another day
            await runtime.in_thread(sealed.read_day, layout.day_of(key))
        return listed
