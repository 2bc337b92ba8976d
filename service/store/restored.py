"""What a restored database and Redis have, for the comparison with the messenger's lists."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, union

from service.store import keys
from service.store.database import Database
from service.store.models import BotRow, ConversationRow, MessageRow, TurnRow
from service.store.redis_client import RedisStore

_BATCH = 500


class Restored:
    """Read only. Raises DatabaseDownError and RedisDownError."""

    def __init__(self, database: Database, redis: RedisStore) -> None:
        self._database = database
        self._redis = redis

    def known(self, bot_id: str, sids: Sequence[str]) -> set[str]:
        """Those of the contacts' messages that belong to a turn."""
        found: set[str] = set()
        with self._database.read() as connection:
            for start in range(0, len(sids), _BATCH):
                query = select(MessageRow.sid).where(
                    MessageRow.bot_id == bot_id, MessageRow.sid.in_(sids[start : start + _BATCH])
                )
                found.update(sid for sid in connection.scalars(query) if sid is not None)
        return found

    def accepted(self, bot_id: str, sids: Sequence[str]) -> set[str]:
        """Those of the contacts' messages that belong to a turn or were put into a mailbox."""
        found = self.known(bot_id, sids)
        for start in range(0, len(sids), _BATCH):
            batch = sids[start : start + _BATCH]
            with self._redis.outages():
                seen = self._redis.client.mget([keys.seen(bot_id, sid) for sid in batch])
            found.update(sid for sid, value in zip(batch, seen, strict=True) if value is not None)
        return found

    def open_turns(self) -> Sequence[tuple[str, str, str, str]]:
        """Conversation, client, bot and number of the turns that were running."""
        query = (
            select(
                ConversationRow.id,
                ConversationRow.client_id,
                ConversationRow.bot_id,
                ConversationRow.number,
            )
            .join(TurnRow, TurnRow.conversation_id == ConversationRow.id)
            .where(TurnRow.status == "running")
            .order_by(ConversationRow.id)
        )
        with self._database.read() as connection:
            rows = connection.execute(query)
            return [(row.id, row.client_id, row.bot_id, row.number) for row in rows]

    def bots(self) -> Sequence[tuple[str, str]]:
        """Id and number of every bot that is there or has had a conversation."""
        own = select(BotRow.id, BotRow.twilio_phone_number).where(BotRow.deleted_at.is_(None))
        others = select(ConversationRow.bot_id, ConversationRow.number)
        with self._database.read() as connection:
            return sorted((row[0], row[1]) for row in connection.execute(union(own, others)))
