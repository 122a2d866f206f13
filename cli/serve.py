"""`callvault serve`: the webhook receiver and the ops pages."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DataFolder, Host


def command(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="Port to listen on.", min=1, max=65535)] = 8080,
    processes: Annotated[int, typer.Option(metavar="N", help="Number of receiver processes.", min=1, max=64)] = 1,
    data: DataFolder = None,
) -> int:
    """Run the webhook receiver and the ops pages.

    It answers under /webhooks/telnyx, /ops, /api, /healthz, /readyz and /metrics. It prints nothing but its log.

    Example: callvault serve --host 0.0.0.0 --processes 2
    """
    from config.settings import load_settings
    from service.main import run
    from workers.queue.embedded import redis_of

    settings = load_settings(data_folder=data)
    with redis_of(settings) as url:
        return run(settings, url, host=host, port=port, processes=processes)
