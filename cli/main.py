"""`callvault`: THE table of commands. A command's module is imported when the command is called, so the start is fast."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
import traceback
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any, NamedTuple, NoReturn

import typer

from cli.help import write_commands
from cli.interrupt import SERVICES, Interrupted, ignore, status, take_sigterm, was_interrupted
from cli.lazily import import_lazily, read_versions_fast
from cli.usage import Group, UsageError, explain, group
from process.leave import leave_now, leave_soon
from process.logs import configure_logs
from text.errors import UsedWrongly, UserError

# Libraries load these for features that Callvault does not use; together that takes longer than most commands run.
import_lazily("jwt")  # redis, for logins with tokens; cryptography comes with it
read_versions_fast()
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # to find any, it reads the metadata of every package


_GC_THRESHOLD = 20_000  # new objects; the default looks through those of all imports time and again


class Command(NamedTuple):
    """A command.

    Attributes:
        name: as a person types it.
        module: where it is; its `command` is a function with options, or a group of further commands.
        summary: for `callvault --help`, in one line of 80 columns.
    """

    name: str
    module: str
    summary: str


COMMANDS: dict[str, tuple[Command, ...]] = {
    "Run Callvault": (
        Command("init", "cli.init", "Create the archive at CALLVAULT_ARCHIVE_URL."),
        Command("up", "cli.up", "Run the receiver, a worker and Redis on one machine."),
        Command("serve", "cli.serve", "Run the webhook receiver and the ops pages."),
        Command("worker", "cli.worker", "Run workers: archive, verify, delete originals."),
        Command("demo", "cli.demo", "Archive sample calls on this machine, then report."),
        Command("sandbox", "cli.sandbox", "Run a local stand-in for the Telnyx API."),
    ),
    "Watch it": (
        Command("status", "cli.status", "Show queues, deletions, dead letters and seals."),
        Command("config", "cli.config", "Show each setting in force and its source."),
        Command("doctor", "cli.doctor", "Check the installation and show how to fix it."),
        Command("healthy", "cli.healthy", "Check that local receivers and workers are alive."),
        Command("dead-letters", "cli.dead_letters", "List, retry or discard jobs that failed for good."),
        Command("cost", "cli.cost", "Show what the archive costs a month, by class."),
    ),
    "Recordings": (
        Command("find", "cli.find", "Find recordings by number, time or spoken words."),
        Command("get", "cli.get", "Copy a recording or its transcript to a file."),
        Command("export", "cli.export", "Export recordings with their proofs."),
        Command("backfill", "cli.backfill", "Archive recordings that Telnyx already has."),
        Command("deletions", "cli.deletions", "List, pause, hold or approve deletions at Telnyx."),
        Command("cases", "cli.cases", "Open, list or close cases: holds by a search."),
        Command("retention", "cli.retention", "Plan, apply and carry out retention rules."),
        Command("erase", "cli.erase", "Erase a recording for good."),
        Command("index", "cli.index", "Update or rebuild the search catalogue."),
    ),
    "Access": (
        Command("access", "cli.access", "Check which roles a person gets."),
        Command("tokens", "cli.tokens", "Make, list or revoke API tokens of the ops pages."),
    ),
    "Evidence": (
        Command("access-log", "cli.access_log", "List who looked at, heard or changed what."),
        Command("verify", "cli.verify", "Verify recordings and seals in the archive."),
        Command("seal", "cli.seal", "Seal finished days, or sign seals, by hand."),
        Command("repair", "cli.repair", "Restore missing audio from Telnyx or a copy."),
    ),
    "Telnyx account": (
        Command("connections", "cli.connections", "Manage the account's configuration as code."),
        Command("logs", "cli.logs", "List or dismiss log messages of connections."),
        Command("telnyx", "cli.telnyx", "Call any operation of the Telnyx API."),
    ),
}
_BY_NAME = {command.name: command for section in COMMANDS.values() for command in section}


class _Commands(Group):
    """The commands of the table; lists them without importing them.

    Attributes:
        has_begun: whether a command was looked for in this process.
    """

    has_begun = False

    def get_params(self, ctx: Any) -> list[Any]:
        """The options, all flags. As with `--help`, Typer imports pydantic to read a default that is no bool."""
        found = super().get_params(ctx)
        for flag in found:
            flag.default = flag.default or False
        return found

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands."""
        return [*_BY_NAME]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command."""
        if (row := _BY_NAME.get(cmd_name)) is None:
            return None
        command = import_module(row.module).command
        if isinstance(command, typer.Typer):
            return typer.main.get_group(command)
        alone = group(row.summary)
        alone.command(row.name)(command)
        return typer.main.get_command(alone)

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Ctrl-C while it is imported ends it here."""
        _Commands.has_begun = True
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("nothing was begun") from None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the table, a section a heading."""
        width = max(map(len, _BY_NAME))
        for heading, rows in COMMANDS.items():
            write_commands(formatter, heading, [(row.name, row.summary) for row in rows], width)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from process.version import own_version

        sys.stdout.write(f"callvault {own_version()}\n")
        raise typer.Exit


app = group(
    "Keep Telnyx call recordings in your own storage, and prove they are intact.\n\n"
    "Examples:\ncallvault demo\ncallvault up --sandbox",
    _Commands,
    has_completion=True,
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point."""
    try:
        _run()
    except SystemExit as end:
        ignore()
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if was_interrupted(code):
            leave_now(code)
        leave_soon(code)
        raise


