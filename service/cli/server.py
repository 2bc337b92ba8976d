"""`server`: how this host is."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from service.cli.failures import FAILED
from service.cli.output import JsonFlag, console, print_json, print_line
from service.cli.session import session

if TYPE_CHECKING:
    from service.monitoring.server_state import ServerState


def server(as_json: JsonFlag = False) -> None:
    """Show load, memory, disks, units, the queue and certificates. Exit code 1 when something is wrong."""
    from service.monitoring.server_state import server_state

    with session() as container:
        state = server_state(container)
    if as_json:
        print_json(server_json(state))
    else:
        print_server(state)
    if state.faults:
        raise typer.Exit(FAILED)


def print_server(state: ServerState) -> None:
    """The host for people, what is wrong with it at the end."""
    from service.monitoring.tables import server_fields, units_table

    out = console()
    out.print(server_fields(state))
    print_line("")
    out.print(units_table(state))
    for fault in state.faults:
        print_line(f"! {fault}")


def server_json(state: ServerState) -> dict[str, Any]:
    """The host for programs; sizes in bytes."""
    return asdict(state) | {"faults": state.faults}
