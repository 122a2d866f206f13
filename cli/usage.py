"""What a person reads who mistyped a command: one line that names the mistake and the nearest right word."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer
from typer._param_types import coerce_cli_path
from typer.core import TyperCommand, TyperGroup

from cli.help import Help, split_examples, write_commands
from cli.interrupt import Interrupted, what_stands
from text.errors import UsedWrongly

_SHORTER = (
    ("Input should be ", "expected "),
    ("a valid integer", "a whole number"),
    ("greater than or equal to", "at least"),
    ("less than or equal to", "at most"),
)

_EMPTY = {
    "why": "give a reason; the archive keeps it",
    "reason": "is empty; give the reason, the archive records it",
}
_MAY_BE_EMPTY = "VALUE"  # the metavar of a field of Telnyx, where an empty text can be meant

UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # Typer exports neither this class nor its children


_DIGITS = re.compile(r"[0-9]{1,15}")


class _WhenGiven:
    """Reads what is typed as Typer does, and Typer itself only if that takes more than to look at it.

    Typer reads by pydantic, which takes longer to import than a short command to run.
    """

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Read a value as Typer does."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        wanted = param.type_descriptor
        kind, options = wanted.annotation, wanted.parameter_info
        if options.parser is None and _are_texts(value if isinstance(value, list | tuple) else [value]):
            match value:
                case str() if kind is str:
                    return value
                case list() | tuple() if kind == list[str]:
                    return [*value]
                case str() if kind is int and not options.clamp and _DIGITS.fullmatch(value):
                    number = int(value)
                    if (options.min or 0) <= number <= (number if options.max is None else options.max):
                        return number
                case str() if kind is Path:
                    return coerce_cli_path(Path(value), options, path_type=Path, param=param, ctx=ctx)
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _are_texts(values: Iterable[Any]) -> bool:
    """Whether all values are texts of characters; what was typed can hold other bytes."""
    try:
        return all(isinstance(one, str) and one.encode() is not None for one in values)
    except UnicodeEncodeError:
        return False


class _AsksForHelp:
    """Goes before `TyperCommand` or `TyperGroup`: the default of `--help` is a bool, since Typer reads any other by pydantic."""

    def get_help_option(self, ctx: Any) -> Any:
        """The option `--help`."""
        typed: Any = super()
        found = typed.get_help_option(ctx)
        if found is not None:
            found.default = False
        return found


class _Command(_AsksForHelp, Help, TyperCommand):
    """A command with a help of our form.

    It refuses an empty value, because an unset variable of a script would otherwise mean something else.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options and arguments that were typed."""
        options: list[Any] = [*self.params]
        for option in options:
            if getattr(option, "_runtime_param", self) is None:
                option._runtime_param = _WhenGiven()
        given, _, _ = self.make_parser(ctx).parse_args(args=[*args]) if not ctx.resilient_parsing else ({}, [], [])
        rest: list[str] = super().parse_args(ctx, args)
        for parameter in self.get_params(ctx):
            value, is_option = given.get(parameter.name), parameter.param_type_name == "option"
            values = value if is_option and isinstance(value, list) else [value]
            if parameter.metavar == _MAY_BE_EMPTY:
                continue
            if any(isinstance(one, str) and not one.strip() for one in values):
                why = _EMPTY.get(str(parameter.name), "is empty; leave it out, or give a value")
                if not is_option and parameter.metavar == "ID":
                    why = f"{value!r} is not a Telnyx ID; it is empty"
                raise UsedWrongly(f"{_name_of(parameter)}: {why}")
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Run it; Ctrl-C and SIGTERM end it with a sentence."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted(what_stands(str(ctx.command_path).removeprefix("callvault "))) from None


class Group(_AsksForHelp, Help, TyperGroup):
    """A group of commands that suggests the nearest one for a mistyped name."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands with their summaries."""
        names = self.list_commands(ctx)
        found = [(name, self.get_command(ctx, name)) for name in names]
        rows = [
            (name, split_examples(one.help or "")[0].partition("\n\n")[0]) for name, one in found if one is not None
        ]
        write_commands(formatter, "Commands", [(name, " ".join(summary.split())) for name, summary in rows])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that was typed."""
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise UsedWrongly(_unknown("command", args[0], self.list_commands(ctx), ctx))
        return super().resolve_command(ctx, args)


class _Typer(typer.Typer):
    def command(self, name: str | None = None, **options: Any) -> Any:
        """Add a command with a help of our form."""
        return super().command(name, cls=_Command, **options)


def group(summary: str, cls: type[TyperGroup] = Group, *, has_completion: bool = False) -> typer.Typer:
    """A group of commands, such as `callvault deletions`; the outermost offers completion for the shell."""
    return _Typer(
        cls=cls,
        help=summary,
        no_args_is_help=True,
        add_completion=has_completion,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


def explain(error: Any) -> str:
    """Describe a `UsageError`: one line, or the help where no command was given."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return str(error.format_message())
    what = str(error.format_message()).rstrip(".")
    match type(error).__name__:
        case "NoSuchOption":
            options = [name for parameter in error.ctx.command.params for name in parameter.opts]
            return _unknown("option", error.option_name, options, error.ctx)
        case "BadParameter":
            return f"{_name_of(error.param)}: {_plain(error.message)}"
        case "MissingParameter":
            what = f"missing {error.param.param_type_name} {_name_of(error.param)}"
        case "BadOptionUsage":
            what = what.removeprefix("Option ").replace("'", "").replace("requires an argument", "needs a value")
        case _ if what.startswith("Got unexpected extra argument"):
            what = f"unexpected argument: {what.rpartition('(')[2].rstrip(')')}"
    return what + _see_help(error.ctx)


_NEVER_MEANT = ("erase",)  # nobody erases for good by a guess: `release` is close to it


def _unknown(kind: str, typed: str, known: Iterable[str], ctx: Any) -> str:
    from difflib import get_close_matches

    near = get_close_matches(typed, [name for name in known if name not in _NEVER_MEANT], 1)
    return f"unknown {kind} {typed}" + (f"; did you mean {near[0]}?" if near else _see_help(ctx))


def _see_help(ctx: Any) -> str:
    return "" if ctx is None else f"; see `{ctx.command_path} --help`"


def _name_of(parameter: Any) -> str:
    """`--port` for an option, `ID` for an argument, as the help shows it."""
    return str(parameter.opts[0] if parameter.param_type_name == "option" else parameter.display_name_raw)


def _plain(message: str) -> str:
    """Shorten a message of Pydantic or Typer."""
    text = message.partition(", unable to parse")[0].rstrip(".").removeprefix("dir ")
    for long, short in _SHORTER:
        text = text.replace(long, short)
    return text
