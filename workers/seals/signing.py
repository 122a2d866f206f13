"""Sign and stamp seals. The service signs only the seals that it made, now or before.

Somebody with write access to the bucket could put an unsigned chain there and wait for signatures. So Redis records the
seals that the service makes before it writes them, and this record is never restored from the archive.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from archive import layout
from archive.append import Making, put_beside
from archive.proof import hash_object
from archive.records import UnreadableRecord
from archive.seals import Chain, Link, present_seals
from config.settings import Settings
from process.logs import get_logger
from text.errors import UserError
from workers.keys import COMPLETED, MADE
from workers.queue.script import write_when_full
from workers.runtime import Runtime
from workers.seals.chain import read_chain

if TYPE_CHECKING:
    from archive.signatures import SealKeys

log = get_logger()

_COMPLETE_EVERY_SECONDS = 600
_STAMPS_A_TURN = 20
_REDIS_SECONDS = 15
_NAMED = 3  # seals that an alert names with their hashes


def making_of(runtime: Runtime, put_rows: Callable[[int], None]) -> Making:
    """The steps around a seal that this worker makes: remember it in Redis, write its rows, sign it.

    Args:
        runtime: the worker's parts.
        put_rows: see `Making`.
    """
    loop = asyncio.get_running_loop()

    def remember(sequence: int, sha256: str) -> None:
        written = asyncio.run_coroutine_threadsafe(_remember(runtime, sequence, sha256), loop)
        written.result(_REDIS_SECONDS)

    sign = None
    if runtime.settings.seal_key is not None:
        try:
            sign = open_seal_keys(runtime.settings).sign
        except UserError as error:  # the seal is made, and signed by a later turn once the key is there
            log.warning("a seal is not signed yet", error=str(error))
    return Making(put_rows, remember, sign)


async def _remember(runtime: Runtime, sequence: int, sha256: str) -> None:
    await write_when_full(runtime.redis, ("HSET", MADE, _field(sequence, sha256), "1"))


def _field(sequence: int, sha256: str) -> str:
    return f"{sequence} {sha256}"


async def complete_seals(runtime: Runtime) -> None:
    """Sign and stamp the seals that lack it; an authority that is down delays only its own stamps."""
    settings = runtime.settings
    if settings.seal_key is None and settings.timestamp_url is None:
        return
    (is_time,) = await write_when_full(runtime.redis, ("SET", COMPLETED, "1", "NX", "EX", _COMPLETE_EVERY_SECONDS))
    if is_time is None:
        return
    if failed := await complete(runtime):
        advice = (
            "The seals are valid; their time stamps follow when the authority answers. See CALLVAULT_TIMESTAMP_URL."
        )
        await runtime.alerts.send("time-stamp", "authority", f"No time stamp: {failed}.", advice)


async def complete(runtime: Runtime) -> str | None:
    """Sign the seals that this service remembers having made, and stamp the newest first: a stamp covers all before it.

    Returns:
        Why a stamp could not be had; None if none was wanted or all were.

    Raises:
        UserError: the key cannot be used.
        StoreError, UnreadableRecord: the seals cannot be read.
    """
    present = await runtime.in_thread(present_seals, runtime.archive)
    sealed = [sequence for sequence, names in present.items() if "json" in names]
    if runtime.settings.seal_key is not None:
        await _sign_own(runtime, [sequence for sequence in sealed if "sig" not in present[sequence]])
    unstamped = [sequence for sequence in sorted(sealed, reverse=True) if "tsr" not in present[sequence]]
    return await runtime.in_thread(_stamp, runtime, unstamped[:_STAMPS_A_TURN])


async def _sign_own(runtime: Runtime, unsigned: list[int]) -> None:
    """Of some seals, sign those that this service remembers having made, to the byte; alert about any other."""
    if not unsigned:
        return
    keys = open_seal_keys(runtime.settings)
    links = {link.seal.sequence: link for link in (await read_chain(runtime)).links}
    foreign = []
    for sequence in unsigned:
        link = links.get(sequence)
        if link is None:  # after a gap in the chain; `verify --seals` reports it
            continue
        field = _field(sequence, link.sha256)
        if not await runtime.redis.hexists(MADE, field):
            foreign.append(link)
        elif await runtime.in_thread(_sign, runtime, keys, link):
            await runtime.redis.hdel(MADE, field)
    if foreign:
        await _alert_foreign(runtime, foreign)


def _sign(runtime: Runtime, keys: SealKeys, link: Link) -> bool:
    """Sign a seal if its bytes still equal the link's; blocks."""
    data = runtime.archive.read_small(layout.seal_key(link.seal.sequence)) or b""
    if hashlib.sha256(data).hexdigest() != link.sha256:
        return False
    put_beside(runtime.archive, link.seal.sequence, "sig", keys.sign(data))
    return True


