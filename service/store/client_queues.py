"""What waits for each client, as the schedule in Redis has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.store import keys
from service.store.redis_client import RedisStore


@dataclass(frozen=True, slots=True)
class ClientQueue:
    """Conversations that wait, those being answered, and how late the earliest is, in seconds."""

    due: int
    leased: int
    late_s: float


class ClientQueues:
    """Read only. Raises RedisDownError."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def of(self, clients: Sequence[str]) -> dict[str, ClientQueue]:
        """The queues of these clients, in one round trip."""
        if not clients:
            return {}
        with self._store.outages():
            pipe = self._store.client.pipeline(transaction=False)
            pipe.time()
            for client in clients:
                pipe.zcard(keys.due(client))
                pipe.scard(keys.client_leases(client))
                pipe.zscore(keys.CLIENTS, client)
            (seconds, micros), *answers = pipe.execute()
        now_ms = seconds * 1000 + micros / 1000
        found = {}
        for place, client in enumerate(clients):
            due, leased, earliest_ms = answers[place * 3 : place * 3 + 3]
            late_s = 0.0 if earliest_ms is None else max(0.0, (now_ms - earliest_ms) / 1000)
            found[client] = ClientQueue(due, leased, late_s)
        return found
