"""Runs work on many items in threads, a bounded number ahead of the reader, and returns the results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AT_ONCE = 16

T = TypeVar("T")
R = TypeVar("R")


def ahead(items: Iterable[T], work: Callable[[T], R], at_once: int = AT_ONCE) -> Iterator[R]:
    """The results of `work` in the order of the items; an exception is raised in place of its result."""
    threads = ThreadPoolExecutor(at_once, thread_name_prefix="callvault-ahead")
    waiting: deque[Future[R]] = deque()
    is_left = False
    try:
        for item in items:
            waiting.append(threads.submit(work, item))
            if len(waiting) >= 2 * at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except (
        KeyboardInterrupt,
        GeneratorExit,
    ):  # the second if it comes between two results, or the reader wants no more
        is_left = True  # nobody waits for what a slow store still sends
        raise
    finally:
        for future in waiting:
            future.cancel()
        threads.shutdown(wait=not is_left)
