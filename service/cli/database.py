"""`db`: the database's schema, and a copy of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli.failures import FAILED, USAGE, CommandError
from service.cli.output import JsonFlag, print_fields, print_json, print_line
from service.cli.session import session
from service.settings import load_settings

app = typer.Typer(help="The database's schema and its backup.", no_args_is_help=True)


@app.command()
def upgrade(as_json: JsonFlag = False) -> None:
    """Bring the database to this release's schema; a newer one that it can run on is left alone."""
    from service.store.migrations_state import SchemaError

    with session() as container:
        try:
            before, after = container.migrations.upgrade()
        except SchemaError as error:
            raise CommandError(str(error)) from error
        head = container.migrations.head
    if as_json:
        print_json({"before": before, "after": after, "changed": before != after})
    elif before != after:
        print_line(f"The database went from {before or 'nothing'} to {after}.")
    elif after == head:
        print_line(f"The database is at {after} already.")
    else:
        print_line(f"The database is at {after}, newer than this release, which runs on it.")


@app.command()
def current(as_json: JsonFlag = False) -> None:
    """Show the database's schema; the exit code is 0 only when this release runs on it."""
    with session() as container:
        schema = container.migrations.schema()
    state = {
        "current": schema.current,
        "release": schema.head,
        "oldest_code": schema.oldest_code,
        "state": schema.state,
        "runs": schema.runs,
    }
    if as_json:
        print_json(state)
    else:
        print_fields(state)
    if not schema.runs:
        raise typer.Exit(FAILED)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Copy an SQLite database, while it is used, into one file."""
    from service.store.backup import BackupError, back_up
    from service.store.database import sqlite_path

    url = load_settings().sqlalchemy_url
    if not url.startswith("sqlite:///"):
        raise CommandError("This is for SQLite: PostgreSQL is backed up with pg_dump.", USAGE)
    try:
        size = back_up(sqlite_path(url), file, replace=force)
    except BackupError as error:
        raise CommandError(str(error)) from error
    if as_json:
        print_json({"file": str(file), "bytes": size})
    else:
        print_line(f"The database was copied to {file} ({size} bytes).")
