"""Figures of clients: messages, turns, tokens, answer times. Read only, each query bounded by time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Integer, case, func, literal_column, select, text

from service.store.counted import counted
from service.store.database import Database
from service.store.horizon_table import ID_PREFIX
from service.store.id_ranges import within
from service.store.models import (
    AssistantRow,
    BotRow,
    ConversationRow,
    MessageRow,
    TurnRow,
    UsageRow,
)

ENDED = ("replied", "silent", "dead")
_RECENT_CONVERSATIONS = 20
"""Of a client, among which its last message is looked for."""


Bounds = Sequence[datetime]
"""Two times or more, growing. Part n is from the n-th on and before the next; n begins with 0."""


@dataclass(frozen=True, slots=True)
class MessageCount:
    """Messages of a client in one direction (`in`, `out`); `last_at` is the newest one's time."""

    part: int
    client_id: str
    direction: str
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class TurnCount:
    """Turns of a client that ended with a status."""

    part: int
    client_id: str
    status: str
    count: int


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Tokens of a client with one model. `cached` is part of `input`, `reasoning` of `output`."""

    part: int
    client_id: str
    model: str
    input: int
    cached: int
    output: int
    reasoning: int


@dataclass(frozen=True, slots=True)
class BotLine:
    """A bot as a figure's heading. `model` is None where the default holds."""

    id: str
    client_id: str
    name: str | None
    number: str
    status: str
    model: str | None


