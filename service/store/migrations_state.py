"""Whether the database has the tables that this release needs."""

from __future__ import annotations

from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from service.conversation.outage import OutageError
from service.store.database import Database

_log = structlog.get_logger(__name__)

_FOLDER = Path(__file__).parent / "migrations"


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    return config


class MigrationState:
    """Remembers a good answer: a schema never goes down."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._head = ScriptDirectory.from_config(alembic_config()).get_current_head()
        self._reached = False

    def at_head(self) -> bool:
        if not self._reached:
            try:
                self._reached = self.current() == self._head
            except OutageError as error:
                _log.warning("migrations_unknown", reason=str(error))
        return self._reached

    def current(self) -> str | None:
        """The database's revision; None when it has none. Raises DatabaseDownError."""
        with self._database.read() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    @property
    def head(self) -> str | None:
        return self._head

    def upgrade(self) -> tuple[str | None, str | None]:
        """Bring the database to head; returns the revisions before and after."""
        before = self.current()
        config = alembic_config()
        config.attributes["database"] = self._database
        command.upgrade(config, "head")
        self._reached = True
        return before, self._head
