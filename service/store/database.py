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

_POOL_SIZE = 16
_POOL_WAIT_S = 10
_SQLITE_BUSY_S = 10


class DatabaseDownError(OutageError):
    """The database cannot be reached or does not answer; nothing was committed for sure or at all."""


class Database:
    """Transactions on one engine. No connection is held between them."""

    def __init__(self, url: str) -> None:
        self.is_sqlite = url.startswith("sqlite")
        self.engine = _sqlite_engine(url) if self.is_sqlite else _postgresql_engine(url)
        # Writers of one process queue here, fairly; SQLite's own busy wait is for other processes.
        self._writer = threading.Lock() if self.is_sqlite else None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads. Raises DatabaseDownError."""
        with _outages(), self.engine.connect() as connection:
            yield connection.execution_options(read_only=True)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end of the block. Raises DatabaseDownError."""
        with _outages():
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


@contextmanager
def _outages() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise DatabaseDownError(_first_line(error)) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseDownError(_first_line(error)) from error
        raise


def _first_line(error: Exception) -> str:
    # The driver's own message: SQLAlchemy's text would carry the statement's parameters.
    return str(getattr(error, "orig", None) or error).strip().split("\n", 1)[0]


def _sqlite_engine(url: str) -> Engine:
    path = url.removeprefix("sqlite:///").split("?", 1)[0]
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=_POOL_WAIT_S,
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


def _postgresql_engine(url: str) -> Engine:
    return create_engine(
        url,
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=_POOL_WAIT_S,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"connect_timeout": 3, "options": "-c statement_timeout=10000"},
    )
