"""What the messenger's callbacks tell of parts: in any order, any number of times."""

from __future__ import annotations

from sqlalchemy import select, update

from service.conversation.clock import utc_now
from service.store.database import Database
from service.store.models import PartRow

_RANK = {
    "accepted": 1,
    "scheduled": 1,
    "queued": 2,
    "sending": 3,
    "sent": 4,
    "failed": 5,
    "undelivered": 5,
    "canceled": 5,
    "partially_delivered": 5,
    "delivered": 5,
    "read": 6,
}


class Deliveries:
    """Raises DatabaseDownError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self, bot_id: str, sid: str, part_id: str | None, state: str, error_code: str | None
    ) -> bool:
        """Note the state unless a later one is known. False when the bot has no such part.

        A callback that names the part also tells the SID of a send whose answer was lost.
        """
        if state not in _RANK:
            return False
        named = PartRow.id == part_id if part_id else PartRow.sid == sid
        with self._database.write() as connection:
            part = connection.execute(
                select(PartRow.id, PartRow.sid, PartRow.delivery)
                .where(named, PartRow.bot_id == bot_id)
                .with_for_update()
            ).one_or_none()
            if part is None or (part.sid is not None and part.sid != sid):
                return False
            values: dict[str, object] = {"callback_sid": sid}
            if _RANK[state] > _RANK.get(part.delivery or "", 0):
                values["delivery"] = state
                if error_code:
                    values["error_code"] = error_code[:20]
            connection.execute(
                update(PartRow).where(PartRow.id == part.id).values(**values, updated_at=utc_now())
            )
        return True
