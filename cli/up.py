"""`callvault up`: the receiver, a worker and an embedded Redis under one supervisor."""

from __future__ import annotations

import asyncio
import json as json_module
import sys
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cli.console import print_json
from cli.options import DataFolder, Host, Json, own_settings_of
from text.errors import UsedWrongly, UserError

if TYPE_CHECKING:
    from cli.running_up import RunningUp
    from config.settings import Settings
    from workers.queue.embedded import EmbeddedServer


def command(
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Run a local stand-in for Telnyx, too.")] = False,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="Port; 0 picks a free one.", min=0, max=65535)] = 8080,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Run the receiver, a worker and Redis on one machine.

    It restarts what dies. Ctrl-C or SIGTERM stops everything; running jobs finish first. Other commands with
    the same data folder find the sandbox and the settings by themselves, except for secrets. With --json, it
    prints the addresses once everything runs.

    Example: callvault up --sandbox
    """
    from cli.running_up import published, this_up
    from cli.supervisor import (
        Supervisor,
        answers,
        free_port,
        locked,
        sandbox_environment,
        say,
        start_sandbox,
        start_service,
        stop_signals,
    )
    from workers.queue.embedded import EmbeddedServer

    settings = own_settings_of(data)
    if not sandbox:
        _require_telnyx_settings(settings)
    port = port or free_port(host)
    if answers(host, port):
        raise UserError(f"port {port} is in use; choose another with --port")
    environment = {"CALLVAULT_DATA": str(settings.data_folder.resolve())}
    with locked(settings.data_folder), stop_signals() as asked_to_stop:
        server = None if settings.redis_url else EmbeddedServer(settings.data_folder)
        with Supervisor(say, server) as supervisor:
            if server is not None:
                environment["REDIS_URL"] = server.url
            asyncio.run(_prepare_archive(settings, server))
            facts = None
            if sandbox:
                memory = settings.data_folder / "sandbox.json"
                part, facts = start_sandbox(["--port", "0", "--memory", str(memory)], None)
                supervisor.add(part)
                environment |= sandbox_environment(facts)
            own = this_up(None if facts is None else sandbox_environment(facts))
            if facts is not None:
                _explain_sandbox(facts, own, settings, f"http://{host}:{port}/webhooks/telnyx")
            start_service(supervisor, environment, host, port, asked_to_stop=asked_to_stop)
            with published(own, settings.data_folder):
                _show_addresses(settings, server, f"http://{host}:{port}")
                if json:
                    _print_json(settings, f"http://{host}:{port}", facts)
                supervisor.tend_until(asked_to_stop)
            say("stopping; running jobs are finished first")
    return 0


def _require_telnyx_settings(settings: Settings) -> None:
    for name, value in (
        ("TELNYX_API_KEY", settings.telnyx_api_key),
        ("TELNYX_PUBLIC_KEY", settings.telnyx_public_keys),
    ):
        if not value:
            raise UsedWrongly(f"{name}: not set; copy it from the Telnyx portal, or try `callvault up --sandbox`")


def _explain_sandbox(facts: dict[str, Any], own: RunningUp, settings: Settings, webhook_url: str) -> None:
    from cli.running_up import shell_lines
    from cli.supervisor import say

    calls = json_module.dumps({"count": 3, "webhook_url": webhook_url})
    say(f"sandbox   {facts['base_url']}; to make calls:")
    say(f"          curl -d '{calls}' {facts['control_url']}/calls")
    say(f"          commands with data folder {settings.data_folder} find it; in another folder, first run:")
    sys.stderr.write("".join(f"  {line}\n" for line in shell_lines(own, settings.data_folder)))
    if "REDIS_URL" in own.left_out:
        say("          and set REDIS_URL as here")
    sys.stderr.flush()


def _show_addresses(settings: Settings, server: EmbeddedServer | None, url: str) -> None:
    from cli.supervisor import say

    say(f"receiver  {url}/webhooks/telnyx")
    say(f"ops pages {url}/ops")
    if not (settings.ops_token or settings.oidc_issuer or settings.proxy_user_header):
        say("          open from this machine only; set CALLVAULT_OPS_TOKEN to open them from elsewhere")
    say(f"archive   {settings.archive_address}")
    say(f"redis     {f'embedded, in {server.folder}' if server else 'at REDIS_URL'}")


def _print_json(settings: Settings, url: str, sandbox: dict[str, Any] | None) -> None:
    report = {
        "webhook_url": f"{url}/webhooks/telnyx",
        "ops_url": f"{url}/ops",
        "archive_url": settings.archive_address,
        "data_folder": str(settings.data_folder.resolve()),
        "sandbox": sandbox,
    }
    print_json(report)
    sys.stdout.flush()


async def _prepare_archive(settings: Settings, server: EmbeddedServer | None) -> None:
    """Create the default archive in the data folder; check that any other archive is there and belongs to this Redis.

    Raises:
        UserError: it does not exist, or belongs to another Redis.
    """
    from cli.init import init
    from workers.runtime import runtime_at

    url = server.url if server is not None else cast(Any, settings.redis_url).get_secret_value()
    if settings.archive_url is None:
        await init(settings, url)
    else:
        async with runtime_at(settings, url, needs_telnyx=False):
            pass
