"""How much each table holds and a checksum over it, to tell whether a copy is whole."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Any, TypedDict

import orjson
from sqlalchemy import ColumnElement, Connection, Dialect, String, Table, select

from service.store.models import Base

_FETCH = 2_000


class TableCensus(TypedDict):
    """`sha256` is over the rows in the order of their primary keys."""

    rows: int
    sha256: str


Census = dict[str, TableCensus]


def census(connection: Connection) -> Census:
    """Count and sum up every table of this release, in the caller's transaction."""
    found: Census = {}
    for table in Base.metadata.sorted_tables:
        digest, rows = sha256(), 0
        query = select(table).order_by(*key_order(table, connection.dialect))
        result = connection.execution_options(stream_results=True, yield_per=_FETCH).execute(query)
        for row in result:
            digest.update(orjson.dumps([_plain(value) for value in row]) + b"\n")
            rows += 1
        found[table.name] = {"rows": rows, "sha256": digest.hexdigest()}
    return found


def key_order(table: Table, dialect: Dialect) -> list[ColumnElement[Any]]:
    """The primary key for an order that all databases share: texts by their bytes, as in SQLite."""
    return [
        column.collate("C")
        if dialect.name == "postgresql" and isinstance(column.type, String)
        else column
        for column in table.primary_key.columns
    ]


def differences(expected: Census, found: Census, original: str = "backup") -> list[str]:
    """What differs from the original, one sentence each."""
    told = []
    for name in sorted(expected.keys() | found.keys()):
        before, after = expected.get(name), found.get(name)
        if before is None or after is None:
            told.append(f"{name} is only in the {original if after is None else 'restored copy'}")
        elif before["rows"] != after["rows"]:
            told.append(f"{name} has {after['rows']} rows, the {original} {before['rows']}")
        elif before["sha256"] != after["sha256"]:
            told.append(f"{name} has other contents than the {original}")
    return told


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): _plain(held) for key, held in sorted(value.items())}
    return value
