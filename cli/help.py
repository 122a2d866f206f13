"""The help of each command, as `--help`, docs/commands.md and the manual page show it."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_EXAMPLES = re.compile(r"^Examples?:\s*", re.MULTILINE)
_BETWEEN = re.compile(r"(-?\d+)<=x<=(-?\d+)")
_AT_LEAST = re.compile(r"x>=(-?\d+)")
_NO_LIMIT = 1_000_000_000  # a maximum that only keeps out what no machine counts
_NAME_WIDTH = 40  # a longer name of a command has its summary on the next line
_OF_A_GROUP = 3  # examples


class Page(NamedTuple):
    """What the help of one command says.

    Attributes:
        name: such as `callvault deletions hold`.
        usage: how to call it.
        summary: one sentence.
        text: paragraphs below the summary, with line breaks where the source has them.
        arguments: the name and the meaning of each.
        options: the same; the name has all forms and the value.
        examples: whole command lines; of a group that has none, one of each of its first commands.
    """

    name: str
    usage: str
    summary: str
    text: str
    arguments: list[tuple[str, str]]
    options: list[tuple[str, str]]
    examples: list[str]


def page_of(command: Any, ctx: Any) -> Page:
    """The page of a command; `ctx` is its context, which knows how it is called."""
    text, examples = split_examples(command.help or "")
    if not examples:
        below = [split_examples(one.help or "")[1][:1] for one in getattr(command, "commands", {}).values()]
        examples = [example for some in below for example in some][:_OF_A_GROUP]
    summary, _, rest = text.partition("\n\n")
    rows: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
    for parameter in command.get_params(ctx):
        if (record := parameter.get_help_record(ctx)) is not None:
            is_argument = parameter.param_type_name == "argument"
            name = _name_of(parameter) if is_argument else record[0]
            rows[parameter.param_type_name].append((name, _plain(record[1])))
    usage = " ".join([ctx.command_path, *_pieces(command, ctx)])
    return Page(ctx.command_path, usage, " ".join(summary.split()), rest, rows["argument"], rows["option"], examples)


def split_examples(text: str) -> tuple[str, list[str]]:
    """Split the text of a help from the examples at its end: `Example: callvault ...`, or several below `Examples:`."""
    found = _EXAMPLES.search(text)
    if found is None:
        return text.strip(), []
    examples: list[str] = []
    for line in text[found.end() :].split("\n"):
        if line.startswith("callvault "):
            examples.append(line.strip())
        elif line.strip() and examples:
            examples[-1] += f" {line.strip()}"
    return text[: found.start()].strip(), examples


def _pieces(command: Any, ctx: Any) -> list[str]:
    """The words of a usage line after the name of the command."""
    parameters = command.get_params(ctx)
    required = [p for p in parameters if p.param_type_name == "option" and p.required]
    pieces = [p.get_help_record(ctx)[0] for p in required]
    pieces += ["[OPTIONS]"]
    pieces += ["COMMAND ..."] if hasattr(command, "commands") else []
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            name = _name_of(parameter)
            pieces.append((name if parameter.required else f"[{name}]") + ("..." if parameter.nargs != 1 else ""))
    return pieces


def _name_of(argument: Any) -> str:
    """The name of an argument, without the signs for optional and repeated ones."""
    return str(argument.metavar or argument.name.upper()).strip("[].")


def _plain(meaning: str) -> str:
    """The meaning of an option, with a range of numbers in words."""
    text = _AT_LEAST.sub(r"at least \1", _BETWEEN.sub(_range, meaning))
    return text.replace("  [", " [").replace("] [", "; ")


def _range(found: re.Match[str]) -> str:
    least, most = int(found[1]), int(found[2])
    return f"at least {least}" if most >= _NO_LIMIT else f"{least} to {most}"


class Help:
    """Writes the page of a command; goes before `TyperCommand` or `TyperGroup` among the bases of a class."""

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Write how to call the command."""
        formatter.write_usage(ctx.command_path, " ".join(_pieces(self, ctx)))

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what the command does."""
        page = page_of(self, ctx)
        with formatter.indentation():
            for paragraph in filter(None, (page.summary, *page.text.split("\n\n"))):
                formatter.write_paragraph()
                formatter.write_text(" ".join(paragraph.split()))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the options, and the commands of a group."""
        page = page_of(self, ctx)
        for heading, rows in (("Arguments", page.arguments), ("Options", page.options)):
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
        if hasattr(self, "format_commands"):
            self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, each on a line of its own however long it is, so that a person can copy it."""
        if examples := page_of(self, ctx).examples:
            with formatter.section("Examples" if len(examples) > 1 else "Example"):
                formatter.write("".join(f"  {example}\n" for example in examples))


def write_commands(formatter: Any, heading: str, rows: list[tuple[str, str]], width: int = 0) -> None:
    """Write a table of commands with their whole summaries; a longer summary goes on in the next line.

    Args:
        formatter: of the help.
        heading: of the table.
        rows: name and summary.
        width: of the names at least, so that several tables are aligned.
    """
    with formatter.section(heading):
        formatter.write_dl([(name.ljust(width), summary) for name, summary in rows], col_max=_NAME_WIDTH)
