"""Report damage that a command found; a worker writes it into the archive's register of damage."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from redis.exceptions import RedisError

from archive.problems import Problem
from config.settings import Settings
from text.errors import UserError
from text.one_line import one_line
from workers.damage.damage import REGISTERED, report_problems
from workers.queue.binding import bound_to
from workers.queue.connect import connect_receiver
from workers.queue.embedded import redis_of


def register_problems(settings: Settings, archive_id: str, problems: Sequence[Problem], by: str) -> str | None:
    """Report problems to the service's Redis, if it serves this archive.

    Args:
        settings: of the process.
        archive_id: of the archive that was checked.
        problems: what was found; those that are not about an object are skipped.
        by: the command, see `records.Damage`.

    Returns:
        Why it failed; None: it did not, or nothing was damaged.
    """
    if not any(problem.kind in REGISTERED for problem in problems):
        return None
    try:
        with redis_of(settings, is_there=True) as url:
            return asyncio.run(_report(url, archive_id, problems, by))
    except (UserError, RedisError, OSError) as error:
        return one_line(error)


async def _report(url: str, archive_id: str, problems: Sequence[Problem], by: str) -> str | None:
    redis = connect_receiver(url)
    try:
        if (bound := await bound_to(redis)) != archive_id:
            return f"this Redis belongs to {'no archive' if bound is None else f'archive {bound}'}"
        await report_problems(redis, problems, by)
        return None
    finally:
        await redis.aclose()
