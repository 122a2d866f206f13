"""The receiver process: uvicorn on uvloop and httptools, one or several processes on one port."""

from __future__ import annotations

import os

import uvicorn
from uvicorn.supervisors import Multiprocess

from config.settings import SERVE_REDIS_URL, Settings, load_settings
from config.sign_in import read_sign_in
from config.sources import unknown_settings
from process.leave import end_on_signals
from process.logs import configure_logs, get_logger
from process.notify import READY, notify
from process.tracing import open_tracing
from service.protocol import PacedProtocol
from service.starting import Starting, assert_verifiable

log = get_logger()

DRAIN_SECONDS = 10
_MOST_CONNECTIONS = 2_000
_NOT_STARTED = 3  # uvicorn's own status, for example if the port is in use


def create_app_of_environment() -> Starting:
    """The application of one of several processes; uvicorn calls this in each."""
    settings = load_settings()
    configure_logs(settings.log_level, program="serve")
    open_tracing("serve")
    return Starting(settings, os.environ[SERVE_REDIS_URL])


async def _notify_ready() -> None:
    """Tell systemd that this process accepts connections; uvicorn calls this then, and every half minute."""
    notify(READY)


def run(settings: Settings, redis_url: str, *, host: str, port: int, processes: int) -> int:
    """Serve until SIGTERM or SIGINT, finish open requests and return the exit status.

    Raises:
        SettingsError: a setting cannot be used.
    """
    configure_logs(settings.log_level, program="serve")
    for sentence in unknown_settings():
        log.warning(sentence)
    open_tracing("serve")
    assert_verifiable(settings)
    read_sign_in(settings)
    starting = Starting(settings, redis_url)
    if processes > 1:
        starting.load()  # what cannot be imported ends this process, not only its children
        os.environ[SERVE_REDIS_URL] = redis_url
        os.environ["CALLVAULT_DATA"] = str(settings.data_folder.absolute())  # may come from `--data`
    end_on_signals()
    try:
        if processes == 1:
            return _serve(starting, host, port, processes)
        from service.shared_counts import shared_folder

        with shared_folder():
            return _serve("service.main:create_app_of_environment", host, port, processes)
    finally:
        if starting.error is not None:
            raise starting.error


def _serve(application: Starting | str, host: str, port: int, processes: int) -> int:
    config = uvicorn.Config(
        application,
        factory=isinstance(application, str),
        host=host,
        port=port,
        workers=processes,
        loop="uvloop",
        http=PacedProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        callback_notify=_notify_ready,
    )
    if processes > 1:
        Multiprocess(config, sockets=[config.bind_socket()]).run()
        return 0
    server = uvicorn.Server(config)
    server.run()
    return 0 if server.started else _NOT_STARTED
