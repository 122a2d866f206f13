"""Ctrl-C and SIGTERM end a command in order: one sentence says what stands, and how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from text.errors import UserError

SERVICES = frozenset({"serve", "worker", "up", "sandbox"})  # they take both signals as the order to stop, with status 0

# THE table of sentences for commands that do more than read. A command that knows more says it with `stands`.
_STANDS = {
    "init": "run `callvault init` again; what it has created stays",
    "backfill": "run the same command again to continue; workers finish the queued jobs",
    "connections apply": "nothing was changed; run the same command again",
    "erase": "nothing was erased; run the same command again",
    "deletions hold": "the hold may be recorded already; run the same command again to make sure",
    "deletions release": "the release may be recorded already; `callvault deletions holds` shows what is on hold",
    "deletions approve": "the approval may be recorded already; run the same command again to make sure",
    "deletions pause": "the pause may be recorded already; run the same command again to make sure",
    "deletions resume": "deletion may be resumed already; `callvault status` shows it",
    "deletions duties": "run the same command again",
    "retention apply": "the rules may be in force already; `callvault retention plan` shows which are",
    "retention approve": "the approval may be recorded already; run the same command again to make sure",
    "cases open": "the case may be open already; `callvault cases list` shows it",
    "cases close": "the case may be closed already; `callvault cases list` shows it",
    "export": "run the same command again to continue; what it has exported stays",
    "tokens create": "a token may have been made; `callvault tokens list` shows it, and `tokens revoke` ends it",
    "tokens revoke": "run the same command again to make sure",
    "dead-letters retry": "some may be queued again; `callvault dead-letters list` shows those that are left",
    "dead-letters discard": "some may be discarded; `callvault dead-letters list` shows those that are left",
    "dead-letters accept": "the decision may be recorded already; run the same command again to make sure",
    "index": "the next search brings the catalogue up to date",
    "repair": "run the same command again; an object is either restored and proven, or still missing",
    "seal": "seals that are written stay; run the same command again for the rest",
    "logs dismiss": "Telnyx may have dismissed the message already; run the same command again to make sure",
    "connections export": "the file is not complete; run the same command again",
    **dict.fromkeys(SERVICES, "nothing was started"),
}
_OF_TELNYX = "Telnyx may have carried out the request already; look before you repeat a change"
_READS = "nothing was changed; run the same command again"

_came = signal.SIGINT


class Interrupted(UserError):
    """A person or the system stopped a command.

    Args:
        what_stands: what is done, and how to go on.
    """

    def __init__(self, what_stands: str) -> None:
        super().__init__(f"interrupted: {what_stands}")
        self.exit_status = status()


def status() -> int:
    """The exit status of an interrupted command, as a shell has it: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + _came


def was_interrupted(code: int) -> bool:
    """Whether an exit status says that a command was interrupted."""
    return code in (128 + signal.SIGINT, 128 + signal.SIGTERM)


def take_sigterm() -> None:
    """Treat SIGTERM as Ctrl-C from now on, except for the exit status."""

    def end(number: int, frame: object) -> None:
        global _came
        _came = signal.SIGTERM
        of_ctrl_c = signal.getsignal(signal.SIGINT)  # asyncio's own while a loop runs; it cancels the work
        if not callable(of_ctrl_c):
            raise KeyboardInterrupt
        of_ctrl_c(signal.SIGINT, None)

    signal.signal(signal.SIGTERM, end)


def ignore() -> None:
    """Ignore both signals from now on, because the command has ended and its status stands."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def what_stands(command: str) -> str:
    """What stands where a command was interrupted that says nothing itself."""
    return _OF_TELNYX if command.startswith("telnyx ") else _STANDS.get(command, _READS)


def stop_if_cancelled() -> None:
    """End the task if it was cancelled: whoever waited for a connection may have taken the exception for a failure of it.

    Raises:
        asyncio.CancelledError: it was cancelled.
    """
    import asyncio  # most commands start without it

    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@contextmanager
def raised_at_once() -> Iterator[None]:
    """Have Ctrl-C end what the block waits for, such as an answer, also where asyncio would wait for its next step."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def stands(sentence: str | Callable[[], str]) -> Iterator[None]:
    """Say what stands if the block is interrupted; the innermost block counts.

    Raises:
        Interrupted: it was.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(sentence if isinstance(sentence, str) else sentence()) from None
