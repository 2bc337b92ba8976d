"""A copy of a PostgreSQL database with pg_dump, and putting one back with pg_restore.

Sources: https://www.postgresql.org/docs/15/app-pgdump.html (`--snapshot`), app-pgrestore.html,
functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import text
from sqlalchemy.engine import make_url

from service.store.backup import BackupError
from service.store.census import Census, census
from service.store.database import Database

_TOLD_CHARS = 500


def dump(database: Database, url: str, target: Path, *, replace: bool = False) -> Census:
    """Write the dump, and count what is in it: both see one moment.

    Raises:
        BackupError: the target exists or cannot be written, or pg_dump failed.
        DatabaseDownError: the database does not answer.
    """
    if target.exists() and not replace:
        raise BackupError(f"{target} exists: name another file, or add --force.")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file, database.snapshot() as connection:
            snapshot = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
            dump_into(file, url, f"--snapshot={snapshot}")
            counted = census(connection)
        temporary.rename(target)
    except OSError as error:
        raise BackupError(f"{target} cannot be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return counted


def dump_into(file: BinaryIO, url: str, *options: str) -> int:
    """Write the dump into an open file, whatever release made its tables; its size in bytes.

    Raises BackupError.
    """
    _run(["pg_dump", *options, *_DUMP], url, stdout=file.fileno())
    return os.fstat(file.fileno()).st_size


def load(url: str, source: Path) -> None:
    """Replace what the database has of the dump's tables, all or nothing. Raises BackupError."""
    database = make_url(url).database or ""
    _run(["pg_restore", *_RESTORE, f"--dbname={database}", str(source)], url)


_DUMP = ("--format=custom", "--no-owner", "--no-privileges", "--lock-wait-timeout=60000")
_RESTORE = (
    "--clean",
    "--if-exists",
    "--single-transaction",
    "--no-owner",
    "--no-privileges",
)


def _run(command: Sequence[str], url: str, stdout: int = subprocess.DEVNULL) -> None:
    try:
        ended = subprocess.run(
            command,
            env={**os.environ, **_environment(url)},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            check=False,
        )
    except FileNotFoundError:
        raise BackupError(
            f"{command[0]} is not installed: apt-get install postgresql-client."
        ) from None
    if ended.returncode:
        told = " ".join(ended.stderr.decode(errors="replace").split())[:_TOLD_CHARS]
        remedy = (
            " Remedy: install the client of the server's version (postgresql-client-<version> of "
            "apt.postgresql.org)."
            if "server version mismatch" in told
            else ""
        )
        raise BackupError(f"{command[0]} failed: {told}{remedy}")


def _environment(url: str) -> Mapping[str, str]:
    """The address as libpq reads it: nothing of it is seen in the list of processes."""
    parts = make_url(url)
    given = {
        "PGHOST": parts.host or parts.query.get("host"),
        "PGPORT": parts.port,
        "PGUSER": parts.username,
        "PGPASSWORD": parts.password,
        "PGDATABASE": parts.database,
        "PGSSLMODE": parts.query.get("sslmode"),
    }
    return {name: str(value) for name, value in given.items() if value}
