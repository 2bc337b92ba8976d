"""The SQL database: one engine a process, short transactions, one typed error for an outage."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.conversation.outage import OutageError
from service.store.bounded_connection import BoundedConnection, bounded_connections

_POOL_SIZE = 16
_SQLITE_BUSY_S = 10
_SERVER_SHARE = 0.9
"""PostgreSQL itself gives a statement up a little earlier, which keeps the connection."""


class DatabaseDownError(OutageError):
    """The database cannot be reached or does not answer; nothing was committed for sure or at all."""


class Database:
    """Transactions on one engine. No connection is held between them.

    While PostgreSQL hangs, each operation ends after `answer_within_s`, and so do the check of a
    kept connection and the making of a new one together; a thread waits `pool_wait_s` for one of
    the connections.
    """

    def __init__(self, url: str, answer_within_s: float = 10, pool_wait_s: float = 10) -> None:
        self.is_sqlite = url.startswith("sqlite")
        self.engine = (
            _sqlite_engine(url, pool_wait_s)
            if self.is_sqlite
            else _postgresql_engine(url, answer_within_s, pool_wait_s)
        )
        # Writers of one process queue here, fairly; SQLite's own busy wait is for other processes.
        self._writer = threading.Lock() if self.is_sqlite else None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads. Raises DatabaseDownError."""
        with outages(), self.engine.connect() as connection:
            yield connection.execution_options(read_only=True)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A transaction that reads one moment, for as long as it takes. Raises DatabaseDownError."""
        with outages(), self.engine.connect() as connection:
            if self.is_sqlite:
                connection.execution_options(read_only=True)
            else:
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                lift_time_limits(connection)
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end of the block. Raises DatabaseDownError."""
        with outages():
            if self._writer is None:
                with self.engine.begin() as connection:
                    yield connection
            else:
                with self._writer, self.engine.begin() as connection:
                    yield connection

    def ping(self) -> None:
        """Raises DatabaseDownError."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        self.engine.dispose()


def lift_time_limits(connection: Connection) -> None:
    """Let the rest of this transaction take as long as it takes: migrations do."""
    dbapi_connection = connection.connection.dbapi_connection
    if isinstance(dbapi_connection, BoundedConnection):
        dbapi_connection.answer_within_s = None
        connection.execute(text("SET LOCAL statement_timeout = 0"))


@contextmanager
def outages() -> Iterator[None]:
    """Turns the failures of the database that are no fault of a statement into DatabaseDownError."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise DatabaseDownError(first_line(error)) from error
    except DBAPIError as error:
        # SQLite says so, in no narrower class, of a file that is damaged or no database.
        if error.connection_invalidated or type(error.orig) is sqlite3.DatabaseError:
            raise DatabaseDownError(first_line(error)) from error
        raise


def first_line(error: Exception) -> str:
    """What happened, without values: they may be a contact's."""
    # The driver's own message: SQLAlchemy's text would carry the statement's parameters.
    return str(getattr(error, "orig", None) or error).strip().split("\n", 1)[0]


def sqlite_path(url: str) -> Path:
    """The file of an address that begins with `sqlite:///`."""
    return Path(url.removeprefix("sqlite:///").split("?", 1)[0])


def _sqlite_engine(url: str, pool_wait_s: float) -> Engine:
    path = sqlite_path(url)
    if path.name != ":memory:":
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=pool_wait_s,
        connect_args={"timeout": _SQLITE_BUSY_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver must not open transactions by itself: BEGIN is ours, below.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _postgresql_engine(url: str, answer_within_s: float, pool_wait_s: float) -> Engine:
    # A kept connection is checked before it is used, and when it hangs a new one is made.
    connect_within_s = answer_within_s / 2
    engine = create_engine(
        url,
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=pool_wait_s,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "connection_factory": bounded_connections(connect_within_s),
            "options": f"-c statement_timeout={int(answer_within_s * _SERVER_SHARE * 1000)}",
        },
    )

    @event.listens_for(engine, "checkout")
    def _use(connection: BoundedConnection, _record: Any, _fairy: Any) -> None:
        # Comes after the check.
        connection.answer_within_s = answer_within_s

    @event.listens_for(engine, "checkin")
    def _keep(connection: BoundedConnection | None, _record: Any) -> None:
        if connection is not None:
            connection.answer_within_s = connect_within_s

    return engine
