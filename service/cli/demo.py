"""`demo`: the whole service on this machine, without accounts and without root."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli.failures import CommandError
from service.cli.output import console


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="One fixed and checked conversation, then end.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65_535,
            help="Port of the service; default 8000, with --once any free one.",
            show_default=False,
        ),
    ] = None,
    data_dir: Annotated[
        Path, typer.Option(help="Folder of the chat's data, keys and logs.")
    ] = Path(".demo"),
) -> None:
    """Chat with the bots of two example clients: a real service, emulated vendors."""
    from service.demo.errors import DemoError
    from service.demo.run import run_chat, run_once

    try:
        if once:
            run_once(port, console())
        else:
            run_chat(port, data_dir, console())
    except DemoError as error:
        raise CommandError(str(error)) from None
