"""What a running `callvault up` works with: it writes that into its data folder, and commands read it.

`running.json` is private, and holds no secret but those of a sandbox. `up` locks it while it lives, and the kernel
releases the lock when the process dies. So a file that a killed `up` left behind counts for nothing, even if its
process id is in use again. docs/decisions/0028-commands-find-a-running-up.md explains what is taken from it, and when.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from config.secret_files import SUFFIX, environment
from config.settings import names_of_secrets, names_same_in, without_credentials
from text.errors import UserError

_FILE = "running.json"
_MOST_BYTES = 64 * 1024
# They decide which account, Redis and archive a command acts on, so all of them come from one place.
_TOGETHER = ("TELNYX_API_KEY", "TELNYX_BASE_URL", "TELNYX_PUBLIC_KEY", "REDIS_URL", "CALLVAULT_ARCHIVE_URL")


class NotPrivate(Exception):
    """Another user could have written the file; the text names it and says why."""


@dataclass(frozen=True)
class RunningUp:
    """What a running `up` works with.

    Attributes:
        process: its id.
        is_sandbox: whether it runs a sandbox.
        settings: what commands need to act on the same account and archive, by the name of the variable.
        left_out: names of settings that it has and does not tell, because they are secrets.
    """

    process: int
    is_sandbox: bool
    settings: dict[str, str] = field(repr=False)
    left_out: list[str]


def this_up(sandbox: Mapping[str, str] | None) -> RunningUp:
    """What this process, which is an `up`, tells commands.

    Args:
        sandbox: the settings that point at its sandbox; None: it runs none.
    """
    variables, secrets = environment(), names_of_secrets()
    names = (*names_same_in("service", "workers"), "REDIS_URL", "TELNYX_PUBLIC_KEY")
    # `CALLVAULT_RETENTION_FILE` is a setting of its own, not the file of `CALLVAULT_RETENTION`.
    is_set = [name for name in names if name in variables or (name in secrets and name + SUFFIX in variables)]
    told = {n: variables[n] for n in is_set if n not in secrets and variables[n] == without_credentials(variables[n])}
    told |= sandbox or {}
    return RunningUp(os.getpid(), sandbox is not None, told, [name for name in is_set if name not in told])


@contextmanager
def published(up: RunningUp, data_folder: Path) -> Iterator[None]:
    """Have commands find this `up` for the block. The caller holds the data folder, so there is one `up` at most.

    Raises:
        UserError: the file cannot be written.
    """
    path = data_folder / _FILE
    with ExitStack() as files:
        try:
            files.enter_context(_locked_file(path, json.dumps(asdict(up)) + "\n"))
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        with suppress(OSError):  # commands then need --data
            files.enter_context(_locked_file(_of_this_folder(), str(data_folder.resolve())))
        yield


@contextmanager
def _locked_file(path: Path, text: str) -> Iterator[None]:
    """Have a private file for the block, which is locked and whole whenever somebody opens it.

    Raises:
        OSError: it cannot be written.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(text)
        file.flush()
        new.replace(path)
        try:
            yield
        finally:
            with suppress(OSError):
                if os.path.samestat(path.lstat(), os.fstat(file.fileno())):  # else another `up` has replaced it
                    path.unlink()


def _of_this_folder() -> Path:
    """Where an `up` that was started in the current folder says which data folder it has."""
    digest = hashlib.sha256(os.fsencode(Path.cwd())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"callvault-up-{os.getuid()}-{digest}"


def data_folder_here() -> Path | None:
    """The data folder of the running `up` that was started last in the current folder; None: no such, or not ours."""
    try:
        opened = os.open(_of_this_folder(), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        file = os.fstat(opened)
        is_ours = stat.S_ISREG(file.st_mode) and file.st_uid == os.geteuid() and not file.st_mode & 0o077
        return Path(os.fsdecode(os.read(opened, _MOST_BYTES))) if is_ours and _is_locked(opened) else None
    finally:
        os.close(opened)


def find_up(data_folder: Path) -> RunningUp | None:
    """The running `up` of a data folder; None: none runs, or it is of a version that this one cannot read.

    Raises:
        NotPrivate: another user could have written the file, and would lead this command elsewhere.
    """
    path = data_folder / _FILE
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not _is_locked(opened):
            return None
        _assert_private(path, os.fstat(opened), data_folder.lstat(), data_folder.stat())
        return RunningUp(**json.loads(os.read(opened, _MOST_BYTES)))
    except (OSError, ValueError, TypeError):
        return None
    finally:
        os.close(opened)


def _is_locked(opened: int) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _assert_private(path: Path, file: os.stat_result, link: os.stat_result, folder: os.stat_result) -> None:
    user = os.geteuid()
    if {file.st_uid, link.st_uid, folder.st_uid} != {user}:
        raise NotPrivate(f"{path} is not used, because it or its folder belongs to another user")
    if not stat.S_ISREG(file.st_mode) or file.st_mode & 0o077 or folder.st_mode & 0o022:
        raise NotPrivate(
            f"{path} is not used, because other users could have changed it; run `chmod go= {path.parent}`"
        )


def what_to_take(up: RunningUp) -> tuple[dict[str, str], str]:
    """The settings that a command takes from a running `up`, and what stands against taking any.

    Returns:
        The values by the name of the variable; and the name of a variable of this process that points elsewhere, because
        of which nothing is taken, or an empty text.
    """
    variables = environment()
    secrets = names_of_secrets()
    both = (*_TOGETHER, *up.settings)
    here = {name for name in both if name in variables or (name in secrets and name + SUFFIX in variables)}
    taken = {name: value for name, value in up.settings.items() if name not in here}
    for name in _TOGETHER:
        if taken and name in here and name not in up.left_out and variables.get(name) != up.settings.get(name):
            return {}, name
    return taken, ""


def notes_about(up: RunningUp, data_folder: Path) -> list[str]:
    """What a command says about a running `up` on standard error, a line each."""
    taken, elsewhere = what_to_take(up)
    which = f"the `callvault up` that runs with data folder {data_folder} (process {up.process})"
    lines = [f"using {'the sandbox' if up.is_sandbox else 'settings'} of {which}"] if taken else []
    if elsewhere:
        lines.append(f"not using the settings of {which}, because {elsewhere} is set here to something else")
    if not elsewhere and "REDIS_URL" in up.left_out and not {"REDIS_URL", f"REDIS_URL{SUFFIX}"} & {*environment()}:
        lines.append(f"REDIS_URL is not set here, but {which} has one; set it to the same")
    return lines


def shell_lines(up: RunningUp, data_folder: Path) -> list[str]:
    """The commands that give a shell what this `up` tells, in the form that every shell of POSIX reads."""
    import shlex

    told: dict[str, Any] = {"CALLVAULT_DATA": data_folder.resolve(), **up.settings}
    return [f"export {name}={shlex.quote(str(value))}" for name, value in told.items()]
