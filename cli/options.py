"""What several commands share: options, and the settings and Redis of the service."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from process.logs import get_logger
from text.errors import UsedWrongly
from text.times import parse_day, parse_span

if TYPE_CHECKING:
    from config.settings import Settings
    from workers.catalogue.query import BadQuery
    from workers.runtime import Runtime

T = TypeVar("T")

log = get_logger()

_said: set[str] = set()  # sentences; some commands read their settings twice

ID_HELP = "ID of the recording, or its first 6 characters or more."
RecordingId = Annotated[str, typer.Argument(metavar="ID", help=ID_HELP, show_default=False)]
DataFolder = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data folder. [default: CALLVAULT_DATA or ./callvault-data]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
SINCE_DAY = 'First UTC day, included: 2026-11-25, 2026-11, yesterday, "last week", 7d or "7 days ago".'
Since = Annotated[str | None, typer.Option(metavar="DAY", help=SINCE_DAY)]
Until = Annotated[str | None, typer.Option(metavar="DAY", help="Last UTC day, included, in the same forms.")]
SinceTime = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help='First day or time, included: 2026-11-25, 2026-11, "last week", 7d, 2h, 2026-11-25T07:30Z.',
    ),
]
UntilTime = Annotated[
    str | None, typer.Option(metavar="TIME", help="Last day, included; or a time, which is not included.")
]
Utc = Annotated[bool, typer.Option("--utc", help="Times in UTC. [default: in the zone of this machine]")]
Limit = Annotated[
    int | None,
    typer.Option(metavar="N", help="Most rows; 0: all. [default: 50 on a terminal, else all]", min=0, max=10**9),
]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[WORDS]...",
        help="As in the search box: a number, an ID, a day, spoken words, or name:value.",
        show_default=False,
    ),
]
# What a search and a case are limited by.
Number = Annotated[
    str | None,
    typer.Option(metavar="NUMBER", help="Caller or called: full, national or partial number, ann@ or @host for SIP."),
]
Connection = Annotated[str | None, typer.Option(metavar="ID", help="Connection ID.")]
Session = Annotated[str | None, typer.Option(metavar="ID", help="Call session ID.")]
Leg = Annotated[str | None, typer.Option(metavar="ID", help="Call leg ID.")]
Recording = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="Recording ID, or its first 6 characters or more.")
]
OfCase = Annotated[
    str | None, typer.Option("--case", metavar="ID", help="Case ID, as `cases list` shows it: what it holds or held.")
]
By = Annotated[str | None, typer.Option(metavar="NAME", help="Who decides. [default: your user name]")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
Why = Annotated[str, typer.Option(metavar="TEXT", help="Reason; the archive records it.")]
WhyRead = Annotated[
    str | None,
    typer.Option("--why", metavar="TEXT", help="Reason for the access log; CALLVAULT_ASK_WHY may require one."),
]


def _known_address(host: str) -> str:
    """Check that an address or a host name is one; whether this machine has it shows when it listens."""
    import socket  # for the few commands that listen

    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is no host name"
        raise UsedWrongly(
            f"--host: cannot listen on {host[:60]!r}: {why}; expected an address of this machine, such as 127.0.0.1 or 0.0.0.0"
        ) from None
    return host


Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.", callback=_known_address)]
AudioFolder = Annotated[
    Path | None,
    typer.Option("--audio", metavar="DIR", help="Use the WAV and MP3 files in DIR.", exists=True, file_okay=False),
]


def option(name: str) -> str:
    """The option of a parameter: `--min-duration` for `min_duration`."""
    return f"--{name.replace('_', '-')}"


def by_option(error: BadQuery) -> UsedWrongly:
    """What is wrong with a search, by the option instead of the field."""
    return UsedWrongly(f"{option(error.field)}: {error.why}" if error.field else error.why)


def zone_of(utc: bool) -> tzinfo | None:
    """The zone in which a command reads and shows times; None: the zone of this machine."""
    return UTC if utc else None


def day_of(text: str) -> date:
    """Read the UTC day of an argument; see `parse_day`.

    Raises:
        UsedWrongly: the text is not a day.
    """
    try:
        return parse_day(text)
    except ValueError as error:
        raise UsedWrongly(str(error)) from None


def first_day(text: str | None, option: str = "--since") -> date | None:
    """The first UTC day of a span of whole days; see `parse_span`. Of a time, the day that it is in, after a line that says so.

    Raises:
        UsedWrongly: the text is not a time; the error names the option.
    """
    return None if text is None else _day(text, option, at_end=False)


def last_day(text: str | None, option: str = "--until") -> date | None:
    """The last UTC day of a span of whole days, likewise. A time at midnight ends the day before.

    Raises:
        UsedWrongly: the text is not a time; the error names the option.
    """
    return None if text is None else _day(text, option, at_end=True)


def _day(text: str, option: str, *, at_end: bool) -> date:
    try:
        span = parse_span(text)
        if span.days is not None:
            return span.days[at_end]
        day = (parse_span(text, zone=None).begin - timedelta(microseconds=at_end)).date()
    except ValueError as error:
        raise UsedWrongly(f"{option}: {error}") from None
    sys.stderr.write(
        f"callvault: {option} {text}: this command takes whole UTC days, so {'to' if at_end else 'from'} {day}\n"
    )
    return day


def refuse_reversed(since: date | None, until: date | None) -> None:
    """Refuse a span without a day: a command that checks nothing would succeed.

    Raises:
        UsedWrongly: the last day is before the first.
    """
    if since is not None and until is not None and until < since:
        raise UsedWrongly(f"--until: {until} must not be before --since ({since})")


def refuse_future(since: date | None, today: date) -> None:
    """Refuse a span that begins after today, where no last day is given.

    Raises:
        UsedWrongly: the first day is in the future.
    """
    if since is not None and since > today:
        raise UsedWrongly(f"--since: {since} must not be after today ({today}, UTC)")


def refuse_silence(audio: Path | None) -> None:
    """Refuse a folder of `--audio` without audio: made-up calls would otherwise pass for the person's own.

    Raises:
        UsedWrongly: the folder has no WAV or MP3 file.
    """
    from sandbox.audio import audio_files

    if audio is not None and not audio_files(audio):
        raise UsedWrongly(f"--audio: {audio} has no .wav or .mp3 file; put some there, or leave --audio out")


def own_settings_of(data: Path | None = None, **overrides: Any) -> Settings:
    """The settings of this process alone, after a warning for each variable that looks like a setting and is not.

    Imported here because `--help` needs none. Receivers and workers write the warnings into their own logs instead.

    Raises:
        SettingsError: a setting cannot be used.
    """
    from config.settings import load_settings
    from config.sources import unknown_settings

    _say_once(unknown_settings())
    return load_settings(data_folder=data, **overrides)


def settings_of(data: Path | None = None) -> Settings:
    """The settings of a command: its own, and those that it lacks and a `callvault up` of its data folder runs with.

    It says on standard error which `up` it uses, and warns as `own_settings_of` does.

    Raises:
        SettingsError: a setting cannot be used.
    """
    return settings_and_up(data)[0]


def settings_and_up(data: Path | None = None) -> tuple[Settings, dict[str, str]]:
    """The same settings, and those of them that a running `up` gave, by the name of the variable.

    Raises:
        SettingsError: a setting cannot be used.
    """
    from cli.running_up import NotPrivate, data_folder_here, find_up, notes_about, what_to_take
    from config.settings import SETTINGS, load_settings

    own = own_settings_of(data)
    folder, elsewhere = own.data_folder, None
    if "data_folder" not in own.given and not folder.exists():
        folder = elsewhere = data_folder_here() or folder
    try:
        up = find_up(folder)
    except NotPrivate as error:
        _say_once([str(error)])
        return own, {}
    if up is None:
        return own, {}
    if elsewhere is not None:
        up = replace(up, settings=up.settings | {"CALLVAULT_DATA": str(elsewhere)})
    _say_once(notes_about(up, folder))
    taken, _ = what_to_take(up)
    fields = {row.name: attribute for attribute, row in SETTINGS.items()}
    given = {fields[name]: value for name, value in taken.items() if name in fields}
    return load_settings(**{"data_folder": data} | given), taken


def _say_once(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        if sentence not in _said:
            _said.add(sentence)
            log.warning(sentence)


@contextmanager
def service_of(data: Path | None) -> Iterator[tuple[Settings, str]]:
    """The settings, and the address of the Redis of a service that has run before.

    Raises:
        UserError: no service has run in the data folder.
    """
    from workers.queue.embedded import redis_of

    settings = settings_of(data)
    with redis_of(settings, is_there=True) as url:
        yield settings, url


def run_in_service(data: Path | None, work: Callable[[Runtime], Awaitable[T]], **needs: bool) -> T:
    """Run something with the parts of a worker that need no Telnyx; `needs` as of `runtime_at`.

    Raises:
        UserError: no service has run in the data folder.
    """
    import asyncio  # for the commands that need it

    from workers.runtime import runtime_at

    async def run(settings: Settings, url: str) -> T:
        async with runtime_at(settings, url, needs_telnyx=False, **needs) as runtime:
            return await work(runtime)

    with service_of(data) as (settings, url):
        return asyncio.run(run(settings, url))
