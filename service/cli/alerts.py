"""`alerts`: messages to the operator about what is wrong, once when it begins and once when it is over."""

from __future__ import annotations

import socket
from dataclasses import asdict
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer

from service.cli.failures import FAILED, CommandError
from service.cli.output import JsonFlag, print_json, print_line, print_note, print_table
from service.cli.session import session
from service.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.alerts.channels import Channel
    from service.alerts.watch import Sender
    from service.settings import Settings

app = typer.Typer(help="Messages about what is wrong.", no_args_is_help=True)


@app.command()
def check(as_json: JsonFlag = False) -> None:
    """Look at everything and send what changed. Exit code 1 when a message did not arrive."""
    from service.alerts import watch
    from service.alerts.conditions import look
    from service.alerts.memory import MemoryFile, MemoryFileError
    from service.conversation.clock import utc_now

    with session() as container:
        settings = container.settings
        channels = _channels(settings)
        file = MemoryFile(settings.alert_state_file)
        findings = look(container)
        try:
            report = watch.check(file, findings, channels, _sender(settings), utc_now())
        except MemoryFileError as error:
            raise CommandError(str(error)) from None
    for note in file.notes:
        print_note(note)
    if report.dropped:
        print_note(f"{report.dropped} messages that nobody took in time were thrown away.")
    if as_json:
        print_json(
            {
                "open": {key: asdict(one) for key, one in report.open.items()},
                "new": report.new,
                "delivered": report.delivered,
                "waiting": report.waiting,
                "dropped": report.dropped,
                "failures": report.failures,
            }
        )
    else:
        for message in report.new:
            print_line(f"{message['title']}: {message['text']}")
        print_line(
            f"{len(report.open)} open, {len(report.new)} new, {report.delivered} delivered, "
            f"{report.waiting} waiting."
        )
    for failure in report.failures.values():
        print_note(f"{failure}: it is tried again at the next check.")
    if report.failures:
        raise typer.Exit(FAILED)


@app.command("list")
def list_open(as_json: JsonFlag = False) -> None:
    """Show what was wrong at the last check, and how many messages wait."""
    from service.alerts.memory import MemoryFile, MemoryFileError, waiting_for

    file = MemoryFile(load_settings().alert_state_file)
    try:
        with file.locked():
            memory = file.read()
    except MemoryFileError as error:
        raise CommandError(str(error)) from None
    for note in file.notes:
        print_note(note)
    waiting = waiting_for(memory)
    if as_json:
        opened = {key: asdict(one) for key, one in memory.open.items()}
        print_json({"open": opened, "waiting": waiting})
        return
    columns = ("kind", "subject", "since")
    print_table(
        columns,
        ([one.kind, one.subject, one.since] for one in memory.open.values()),
        "Nothing was wrong at the last check.",
    )
    for channel, count in waiting.items():
        print_line(f"{count} messages wait for {channel}.")


@app.command("test")
def send_test(as_json: JsonFlag = False) -> None:
    """Send a test message through every channel. Exit code 1 when one did not take it."""
    from service.alerts.channels import DeliveryError
    from service.conversation.clock import utc_now

    settings = load_settings()
    at = utc_now().isoformat(timespec="seconds")
    results: dict[str, str | None] = {}
    for channel in _channels(settings):
        try:
            channel.deliver(_sender(settings).message("test", "test", "test", {}, at, at))
        except DeliveryError as error:
            results[channel.name] = str(error)
        else:
            results[channel.name] = None
    if as_json:
        print_json(
            {name: {"arrived": fault is None, "fault": fault} for name, fault in results.items()}
        )
    else:
        for name, fault in results.items():
            print_line(f"{name}: {'it arrived' if fault is None else fault}.")
    if any(results.values()):
        raise typer.Exit(FAILED)


def _channels(settings: Settings) -> Sequence[Channel]:
    from service.alerts.channels import ChannelError, channels_of

    hidden = frozenset(name.upper() for name in type(settings).model_fields)
    try:
        return channels_of(settings.alert_url, settings.alert_command, hidden)
    except ChannelError as error:
        raise SettingsError(str(error)) from None


def _sender(settings: Settings) -> Sender:
    from service.alerts.watch import Sender

    domain = urlsplit(settings.public_base_url).hostname or ""
    return Sender(socket.gethostname(), domain, settings.alert_language)
