"""The service's tables copied into another database, from SQLite or PostgreSQL into either.

The source is read at one moment, table after table in the order of foreign keys and rows in the order of
their primary keys. Each batch is a transaction of its own, so the target always holds a beginning of
the copy, and another run goes on behind it. A table of one row, made with the first and removed after the
comparison, tells an unfinished copy from a database in use.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Insert,
    MetaData,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    inspect,
    select,
    tuple_,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, IntegrityError

from service.store.census import census, differences, key_order
from service.store.database import Database, first_line, lift_time_limits, sqlite_path
from service.store.migrations_state import MigrationState
from service.store.models import Base, SchemaCompatibilityRow, table

BATCH = 1_000
TABLES = [each for each in Base.metadata.sorted_tables if each is not table(SchemaCompatibilityRow)]
UNFINISHED = Table("unfinished_copy", MetaData(), Column("source", Text, nullable=False))

Told = Callable[[str, int, int], None]
"""Hears a table's name, how many of its rows are there, and how many there will be."""


class CopyError(Exception):
    """The databases are not copied, or not equal; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """A table that is equal on both sides; `found` of its rows were there from an earlier run."""

    name: str
    rows: int
    found: int
    sha256: str


def copy(source_url: str, target_url: str, told: Told, *, anew: bool = False) -> list[CopiedTable]:
    """Copy every row, or what an earlier run left over, then compare both databases.

    A target without tables gets them. `anew` empties a target that holds an unfinished copy of this source.

    Raises:
        CopyError: refused, or the databases differ at the end.
        SchemaError: the target's tables cannot be made.
        DatabaseDownError: one of them does not answer.
    """
    if _place(source_url) == _place(target_url):
        raise CopyError("Both addresses name the same database.")
    if source_url.startswith("sqlite") and not sqlite_path(source_url).exists():
        raise CopyError(f"There is no database at {sqlite_path(source_url)}.")
    with (
        closing(Database(source_url)) as source,
        closing(Database(target_url)) as target,
        source.snapshot() as rows,
    ):
        _check_schema(source, "source")
        if inspect(rows).has_table(UNFINISHED.name):
            raise CopyError("The source is itself an unfinished copy: finish that one first.")
        if target.is_sqlite:
            _make_private(sqlite_path(target_url))
        if MigrationState(target).schema().state == "empty":
            MigrationState(target).upgrade()
        _check_schema(target, "target")
        _begin(target, _place(source_url), anew=anew)
        found = {each.name: _copy_table(rows, target, each, told) for each in TABLES}
        return _compare(source, target, found)


def _place(url: str) -> str:
    """Which database an address names, without user and password."""
    if url.startswith("sqlite"):
        return f"sqlite:///{sqlite_path(url).resolve()}"
    parts = make_url(url)
    host = parts.host or parts.query.get("host") or "localhost"
    return f"postgresql://{host}:{parts.port or 5432}/{parts.database}"


def _make_private(file: Path) -> None:
    """It will hold what people wrote."""
    try:
        file.touch(mode=0o600)
    except OSError as error:
        raise CopyError(f"{file} cannot be written: {error.strerror}.") from error


def _check_schema(database: Database, which: str) -> None:
    schema = MigrationState(database).schema()
    if schema.state == "at head":
        return
    if schema.state in ("behind", "empty"):
        remedy = "run `horizonctl db upgrade` with its address as DATABASE_URL"
    else:
        remedy = "copy with the release that runs on it"
    raise CopyError(f"The {which} is at {schema.current}, this release at {schema.head}: {remedy}.")


def _begin(target: Database, source: str, *, anew: bool) -> None:
    """See that the target is empty, or holds the beginning of a copy of this source."""
    with target.write() as connection:
        lift_time_limits(connection)
        if inspect(connection).has_table(UNFINISHED.name):
            begun = connection.execute(select(UNFINISHED.c.source)).scalar_one()
            if begun != source:
                raise CopyError(f"The target holds an unfinished copy of {begun}, not of {source}.")
            if anew:
                for each in reversed(TABLES):
                    connection.execute(delete(each))
            return
        used = [each.name for each in TABLES if connection.execute(select(each).limit(1)).first()]
        if used:
            raise CopyError(
                f"The target has rows of its own ({', '.join(used)}): name an empty database."
            )
        UNFINISHED.create(connection)
        connection.execute(insert(UNFINISHED).values(source=source))


def _copy_table(rows: Connection, target: Database, each: Table, told: Told) -> int:
    """How many rows were there before."""
    total = rows.execute(select(func.count()).select_from(each)).scalar_one()
    order = key_order(each, rows.dialect)
    query = select(each).order_by(*order)
    with target.snapshot() as connection:
        there = connection.execute(select(func.count()).select_from(each)).scalar_one()
        backwards = [column.desc() for column in key_order(each, connection.dialect)]
        last = connection.execute(
            select(*each.primary_key.columns).order_by(*backwards).limit(1)
        ).first()
    if last is not None:
        query = query.where(tuple_(*order) > tuple_(*last))
    done, statement = there, _insert(each)
    told(each.name, done, total)
    streamed = rows.execution_options(stream_results=True, yield_per=BATCH).execute(query)
    for batch in streamed.mappings().partitions():
        try:
            with target.write() as connection:
                connection.execute(statement, [dict(row) for row in batch])
        except (DataError, IntegrityError) as error:
            raise CopyError(f"{each.name} does not fit the target: {first_line(error)}") from error
        done += len(batch)
        told(each.name, done, total)
    return int(there)


def _insert(each: Table) -> Insert:
    """A missing JSON value stays missing; SQLAlchemy would write JSON's null."""
    missing = {
        column: bindparam(column.name, type_=JSON(none_as_null=True))
        for column in each.columns
        if isinstance(column.type, JSON) and column.nullable
    }
    return insert(each).values(missing) if missing else insert(each)


def _compare(source: Database, target: Database, found: dict[str, int]) -> list[CopiedTable]:
    with source.snapshot() as connection:
        expected = census(connection)
    with target.snapshot() as connection:
        copied = census(connection)
    if told := differences(expected, copied, "source"):
        raise CopyError(
            f"The target is not what the source is now: {'; '.join(told)}. Stop web and workers, "
            "which write to the source, and copy again with --anew."
        )
    with target.write() as connection:
        if not target.is_sqlite:
            _set_sequences(connection)
        UNFINISHED.drop(connection)
    return [
        CopiedTable(name, copied[name]["rows"], count, copied[name]["sha256"])
        for name, count in found.items()
    ]


def _set_sequences(connection: Connection) -> None:
    """PostgreSQL counts only the ids that it gave itself."""
    for each in TABLES:
        if (column := each.autoincrement_column) is not None:
            newest = func.max(column)
            sequence = func.pg_get_serial_sequence(each.name, column.name)
            connection.execute(select(func.setval(sequence, newest)).having(newest.is_not(None)))
