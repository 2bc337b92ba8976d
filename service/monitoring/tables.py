"""The figures as tables for people; the commands and the screen show the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.table import Table
from rich.text import Text

from service.monitoring.journal_log import printable
from service.monitoring.prices import Cost, Tokens
from service.monitoring.report import ClientDay, ClientToday, TurnCounts
from service.monitoring.server_state import ServerState

NOTHING = "–"
_STYLES = {
    "ok": "green",
    "answering": "green",
    "late": "bold red",
    "failing": "bold red",
    "no Redis": "bold red",
}
_UNIT_STYLES = {"active": "green", "failed": "bold red"}
_MIB = 2**20
_GIB = 2**30


def clients_table(
    clients: Sequence[ClientToday], zone: ZoneInfo, selected: str | None = None
) -> Table:
    """All clients with their day so far."""
    table = _table(
        "client", "bots", "state", ">in", ">out", "last message", ">errors", ">answer", ">waiting"
    )
    for client in clients:
        queue = client.queue
        table.add_row(
            Text(printable(client.client_id)),
            Text(printable(", ".join(bot.name or bot.id for bot in client.bots)) or NOTHING),
            Text(client.state, style=_STYLES.get(client.state, "yellow")),
            str(client.received),
            str(client.sent),
            moment(client.last_message_at, zone),
            percent(client.turns.error_rate),
            seconds(client.median_answer_s),
            NOTHING if queue is None else str(queue.due),
            style="reverse" if client.client_id == selected else None,
        )
    return table


def client_fields(client: ClientToday, zone: ZoneInfo) -> Table:
    """One client's day so far, a line for each figure."""
    queue, turns = client.queue, client.turns
    rows = [
        ("client", client.client_id),
        ("state", client.state),
        ("messages today", f"{client.received} in, {client.sent} out"),
        (
            "turns today",
            f"{turns.replied} replied, {turns.silent} silent, {turns.dead} dead; {turns.open} open now",
        ),
        ("error rate", percent(turns.error_rate)),
        ("median answer time", seconds(client.median_answer_s)),
        ("last message", moment(client.last_message_at, zone)),
        (
            "queue",
            "unknown: Redis cannot be used"
            if queue is None
            else f"{queue.due} waiting, {queue.leased} being answered, {queue.late_s:.0f} s late",
        ),
    ]
    rows += [
        ("bot", f"{bot.id}  {bot.number}  {bot.name or ''}  {bot.model or 'default model'}")
        for bot in client.bots
    ]
    return fields_table(rows)


def usage_table(days: Sequence[ClientDay], *, most: int | None = None) -> Table:
    """Usage by day and client, and the sum of all, also of those beyond the `most` first rows."""
    table = _table(
        *("day", "client", ">in", ">out", ">turns", ">dead", ">tokens in", ">cached"),
        *(">tokens out", ">USD (estimate)"),
    )
    for day in days[:most]:
        table.add_row(*_usage_cells(day.date.isoformat(), day))
    if len(days) > 1:
        table.add_section()
        table.add_row(*_usage_cells("total", _sum(days)), style="bold")
    return table


def unpriced_note(days: Iterable[ClientDay]) -> str | None:
    """What to do about models without a price; None when all have one."""
    models = sorted({model for day in days for model in day.cost.unpriced})
    if not models:
        return None
    return f"No price is known of {', '.join(models)}: put it into MODEL_PRICES."


def server_fields(state: ServerState) -> Table:
    """The host, a line for each thing."""
    queue = state.queue
    load = " ".join(f"{value:.2f}" for value in state.load)
    rows = [
        ("host", state.host),
        ("load", f"{load} on {state.cpus} CPUs"),
        ("memory", _memory(state)),
        *(
            (f"disk {disk.folder}", f"{disk.used_share:.0%} of {disk.total / _GIB:.1f} GB used")
            for disk in state.disks
        ),
        ("database", "up" if state.database else "down"),
        ("redis", "up" if state.redis else "down"),
        (
            "queue",
            "unknown"
            if queue is None
            else f"{queue.due} waiting, {queue.leased} being answered, the oldest "
            f"{queue.oldest_due_s:.0f} s late, {queue.workers} workers",
        ),
        ("dead turns", NOTHING if state.dead_turns is None else str(state.dead_turns)),
        ("spooled", NOTHING if state.spooled is None else str(state.spooled)),
        *(
            (
                f"certificate {certificate.domain}",
                certificate.fault
                or f"{certificate.days} days left, issued by {printable(certificate.issuer or '')}",
            )
            for certificate in state.certificates
        ),
    ]
    return fields_table(rows)


def units_table(state: ServerState) -> Table | Text:
    """The units of the service and of what it needs; why not, where they cannot be asked for."""
    if state.units is None:
        return Text(f"The units are unknown: {printable(state.units_fault or '')}.")
    table = _table("unit", "state", "detail")
    for unit in state.units:
        style = _UNIT_STYLES.get(unit.active, "")
        table.add_row(Text(unit.name), Text(unit.active, style=style), Text(unit.detail))
    return table


def found_table(rows: Iterable[dict[str, Any]], zone: ZoneInfo) -> Table:
    """Messages that a search found."""
    table = _table("at", "client", "conversation", "address", "", "text")
    for row in rows:
        table.add_row(
            moment(row["created_at"], zone),
            Text(printable(row["client_id"])),
            Text(row["conversation_id"]),
            Text(printable(row["address"])),
            row["direction"],
            Text(one_line(row["text"])),
        )
    return table


def fields_table(rows: Iterable[tuple[str, str]]) -> Table:
    """One thing, a line for each of its fields."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), Text(printable(value)))
    return table


def one_line(text: str) -> str:
    """Text on one line, without what a terminal would obey."""
    return printable(" ".join(text.split()))


def percent(share: float | None) -> str:
    """A share from 0 to 1."""
    return NOTHING if share is None else f"{share:.1%}"


def seconds(value: float | None) -> str:
    """A time, rounded as far as it matters."""
    if value is None:
        return NOTHING
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.0f} min"


def moment(at: datetime | None, zone: ZoneInfo) -> str:
    """A time as it is in the time zone."""
    return NOTHING if at is None else at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def _memory(state: ServerState) -> str:
    if state.memory_total is None or state.memory_available is None:
        return NOTHING
    used = state.memory_total - state.memory_available
    swap = "" if not state.swap_used else f", {state.swap_used / _MIB:.0f} MB of swap"
    return f"{used / _MIB:.0f} of {state.memory_total / _MIB:.0f} MB used{swap}"


def _sum(days: Sequence[ClientDay]) -> ClientDay:
    return ClientDay(
        date=days[0].date,
        client_id="",
        received=sum(day.received for day in days),
        sent=sum(day.sent for day in days),
        turns=TurnCounts(
            sum(day.turns.replied for day in days),
            sum(day.turns.silent for day in days),
            sum(day.turns.dead for day in days),
        ),
        tokens=sum((day.tokens for day in days), Tokens()),
        cost=sum((day.cost for day in days), Cost()),
    )


def _usage_cells(name: str, day: ClientDay) -> list[Text]:
    cells = (
        *(name, printable(day.client_id), day.received, day.sent, day.turns.ended, day.turns.dead),
        *(day.tokens.input, day.tokens.cached, day.tokens.output, day.cost.text),
    )
    return [Text(str(cell)) for cell in cells]


def _table(*columns: str) -> Table:
    """A table of these columns; those that begin with `>` hold numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        if column.startswith(">"):
            table.add_column(column[1:], justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    return table
