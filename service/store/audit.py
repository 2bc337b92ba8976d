"""The audit log: who changed what. Written in the transaction of the change itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import Connection, Table, insert

from service.store.models import AuditRow

_AUDIT = cast(Table, AuditRow.__table__)


def record_change(
    connection: Connection,
    *,
    actor: str,
    action: str,
    object_id: str,
    client_id: str | None = None,
    request_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry. `action` is like `bot.update`; `detail` names fields, never their secrets."""
    connection.execute(
        insert(_AUDIT).values(
            actor=actor,
            action=action,
            object_id=object_id,
            client_id=client_id,
            request_id=request_id,
            detail=dict(detail or {}),
        )
    )
