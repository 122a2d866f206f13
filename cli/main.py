"""`callvault`: the commands. Rooms are imported when their command runs, so that each starts fast."""

from __future__ import annotations

import sys
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import AudioFolder, DataFolder, Json, Since, Until
from config.errors import UserError
from config.logs import configure_logs
from config.settings import Settings, load_settings
from config.times import parse_day

app = typer.Typer(
    name="callvault",
    help="Keeps a company's Telnyx call recordings in its own bucket, and proves it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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
    """Run the receiver: POST /webhooks/telnyx, /healthz, /readyz, /metrics.

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
def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: a free one.", min=0, max=65535)] = 8081,
    audio: Annotated[
        Path | None,
        typer.Option(help="Folder of WAV and MP3 files to serve as recordings.", exists=True, file_okay=False),
    ] = None,
    api_key: Annotated[str | None, typer.Option(help="API key to accept; default: one is made.")] = None,
    empty: Annotated[bool, typer.Option("--empty", help="Begin without connections and recordings.")] = False,
    json: Json = False,
) -> None:
    """Run a Telnyx on this machine: its API, audio, and signed webhooks.

    Example: callvault sandbox --port 8081
    """
    from sandbox.main import run

    try:
        raise typer.Exit(run(host=host, port=port, audio_folder=audio, as_json=json, api_key=api_key, empty=empty))
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}") from None


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
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """Verify the archive against its commit records; exit status 1 if anything is wrong.

    Example: callvault verify --since 7d --deep
    """
    from cli.verify import run

    settings = load_settings(data_folder=data)
    first, last = _day(since) if since else None, _day(until) if until else None
    raise typer.Exit(run(settings, since=first, until=last, deep=deep, as_json=json))


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
    with _redis(settings) as url:
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
    first, last = _day(since), _day(until) if until else None
    with _redis(settings) as url:
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


_GROUPS = {
    "dead-letters": ("cli.letters", "dead_letters"),
    "deletions": ("cli.letters", "deletions"),
    "logs": ("cli.logs", "app"),
    "connections": ("cli.connections", "app"),
}


class _UsedWrongly(UserError):
    exit_status = 2


def _day(text: str) -> date:
    try:
        return parse_day(text)
    except ValueError as error:
        raise _UsedWrongly(str(error)) from None


def _redis(settings: Settings) -> Any:
    from workers.queue.embedded import redis_of

    return redis_of(settings)


def main() -> None:
    """The entry point: what a command ends with becomes one line and an exit status."""
    from redis.exceptions import RedisError

    configure_logs("warning", program="callvault")  # serve and worker set their own
    for name, (module, group) in _GROUPS.items():  # imported when they are asked for
        if sys.argv[1:2] in ([name], ["--help"], []):
            app.add_typer(getattr(import_module(module), group), name=name)
    try:
        app()
    except UserError as error:
        _end(str(error), error.exit_status)
    except RedisError as error:
        _end(f"Redis: {error}", 1)


def _end(line: str, status: int) -> None:
    print(f"callvault: {line}", file=sys.stderr)  # noqa: T201
    sys.exit(status)


if __name__ == "__main__":
    main()
