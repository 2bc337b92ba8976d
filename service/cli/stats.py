"""`stats`: how the clients are today, and what was used on which day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.failures import CommandError
from service.cli.output import JsonFlag, console, print_json, print_line, print_note
from service.cli.session import session

if TYPE_CHECKING:
    from service.container import Container
    from service.monitoring.report import ClientDay

ClientOption = Annotated[
    str | None, typer.Option(help="Only this client (its id).", show_default=False)
]
_MAX_DAYS = 366
_DETAIL_DAYS = 7
_RECENT = 5


def stats(
    client: ClientOption = None,
    days: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=_MAX_DAYS,
            help="The usage of so many days, today included, by day and client.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the clients and their day so far; with --client one in detail; with --days the usage.

    A day is one of REPORT_TIMEZONE. Costs are estimates from list prices and MODEL_PRICES.
    """
    with session() as container:
        check_client(container, client)
        if as_json:
            from service.monitoring.report_json import stats_json

            report = container.report
            usage = report.usage(days or 1, client)
            print_json(stats_json(report, report.today(client), usage, days or 1))
        elif days is not None:
            _print_usage(container, client, days)
        elif client is not None:
            _print_client(container, client)
        else:
            _print_clients(container)


def check_client(container: Container, client_id: str | None) -> None:
    """Raises CommandError when one is named, and no bot is or was this client's."""
    if client_id is not None and not container.figures.bot_ids(client_id):
        raise CommandError(f"There is no client {client_id}: `horizonctl stats` shows all.")


def _print_clients(container: Container) -> None:
    from service.monitoring.tables import clients_table

    report = container.report
    clients = report.today()
    if not clients:
        print_line("There is no client yet: `horizonctl bots add` makes a bot.")
        return
    console().print(clients_table(clients, report.zone))
    print_line(f"Today is {report.days(1)[0].date} in {report.zone.key}.")


def _print_client(container: Container, client_id: str) -> None:
    from service.monitoring.tables import client_fields, one_line, usage_table

    report = container.report
    out = console()
    for today in report.today(client_id):
        out.print(client_fields(today, report.zone))
    usage = report.usage(_DETAIL_DAYS, client_id)
    if usage:
        print_line("")
        out.print(usage_table(usage))
    dead = container.turns.dead(client_id, _RECENT)
    if dead:
        print_line("")
        print_line("Dead turns, the newest first (`horizonctl dead list` shows all):")
        for turn in dead:
            print_line(one_line(f"{turn['id']}  {turn['reason']}  {turn['error'] or ''}"))
    _note(usage)


def _print_usage(container: Container, client_id: str | None, days: int) -> None:
    from service.monitoring.tables import usage_table

    usage = container.report.usage(days, client_id)
    if usage:
        console().print(usage_table(usage))
    else:
        print_line("Nothing was written in this time.")
    _note(usage)


def _note(usage: Sequence[ClientDay]) -> None:
    from service.monitoring.tables import unpriced_note

    note = unpriced_note(usage)
    if note:
        print_note(note)
