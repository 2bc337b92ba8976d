"""Alembic's entry: migrations run in the transaction that `MigrationState.upgrade` has begun."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, delete, insert, text

from service.store.models import Base, SchemaCompatibilityRow


def run(connection: Connection) -> None:
    is_sqlite = connection.dialect.name == "sqlite"
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=is_sqlite,
        # Alembic says that SQLite has none; with BEGIN IMMEDIATE of our own it has.
        transactional_ddl=True,
    )
    context.run_migrations()
    if is_sqlite and connection.execute(text("PRAGMA foreign_key_check")).first():
        raise RuntimeError("the migrations leave rows that refer to nothing")
    head = context.script.get_revision("head")
    connection.execute(delete(SchemaCompatibilityRow))
    connection.execute(
        insert(SchemaCompatibilityRow).values(id=1, oldest_code=head.module.oldest_code)
    )


run(context.config.attributes["connection"])
