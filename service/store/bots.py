"""Rows of bots and assistants. Every function runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Connection, Select, Table, and_, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from service.store.models import AssistantRow, BotRow

BOTS = cast(Table, BotRow.__table__)
ASSISTANTS = cast(Table, AssistantRow.__table__)

Row = Mapping[str, Any]
"""A row keyed by column name."""


class NumberTakenError(Exception):
    """Another active bot has this number."""


def active_by_number(connection: Connection, number: str) -> Row | None:
    """The bot that answers this E.164 number."""
    return _one(connection, _active().where(BOTS.c.twilio_phone_number == number))


def active_by_service(connection: Connection, messaging_service_sid: str) -> Row | None:
    """The bot that uses this messaging service; None when several do, for none of them is meant."""
    query = _active().where(BOTS.c.twilio_messaging_service_sid == messaging_service_sid).limit(2)
    rows = connection.execute(query).mappings().all()
    return dict(rows[0]) if len(rows) == 1 else None


def active_by_id(connection: Connection, bot_id: str, *, lock: bool = False) -> Row | None:
    """The bot, unless it is deleted. `lock` keeps other writers away until the transaction ends."""
    query = _active().where(BOTS.c.id == bot_id)
    return _one(connection, query.with_for_update() if lock else query)


def page(
    connection: Connection,
    limit: int,
    after: tuple[datetime, str] | None = None,
    client_id: str | None = None,
    number: str | None = None,
) -> Sequence[Row]:
    """Active bots, the oldest first, at most `limit`, behind the (time, id) `after`."""
    query = _active().order_by(BOTS.c.created_at, BOTS.c.id).limit(limit)
    if client_id is not None:
        query = query.where(BOTS.c.client_id == client_id)
    if number is not None:
        query = query.where(BOTS.c.twilio_phone_number == number)
    if after is not None:
        created_at, bot_id = after
        query = query.where(
            or_(
                BOTS.c.created_at > created_at,
                and_(BOTS.c.created_at == created_at, BOTS.c.id > bot_id),
            )
        )
    return [dict(row) for row in connection.execute(query).mappings()]


def insert_bot(connection: Connection, values: Row) -> None:
    """Raises NumberTakenError."""
    try:
        connection.execute(insert(BOTS).values(**values))
    except IntegrityError as error:
        raise _taken(error) from None


def update_bot(connection: Connection, bot_id: str, values: Row) -> None:
    """Raises NumberTakenError."""
    try:
        connection.execute(update(BOTS).where(BOTS.c.id == bot_id).values(**values))
    except IntegrityError as error:
        raise _taken(error) from None


def insert_assistant(connection: Connection, values: Row) -> None:
    """Add a version."""
    connection.execute(insert(ASSISTANTS).values(**values))


def current_assistant(connection: Connection, bot: Row) -> Row:
    """The version that the bot runs."""
    query = select(ASSISTANTS).where(
        ASSISTANTS.c.id == bot["assistant_id"], ASSISTANTS.c.version == bot["assistant_version"]
    )
    return dict(connection.execute(query).mappings().one())


def current_assistants(connection: Connection, bots: Sequence[Row]) -> dict[str, Row]:
    """The versions that these bots run, by bot id, in one query."""
    query = (
        select(ASSISTANTS)
        .join(
            BOTS,
            and_(
                BOTS.c.assistant_id == ASSISTANTS.c.id,
                BOTS.c.assistant_version == ASSISTANTS.c.version,
            ),
        )
        .where(BOTS.c.id.in_([bot["id"] for bot in bots]))
    )
    return {row["bot_id"]: dict(row) for row in connection.execute(query).mappings()}


def assistants_of(connection: Connection, bot_id: str) -> Sequence[Row]:
    """Every version, newest first."""
    query = (
        select(ASSISTANTS)
        .where(ASSISTANTS.c.bot_id == bot_id)
        .order_by(ASSISTANTS.c.version.desc())
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def _active() -> Select[Any]:
    return select(BOTS).where(BOTS.c.deleted_at.is_(None))


def _one(connection: Connection, query: Select[Any]) -> Row | None:
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else dict(row)


def _taken(error: IntegrityError) -> Exception:
    # PostgreSQL names the index, SQLite the column.
    text = str(error.orig)
    if "uq_bots_active_number" in text or "twilio_phone_number" in text:
        return NumberTakenError()
    return error
