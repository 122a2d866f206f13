"""The chain of seals as Redis remembers it, so that neither a sweep nor a seal reads all of it from the archive."""

from __future__ import annotations

import itertools

import msgspec

from workers.archive import layout
from workers.archive.seals import Chain, Link
from workers.keys import SEALS
from workers.queue.state import read_state
from workers.runtime import Runtime


async def read_chain(runtime: Runtime) -> Chain:
    """The chain, from what Redis remembers of it and what has come since.

    Raises:
        UnreadableRecord: a seal cannot be read.
        StoreError: the store cannot be read now.
    """
    chain = Chain(runtime.archive, await _remembered(runtime))
    known = len(chain.links)
    await runtime.in_thread(chain.refresh)
    await remember_chain(runtime, chain, known)
    return chain


async def known_chain(runtime: Runtime) -> Chain:
    """The chain as Redis remembers it, which workers keep current; read from the archive only where it remembers none.

    Raises:
        UnreadableRecord, StoreError: as `read_chain`.
    """
    links = await _remembered(runtime)
    return Chain(runtime.archive, links) if links else await read_chain(runtime)


async def _remembered(runtime: Runtime) -> list[Link]:
    """The chain's beginning as Redis remembers it, up to the first link that it does not."""
    rows = await read_state(runtime.redis, SEALS, Link)
    known = itertools.takewhile(lambda sequence: sequence in rows, map(str, itertools.count(1)))
    return [rows[sequence] for sequence in known]


async def remember_chain(runtime: Runtime, chain: Chain, known: int) -> None:
    """Remember the links behind the first so many."""
    if new := chain.links[known:]:
        await runtime.redis.hset(SEALS, mapping={str(link.seal.sequence): msgspec.json.encode(link) for link in new})


async def is_sealed(runtime: Runtime, folder: str) -> bool:
    """Whether a seal that counts lists the commit record of a recording.

    It costs nothing where the manifest has been read before: manifests never change. Else it costs the manifests of one day; and
    for a day without a new seal, one look into Redis.

    Args:
        runtime: the worker's parts.
        folder: of the recording, with a slash at its end.

    Raises:
        UnreadableRecord: a seal or a manifest cannot be read, or a manifest is not the one of its seal.
        StoreError: the store cannot be read now.
        redis.exceptions.RedisError: Redis is away.
    """
    sealed, key = runtime.sealed, layout.commit_key(folder)
    if sealed.lists(key):
        return True
    async with sealed.reading:
        if sealed.chain is None or len(sealed.chain.links) != await runtime.redis.hlen(SEALS):
            sealed.chain = await read_chain(runtime)
        await runtime.in_thread(sealed.read_day, layout.day_of(key))
    return sealed.lists(key)
