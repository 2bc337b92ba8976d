"""Removing what has had its time: ended turns with their texts, and Redis keys that nothing refers to.

What is open, unhandled or needed again is never touched: running turns, waiting mail, usage, the audit
log, and contacts who have opted out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, exists, func, select
from sqlalchemy.exc import IntegrityError

from service.store import keys
from service.store.database import Database
from service.store.models import (
    BotRow,
    ContactRow,
    ConversationRow,
    MessageRow,
    PartRow,
    StepRow,
    TurnRow,
    table,
)
from service.store.redis_client import RedisStore

_ENDED = ("replied", "silent", "dead")
_BATCH = 500
_turns, _conversations, _contacts = table(TurnRow), table(ConversationRow), table(ContactRow)
_OF_A_TURN = (table(MessageRow), table(PartRow), table(StepRow))

_REMOVE_IDLE = """
-- KEYS: a conversation's state. ARGV: conversation. Removes it when nothing refers to it any more.
local conv, state = ARGV[1], KEYS[1]
local client = redis.call('HGET', state, 'client')
if redis.call('EXISTS', 'hb:mb:'..conv) == 1 or redis.call('ZSCORE', 'hb:leases', conv) then return 0 end
if client and redis.call('ZSCORE', 'hb:due:'..client, conv) then return 0 end
if ARGV[2] ~= '1' then redis.call('DEL', state) end
return 1
"""


@dataclass(frozen=True, slots=True)
class Removed:
    """How many of one kind were removed, or would be."""

    name: str
    count: int


class Cleanup:
    """Raises DatabaseDownError and RedisDownError; what was removed until then stays removed."""

    def __init__(self, database: Database, redis: RedisStore, *, dry_run: bool) -> None:
        self._database = database
        self._redis = redis
        self._dry_run = dry_run

    def turns(self, before: datetime) -> list[Removed]:
        """Turns that ended before, with messages, parts and steps; then who has none left."""
        ended = (_turns.c.status.in_(_ENDED), _turns.c.updated_at < before)
        if self._dry_run:
            return [Removed("turns", self._count(_turns, *ended))]
        removed = dict.fromkeys(("turns", "messages", "conversations", "contacts"), 0)
        while found := self._some_turns(ended):
            removed["turns"] += found[0]
            removed["messages"] += found[1]
        idle = (
            _conversations.c.updated_at < before,
            ~exists().where(_turns.c.conversation_id == _conversations.c.id),
        )
        removed["conversations"] = self._all(_conversations, idle)
        # Who has opted out must stay known.
        alone = (
            _contacts.c.updated_at < before,
            _contacts.c.opted_out_at.is_(None),
            ~exists().where(_conversations.c.contact_id == _contacts.c.id),
        )
        removed["contacts"] = self._all(_contacts, alone)
        return [Removed(name, count) for name, count in removed.items()]

    def redis_keys(self) -> list[Removed]:
        """States of conversations without mail, and the aliases of deleted bots."""
        with self._redis.outages():
            script = self._redis.client.register_script(_REMOVE_IDLE)
            states = 0
            for state in self._scan(keys.conversation("*")):
                conversation = state.removeprefix(keys.conversation(""))
                states += int(script([state], [conversation, "1" if self._dry_run else "0"]))
        return [Removed("states", states), Removed("aliases", self._aliases())]

    def _aliases(self) -> int:
        with self._database.read() as connection:
            deleted = connection.scalars(
                select(BotRow.id).where(
                    BotRow.deleted_at.is_not(None),
                    ~exists().where(
                        ConversationRow.bot_id == BotRow.id,
                        TurnRow.conversation_id == ConversationRow.id,
                        TurnRow.status == "running",
                    ),
                )
            ).all()
        names = [keys.aliases(bot) for bot in deleted]
        if not names:
            return 0
        with self._redis.outages():
            if self._dry_run:
                return int(self._redis.client.exists(*names))
            return int(self._redis.client.unlink(*names))

    def _scan(self, pattern: str) -> Iterator[str]:
        for name in self._redis.client.scan_iter(match=pattern, count=1_000):
            yield name.decode()

    def _some_turns(self, ended: Sequence[ColumnElement[bool]]) -> tuple[int, int] | None:
        """A batch of turns and how many messages they had; None when there is none left."""
        with self._database.write() as connection:
            # One that is being retried at this moment is not waited for.
            ids = connection.scalars(
                select(_turns.c.id)
                .where(*ended)
                .order_by(_turns.c.updated_at)
                .limit(_BATCH)
                .with_for_update(skip_locked=True)
            ).all()
            if not ids:
                return None
            counts = [_delete(connection, rows, (rows.c.turn_id.in_(ids),)) for rows in _OF_A_TURN]
            return _delete(connection, _turns, (_turns.c.id.in_(ids),)), counts[0]

    def _all(self, rows: Table, conditions: Sequence[ColumnElement[bool]]) -> int:
        total = 0
        while True:
            some = select(rows.c.id).where(*conditions).limit(_BATCH)
            try:
                with self._database.write() as connection:
                    ids = connection.scalars(some).all()
                    count = _delete(connection, rows, (rows.c.id.in_(ids), *conditions))
            except IntegrityError:
                # Somebody wrote a moment ago: there is a turn again. The next cleanup sees it.
                return total
            total += count
            if count < _BATCH:
                return total

    def _count(self, rows: Table, *conditions: ColumnElement[bool]) -> int:
        with self._database.read() as connection:
            query = select(func.count()).select_from(rows).where(*conditions)
            return connection.scalar(query) or 0


def _delete(connection: Connection, rows: Table, conditions: Sequence[Any]) -> int:
    return connection.execute(delete(rows).where(*conditions)).rowcount
