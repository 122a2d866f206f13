"""`callvault worker`: one worker process, or several under a supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DataFolder
from text.errors import UsedWrongly

if TYPE_CHECKING:
    from config.settings import Settings


def command(
    processes: Annotated[int, typer.Option(metavar="N", help="Number of worker processes.", min=1, max=64)] = 1,
    dispose: Annotated[
        bool, typer.Option("--dispose", help="Only dispose of recordings whose retention rule has ended.")
    ] = False,
    data: DataFolder = None,
) -> int:
    """Run workers: archive, verify, delete originals.

    Workers delete originals at Telnyx only if CALLVAULT_DELETE_ORIGINALS=verified. They print nothing but
    their logs. With --dispose, the process needs credentials that may delete, and does nothing else
    (docs/disposal.md).

    Example: callvault worker --processes 2
    """
    from config.settings import load_settings
    from workers.queue.embedded import redis_of

    if dispose and processes > 1:
        raise UsedWrongly("--dispose and --processes exclude each other; one process disposes at a time")
    settings = load_settings(data_folder=data)
    if dispose:
        from workers.disposal_main import run as run_disposal

        with redis_of(settings) as url:
            return run_disposal(settings, url)
    with redis_of(settings) as url:
        if processes > 1:
            return _run_several(settings, url, processes)
        from workers.main import run

        return run(settings, url)


def _run_several(settings: Settings, url: str, processes: int) -> int:
    from cli.supervisor import Part, Supervisor, say, stop_signals

    environment = {"CALLVAULT_DATA": str(settings.data_folder)}
    if settings.redis_url is None:
        environment["REDIS_URL"] = url
    with stop_signals() as asked_to_stop, Supervisor(say) as supervisor:
        for number in range(1, processes + 1):
            supervisor.add(Part(f"worker {number}", ["worker"], environment))
        supervisor.tend_until(asked_to_stop)
    return 0
