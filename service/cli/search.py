"""`search`: words in what was written and in the log."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.failures import USAGE, CommandError
from service.cli.output import JsonFlag, console, print_json, print_line, print_note
from service.cli.session import session
from service.cli.stats import ClientOption, check_client

if TYPE_CHECKING:
    from datetime import datetime

    from service.container import Container
    from service.monitoring.journal_log import Line

_MAX_DAYS = 366


def search(
    words: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for, in any case.")],
    client: ClientOption = None,
    days: Annotated[
        int, typer.Option(min=1, max=_MAX_DAYS, help="So many days back, today included.")
    ] = 7,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many of each.")] = 50,
    only: Annotated[
        str | None, typer.Option(help="Only `messages` or only `logs`.", show_default=False)
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Look for words in the messages of all hosts and in the log of this one, the newest first."""
    if only not in (None, "messages", "logs"):
        raise CommandError("--only is `messages` or `logs`.", USAGE)
    if not words.strip():
        raise CommandError("Give at least one letter to look for.", USAGE)
    with session() as container:
        if client is not None:
            check_client(container, client)
        start = container.report.days(days)[0].start
        messages = found_messages(container, words, start, client, limit) if only != "logs" else []
        lines: list[Line] = []
        unread: str | None = None
        if only != "messages":
            bot_ids = None if client is None else container.figures.bot_ids(client)
            lines, unread = found_lines(words, start, bot_ids, limit)
        zone = container.report.zone
    if unread is not None and only == "logs":
        raise CommandError(unread)
    if as_json:
        print_json(
            {
                "messages": messages,
                "logs": [line.fields or {"message": line.raw} for line in lines],
                "logs_unread": unread,
            }
        )
        return
    from service.monitoring.tables import found_table

    if messages:
        console().print(found_table(messages, zone))
    elif only != "logs":
        print_line("No message holds this.")
    for line in lines:
        print_line(line.text(zone))
    if unread is not None:
        print_note(f"The log was not searched. {unread}")
    elif not lines and only != "messages":
        print_line("No line of the log holds this.")


def found_lines(
    words: str, since: datetime, bot_ids: set[str] | None, limit: int
) -> tuple[list[Line], str | None]:
    """Lines of the log with these words, the newest first; or none, and why it could not be read."""
    from service.conversation.clock import utc_now
    from service.monitoring.journal_log import JournalError, last_lines

    sought = words.casefold()

    def holds(line: Line) -> bool:
        # The line as JSON spells letters beyond ASCII as \\uXXXX.
        text = line.raw if line.fields is None else _text(line.fields)
        return sought in text.casefold() and (bot_ids is None or line.concerns(bot_ids))

    now = utc_now()
    try:
        found = last_lines(limit, holds, now, max(now - since, timedelta()))
    except JournalError as error:
        return [], str(error)
    return found[::-1], None


def _text(fields: Any) -> str:
    import orjson

    return orjson.dumps(dict(fields)).decode()


def found_messages(
    container: Container,
    words: str,
    start: datetime,
    client: str | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Messages with these words since a time, the newest first. Raises DatabaseDownError."""
    from service.conversation.clock import utc_now

    end = utc_now() + timedelta(minutes=1)
    return list(container.message_search.find(words, start, end, client, limit))
