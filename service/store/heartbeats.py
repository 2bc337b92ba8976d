"""The heartbeats of workers: which of them live, and of which release they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import orjson
from pydantic import TypeAdapter, ValidationError

from service.store import keys
from service.store.redis_client import RedisStore

INTERVAL_S = 5.0
_TTL_S = 20
_SCAN_COUNT = 1_000


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A worker that can work. `id` is `host:pid`, `busy` the turns that it runs."""

    id: str
    release: str
    threads: int
    busy: int
    at: datetime


_FORM = TypeAdapter(Heartbeat)


class Heartbeats:
    """Every method raises RedisDownError."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def beat(self, beat: Heartbeat) -> None:
        """Tell that this worker lives; it is forgotten 20 s later."""
        with self._store.outages():
            self._store.client.set(keys.worker(beat.id), orjson.dumps(beat), ex=_TTL_S)

    def forget(self, worker_id: str) -> None:
        with self._store.outages():
            self._store.client.delete(keys.worker(worker_id))

    def live(self) -> list[Heartbeat]:
        """By id; a heartbeat that cannot be read is left out."""
        with self._store.outages():
            found = list(self._store.client.scan_iter(keys.worker("*"), count=_SCAN_COUNT))
            raws = self._store.client.mget(found) if found else []
        beats = (_read(raw) for raw in raws if raw is not None)
        return sorted((beat for beat in beats if beat is not None), key=lambda beat: beat.id)


def _read(raw: bytes | str) -> Heartbeat | None:
    try:
        return _FORM.validate_json(raw)
    except ValidationError:
        return None
