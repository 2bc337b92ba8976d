"""`logs`: what web and workers write, as lines for people or as they are."""

from __future__ import annotations

from contextlib import closing, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from service.cli.failures import USAGE, CommandError
from service.cli.output import print_line
from service.cli.session import session
from service.cli.stats import ClientOption, check_client
from service.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from datetime import datetime

    from service.monitoring.journal_log import Line

FILTERED_WITHIN = timedelta(days=1)
"""Lines of one client are looked for no further back."""


def logs(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with the lines to come; Ctrl-C ends.")
    ] = False,
    client: ClientOption = None,
    count: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=100_000, help="So many lines at first.")
    ] = 50,
    level: Annotated[
        str, typer.Option(help="Only lines as grave: debug, info, warning, error, critical.")
    ] = "debug",
    raw: Annotated[bool, typer.Option("--json", help="Print the lines as they are.")] = False,
) -> None:
    """Show the log of this host's processes, from systemd's journal.

    Times are those of REPORT_TIMEZONE. With --client or --level, lines of the last day are looked at.
    """
    from service.conversation.clock import utc_now
    from service.monitoring import journal_log

    if level not in journal_log.LEVELS:
        raise CommandError(f"--level is one of {', '.join(journal_log.LEVELS)}.", USAGE)
    wanted = _filter(bots_of(client), level)
    zone = ZoneInfo(load_settings().report_timezone)
    try:
        with (
            suppress(KeyboardInterrupt),
            closing(_lines(count, wanted, follow, utc_now())) as found,
        ):
            for line in found:
                print_line(line.raw if raw else line.text(zone), flush=follow)
    except journal_log.JournalError as error:
        raise CommandError(str(error)) from None


def bots_of(client: str | None) -> set[str] | None:
    """The ids of the client's bots, None without a client. Raises CommandError for an unknown one."""
    if client is None:
        return None
    with session() as container:
        check_client(container, client)
        return container.figures.bot_ids(client)


def _filter(bot_ids: set[str] | None, level: str) -> Callable[[Line], bool] | None:
    if bot_ids is None and level == "debug":
        return None

    def wanted(line: Line) -> bool:
        return line.is_at_least(level) and (bot_ids is None or line.concerns(bot_ids))

    return wanted


def _lines(
    count: int, wanted: Callable[[Line], bool] | None, follow: bool, now: datetime
) -> Generator[Line, None, None]:
    from service.monitoring import journal_log

    yield from journal_log.last_lines(count, wanted, now, FILTERED_WITHIN)
    if follow:
        with closing(journal_log.lines(since=now, follow=True)) as to_come:
            yield from filter(wanted, to_come)
