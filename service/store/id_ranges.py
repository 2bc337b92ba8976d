"""Finding rows by time in tables that have no index on it: their ids grow with time.

An index would cost every turn a write; finding an id costs some twenty look-ups by primary key.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select

NEAR = 2_000
"""A search ends when so few ids are left: the time itself is compared as well, so it need not be exact."""
SLACK = timedelta(minutes=10)
"""Ids are given in the order of the inserts, times by the hosts' clocks: this much they may differ."""


def within(
    connection: Connection, row: type[Any], start: datetime, end: datetime
) -> ColumnElement[bool]:
    """The condition that a row was made from `start` on and before `end`, bounded by ids too."""
    first, _ = around(connection, row, start - SLACK)
    _, behind = around(connection, row, end + SLACK, first)
    return and_(row.id >= first, row.id < behind, row.created_at >= start, row.created_at < end)


def around(
    connection: Connection, row: type[Any], at: datetime, low: int | None = None
) -> tuple[int, int]:
    """Two ids, at most NEAR apart: rows below the first are before a time, from the second on not.

    `low` is an id that is known to be below.
    """
    newest: int | None = connection.scalar(select(row.id).order_by(row.id.desc()).limit(1))
    if newest is None:
        return 0, 0
    if low is None:
        low = connection.scalar(select(row.id).order_by(row.id).limit(1)) or 0
    behind = newest + 1
    while behind - low > NEAR:
        middle = (low + behind) // 2
        found = connection.execute(
            select(row.id, row.created_at).where(row.id >= middle).order_by(row.id).limit(1)
        ).first()
        # None: the rows that were the newest have just been removed.
        if found is None or found.created_at >= at:
            behind = middle
        else:
            low = found.id + 1
    return low, behind
