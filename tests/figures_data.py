"""Turns with their messages and usage straight into SQL, for tests of figures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy import insert, select

from service.store.database import Database
from service.store.models import ContactRow, ConversationRow, MessageRow, TurnRow, UsageRow

_numbers = count(1)


def add_turn(
    database: Database,
    client_id: str,
    at: datetime,
    *,
    bot_id: str | None = None,
    contact: str = "a",
    address: str | None = None,
    status: str = "replied",
    texts: tuple[str, ...] = ("Hola",),
    answer: str | None = "Buenas",
    waited_s: float = 2,
    model: str | None = "gpt-6-luna",
    **columns: Any,
) -> str:
    """A turn that ended at a time, its messages made `waited_s` before; its id."""
    at = at.astimezone(UTC)
    bot_id = bot_id or f"bot_{client_id}"
    turn_id = f"tn_{next(_numbers)}"
    conversation_id = f"cv_{bot_id}_{contact}"
    begun = at - timedelta(seconds=waited_s)
    with database.write() as connection:
        known = select(ConversationRow.id).where(ConversationRow.id == conversation_id)
        if connection.scalar(known) is None:
            contact_id = f"ct_{bot_id}_{contact}"
            connection.execute(
                insert(ContactRow).values(
                    id=contact_id,
                    bot_id=bot_id,
                    client_id=client_id,
                    identity=contact,
                    address=address or f"whatsapp:+5690000{contact}",
                )
            )
            connection.execute(
                insert(ConversationRow).values(
                    id=conversation_id,
                    contact_id=contact_id,
                    bot_id=bot_id,
                    client_id=client_id,
                    number="+56911110000",
                    updated_at=at,
                )
            )
        values = {
            "ordinal": 1,
            "created_at": begun,
            "updated_at": at,
            "finished_at": None if status == "running" else at,
        }
        connection.execute(
            insert(TurnRow).values(
                id=turn_id,
                conversation_id=conversation_id,
                bot_id=bot_id,
                client_id=client_id,
                status=status,
                **(values | columns),
            )
        )
        shared = {"bot_id": bot_id, "conversation_id": conversation_id, "turn_id": turn_id}
        for place, text in enumerate(texts):
            connection.execute(
                insert(MessageRow).values(
                    **shared,
                    direction="in",
                    sid=f"SM{turn_id}{place}",
                    text=text,
                    payload={"at_ms": int(begun.timestamp() * 1000), "fields": {}},
                    created_at=begun,
                )
            )
        if answer is not None and status == "replied":
            connection.execute(
                insert(MessageRow).values(**shared, direction="out", text=answer, created_at=at)
            )
        if model is not None:
            connection.execute(
                insert(UsageRow).values(
                    bot_id=bot_id,
                    client_id=client_id,
                    turn_id=turn_id,
                    model=model,
                    input_tokens=1000,
                    cached_tokens=400,
                    output_tokens=100,
                    reasoning_tokens=10,
                    created_at=at,
                )
            )
    return turn_id
