"""All commands with their help, from the table of `cli/main.py`: for docs/commands.md and the manual page."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import typer

from cli.help import Page, page_of
from cli.main import COMMANDS, app
from config.settings import SETTINGS

# Their operations are in docs/telnyx-operations.md.
_WITHOUT_THEIR_OWN = ("callvault telnyx",)


class Shown(NamedTuple):
    """The page of a command, and the heading that `callvault --help` has above it; empty for `callvault` itself."""

    section: str
    page: Page
    is_group: bool


@cache
def all_pages(*, with_operations: bool = False) -> tuple[Shown, ...]:
    """The pages of `callvault`, of each command, and of each command of a group.

    Args:
        with_operations: whether to include the operations of `callvault telnyx`.
    """
    sections = {row.name: heading for heading, rows in COMMANDS.items() for row in rows}

    def walk(command: Any, ctx: Any, section: str) -> Iterator[Shown]:
        is_group = hasattr(command, "commands")
        yield Shown(section, page_of(command, ctx), is_group)
        if is_group and (with_operations or ctx.command_path not in _WITHOUT_THEIR_OWN):
            for name in command.list_commands(ctx):
                one = command.get_command(ctx, name)
                below = one.make_context(name, [], parent=ctx, resilient_parsing=True)
                yield from walk(one, below, section or sections[name])

    root: Any = typer.main.get_command(app)  # with the options that install completion
    return (*walk(root, root.make_context("callvault", [], resilient_parsing=True), ""),)


EXIT_STATUS = (
    ("0", "It did what was asked."),
    ("1", "It failed, or it found something that needs your attention. The help of the command says what."),
    (
        "2",
        "It was used wrongly: an option, an argument or a setting. Nothing was done. "
        "Of `connections plan`: there are changes.",
    ),
    ("130", "You interrupted it with Ctrl-C."),
    ("143", "SIGTERM ended it. Receivers, workers and `up` end with 0 then."),
)

# Names of files in the data folder, and what they are.
FILES = (
    ("access-log.sqlite", "the index behind `callvault access-log`; it can be deleted"),
    ("archive/", "the archive, unless CALLVAULT_ARCHIVE_URL names another place"),
    ("catalogue.sqlite", "the search catalogue; `callvault index --rebuild` makes it anew"),
    ("exports/", "the exports of the ops pages, unless CALLVAULT_EXPORTS_URL names another place"),
    ("running.json", "what a running `callvault up` tells other commands"),
    ("valkey/", "the data and the log of the embedded Valkey server, unless REDIS_URL names another"),
)


def settings() -> list[tuple[str, str]]:
    """The name and the meaning of each setting."""
    return [(row.name, row.help) for row in SETTINGS.values()]


JSON = """\
With `--json`, a command prints one JSON document on standard output, on one line, and nothing else there.
Progress, notes and errors go to standard error. The document comes when the command has acted.

- A list is an object: its rows are an array under the name of what is listed, such as `{"holds": [...]}`, and
  what is known of the list as a whole stands beside it.
- Times are ISO 8601 in UTC; `due_at` is in seconds since 1970, and `deletion_due_at` beside it is ISO 8601. Sizes are
  bytes, durations are seconds.
- `null` means that there is no value or that it is not known. Later versions may add fields.
- After an error, standard output is empty, unless the command had begun to act: then the document says how far
  it came. The exit status tells.

`find` and `access-log` print one document per line, so that a script can read a long list as it comes. `telnyx`
prints JSON anyway: one document, or one line for each item of a list. `serve` and `worker` print nothing but
their logs, which are JSON lines on standard error.""".splitlines()


def markdown() -> list[str]:
    """The lines of `docs/commands.md`, below its head."""
    lines = [
        "`callvault --help` lists the commands. `--help` of a command shows what is below, and `man callvault` has all",
        "of it. [quickstart.md](quickstart.md) shows the most important ones at work.",
        "",
        "## Exit status",
        "",
        *(f"- `{status}`: {meaning}" for status, meaning in EXIT_STATUS),
        "",
        "## Output for scripts",
        "",
        *JSON,
        "",
        "## Data folder and settings",
        "",
        "Commands take their settings from the environment: [configuration.md](configuration.md). Where the environment",
        "does not set them, they find those of a `callvault up` that runs with the same data folder, except for secrets",
        "([decision 28](decisions/0028-commands-find-a-running-up.md)).",
    ]
    above = ""
    for section, page, is_group in all_pages():
        if section and section != above:
            lines += ["", f"## {section}"]
        above = section
        lines += ["", f"### {page.name}" if section else "## callvault", "", page.summary]
        lines += ["", "```text", page.usage, "```"]
        lines += ["", page.text] if page.text else []
        rows = [*page.arguments, *page.options]
        rows = [row for row in rows if "--help" not in row[0]]
        if rows:
            lines += ["", "| argument or option | meaning |", "| --- | --- |"]
            lines += [f"| `{name}` | {_cell(meaning)} |" for name, meaning in rows]
        lines += ["", *(f"    {example}" for example in page.examples)] if page.examples else []
        if page.name in _WITHOUT_THEIR_OWN:
            lines += ["", "[telnyx-operations.md](telnyx-operations.md) lists the operations."]
        elif is_group and section:
            lines += ["", "Its commands are below."]
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
