"""Looking for words in what was written. Read only, bounded by time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select

from service.store.counted import counted
from service.store.database import Database
from service.store.id_ranges import within
from service.store.models import ContactRow, ConversationRow, MessageRow, TurnRow


class MessageSearch:
    """Raises DatabaseDownError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(
        self,
        words: str,
        start: datetime,
        end: datetime,
        client_id: str | None = None,
        limit: int = 50,
    ) -> Sequence[dict[str, Any]]:
        """The newest messages from `start` on and before `end` that hold the words, in any case.

        Test messages of an operator are no client's: `horizonctl conversations show` has them.
        """
        # SQLite knows upper and lower case of ASCII alone: the usual spellings are asked for.
        spellings = {words, words.lower(), words.upper(), words.capitalize(), words.title()}
        holds = or_(
            *(
                MessageRow.text.icontains(spelling, autoescape=True)
                for spelling in sorted(spellings)
            )
        )
        with self._database.read() as connection:
            query = (
                select(
                    MessageRow.created_at,
                    TurnRow.client_id,
                    MessageRow.bot_id,
                    MessageRow.conversation_id,
                    MessageRow.turn_id,
                    ContactRow.address,
                    MessageRow.direction,
                    MessageRow.text,
                )
                .join(TurnRow, TurnRow.id == MessageRow.turn_id)
                .join(ConversationRow, ConversationRow.id == MessageRow.conversation_id)
                .join(ContactRow, ContactRow.id == ConversationRow.contact_id)
                .where(within(connection, MessageRow, start, end), holds, counted())
                .order_by(MessageRow.id.desc())
                .limit(limit)
            )
            if client_id is not None:
                query = query.where(TurnRow.client_id == client_id)
            return [dict(row._mapping) for row in connection.execute(query)]
