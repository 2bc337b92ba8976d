"""Where the older installation (a Flask service) kept its bots: a hash in Redis, Horizon's table.

The hash `bots:registry` holds a JSON object a bot. Nothing here writes to either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from service.store.database import Database
    from service.store.secrets import Cipher

REGISTRY = "bots:registry"
Origin = Literal["registry", "horizon_table"]

_TIMEOUT_S = 5


class SourceError(Exception):
    """A source cannot be read; the message is a sentence that says what to do and holds no secret."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A bot as it was kept. `fields` is None where it cannot be read, and `fault` says why."""

    key: str
    origin: Origin
    fields: Mapping[str, Any] | None = field(repr=False)
    fault: str | None = None


def from_redis(url: str) -> list[Entry]:
    """The entries of the registry; none when there is no such hash. Raises SourceError."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    from service.setting_rules import redis_address

    try:
        address = redis_address(url)
    except ValueError as error:
        raise SourceError(f"The address of the older Redis is not right: {error}.") from None
    client = redis.Redis.from_url(
        address,
        socket_connect_timeout=_TIMEOUT_S,
        socket_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    try:
        pairs = dict(client.hscan_iter(REGISTRY))
    except redis.ResponseError as error:
        if "WRONGTYPE" in str(error):
            raise SourceError(
                f"{REGISTRY} is no hash in that Redis: this is not the older installation's."
            ) from None
        raise SourceError(_unreadable(error)) from None
    except redis.RedisError as error:
        raise SourceError(_unreadable(error)) from None
    finally:
        client.close()
    return _entries(pairs)


def from_saved(raw: bytes) -> list[Entry]:
    """The entries of a file that `site.yml -e app_adopt_legacy=true` saved. Raises SourceError.

    It holds one JSON object: the hash's fields with their values as texts.
    """
    try:
        pairs = json.loads(raw)
    except (ValueError, RecursionError):
        pairs = None
    if not isinstance(pairs, dict):
        raise SourceError(
            "The saved registry is no JSON object: take the file registry.json that "
            "`site.yml -e app_adopt_legacy=true` saved."
        )
    return _entries(pairs)


def from_horizon_table(database: Database, cipher: Cipher) -> list[Entry]:
    """The active rows of Horizon's table, the newest first; none without such a table.

    Raises SourceError.
    """
    from service.conversation.outage import OutageError
    from service.store.horizon_table import TABLE, HorizonTable

    try:
        rows = HorizonTable(database, cipher).active()
    except OutageError as error:
        raise SourceError(f"The older database cannot be read: {error}.") from None
    return [Entry(f"{TABLE} {row.get('id')}", "horizon_table", row) for row in rows]


def _entries(pairs: Mapping[Any, Any]) -> list[Entry]:
    """By key, so that two runs say the same in the same order."""
    return sorted((_entry(key, value) for key, value in pairs.items()), key=lambda one: one.key)


def _entry(key: str | bytes, value: Any) -> Entry:
    name = _shown(key)
    try:
        text = value.decode() if isinstance(value, bytes) else value
        fields = json.loads(text) if isinstance(text, str) else text
    except UnicodeDecodeError:
        return Entry(name, "registry", None, "Its value is not UTF-8 text.")
    except (ValueError, RecursionError):
        return Entry(name, "registry", None, "Its value is not JSON.")
    if not isinstance(fields, dict):
        return Entry(name, "registry", None, "Its value is no JSON object.")
    return Entry(name, "registry", fields)


def _shown(key: str | bytes) -> str:
    text = key.decode(errors="replace") if isinstance(key, bytes) else key
    return "".join(character if character.isprintable() else "?" for character in text)[:100]


def _unreadable(error: Exception) -> str:
    reason = f"{type(error).__name__}: {error}".rstrip(".")
    return (
        f"The older Redis cannot be read ({reason}): check that it runs, its address, and that the "
        f"user may read {REGISTRY}."
    )