async def _alert_foreign(runtime: Runtime, foreign: list[Link]) -> None:
    named = ", ".join(f"seal {one.seal.sequence} ({one.seal.day}, SHA-256 {one.sha256})" for one in foreign[:_NAMED])
    more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
    first, last = foreign[0].seal.sequence, foreign[-1].seal.sequence
    numbers = str(first) if first == last else f"{first}-{last}"
    await runtime.alerts.send(
        "seal-unsigned",
        "seals",
        f"Not signed, and this service does not remember having made it: {named}{more}.",
        "Run `callvault verify --seals --head HASH` with a head that you trust. If the chain holds, "
        f"`callvault seal --sign {numbers}` signs; if not, somebody has changed the bucket.",
    )


def _stamp(runtime: Runtime, sequences: list[int]) -> str | None:
    """Have seals stamped; blocks. Returns why one could not be."""
    settings, archive = runtime.settings, runtime.archive
    if settings.timestamp_url is None:
        return None
    from archive.timestamps import BadTimestamp, request_timestamp

    for sequence in sequences:
        data = archive.read_small(layout.seal_key(sequence)) or b""
        try:
            stamp = request_timestamp(settings.timestamp_url, data, settings.timestamp_ca)
        except BadTimestamp as error:
            log.warning("no time stamp", sequence=sequence, error=str(error))
            return str(error)
        put_beside(archive, sequence, "tsr", stamp)
    return None


async def sign_by_hand(runtime: Runtime, first: int, last: int) -> list[Link]:
    """Sign seals on a person's request, even those of another service; signed ones keep their signature.

    The chain is read from the archive alone, and must hold from its first seal to the last that is signed.

    Args:
        runtime: the worker's parts.
        first: number of the first seal.
        last: number of the last.

    Returns:
        The seals of these numbers.

    Raises:
        UserError: no key is set or it cannot be used, there is no such seal, or the chain does not hold up to it.
        StoreError: the store cannot be asked now.
    """
    keys = open_seal_keys(runtime.settings)
    links = await runtime.in_thread(_chain_up_to, runtime, first, last)
    for link in links:
        if not await runtime.in_thread(_sign, runtime, keys, link):
            raise UserError(f"seal {link.seal.sequence}: it changed while it was read; nothing of it is signed")
        with suppress(RedisError, OSError):  # a row that stays is never read: the seal has its signature
            await runtime.redis.hdel(MADE, _field(link.seal.sequence, link.sha256))
    return links


def _chain_up_to(runtime: Runtime, first: int, last: int) -> list[Link]:
    """Seals of the archive, after a check of the chain up to them and of their manifests; blocks."""
    archive, advice = runtime.archive, "run `callvault verify --seals`"
    chain = Chain(archive)
    try:
        chain.refresh()
    except UnreadableRecord as error:
        raise UserError(f"{error}; {advice}") from None
    if not 1 <= first <= last <= len(chain.links):
        raise UserError(f"there is no seal {last if first >= 1 else first}; the chain has {len(chain.links)}")
    before = None
    for link in chain.links[:last]:
        if link.seal.previous_sha256 != before:
            raise UserError(f"seal {link.seal.sequence} does not follow the seal before it; {advice}")
        before = link.sha256
    for link in chain.links[first - 1 : last]:
        manifest = layout.seal_key(link.seal.sequence, "sha256")
        try:
            found = hash_object(archive.store, manifest)
        except KeyError:
            raise UserError(f"{manifest}: not there; {advice}") from None
        if found != link.seal.manifest_sha256:
            raise UserError(f"{manifest}: not the manifest of its seal; {advice}")
    return chain.links[first - 1 : last]


def open_seal_keys(settings: Settings) -> SealKeys:
    """The keys of `CALLVAULT_SEAL_KEY`.

    Raises:
        UserError: it is not set, or cannot be used.
    """
    try:
        from archive.signatures import BadKey, SealKeys
    except ImportError:
        raise UserError("CALLVAULT_SEAL_KEY: cryptography is missing; pip install 'callvault[seals]'") from None
    if settings.seal_key is None:
        raise UserError("CALLVAULT_SEAL_KEY: not set; set it to the key that signs the seals")
    try:
        return SealKeys(settings.seal_key.get_secret_value())
    except BadKey as error:
        raise UserError(f"CALLVAULT_SEAL_KEY: {error}") from None
