"""The hold: while it is there, workers claim nothing. Web goes on accepting."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import orjson
from pydantic import TypeAdapter, ValidationError

from service.conversation.clock import utc_now
from service.store import keys
from service.store.redis_client import RedisStore


@dataclass(frozen=True, slots=True)
class Held:
    """`at` is when it was placed; `backup_at` is when the restored backup was taken."""

    at: datetime
    reason: str
    backup_at: datetime | None = None


_FORM = TypeAdapter(Held)


class Hold:
    """Every method raises RedisDownError."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def place(self, reason: str, backup_at: datetime | None = None) -> None:
        """Hold the workers; what they run goes on to its end."""
        held = Held(utc_now(), reason, backup_at)
        with self._store.outages():
            self._store.client.set(keys.HELD, orjson.dumps(held))

    def state(self) -> Held | None:
        with self._store.outages():
            raw = self._store.client.get(keys.HELD)
        if raw is None:
            return None
        try:
            return _FORM.validate_json(raw)
        except ValidationError:
            # Whatever stands there holds them.
            return Held(utc_now(), "unreadable")

    def lift(self) -> bool:
        """Let the workers claim again, at once. False: they were not held."""
        with self._store.outages():
            lifted = self._store.client.delete(keys.HELD)
            self._store.client.publish(keys.WAKE, "1")
        return bool(lifted)
