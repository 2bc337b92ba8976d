"""A consistent copy of an SQLite database that is in use.

Source: https://www.sqlite.org/backup.html
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import mkstemp
from urllib.parse import quote

_BUSY_S = 30


class BackupError(Exception):
    """No copy was made; the message is a sentence."""


def back_up(source: Path, target: Path, *, replace: bool = False) -> int:
    """Write the copy, with mode 0600, whole or not at all; its size in bytes.

    Raises:
        BackupError: there is no database, the target exists, or it cannot be written.
    """
    if not source.exists():
        raise BackupError(f"There is no database at {source}: check DATABASE_URL.")
    if target.exists():
        if target.samefile(source):
            raise BackupError(f"{target} is the database itself: name another file.")
        if not replace:
            raise BackupError(f"{target} exists: name another file, or add --force.")
    temporary: Path | None = None
    try:
        # mkstemp makes it readable by its owner alone.
        handle, name = mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        _copy(source, temporary)
        _sync(temporary)
        size = temporary.stat().st_size
        temporary.rename(target)
        _sync(target.parent)
    except OSError as error:
        raise BackupError(f"{target} cannot be written: {error.strerror or error}.") from error
    except sqlite3.Error as error:
        raise BackupError(f"The database {source} cannot be copied: {error}.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return size


def _copy(source: Path, target: Path) -> None:
    # Not "ro": reading a database in WAL mode may have to make its shared memory.
    address = f"file:{quote(os.fspath(source.absolute()))}?mode=rw"
    with (
        closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S)) as original,
        closing(sqlite3.connect(target)) as copy,
    ):
        # All pages in one step: one reading transaction, which stops no writer in WAL mode.
        original.backup(copy)
        # One file that needs no other beside it; the service sets WAL again when it opens it.
        copy.execute("PRAGMA journal_mode=DELETE")
        (state,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if state != "ok":
            raise sqlite3.DatabaseError(f"it is damaged: {state}")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
