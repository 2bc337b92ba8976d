"""Bots in Redis: their records, what is known not to exist, and word of changes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import orjson

from service.store import keys
from service.store.horizon_table import ID_PREFIX
from service.store.records import FORMAT, Record, dump, parse
from service.store.redis_client import RedisStore

LOOKUPS_PER_SECOND = 5
TOMBSTONE_TTL_S = 60
WARM_TTL_S = 60
_BATCH = 200
_LAST_REVISION = 2**31

_PRELUDE = """
local P = 'hb:'
local function held(number)
  local raw = redis.call('GET', P..'bot:'..number)
  if not raw then return nil end
  local ok, record = pcall(cjson.decode, raw)
  if ok and type(record) == 'table' then return record end
  return nil
end
local function drop_service(record)
  if record and type(record.twilio_messaging_service_sid) == 'string' then
    redis.call('DEL', P..'service-number:'..record.twilio_messaging_service_sid)
  end
end
local function is_newer(record, id, revision)
  return record and record.id == id and tonumber(record.revision) > tonumber(revision)
end
"""

# ARGV: number, id, revision, record, messaging service or ''
# Returns 1 written | 0 a newer revision is there
_PUBLISH = (
    _PRELUDE
    + """
local number, id, revision = ARGV[1], ARGV[2], ARGV[3]
local current = held(number)
if is_newer(current, id, revision) then return 0 end
local old = redis.call('GET', P..'bot-number:'..id)
if old and old ~= number then
  local moved = held(old)
  if is_newer(moved, id, revision) then return 0 end
  if moved and moved.id == id then
    drop_service(moved)
    redis.call('DEL', P..'bot:'..old)
  end
  redis.call('PUBLISH', P..'bots-changed', old)
end
drop_service(current)
if ARGV[5] ~= '' then redis.call('DEL', P..'service-number:'..ARGV[5]) end
redis.call('SET', P..'bot:'..number, ARGV[4])
redis.call('SET', P..'bot-number:'..id, number)
redis.call('DEL', P..'no-bot:'..number)
redis.call('PUBLISH', P..'bots-changed', number)
return 1
"""
)

# ARGV: number, id, tombstone, its TTL s
_FORGET = (
    _PRELUDE
    + """
local number, id = ARGV[1], ARGV[2]
local current = held(number)
if not current or current.id == id then
  drop_service(current)
  redis.call('SET', P..'bot:'..number, ARGV[3], 'EX', ARGV[4])
end
if redis.call('GET', P..'bot-number:'..id) == number then
  redis.call('DEL', P..'bot-number:'..id)
end
redis.call('PUBLISH', P..'bots-changed', number)
"""
)


@dataclass(frozen=True, slots=True)
class Cached:
    """What Redis says of a number: a record's JSON, or that no source knows it, or neither."""

    raw: bytes | None = None
    is_unknown: bool = False


class BotCache:
    """Every method raises RedisDownError."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._publish = store.client.register_script(_PUBLISH)
        self._forget = store.client.register_script(_FORGET)

    def look(self, number: str, messaging_service_sid: str | None) -> Cached:
        """By number, then by messaging service: one round trip, two for a service."""
        asked = [keys.bot(number), keys.no_bot(number)]
        if messaging_service_sid:
            asked.append(keys.service_number(messaging_service_sid))
        with self._store.outages():
            raw, unknown, *service = self._get(*asked)
            if raw is not None and parse(raw) is not None:
                return Cached(raw)
            if service and service[0] is not None:
                (raw,) = self._get(keys.bot(service[0].decode()))
                record = None if raw is None else parse(raw)
                # The bot may have left this service since.
                if record and record["twilio_messaging_service_sid"] == messaging_service_sid:
                    return Cached(raw)
        # A note made for another messaging service says nothing of this one.
        is_unknown = unknown is not None and messaging_service_sid in (None, unknown.decode())
        return Cached(is_unknown=is_unknown)

    def number_of(self, bot_id: str) -> str | None:
        """The number under which this bot's record is kept."""
        with self._store.outages():
            (number,) = self._get(keys.bot_number(bot_id))
        return None if number is None else number.decode()

    def read(self, number: str) -> bytes | None:
        """What is kept under this number: a record or a tombstone, as JSON."""
        with self._store.outages():
            (raw,) = self._get(keys.bot(number))
        return raw

    def publish(self, record: Record) -> bool:
        """Keep the record and tell every process; False when a newer revision is there."""
        with self._store.outages():
            return bool(self._publish(args=_publish_args(record)))

    def publish_all(self, records: Iterable[Record]) -> None:
        """Publish many, in batches."""
        batch: list[Record] = []
        for record in records:
            batch.append(record)
            if len(batch) == _BATCH:
                self._publish_batch(batch)
                batch = []
        self._publish_batch(batch)

    def forget(self, number: str, bot_id: str) -> None:
        """Remove a deleted bot; for a minute a tombstone keeps an old record from coming back."""
        # Our ids are never used twice, so no revision beats the tombstone; Horizon's may return.
        revision = 0 if bot_id.startswith(ID_PREFIX) else _LAST_REVISION
        tombstone = {"format": FORMAT, "id": bot_id, "revision": revision, "deleted": True}
        with self._store.outages():
            self._forget(args=[number, bot_id, orjson.dumps(tombstone), TOMBSTONE_TTL_S])

    def remember_service(self, messaging_service_sid: str, number: str) -> None:
        """The bot of `number` is the only one that uses this messaging service."""
        with self._store.outages():
            self._store.client.set(keys.service_number(messaging_service_sid), number)

    def remember_unknown(self, number: str, messaging_service_sid: str | None) -> None:
        """No source knows this number, asked together with this messaging service."""
        with self._store.outages():
            self._store.client.set(
                keys.no_bot(number), messaging_service_sid or "", ex=keys.NO_BOT_TTL_S
            )

    def count_lookup(self) -> bool:
        """Whether one more look-up of an unknown number is allowed in this second."""
        key = keys.lookups(int(time.time()))
        with self._store.outages():
            pipeline = self._store.client.pipeline(transaction=False)
            pipeline.incr(key)
            pipeline.expire(key, 2)
            count, _ = pipeline.execute()
        return int(count) <= LOOKUPS_PER_SECOND

    def may_warm(self) -> bool:
        """Whether this process is the one that fills the cache; at most one a minute."""
        with self._store.outages():
            return bool(self._store.client.set(keys.BOTS_WARMED, "1", nx=True, ex=WARM_TTL_S))

    def _get(self, *names: str) -> list[bytes | None]:
        return cast(list[bytes | None], self._store.client.mget(names))

    def _publish_batch(self, batch: list[Record]) -> None:
        if not batch:
            return
        with self._store.outages():
            pipeline = self._store.client.pipeline(transaction=False)
            for record in batch:
                self._publish(args=_publish_args(record), client=pipeline)
            pipeline.execute()


def _publish_args(record: Record) -> list[str | int | bytes]:
    return [
        record["number"],
        record["id"],
        record["revision"],
        dump(record),
        record["twilio_messaging_service_sid"] or "",
    ]
