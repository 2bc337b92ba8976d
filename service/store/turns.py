"""Turns and conversations as people look at them: lists, one whole turn, the dead ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from service.store.counted import counted
from service.store.database import Database, DatabaseDownError
from service.store.models import (
    ContactRow,
    ConversationRow,
    MessageRow,
    PartRow,
    StepRow,
    TurnRow,
)


class Turns:
    """Read only. Raises DatabaseDownError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def dead_count(self) -> int:
        """Also raises DatabaseDownError when there are no tables yet: health needs one answer."""
        query = select(func.count()).select_from(TurnRow).where(TurnRow.status == "dead", counted())
        try:
            with self._database.read() as connection:
                return connection.scalar(query) or 0
        except SQLAlchemyError as error:
            raise DatabaseDownError("the dead turns cannot be counted") from error

    def dead(self, client_id: str | None = None, limit: int = 100) -> Sequence[dict[str, Any]]:
        """The dead turns, newest first, with what a retry needs."""
        query = (
            select(
                TurnRow.id,
                TurnRow.conversation_id,
                TurnRow.bot_id,
                TurnRow.client_id,
                TurnRow.reason,
                TurnRow.error,
                TurnRow.tries,
                TurnRow.runs,
                TurnRow.finished_at,
                ConversationRow.number,
            )
            .join(ConversationRow, ConversationRow.id == TurnRow.conversation_id)
            .where(TurnRow.status == "dead", counted())
            .order_by(TurnRow.updated_at.desc())
            .limit(limit)
        )
        if client_id is not None:
            query = query.where(TurnRow.client_id == client_id)
        return self._rows(query)

    def turn(self, turn_id: str) -> dict[str, Any] | None:
        """A turn with its conversation's number and its contact's address."""
        rows = self._rows(
            select(TurnRow, ConversationRow.number, ContactRow.address)
            .join(ConversationRow, ConversationRow.id == TurnRow.conversation_id)
            .join(ContactRow, ContactRow.id == ConversationRow.contact_id)
            .where(TurnRow.id == turn_id)
        )
        return rows[0] if rows else None

    def conversations(
        self, bot_id: str | None = None, client_id: str | None = None, limit: int = 50
    ) -> Sequence[dict[str, Any]]:
        """Conversations, the last active first."""
        query = (
            select(
                ConversationRow.id,
                ConversationRow.bot_id,
                ConversationRow.client_id,
                ContactRow.address,
                ContactRow.profile_name,
                ContactRow.opted_out_at,
                ConversationRow.last_ordinal.label("turns"),
                ConversationRow.updated_at,
            )
            .join(ContactRow, ContactRow.id == ConversationRow.contact_id)
            .order_by(ConversationRow.updated_at.desc())
            .limit(limit)
        )
        if bot_id is not None:
            query = query.where(ConversationRow.bot_id == bot_id)
        if client_id is not None:
            query = query.where(ConversationRow.client_id == client_id)
        return self._rows(query)

    def conversation(self, conversation_id: str, limit: int = 100) -> dict[str, Any] | None:
        """A conversation with its last turns and texts; None when there is none."""
        found = self._rows(
            select(
                ConversationRow.id,
                ConversationRow.bot_id,
                ConversationRow.client_id,
                ConversationRow.number,
                ContactRow.address,
                ContactRow.profile_name,
                ContactRow.opted_out_at,
                ConversationRow.created_at,
                ConversationRow.updated_at,
            )
            .join(ContactRow, ContactRow.id == ConversationRow.contact_id)
            .where(ConversationRow.id == conversation_id)
        )
        if not found:
            return None
        turns = self._rows(
            select(TurnRow)
            .where(TurnRow.conversation_id == conversation_id)
            .order_by(TurnRow.ordinal.desc())
            .limit(limit)
        )
        messages = self._rows(
            select(
                MessageRow.turn_id,
                MessageRow.direction,
                MessageRow.text,
                MessageRow.sid,
                MessageRow.created_at,
            )
            .join(TurnRow, TurnRow.id == MessageRow.turn_id)
            .where(TurnRow.conversation_id == conversation_id)
            .order_by(TurnRow.ordinal.desc(), MessageRow.id.desc())
            .limit(limit)
        )
        return found[0] | {"turns": list(reversed(turns)), "messages": list(reversed(messages))}

    def steps(self, turn_id: str) -> Sequence[dict[str, Any]]:
        """The journal of a turn."""
        return self._rows(
            select(StepRow.n, StepRow.kind, StepRow.data, StepRow.created_at)
            .where(StepRow.turn_id == turn_id)
            .order_by(StepRow.n)
        )

    def parts(self, turn_id: str) -> Sequence[dict[str, Any]]:
        """The messages of a turn and what is known of their delivery."""
        return self._rows(
            select(
                PartRow.kind,
                PartRow.n,
                PartRow.sid,
                PartRow.delivery,
                PartRow.error_code,
                PartRow.intent_at,
                PartRow.sent_at,
            )
            .where(PartRow.turn_id == turn_id)
            .order_by(PartRow.kind, PartRow.n)
        )

    def _rows(self, query: Any) -> list[dict[str, Any]]:
        with self._database.read() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]
