"""`web` and `worker`: the two long-running processes of the service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli.failures import USAGE, CommandError
from service.settings import Settings, SettingsError, load_settings


def web(
    bind: Annotated[
        str | None,
        typer.Option(
            help="Address instead of WEB_BIND: HOST:PORT, unix:PATH, or fd://N for a systemd socket.",
            show_default=False,
        ),
    ] = None,
    release: Annotated[str, typer.Option(help="Name of the release, shown in /health.")] = "",
    private_socket: Annotated[
        Path | None,
        typer.Option(
            help="A Unix socket on which only this process answers, beside what it listens on anyway.",
            show_default=False,
        ),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            help="Take no message and run nothing in the background: only to be asked, and with a "
            "private socket only there."
        ),
    ] = False,
) -> None:
    """Answer HTTP with gunicorn until SIGTERM; sockets that systemd passes replace WEB_BIND."""
    settings = _settings()
    from service.web.server import run_web
    from service.web.sockets import SocketError

    try:
        run_web(settings, bind, release=release, private_socket=private_socket, probe=probe)
    except SocketError as error:
        raise CommandError(str(error)) from None


def worker(
    release: Annotated[
        str, typer.Option(help="Name of the release, shown in the worker's heartbeat.")
    ] = "",
) -> None:
    """Run conversations until SIGTERM."""
    settings = _settings()
    from service.container import Container
    from service.log import configure_logging
    from service.worker import run_worker

    configure_logging(settings.log_level)
    run_worker(Container(settings), release)


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        raise CommandError(f"The service cannot start:\n{error}", USAGE) from None