def _run() -> None:
    """Run the command that was typed, and end with its exit status; an error becomes one line."""
    configure_logs("warning", program="callvault", is_command=True)  # serve and worker set their own
    if not SERVICES.intersection(sys.argv[1:2]):
        take_sigterm()
        gc.set_threshold(_GC_THRESHOLD)
    try:
        code = app(prog_name="callvault", standalone_mode=False)
        if code == 128 + signal.SIGINT:  # Typer took it without a word, while it read what was typed
            raise KeyboardInterrupt
        sys.exit(code)
    except KeyboardInterrupt:  # before a command was looked for, or after it ended
        stands = "it may be done already; look before you run it again" if _Commands.has_begun else "nothing was begun"
        _end(str(Interrupted(stands)), status())
    except UserError as error:
        _end(str(error), error.exit_status)
    except UsageError as error:
        if getattr(error, "option_name", None) == "--version":  # of a command that has no such option
            _end_with_version()
        _end(explain(error), UsedWrongly.exit_status)
    except typer.Abort:
        _end("aborted", 1)
    except Exception as error:
        from redis.exceptions import RedisError

        from archive.stores.store import StoreError, StoreRefused
        from telnyx_api.errors import TelnyxError
        from text.one_line import one_line

        if isinstance(error, RedisError):
            _end(f"{one_line(error)}; run `callvault doctor` for details", 1)
        if isinstance(error, StoreRefused):  # its text says what to do
            _end(str(error), 1)
        if isinstance(error, StoreError | TelnyxError):
            _end(f"{error}; run `callvault doctor` for details", 1)
        line = " ".join(f"{type(error).__name__}: {error}".split())
        _end(f"internal error: {line}; please report it with {_save_trace(error)}", 1)


def _end_with_version() -> NoReturn:
    with suppress(typer.Exit):
        _show_version(is_asked=True)
    sys.exit()


def _save_trace(error: Exception) -> str:
    """Write the stack trace of an unexpected error to a file; returns its path."""
    with tempfile.NamedTemporaryFile("w", prefix="callvault-", suffix=".log", delete=False) as file:
        traceback.print_exception(error, file=file)
    return file.name


def _end(text: str, status: int) -> NoReturn:
    print(text if "\n" in text else f"callvault: {text}", file=sys.stderr)  # noqa: T201
    sys.exit(status)


if __name__ == "__main__":
    main()