class Figures:
    """Times are aware. Raises DatabaseDownError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def messages(self, bounds: Bounds, client_id: str | None = None) -> list[MessageCount]:
        """What contacts wrote and the assistants answered."""
        part = _part(MessageRow.created_at, bounds)
        with self._database.read() as connection:
            query = (
                select(
                    part,
                    TurnRow.client_id,
                    MessageRow.direction,
                    func.count(),
                    func.max(MessageRow.created_at, type_=MessageRow.created_at.type),
                )
                .join(TurnRow, TurnRow.id == MessageRow.turn_id)
                .where(
                    within(connection, MessageRow, bounds[0], bounds[-1]),
                    MessageRow.direction.in_(("in", "out")),
                    counted(),
                )
                .group_by(text("part"), TurnRow.client_id, MessageRow.direction)
            )
            rows = connection.execute(_of(query, client_id))
            return [MessageCount(*row) for row in rows]

    def turns(self, bounds: Bounds, client_id: str | None = None) -> list[TurnCount]:
        """The turns that ended."""
        part = _part(TurnRow.updated_at, bounds)
        query = (
            select(part, TurnRow.client_id, TurnRow.status, func.count())
            # The end of a turn is the last time that its row changes, and what the index holds.
            .where(
                TurnRow.status.in_(ENDED),
                TurnRow.updated_at >= bounds[0],
                TurnRow.updated_at < bounds[-1],
                counted(),
            )
            .group_by(text("part"), TurnRow.client_id, TurnRow.status)
        )
        return [TurnCount(*row) for row in self._rows(_of(query, client_id))]

    def open_turns(self, client_id: str | None = None) -> dict[str, int]:
        """The turns that run or wait for another try, by client."""
        query = (
            select(TurnRow.client_id, func.count())
            .where(TurnRow.status == "running", counted())
            .group_by(TurnRow.client_id)
        )
        return {client: count for client, count in self._rows(_of(query, client_id))}

    def answer_times(
        self, start: datetime, end: datetime, client_id: str | None = None
    ) -> Mapping[str, Sequence[float]]:
        """Seconds from a turn's first message at the webhook to the end of its reply, by client.

        The reply's end is from `start` on and before `end`. Turns that an operator had run again are
        left out: they measure the operator.
        """
        arrived_ms = func.min(MessageRow.payload["at_ms"].as_float())
        query = (
            select(TurnRow.client_id, TurnRow.finished_at, arrived_ms)
            .join(MessageRow, MessageRow.turn_id == TurnRow.id)
            .where(
                TurnRow.status == "replied",
                TurnRow.updated_at >= start,
                TurnRow.updated_at < end,
                TurnRow.runs == 1,
                MessageRow.direction == "in",
                counted(),
            )
            .group_by(TurnRow.id, TurnRow.client_id, TurnRow.finished_at)
        )
        found: defaultdict[str, list[float]] = defaultdict(list)
        for client, finished_at, at_ms in self._rows(_of(query, client_id)):
            if finished_at is not None and at_ms is not None:
                found[client].append(max(0.0, finished_at.timestamp() - at_ms / 1000))
        return found

    def usage(self, bounds: Bounds, client_id: str | None = None) -> list[UsageSum]:
        """Tokens by client and model."""
        part = _part(UsageRow.created_at, bounds)
        with self._database.read() as connection:
            query = (
                select(
                    part,
                    TurnRow.client_id,
                    UsageRow.model,
                    func.sum(UsageRow.input_tokens),
                    func.sum(UsageRow.cached_tokens),
                    func.sum(UsageRow.output_tokens),
                    func.sum(UsageRow.reasoning_tokens),
                )
                .join(TurnRow, TurnRow.id == UsageRow.turn_id)
                .where(within(connection, UsageRow, bounds[0], bounds[-1]), counted())
                .group_by(text("part"), TurnRow.client_id, UsageRow.model)
            )
            rows = connection.execute(_of(query, client_id))
            return [UsageSum(*row[:3], *(int(value) for value in row[3:])) for row in rows]

    def last_messages(self, clients: Collection[str]) -> dict[str, datetime]:
        """When a contact last wrote to each of these clients, looked for in its latest conversations."""
        ranked = (
            select(
                ConversationRow.id,
                func.row_number()
                .over(
                    partition_by=ConversationRow.client_id,
                    order_by=ConversationRow.updated_at.desc(),
                )
                .label("place"),
            )
            .where(ConversationRow.client_id.in_(list(clients)))
            .subquery()
        )
        query = (
            select(
                TurnRow.client_id,
                func.max(MessageRow.created_at, type_=MessageRow.created_at.type),
            )
            .select_from(ranked)
            .join(MessageRow, MessageRow.conversation_id == ranked.c.id)
            .join(TurnRow, TurnRow.id == MessageRow.turn_id)
            .where(ranked.c.place <= _RECENT_CONVERSATIONS, MessageRow.direction == "in", counted())
            .group_by(TurnRow.client_id)
        )
        return {client: at for client, at in self._rows(query)} if clients else {}

    def bots(self, client_id: str | None = None) -> list[BotLine]:
        """The bots of our own table, and those of Horizon's that contacts have written to."""
        own = (
            select(
                BotRow.id,
                BotRow.client_id,
                BotRow.name,
                BotRow.twilio_phone_number,
                BotRow.status,
                AssistantRow.model,
            )
            .join(
                AssistantRow,
                (AssistantRow.id == BotRow.assistant_id)
                & (AssistantRow.version == BotRow.assistant_version),
            )
            .where(BotRow.deleted_at.is_(None))
            .order_by(BotRow.client_id, BotRow.created_at, BotRow.id)
        )
        horizons = (
            select(ConversationRow.bot_id, ConversationRow.client_id, ConversationRow.number)
            .where(ConversationRow.bot_id.startswith(ID_PREFIX, autoescape=True))
            .distinct()
            .order_by(ConversationRow.client_id, ConversationRow.bot_id)
        )
        if client_id is not None:
            own = own.where(BotRow.client_id == client_id)
            horizons = horizons.where(ConversationRow.client_id == client_id)
        return [BotLine(*row) for row in self._rows(own)] + [
            BotLine(bot, client, None, number, "active", None)
            for bot, client, number in self._rows(horizons)
        ]

    def bot_ids(self, client_id: str) -> set[str]:
        """Every bot that the client has or had; empty when there is no such client."""
        own = select(BotRow.id).where(BotRow.client_id == client_id)
        seen = select(ConversationRow.bot_id).where(ConversationRow.client_id == client_id)
        return {row[0] for row in self._rows(own.union(seen))}

    def _rows(self, query: Any) -> Sequence[Any]:
        with self._database.read() as connection:
            return connection.execute(query).all()


def _of(query: Any, client_id: str | None) -> Any:
    return query if client_id is None else query.where(TurnRow.client_id == client_id)


def _part(at: Any, bounds: Bounds) -> ColumnElement[int]:
    """In which part a time lies, by halving: few comparisons for each row."""

    def between(first: int, last: int) -> ColumnElement[int]:
        if first == last:
            return literal_column(str(first), Integer)
        middle = (first + last + 1) // 2
        return case((at < bounds[middle], between(first, middle - 1)), else_=between(middle, last))

    # Grouped by its name: PostgreSQL would take two parameters of one value for two expressions.
    return between(0, len(bounds) - 2).label("part")
