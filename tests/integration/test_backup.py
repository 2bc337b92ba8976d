"""`horizonctl db backup`: a whole copy of a database that is in use, or none."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from service.store.database import Database
from service.store.migrations_state import MigrationState
from service.store.pg_copy import load
from tests.integration.test_cli import Ctl, ctl, service_environment
from tests.server_process import PATIENCE_S
from tests.servers import RealPostgres

__all__ = ["ctl", "service_environment"]  # fixtures


def test_a_database_that_is_written_to_is_copied_whole(
    service_environment: dict[str, str], ctl: Ctl, tmp_path: Path
) -> None:
    path = service_environment["DATABASE_URL"].removeprefix("sqlite:///")
    stopping = threading.Event()
    written = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path, timeout=PATIENCE_S)) as connection:
            connection.execute("CREATE TABLE pairs (a INTEGER, b INTEGER)")
            for number in range(1_000_000):
                if stopping.is_set():
                    return
                connection.execute("INSERT INTO pairs VALUES (?, ?)", (number, 0))
                connection.execute("UPDATE pairs SET b = a")
                connection.execute("DELETE FROM pairs WHERE a < ?", (number - 50,))
                connection.commit()
                if number == 20:
                    written.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert written.wait(PATIENCE_S)

    result = ctl("db", "backup", "copy.db", "--json")

    stopping.set()
    thread.join()
    copy = tmp_path / "copy.db"
    assert (result.code, result.json) == (0, {"file": "copy.db", "bytes": copy.stat().st_size})
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(f"file:{copy}?mode=ro&immutable=1", uri=True)) as connection:
        rows = connection.execute("SELECT count(*), sum(a != b) FROM pairs").fetchone()
    assert rows[0] > 10
    assert rows[1] == 0
    assert sorted(tmp_path.glob("*copy.db*")) == [copy]


def test_a_service_runs_on_the_copy(
    service_environment: dict[str, str], ctl: Ctl, tmp_path: Path
) -> None:
    ctl("db", "backup", "copy.db")

    database = Database(f"sqlite:///{tmp_path / 'copy.db'}")
    assert MigrationState(database).runs()
    database.close()


def test_a_file_that_exists_is_replaced_only_by_force(
    service_environment: dict[str, str], ctl: Ctl, tmp_path: Path
) -> None:
    (tmp_path / "copy.db").write_text("old")

    refused = ctl("db", "backup", "copy.db")
    kept = (tmp_path / "copy.db").read_text()
    forced = ctl("db", "backup", "copy.db", "--force")

    assert (refused.code, kept, forced.code) == (1, "old", 0)
    assert "--force" in refused.err
    assert (tmp_path / "copy.db").read_bytes().startswith(b"SQLite format 3")


def test_the_database_itself_is_never_replaced(
    service_environment: dict[str, str], ctl: Ctl
) -> None:
    path = service_environment["DATABASE_URL"].removeprefix("sqlite:///")

    result = ctl("db", "backup", path, "--force")

    assert (result.code, result.err.count("\n")) == (1, 1)


def test_a_damaged_database_leaves_no_copy(
    service_environment: dict[str, str], ctl: Ctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"This is no database." * 500)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{damaged}")

    result = ctl("db", "backup", "copy.db")

    assert (result.code, result.err.count("\n")) == (1, 1)
    assert list(tmp_path.glob("*copy.db*")) == []


@pytest.mark.parametrize("url", ["sqlite:///nowhere.db", "postgresql://u@127.0.0.1/name"])
def test_what_cannot_be_copied_is_named(
    service_environment: dict[str, str],
    ctl: Ctl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)

    result = ctl("db", "backup", "copy.db")

    assert result.code == 1
    assert ("pg_dump" if url.startswith("postgresql") else "DATABASE_URL") in result.err
    assert not (tmp_path / "nowhere.db").exists()


def test_postgresql_is_dumped_as_it_is_and_comes_back(
    service_environment: dict[str, str],
    ctl: Ctl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgres_url: str,
    postgres_server: RealPostgres,
) -> None:
    """Also with tables of another release, as before a migration."""
    monkeypatch.setenv("PATH", f"{postgres_server.binaries()}:{os.environ['PATH']}")
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE bots RENAME TO bots_of_another_release"))
        connection.execute(text("CREATE TABLE kept (name TEXT)"))
        connection.execute(text("INSERT INTO kept VALUES ('one')"))

    result = ctl("db", "backup", "before.dump", "--json")
    refused = ctl("db", "backup", "before.dump")

    dump = tmp_path / "before.dump"
    assert result.code == 0, result.err
    assert result.json == {"file": "before.dump", "bytes": dump.stat().st_size}
    assert stat.S_IMODE(dump.stat().st_mode) == 0o600
    assert (refused.code, "--force" in refused.err) == (1, True)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE kept"))
    load(postgres_url, dump)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT name FROM kept")).scalars().all() == ["one"]
        connection.execute(text("SELECT 1 FROM bots_of_another_release"))
    engine.dispose()
    assert list(tmp_path.glob(".before*")) == []


def test_a_dump_without_its_tool_says_how_to_get_it(
    service_environment: dict[str, str],
    ctl: Ctl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@127.0.0.1/name")
    monkeypatch.setenv("PATH", str(tmp_path))

    result = ctl("db", "backup", "before.dump")

    assert (result.code, "apt-get install postgresql-client" in result.err) == (1, True)
    assert list(tmp_path.glob("*before*")) == []
