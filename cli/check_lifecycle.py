"""The doctor's check of the bucket's lifecycle rules: what would they do to the archive?"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any

from archive.layout import IDENTITY_KEY
from archive.problems import ADVICE
from archive.stores.lifecycle import LifecycleRule, harms_of, moves_audio
from archive.stores.store import StoreCold, StoreError, StoreRefused, split_url
from cli.check import Noted, Wrong
from config.settings import Settings
from text.errors import UserError
from text.one_line import one_line
from workers.opening import open_archive


async def check_lifecycle(settings: Settings, redis: Any) -> str:
    """Check that no rule of the bucket deletes objects of the archive, or moves records to where they cannot be read at once."""
    try:
        rules = await asyncio.to_thread(_look, settings)
    except StoreCold as error:
        raise Wrong(str(error), ADVICE["cold"]) from None
    except (StoreError, UserError) as error:
        raise Noted(f"cannot be checked: {one_line(error)}", "fix the archive first, or try again later") from None
    return _judged(settings, rules)


def _look(settings: Settings) -> tuple[LifecycleRule, ...] | None:
    """The rules of the bucket, if records can be read.

    Raises:
        Wrong, Noted: a record is cold; or the credentials may not see the rules.
        UserError, StoreError: the archive cannot be opened or read.
    """
    store = open_archive(settings).store
    for key in (IDENTITY_KEY, *(stored.key for stored in islice(store.list("seals/"), 1))):
        stored = store.stat(key)
        if stored is not None and stored.state != "readable":
            raise Wrong(f"{key} is in cold storage", ADVICE["cold"])
    try:
        return store.lifecycle()
    except StoreRefused as error:
        raise Noted(
            f"cannot see the bucket's lifecycle rules: {one_line(error)}",
            "check by hand that none deletes what belongs to the archive; see docs/stores.md",
        ) from None


def _judged(settings: Settings, rules: tuple[LifecycleRule, ...] | None) -> str:
    """What the lifecycle rules of a bucket would do to the archive.

    Raises:
        Wrong, Noted: something that a person should know.
    """
    if settings.archive_address.startswith("file:"):
        return "the archive is a folder; no rules delete or move its files"
    if rules is None:
        raise Noted(
            "cannot see the lifecycle rules: this store shows them to no ordinary credentials",
            "check by hand that none deletes or archives anything of the archive but audio; see docs/stores.md",
        )
    prefix = split_url(settings.archive_address)[1]
    if harms := harms_of(rules, prefix):
        more = f"; {len(harms) - 1} more like it" if len(harms) > 1 else ""
        raise (Wrong if harms[0].is_grave else Noted)(harms[0].what + more, harms[0].advice)
    moves = [str(rule) + f" audio to {rule.storage_class}" for rule in rules if moves_audio(rule, prefix)]
    said = (
        "; ".join(moves)
        or "no rule moves audio; `callvault cost --older-than 90d --to CLASS` shows what one would save"
    )
    return f"no rule deletes or hides anything of the archive; {said}"
