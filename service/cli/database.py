"""`db`: the database's schema, a copy of it in one file, and the way into another database."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from service.cli.failures import FAILED, USAGE, CommandError
from service.cli.output import JsonFlag, print_fields, print_json, print_line, print_table
from service.cli.session import session
from service.setting_rules import database_address
from service.settings import load_settings

if TYPE_CHECKING:
    from rich.progress import TaskID

    from service.store.copying import Told

_OWN = "settings"
_ADDRESS = f"An address like DATABASE_URL; `{_OWN}`: the one of the settings."

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
    """Copy the database, while it is used, into one file: SQLite's own, or one for pg_restore."""
    from service.cli.named_files import writing_named
    from service.store.backup import BackupError
    from service.store.database import sqlite_path

    url = load_settings().sqlalchemy_url
    if url.startswith("sqlite:///") and _is_same(file, sqlite_path(url)):
        raise CommandError(f"{file} is the database itself: name another file.")
    try:
        with writing_named(file, replace=force) as out:
            size = _copy_into(out, url)
    except FileExistsError:
        raise CommandError(f"{file} exists: name another file, or add --force.") from None
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror or error}.") from None
    except BackupError as error:
        raise CommandError(str(error)) from error
    if as_json:
        print_json({"file": str(file), "bytes": size})
    else:
        print_line(f"The database was copied to {file} ({size} bytes).")


def _copy_into(out: BinaryIO, url: str) -> int:
    """The size in bytes. Raises BackupError and OSError."""
    from service.store.backup import back_up
    from service.store.database import sqlite_path
    from service.store.pg_copy import dump_into

    if not url.startswith("sqlite:///"):
        return dump_into(out, url)
    source = sqlite_path(url)
    beside = source.parent if source.exists() else None
    with TemporaryDirectory(prefix=".backup-", dir=beside) as folder:
        copy = Path(folder) / "copy"
        size = back_up(source, copy)
        with open(copy, "rb") as whole:
            shutil.copyfileobj(whole, out)
    return size


@app.command("copy")
def copy_rows(
    source: Annotated[str, typer.Argument(metavar="FROM", help=_ADDRESS, show_default=False)],
    target: Annotated[str, typer.Argument(metavar="TO", help=_ADDRESS, show_default=False)],
    anew: Annotated[
        bool, typer.Option("--anew", help="First empty what an unfinished copy left.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Copy all rows into an empty database, SQLite or PostgreSQL; run it again to go on.

    The service must not run. Leave passwords out and set PGPASSWORD, which nobody else can read.
    """
    from service.store.copying import CopyError, copy
    from service.store.migrations_state import SchemaError

    with _progress() as told:
        try:
            copied = copy(_address(source, "FROM"), _address(target, "TO"), told, anew=anew)
        except (CopyError, SchemaError) as error:
            raise CommandError(str(error)) from error
    if as_json:
        print_json({"equal": True, "tables": [asdict(each) for each in copied]})
        return
    rows = [(each.name, each.rows, each.found, each.sha256[:12], "equal") for each in copied]
    print_table(("table", "rows", "of an earlier run", "checksum", ""), rows, "")


def _address(value: str, name: str) -> str:
    if value == _OWN:
        return load_settings().sqlalchemy_url
    try:
        address = database_address(value)
    except ValueError as error:
        raise CommandError(f"{name}: {error}.", USAGE) from None
    if address.startswith("sqlite:///"):
        folder = Path(address.removeprefix("sqlite:///").partition("?")[0]).parent
        if not folder.is_dir():
            raise CommandError(f"{name}: there is no folder {folder}: make it first.", USAGE)
    return address


def _is_same(file: Path, source: Path) -> bool:
    from service.cli.named_files import open_named

    try:
        with open_named(file) as named:
            return os.path.samestat(os.fstat(named.fileno()), source.stat())
    except OSError:
        return False


@contextmanager
def _progress() -> Iterator[Told]:
    """Tells how far it is, on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    is_terminal = sys.stderr.isatty()
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def told(table: str, done: int, total: int) -> None:
            if table not in tasks:
                tasks[table] = progress.add_task(table, total=total)
            progress.update(tasks[table], completed=done)

        yield told
