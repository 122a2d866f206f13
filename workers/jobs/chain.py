"""The chain of seals as Redis remembers it, so that neither a sweep nor a seal reads all of it from the archive."""

from __future__ import annotations

import msgspec

from workers.archive.seals import LINK, Chain
from workers.keys import SEALS
from workers.runtime import Runtime


async def read_chain(runtime: Runtime) -> Chain:
    """The chain, from what Redis remembers of it and what has come since.

    Raises:
        UnreadableRecord: a seal cannot be read.
        StoreError: the store cannot be read now.
    """
    rows = await runtime.redis.hgetall(SEALS)
    chain = Chain(runtime.archive, [LINK.decode(rows[sequence]) for sequence in sorted(rows, key=int)])
    known = len(chain.links)
    await runtime.in_thread(chain.refresh)
    await remember_chain(runtime, chain, known)
    return chain


async def known_chain(runtime: Runtime) -> Chain:
    """The chain as Redis remembers it, which workers keep current; read from the archive only where it remembers none.

    Raises:
        UnreadableRecord, StoreError: as `read_chain`.
    """
    rows = await runtime.redis.hgetall(SEALS)
    if not rows:
        return await read_chain(runtime)
    return Chain(runtime.archive, [LINK.decode(rows[sequence]) for sequence in sorted(rows, key=int)])


async def remember_chain(runtime: Runtime, chain: Chain, known: int) -> None:
    """Remember the links behind the first so many."""
    if new := chain.links[known:]:
        await runtime.redis.hset(SEALS, mapping={str(link.seal.sequence): msgspec.json.encode(link) for link in new})
