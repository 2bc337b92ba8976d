"""Everything that is kept of a client's bot, as a file: for the client, and before it is removed.

JSON lines, compressed with gzip: each names its table in `table`. Secrets are not in it.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Mapping
from typing import Any, BinaryIO

import orjson
from sqlalchemy import Select, select

from service.conversation.clock import utc_now
from service.store.database import Database, lift_time_limits
from service.store.models import (
    AssistantRow,
    BotRow,
    ContactRow,
    ConversationRow,
    MessageRow,
    PartRow,
    StepRow,
    TurnRow,
    UsageRow,
    table,
)
from service.store.records import SECRET_FIELDS

_AT_A_TIME = 500


def export(database: Database, bot_id: str, file: BinaryIO) -> dict[str, int]:
    """Write all of it into an open file. Returns the rows of each table.

    Raises:
        OSError: it cannot be written.
        DatabaseDownError
    """
    counts: Counter[str] = Counter()
    # Zipped without time and name: the same data is the same file.
    with gzip.GzipFile("", "wb", 6, file, mtime=0) as out, database.read() as connection:
        lift_time_limits(connection)
        for name, query in _queries(bot_id).items():
            rows = connection.execution_options(yield_per=_AT_A_TIME).execute(query)
            for row in rows.mappings():
                out.write(_line(name, row))
                counts[name] += 1
    return dict(counts)


def file_name(client_id: str, number: str) -> str:
    """A name that tells whose data it is and from when."""
    return f"{client_id}-{number.lstrip('+')}-{utc_now():%Y%m%d%H%M%S}.jsonl.gz"


def _queries(bot_id: str) -> Mapping[str, Select[Any]]:
    """In an order in which every row comes after those that it refers to."""
    bots, turns, steps = table(BotRow), table(TurnRow), table(StepRow)
    public = [column for column in bots.c if column.name not in SECRET_FIELDS]
    queries: dict[str, Select[Any]] = {"bots": select(*public).where(bots.c.id == bot_id)}
    for model, order in (
        (AssistantRow, "version"),
        (ContactRow, "id"),
        (ConversationRow, "id"),
        (TurnRow, "id"),
        (MessageRow, "id"),
        (PartRow, "id"),
        (UsageRow, "id"),
    ):
        columns = table(model).c
        queries[table(model).name] = (
            select(table(model)).where(columns.bot_id == bot_id).order_by(columns[order])
        )
    queries["turn_steps"] = (
        select(steps)
        .join(turns, turns.c.id == steps.c.turn_id)
        .where(turns.c.bot_id == bot_id)
        .order_by(steps.c.turn_id, steps.c.n)
    )
    return queries


def _line(name: str, row: Mapping[Any, Any]) -> bytes:
    # SQLAlchemy's names are a kind of str that orjson does not take for keys.
    values = {"table": name, **{str(column): value for column, value in row.items()}}
    return orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE, default=str)
