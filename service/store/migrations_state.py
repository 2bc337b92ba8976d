"""Whether the database's schema and this release's code fit, and the upgrade that makes them fit.

Revisions are numbers, filled with zeros ("0001"), in one line. The schema never goes down. Each
migration names the oldest code that still works on the schema it makes (`oldest_code`, the head of a
release); the database keeps it, so a release can tell of a schema that it does not know.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text

from service.conversation.outage import OutageError
from service.store.database import Database, first_line, lift_time_limits, outages
from service.store.models import SchemaCompatibilityRow

_log = structlog.get_logger(__name__)

FOLDER = Path(__file__).parent / "migrations"
_LOCK = 7_210_431
_TRUST_S = 10.0
_SQLITE_WAIT_MS = 600_000
"""For another upgrade to end, which may take longer than any other transaction."""

State = Literal["at head", "behind", "newer, compatible", "newer, incompatible", "empty"]


class SchemaError(Exception):
    """The schema was not upgraded and is as it was; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The database's revision and the oldest code it allows, beside a release's newest revision."""

    current: str | None
    head: str
    state: State
    oldest_code: str | None = None

    @property
    def runs(self) -> bool:
        """Whether the release works on this schema."""
        return self.state in ("at head", "newer, compatible")


class MigrationState:
    """The migrations of one release (those in `folder`) on one database."""

    def __init__(self, database: Database, folder: Path = FOLDER) -> None:
        self._database = database
        self._config = Config()
        self._config.set_main_option("script_location", str(folder).replace("%", "%%"))
        self._script = ScriptDirectory.from_config(self._config)
        self.head: str = self._script.get_current_head() or ""
        self._known: Schema | None = None
        self._trusted_until = 0.0
        self._is_away = False

    def runs(self) -> bool:
        """Whether this release works on the schema, as far as `last_known` tells."""
        schema = self.last_known()
        return schema is not None and schema.runs

    def last_known(self) -> Schema | None:
        """The schema, asked for again after 10 s: a newer release may raise it at any time.

        While SQL is away it is the last answer; None when there was none yet.
        """
        if self._known is None or not self._known.runs or time.monotonic() > self._trusted_until:
            try:
                self._known = self.schema()
            except OutageError as error:
                # Whoever waits for it asks several times a second.
                if not self._is_away:
                    _log.warning("schema_unknown", reason=str(error))
                self._is_away = True
            else:
                self._is_away = False
                self._trusted_until = time.monotonic() + _TRUST_S
        return self._known

    def schema(self) -> Schema:
        """Raises DatabaseDownError."""
        with self._database.read() as connection:
            return self._schema(connection)

    def judge(self, current: str | None, oldest_code: str | None) -> Schema:
        """How a database of this revision, a backup's for example, stands to this release."""
        if current is None:
            return Schema(None, self.head, "empty")
        return Schema(current, self.head, self._state(current, oldest_code), oldest_code)

    def upgrade(self) -> tuple[str | None, str | None]:
        """Bring the database to head, or leave a newer one; the revisions before and after.

        One transaction: a migration that fails leaves the database as it was. Whoever comes second
        waits, and finds nothing to do.

        Raises:
            SchemaError: the schema is newer than this release may run on, or a migration failed.
            DatabaseDownError: the database does not answer.
        """
        with outages(), self._database.engine.connect() as connection:
            if self._database.is_sqlite:
                _prepare_sqlite(connection)
            with connection.begin():
                if not self._database.is_sqlite:
                    lift_time_limits(connection)
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
                before = self._schema(connection)
                if before.state == "newer, incompatible":
                    raise SchemaError(_too_new(before))
                if before.state in ("behind", "empty"):
                    self._migrate(connection)
                after = self._schema(connection)
        return before.current, after.current

    def _migrate(self, connection: Connection) -> None:
        self._config.attributes["connection"] = connection
        try:
            command.upgrade(self._config, "head")
        except Exception as error:
            raise SchemaError(
                "A migration failed, and the database is as it was before: "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error
        finally:
            del self._config.attributes["connection"]

    def _schema(self, connection: Connection) -> Schema:
        current = MigrationContext.configure(connection).get_current_revision()
        return self.judge(current, None if current is None else _oldest_code(connection))

    def _state(self, current: str, oldest: str | None) -> State:
        if current == self.head:
            return "at head"
        if current in {script.revision for script in self._script.walk_revisions()}:
            return "behind"
        is_newer = _number(current) > _number(self.head)
        is_allowed = 0 < _number(oldest) <= _number(self.head)
        return "newer, compatible" if is_newer and is_allowed else "newer, incompatible"


def _prepare_sqlite(connection: Connection) -> None:
    """Before the transaction, in which SQLite would ignore the first of these.

    A table that has to be copied is dropped, and that would delete the rows that refer to it.
    """
    # With settings of its own it is closed at the end, not kept.
    connection.detach()
    dbapi_connection = connection.connection.dbapi_connection
    assert dbapi_connection is not None  # noqa: S101  # connect() has just made it
    cursor = dbapi_connection.cursor()
    cursor.execute("PRAGMA foreign_keys=OFF")
    cursor.execute(f"PRAGMA busy_timeout={_SQLITE_WAIT_MS}")
    cursor.close()


def _oldest_code(connection: Connection) -> str | None:
    # PostgreSQL would end the transaction over a missing table.
    if not inspect(connection).has_table(SchemaCompatibilityRow.__tablename__):
        return None
    return connection.execute(select(SchemaCompatibilityRow.oldest_code)).scalar()


def _number(revision: str | None) -> int:
    """-1 for what is no revision of ours."""
    return int(revision) if revision is not None and revision.isdecimal() else -1


def _too_new(schema: Schema) -> str:
    needs = (
        f"needs code of revision {schema.oldest_code} or newer"
        if schema.oldest_code
        else "does not say which code it needs"
    )
    return (
        f"The database is at {schema.current}, which {needs}; this release has {schema.head}: "
        "deploy a newer release, or restore the backup that was made before the upgrade."
    )
