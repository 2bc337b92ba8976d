"""`monitor`: the clients and this host on a live screen, or once on standard output."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.failures import CommandError
from service.cli.output import JsonFlag, console, print_json, print_line
from service.cli.session import session
from service.cli.stats import ClientOption, check_client

if TYPE_CHECKING:
    from service.cli.screen import Task
    from service.cli.screen_views import ActionView, Shared
    from service.container import Container

BACKUP_CODE = "HORIZONCTL_BACKUP_CODE"
"""Set by the `horizonctl` of a server: end with this code, and it makes the backup as root."""


def monitor(
    once: Annotated[bool, typer.Option("--once", help="Print it once and end.")] = False,
    client: ClientOption = None,
    interval: Annotated[
        float, typer.Option(min=0.5, max=3600, help="Seconds between two looks.")
    ] = 2.0,
    as_json: JsonFlag = False,
) -> None:
    """Watch the clients, the log and this host; keys 1 to 8 change the view, q or Ctrl-C ends.

    Without a terminal, with --once and with --json it looks once.
    """
    with session() as container:
        if client is not None:
            check_client(container, client)
        is_live = sys.stdin.isatty() and sys.stdout.isatty()
        if once or as_json or not is_live:
            _look_once(container, client, as_json)
        else:
            _watch(container, client, interval)


def _look_once(container: Container, client: str | None, as_json: bool) -> None:
    from service.cli.server import print_server, server_json
    from service.monitoring.report_json import stats_json
    from service.monitoring.server_state import server_state
    from service.monitoring.tables import clients_table

    report = container.report
    clients = report.today(client)
    state = server_state(container)
    if as_json:
        usage = report.usage(1, client)
        print_json(
            {"server": server_json(state), "stats": stats_json(report, clients, usage, days=1)}
        )
        return
    if clients:
        console().print(clients_table(clients, report.zone))
    else:
        print_line("There is no client yet: `horizonctl bots add` makes a bot.")
    print_line(f"Today is {report.days(1)[0].date} in {report.zone.key}.")
    print_line("")
    print_server(state)


def _watch(container: Container, client: str | None, interval_s: float) -> None:
    from rich.console import Console

    from service.cli import screen_views as views
    from service.cli.screen import Screen, ask_for_words

    shared = views.Shared(container, selected=client)
    search = views.SearchView(shared)
    test = views.ActionView(
        "test", "t write to a bot", "Press t to write to a bot, as from Twilio."
    )
    backup = views.ActionView("backup", "b make a backup", "Press b to make a backup of this host.")
    Screen(
        Console(highlight=False),
        shared,
        {
            "1": views.ClientsView(shared, interval_s),
            "2": views.ClientView(shared, max(interval_s, 5)),
            "3": views.LogView(shared, interval_s),
            "4": search,
            "5": views.UsageView(shared),
            "6": test,
            "7": backup,
            "8": views.ServerView(shared, max(interval_s, 5)),
        },
        {
            "/": ("4", ask_for_words(search)),
            "t": ("6", _test(shared, test)),
            "b": ("7", _backup(backup)),
        },
    ).run()


def _test(shared: Shared, view: ActionView) -> Task:
    def run() -> None:
        from service.cli.send_test import send_test

        chosen = next((one for one in shared.clients if one.client_id == shared.selected), None)
        known = chosen.bots[0].number if chosen is not None and chosen.bots else ""
        number = input(f"The bot's number [{known}]: ").strip() or known
        sender = input("From which number (empty: TWILIO_WHATSAPP_FROM): ").strip() or None
        text = input("What is written: ").strip()
        if not number or not text:
            view.result = "Nothing was sent: a number and a text are needed."
            return
        try:
            send_test(number, text, sender, None)
            view.result = (
                f"The service took the message to {number}: views 2 and 3 show the answer."
            )
        except CommandError as error:
            view.result = str(error)

    return run


def _backup(view: ActionView) -> Task:
    def run() -> None:
        from service.monitoring.backup_unit import BackupError, make_backup

        if input("Make a backup now? [y/N] ").strip().lower() not in ("y", "yes", "s", "si", "sí"):
            view.result = "No backup was made."
            return
        print_line("The backup runs …", flush=True)
        code = os.environ.get(BACKUP_CODE)
        if code is not None:
            raise typer.Exit(int(code))
        try:
            view.result = make_backup()
        except BackupError as error:
            view.result = str(error)

    return run
