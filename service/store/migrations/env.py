"""Alembic's entry: migrations run in one transaction of the service's own engine."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from service.store.database import Database, lift_time_limits
from service.store.models import Base

_MIGRATION_LOCK = 7_210_431


def run(database: Database) -> None:
    with database.engine.begin() as connection:
        if not database.is_sqlite:
            # Two hosts that migrate at once: the second waits and finds nothing to do.
            lift_time_limits(connection)
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=database.is_sqlite,
        )
        context.run_migrations()


run(context.config.attributes["database"])
