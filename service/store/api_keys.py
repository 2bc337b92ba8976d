"""Bearer keys: administrators' and those of one client. Only their SHA-256 is kept.

A fast hash is enough because a key has 256 random bits: there is no dictionary to try.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import Table, insert, select, update

from service.conversation.clock import utc_now
from service.conversation.storable import storable
from service.store.audit import record_change
from service.store.database import Database
from service.store.models import ApiKeyRow

_KEYS = cast(Table, ApiKeyRow.__table__)
_PREFIX = "hk_"
_MAX_NAME_CHARS = 200

CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,80}")
"""What a client's id looks like, wherever one comes in."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request. `actor` goes into the audit log; `client_id` None is an administrator."""

    actor: str
    client_id: str | None = None

    @property
    def is_admin(self) -> bool:
        return self.client_id is None

    def may_see(self, client_id: str) -> bool:
        """Whether this client's bots are the caller's business."""
        return self.client_id in (None, client_id)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is listed: nothing of the key itself."""

    id: str
    name: str
    client_id: str | None
    created_at: datetime
    revoked_at: datetime | None


class ApiKeys:
    """The keys of the table and `ADMIN_API_KEY`. Every method raises DatabaseDownError."""

    def __init__(self, database: Database, admin_api_key: str) -> None:
        self._database = database
        self._admin_hash = _hash(admin_api_key)

    def authenticate(self, key: str) -> Caller | None:
        """Who holds this key; None for an unknown or revoked one."""
        key_hash = _hash(key)
        if hmac.compare_digest(key_hash, self._admin_hash):
            return Caller("admin")
        query = select(_KEYS).where(_KEYS.c.key_hash == key_hash)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        held = row["key_hash"] if row is not None else "0" * len(key_hash)
        is_same = hmac.compare_digest(key_hash, held)
        if row is None or not is_same or row["revoked_at"] is not None:
            return None
        if row["client_id"] is not None and not CLIENT_ID.fullmatch(row["client_id"]):
            return None
        return Caller(row["id"], row["client_id"])

    def create(self, name: str, client_id: str | None, actor: str) -> tuple[ApiKey, str]:
        """A new key and, this once, its text. `client_id` None makes an administrator's.

        Raises:
            ValueError: a sentence that says what is wrong with the name or the client's id.
        """
        if not 0 < len(name) <= _MAX_NAME_CHARS or storable(name) != name:
            raise ValueError(f"A key's name has 1 to {_MAX_NAME_CHARS} readable characters.")
        if client_id is not None and not CLIENT_ID.fullmatch(client_id):
            raise ValueError(
                "A client's id has 1 to 80 characters: letters A to Z, digits, dot, - and _."
            )
        text = _PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(f"key_{secrets.token_hex(8)}", name, client_id, utc_now(), None)
        with self._database.write() as connection:
            connection.execute(
                insert(_KEYS).values(
                    id=key.id,
                    name=name,
                    key_hash=_hash(text),
                    client_id=client_id,
                    created_at=key.created_at,
                )
            )
            record_change(
                connection,
                actor=actor,
                action="key.create",
                object_id=key.id,
                client_id=client_id,
                detail={"name": name},
            )
        return key, text

    def revoke(self, key_id: str, actor: str) -> bool:
        """End a key at once. False when there is none with this id that was still valid."""
        with self._database.write() as connection:
            row = (
                connection.execute(
                    update(_KEYS)
                    .where(_KEYS.c.id == key_id, _KEYS.c.revoked_at.is_(None))
                    .values(revoked_at=utc_now())
                    .returning(_KEYS.c.client_id)
                )
                .mappings()
                .one_or_none()
            )
            if row is None:
                return False
            record_change(
                connection,
                actor=actor,
                action="key.revoke",
                object_id=key_id,
                client_id=row["client_id"],
            )
        return True

    def all(self) -> Sequence[ApiKey]:
        """Every key, the oldest first, revoked ones too."""
        columns = (
            _KEYS.c.id,
            _KEYS.c.name,
            _KEYS.c.client_id,
            _KEYS.c.created_at,
            _KEYS.c.revoked_at,
        )
        query = select(*columns).order_by(_KEYS.c.created_at, _KEYS.c.id)
        with self._database.read() as connection:
            return [ApiKey(**row) for row in connection.execute(query).mappings()]


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
