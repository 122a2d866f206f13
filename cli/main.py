"""`callvault`: the commands. Rooms are imported when their command runs, so that each starts fast."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cli.options import AudioFolder, DataFolder, Json, Since, Until, day_of, not_empty
from config.errors import UsedWrongly, UserError
from config.lazily import import_lazily
from config.leave import leave_soon
from config.logs import configure_logs

if TYPE_CHECKING:
    from config.settings import Settings

# What libraries load for features that are not used here; together it takes longer than most commands run.
import_lazily("jwt")  # redis, for logins with tokens; cryptography comes with it
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # to find any, it reads the metadata of every package

# Commands with commands of their own: the module and its application, and what `--help` says of them.
_GROUPS = {
    "dead-letters": ("cli.letters", "dead_letters", "Jobs that were given up."),
    "deletions": ("cli.deletions", "app", "Originals that are to be deleted at Telnyx."),
    "logs": ("cli.logs", "app", "Log messages of external connections."),
    "connections": ("cli.connections", "app", "The account's configuration as code."),
}


class _Commands(TyperGroup):
    """The commands; a group of `_GROUPS` is imported when it is called, and not to be listed."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that was typed, with what is left for it."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in _GROUPS:
            module, group, summary = _GROUPS[name]
            named = typer.Typer(rich_markup_mode=None, add_completion=False)
            named.add_typer(getattr(import_module(module), group), name=name, help=summary)
            command = typer.main.get_group(named).commands[name]
        return name, command, rest


app = typer.Typer(
    name="callvault",
    cls=_Commands,
    help="Keeps a company's Telnyx call recordings in its own bucket, and proves it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def init(
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt", help="Take up what an earlier version wrote; have a Redis of another archive serve this."
        ),
    ] = False,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """Make the archive of CALLVAULT_ARCHIVE_URL, once: nothing else makes one, so that none is taken for another.

    Example: callvault init
    """
    from cli.init import run

    settings = load_settings(data_folder=data)
    with _redis(settings) as url:
        status = run(settings, url, adopt=adopt, as_json=json)
    raise typer.Exit(status)


@app.command()
def up(
    sandbox: Annotated[bool, typer.Option("--sandbox", help="With a Telnyx of its own, on this machine.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the receiver; 0: a free one.", min=0, max=65535)] = 8080,
    data: DataFolder = None,
) -> None:
    """Run everything under one supervisor: receiver, worker, embedded Valkey.

    Example: callvault up --sandbox
    """
    from cli.up import run

    raise typer.Exit(run(load_settings(data_folder=data), with_sandbox=sandbox, host=host, port=port))


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.", min=1, max=65535)] = 8080,
    processes: Annotated[int, typer.Option(help="Receiver processes on the port.", min=1, max=64)] = 1,
    data: DataFolder = None,
) -> None:
    """Run the receiver: POST /webhooks/telnyx, the ops pages at /ops and /api, /healthz, /readyz, /metrics.

    Example: callvault serve --host 0.0.0.0 --processes 2
    """
    from service.main import run

    settings = load_settings(data_folder=data)
    with _redis(settings) as url:
        raise typer.Exit(run(settings, url, host=host, port=port, processes=processes))


@app.command()
def worker(
    processes: Annotated[int, typer.Option(help="Worker processes.", min=1, max=64)] = 1,
    data: DataFolder = None,
) -> None:
    """Run a worker: archives, verifies, deletes originals when that is on.

    Example: callvault worker --processes 2
    """
    settings = load_settings(data_folder=data)
    with _redis(settings) as url:
        if processes == 1:
            from workers.main import run

            raise typer.Exit(run(settings, url))
        from cli.up import run_workers

        raise typer.Exit(run_workers(settings, url, processes))


@app.command()
def healthy(data: DataFolder = None) -> None:
    """Say whether the receivers and workers of a data folder live on this machine; 1 if one hangs or was killed.

    Example: callvault healthy
    """
    from cli.healthy import run

    raise typer.Exit(run(load_settings(data_folder=data)))


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: a free one.", min=0, max=65535)] = 8081,
    audio: Annotated[
        Path | None,
        typer.Option(help="Folder of WAV and MP3 files to serve as recordings.", exists=True, file_okay=False),
    ] = None,
    api_key: Annotated[str | None, typer.Option(help="API key to accept; default: one is made.")] = None,
    empty: Annotated[bool, typer.Option("--empty", help="Begin without connections and recordings.")] = False,
    memory: Annotated[
        Path | None, typer.Option(help="File to keep when it began, so that a later start holds the same calls.")
    ] = None,
    json: Json = False,
) -> None:
    """Run a Telnyx on this machine: its API, audio, and signed webhooks.

    Example: callvault sandbox --port 8081
    """
    from sandbox.main import CannotStart, run

    try:
        status = run(
            host=host, port=port, audio_folder=audio, as_json=json, api_key=api_key, empty=empty, memory=memory
        )
    except CannotStart as error:
        raise UserError(str(error)) from None
    raise typer.Exit(status)


