"""The views of the screen: what each loads, in the background, and how it shows it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from rich.console import Group, RenderableType
from rich.text import Text

from service.cli.logs import FILTERED_WITHIN
from service.cli.search import found_lines, found_messages
from service.container import Container
from service.conversation.clock import utc_now
from service.monitoring import tables
from service.monitoring.journal_log import JournalError, Line, last_lines, lines
from service.monitoring.report import ClientToday
from service.monitoring.server_state import ServerState, server_state

_KEPT_LINES = 500
_SETTLE = timedelta(seconds=0.5)
"""What is younger may still be on its way into the journal."""
_DETAIL_DAYS = 7
_RECENT = 5
_FOUND = 50


@dataclass
class Shared:
    """What the views have in common: the stores, the clients that were seen, the chosen one."""

    container: Container
    clients: Sequence[ClientToday] = ()
    selected: str | None = None

    def move(self, by: int) -> None:
        """Choose the client before or behind the chosen one."""
        names = [client.client_id for client in self.clients]
        if names:
            place = names.index(self.selected) + by if self.selected in names else 0
            self.selected = names[max(0, min(place, len(names) - 1))]


class View(Protocol):
    """`every_s` is how often it is loaded anew, None: only when something was asked for."""

    title: str
    every_s: float | None
    keys: str

    def load(self) -> Any:
        """In a thread of its own; what it raises is shown as a sentence."""

    def show(self, loaded: Any, height: int) -> RenderableType:
        """What was loaded, on so many lines."""


@dataclass
class ClientsView:
    """All clients."""

    shared: Shared
    every_s: float | None
    title: str = "clients"
    keys: str = "↑↓ choose, Enter detail"

    def load(self) -> list[ClientToday]:
        return self.shared.container.report.today()

    def show(self, loaded: list[ClientToday], height: int) -> RenderableType:
        self.shared.clients = loaded
        if not loaded:
            return Text("There is no client yet: `horizonctl bots add` makes a bot.")
        names = [client.client_id for client in loaded]
        if self.shared.selected not in names:
            self.shared.selected = names[0]
        room = max(1, height - 2)
        first = max(0, names.index(self.shared.selected) - room + 1)
        return tables.clients_table(
            loaded[first : first + room], self.shared.container.report.zone, self.shared.selected
        )


@dataclass
class ClientView:
    """One client in detail."""

    shared: Shared
    every_s: float | None
    title: str = "client"
    keys: str = "↑↓ next client"

    def load(self) -> Any:
        client_id = self.shared.selected
        if client_id is None:
            return None
        container = self.shared.container
        report = container.report
        return (
            report.today(client_id),
            report.usage(_DETAIL_DAYS, client_id),
            container.turns.dead(client_id, _RECENT),
        )

    def show(self, loaded: Any, height: int) -> RenderableType:
        if loaded is None:
            return Text("Choose a client in view 1.")
        today, usage, dead = loaded
        zone = self.shared.container.report.zone
        parts: list[RenderableType] = [tables.client_fields(client, zone) for client in today]
        parts += [Text(), tables.usage_table(usage)] if usage else []
        if dead:
            parts += [Text(), Text("dead turns", style="bold")]
            parts += [
                Text(tables.one_line(f"{turn['id']}  {turn['reason']}  {turn['error'] or ''}"))
                for turn in dead
            ]
        return Group(*parts)


@dataclass
class LogView:
    """The log as it goes on: each load adds what has come since the one before."""

    shared: Shared
    every_s: float | None
    title: str = "log"
    keys: str = "c only the chosen client, or all"
    only_selected: bool = False
    _lines: deque[Line] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))
    _until: datetime | None = None
    _bots: tuple[str | None, set[str] | None] = (None, None)

    def load(self) -> list[Line]:
        client_id = self.shared.selected if self.only_selected else None
        if self._until is None or self._bots[0] != client_id:
            figures = self.shared.container.figures
            self._bots = (client_id, None if client_id is None else figures.bot_ids(client_id))
            self._lines.clear()
            self._until = None
        bot_ids = self._bots[1]

        def wanted(line: Line) -> bool:
            return bot_ids is None or line.concerns(bot_ids)

        until = utc_now() - _SETTLE
        if self._until is None:
            chosen = None if bot_ids is None else wanted
            self._lines.extend(last_lines(_KEPT_LINES, chosen, until, FILTERED_WITHIN))
        else:
            self._lines.extend(filter(wanted, lines(since=self._until, until=until)))
        self._until = until
        return list(self._lines)

    def show(self, loaded: list[Line], height: int) -> RenderableType:
        zone = self.shared.container.report.zone
        whose = f"of {self.shared.selected}" if self.only_selected else "of all clients"
        rows = [Text(f"The log {whose}:", style="bold")]
        rows += [
            Text(line.text(zone), no_wrap=True, overflow="ellipsis")
            for line in loaded[-max(1, height - 1) :]
        ]
        return Group(*rows) if loaded else Group(*rows, Text("Nothing yet."))


@dataclass
class SearchView:
    """Words in messages and in the log."""

    shared: Shared
    every_s: float | None = None
    title: str = "search"
    keys: str = "/ look for words"
    words: str = ""

    def load(self) -> Any:
        if not self.words:
            return None
        container = self.shared.container
        start = container.report.days(_DETAIL_DAYS)[0].start
        found = found_messages(container, self.words, start, None, _FOUND)
        return found, *found_lines(self.words, start, None, _FOUND)

    def show(self, loaded: Any, height: int) -> RenderableType:
        if loaded is None:
            return Text("Press / and give the words to look for, in the last 7 days.")
        messages, log, unread = loaded
        zone = self.shared.container.report.zone
        half = max(1, height // 2 - 2)
        parts: list[RenderableType] = [
            Text(f"{self.words!r}: {len(messages)} messages", style="bold"),
            tables.found_table(messages[:half], zone),
            Text(unread or f"{len(log)} lines of the log", style="bold"),
        ]
        parts += [Text(line.text(zone), no_wrap=True, overflow="ellipsis") for line in log[:half]]
        return Group(*parts)


@dataclass
class UsageView:
    """Usage by day and client."""

    shared: Shared
    every_s: float | None = 30
    title: str = "usage"
    keys: str = "d 1, 7 or 30 days"
    days: int = 7

    def load(self) -> Any:
        return self.shared.container.report.usage(self.days)

    def show(self, loaded: Any, height: int) -> RenderableType:
        if not loaded:
            return Text("Nothing was written in this time.")
        note = tables.unpriced_note(loaded)
        return Group(
            tables.usage_table(loaded, most=max(1, height - 4)), Text(note or "", style="yellow")
        )


@dataclass
class ActionView:
    """Something to be done; it shows how, and what came of the last time."""

    title: str
    keys: str
    sentence: str
    every_s: float | None = None
    result: str = ""

    def load(self) -> Any:
        return self.result

    def show(self, loaded: Any, height: int) -> RenderableType:
        return Group(Text(self.sentence), Text(), Text(self.result))


@dataclass
class ServerView:
    """This host."""

    shared: Shared
    every_s: float | None = 5
    title: str = "server"
    keys: str = ""

    def load(self) -> ServerState:
        return server_state(self.shared.container)

    def show(self, loaded: ServerState, height: int) -> RenderableType:
        faults = [Text(f"! {fault}", style="bold red") for fault in loaded.faults]
        return Group(*faults, tables.server_fields(loaded), Text(), tables.units_table(loaded))


def sentence_of(error: Exception) -> str:
    """What a view says instead, when it could not be loaded."""
    from service.cli.failures import explain

    if isinstance(error, JournalError):
        return str(error)
    failure = explain(error)
    return failure.sentence if failure is not None else f"{type(error).__name__} in this view."