@app.command()
def demo(
    recordings: Annotated[int, typer.Option(help="Calls to make.", min=1, max=100_000)] = 20,
    audio: AudioFolder = None,
    data: Annotated[Path | None, typer.Option("--data", help="Data folder; default: a fresh temporary one.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running afterwards.")] = False,
    json: Json = False,
) -> None:
    """Do the main job end to end on this machine, then report.

    Example: callvault demo --recordings 50
    """
    from cli.demo import run

    raise typer.Exit(run(recordings=recordings, audio=audio, data=data, keep=keep, as_json=json))


@app.command()
def verify(
    since: Since = None,
    until: Until = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read and hash every byte, whatever proved it.")] = False,
    seals: Annotated[bool, typer.Option("--seals", help="The chain of seals too, and all that they list.")] = False,
    head: Annotated[
        str | None,
        typer.Option(
            help="SHA-256 of a seal, kept elsewhere, that must be in the chain; implies --seals.", show_default=False
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an earlier run was stopped.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what earlier runs saw.")] = False,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """Verify the archive against its commit records and its seals; exit status 1 if anything is wrong.

    Example: callvault verify --since 7d --seals
    """
    from cli.verify import Options, run

    if resume and fresh:
        raise UsedWrongly("give --resume or --fresh, not both")
    if head is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", head):
        raise UsedWrongly("--head: expected the SHA-256 of a seal's JSON, 64 hexadecimal digits")
    settings = load_settings(data_folder=data)
    options = Options(
        since=day_of(since, "--since") if since else None,
        until=day_of(until, "--until", at_end=True) if until else None,
        deep=deep,
        seals=seals or head is not None,
        head=head.lower() if head else None,
        resume=resume,
        fresh=fresh,
        as_json=json,
    )
    raise typer.Exit(run(settings, options))


@app.command()
def seal(
    day: Annotated[str | None, typer.Argument(help="UTC day, such as 2026-11-25.", show_default=False)] = None,
    due: Annotated[bool, typer.Option("--due", help="Every day that waits for its seal.")] = False,
    sign: Annotated[
        str | None,
        typer.Option(
            "--sign",
            help="Sign a seal that the service did not, by its number, such as 7, or 1-7 for several.",
            show_default=False,
        ),
    ] = None,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """Seal a closed day by hand: compare it with Telnyx, list what it holds, add it to the chain; 1 if it must wait.

    Example: callvault seal --due
    """
    from cli import seal as command

    if [day is not None, due, sign is not None].count(True) != 1:
        raise UsedWrongly("give a day, --due, or --sign and a number")
    settings = load_settings(data_folder=data)
    if sign is not None:
        numbers = re.fullmatch(r"([1-9]\d{0,9})(?:-([1-9]\d{0,9}))?", sign, re.ASCII)
        if numbers is None:
            raise UsedWrongly(f"--sign: {sign!r} is not a number such as 7, or numbers such as 1-7")
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        with _redis(settings, is_there=True) as url:
            raise typer.Exit(command.sign(settings, url, first=first, last=last, as_json=json))
    chosen = day_of(day) if day else None
    with _redis(settings, is_there=True) as url:
        status = command.run(settings, url, day=chosen, as_json=json)
    raise typer.Exit(status)


@app.command()
def status(data: DataFolder = None, json: Json = False) -> None:
    """Say how things stand: queues, deletions, dead letters, seals; exit status 1 if something waits for a person.

    Example: callvault status
    """
    from cli.status import run

    settings = load_settings(data_folder=data)
    with _redis(settings, is_there=True) as url:
        code = run(settings, url, as_json=json)
    raise typer.Exit(code)


@app.command()
def find(
    number: Annotated[
        str | None, typer.Option(help="Of either party: E.164, national, a part of it; ann@ or @host of a SIP address.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help='First day, UTC: 2026-11-25, "last week", 7d; or an instant: 2026-11-25T07:30.')
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Last day, UTC, written likewise; or the instant before which calls began.")
    ] = None,
    connection: Annotated[str | None, typer.Option(help="Connection id.")] = None,
    session: Annotated[str | None, typer.Option(help="Call session id.")] = None,
    leg: Annotated[str | None, typer.Option(help="Call leg id.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="Recording id.")] = None,
    text: Annotated[str | None, typer.Option(help='Words said: all of them, "a phrase", begin*.')] = None,
    min_duration: Annotated[str | None, typer.Option(help="Such as 30s or 5m.")] = None,
    state: Annotated[str | None, typer.Option(help="archived, kept, held, deleted, erased or damaged.")] = None,
    findings: Annotated[bool, typer.Option("--findings", help="Only where something was found in the audio.")] = False,
    limit: Annotated[int | None, typer.Option(help="Most hits; default: 50 on a terminal, else all.", min=1)] = None,
    csv: Annotated[bool, typer.Option("--csv", help="CSV with a header: an inventory for an auditor.")] = False,
    data: DataFolder = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document a line, a hit each.")] = False,
) -> None:
    """Find recordings by who called, when, and what was said; the latest first.

    Example: callvault find --number "+49 30 1234567" --since "last week" --text 'refund "account number"'
    """
    from cli.find import run

    words = {
        "number": number,
        "since": since,
        "until": until,
        "connection": connection,
        "session": session,
        "leg": leg,
        "id": id,
        "text": text,
        "min_duration": min_duration,
        "state": state,
        "findings": "1" if findings else None,
    }
    not_empty(**words)
    if csv and json:
        raise UsedWrongly("give --csv or --json, not both")
    settings = load_settings(data_folder=data)
    raise typer.Exit(run(settings, words, limit=limit, as_csv=csv, as_json=json))


@app.command()
def get(
    recording_id: Annotated[str, typer.Argument(help="The recording's id.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: ID.wav or ID.mp3; - for standard output.")
    ] = None,
    audio_format: Annotated[str | None, typer.Option("--format", help="wav or mp3, where there are both.")] = None,
    transcript: Annotated[bool, typer.Option("--transcript", help="The text of its transcriptions instead.")] = False,
    data: DataFolder = None,
) -> None:
    """Write a recording's audio to a file, once its bytes have been found to be those of its commit record.

    Example: callvault get ID --out call.wav
    """
    from cli.get import run

    if audio_format not in (None, "wav", "mp3"):
        raise UsedWrongly(f"--format: {audio_format!r} is neither wav nor mp3")
    if transcript and audio_format is not None:
        raise UsedWrongly("give --transcript or --format, not both: the one is text, the other audio")
    settings = load_settings(data_folder=data)
    raise typer.Exit(run(settings, recording_id, out=out, audio_format=audio_format, transcript=transcript))


@app.command()
def index(
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Anew, from the archive alone.")] = False,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """Bring the catalogue up to date, which `find` also does by itself.

    Example: callvault index --rebuild
    """
    from cli.index import run

    settings = load_settings(data_folder=data)
    raise typer.Exit(run(settings, rebuild=rebuild, as_json=json))


@app.command()
def repair(
    recording_id: Annotated[str, typer.Argument(help="The recording's id.", show_default=False)],
    file: Annotated[Path | None, typer.Option("--from", help="The audio from a copy; default: from Telnyx.")] = None,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """Put back audio that is gone from the archive; its hash must be the one in the commit record, so seals hold again.

    Example: callvault repair ID --from /mnt/copy/audio.wav
    """
    from cli.repair import run

    settings = load_settings(data_folder=data)
    with _redis(settings, is_there=True) as url:
        code = run(settings, url, recording_id, file=file, as_json=json)
    raise typer.Exit(code)


@app.command()
def erase(
    recording_id: Annotated[str, typer.Argument(help="The recording's id.", show_default=False)],
    reason: Annotated[
        str | None, typer.Option(help="Why; it is written into the archive. Required, but with --sign.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who; default: the user of this machine.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    sign: Annotated[
        bool, typer.Option("--sign", help="Erase nothing: sign the record of an erasure that was made without the key.")
    ] = False,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """Erase a recording for good, with credentials that may delete; its hashes stay, on record. See docs/erasure.md.

    Example: callvault erase ID --reason "request of 2026-11-20, GDPR article 17"
    """
    from cli.erase import run, run_sign

    settings = load_settings(data_folder=data)
    if sign and (reason is not None or by is not None or yes):
        raise UsedWrongly("--sign erases nothing and keeps the reason on record: leave out --reason, --by and --yes")
    if sign:
        raise typer.Exit(run_sign(settings, recording_id, as_json=json))
    if reason is None:
        raise UsedWrongly("--reason: say why; it is written into the archive")

    def is_meant() -> bool:
        return yes or typer.confirm(f"Erase recording {recording_id} from the archive and at Telnyx?", err=json)

    with _redis(settings, is_there=True) as url:
        code = run(settings, url, recording_id, why=reason, by=by, as_json=json, is_meant=is_meant)
    raise typer.Exit(code)


@app.command()
def doctor(
    alert: Annotated[bool, typer.Option("--alert", help="Send a test alert too.")] = False,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """Look at what breaks in practice, and say how to mend it; exit status 1 if anything is wrong.

    Example: callvault doctor --alert
    """
    from cli.doctor import run

    settings = load_settings(data_folder=data)
    with _redis(settings, is_there=True) as url:
        status = run(settings, url, test_alert=alert, as_json=json)
    raise typer.Exit(status)


@app.command()
def backfill(
    since: Annotated[str, typer.Option(help="First day, UTC: 2026-11-25, yesterday, or 30d for a month ago.")],
    until: Until = None,
    connection: Annotated[str | None, typer.Option(help="Only recordings of this connection.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; say how much work it is.")] = False,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """Archive what Telnyx already has; a worker must run. Stopped, the same command goes on from there.

    Example: callvault backfill --since 30d --dry-run
    """
    from cli.backfill import run

    settings = load_settings(data_folder=data)
    first = day_of(since, "--since")
    last = day_of(until, "--until", at_end=True) if until else None
    with _redis(settings, is_there=True) as url:
        status = run(settings, url, since=first, until=last, connection_id=connection, dry_run=dry_run, as_json=json)
    raise typer.Exit(status)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    options_metavar="FAMILY OPERATION ...",
)
def telnyx(context: typer.Context) -> None:
    """Call any operation of the Telnyx API; `callvault telnyx --help` lists them."""
    from cli.telnyx import build

    build()(args=context.args or ["--help"], prog_name="callvault telnyx")


for _name, (_, _, _summary) in _GROUPS.items():
    app.add_typer(typer.Typer(), name=_name, help=_summary)


def load_settings(**given: Any) -> Settings:
    """As `config.settings.load_settings`, which takes longer to import than `--help` to run."""
    from config import settings

    return settings.load_settings(**given)


def _redis(settings: Settings, *, is_there: bool = False) -> Any:
    from workers.queue.embedded import redis_of

    return redis_of(settings, is_there=is_there)


def main() -> None:
    """The entry point."""
    try:
        _run()
    except SystemExit as end:
        leave_soon(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise


def _run() -> None:
    """Run the command that was typed: what it ends with becomes one line and an exit status."""
    configure_logs("warning", program="callvault", is_command=True)  # serve and worker set their own
    try:
        app()
    except UserError as error:
        _end(str(error), error.exit_status)
    except Exception as error:
        from redis.exceptions import RedisError

        from workers.archive.stores.store import StoreError, StoreRefused
        from workers.one_line import one_line
        from workers.telnyx.errors import TelnyxError

        if isinstance(error, RedisError):
            _end(f"{one_line(error)}; `callvault doctor` looks closer", 1)
        if isinstance(error, StoreRefused):  # it says itself what to do
            _end(str(error), 1)
        if isinstance(error, StoreError | TelnyxError):
            _end(f"{error}; `callvault doctor` looks closer", 1)
        said = " ".join(f"{type(error).__name__}: {error}".split())
        _end(f"{said} (a fault of Callvault; where it happened is in {_keep(error)})", 1)


def _keep(error: Exception) -> str:
    """Write the stack trace of what nobody expected into a file, and name it: it is for us, not for who typed."""
    with tempfile.NamedTemporaryFile("w", prefix="callvault-", suffix=".log", delete=False) as file:
        traceback.print_exception(error, file=file)
    return file.name


def _end(line: str, status: int) -> None:
    print(f"callvault: {line}", file=sys.stderr)  # noqa: T201
    sys.exit(status)


if __name__ == "__main__":
    main()
