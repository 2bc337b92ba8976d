"""The schema never goes down: which releases run on it, and upgrades that fail or meet."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from service.app import create_app
from service.container import Container
from service.store.database import Database
from service.store.migrations_state import FOLDER, MigrationState, SchemaError
from service.store.models import Base
from tests.integration.test_cli import Ctl, ctl
from tests.server_process import PATIENCE_S
from tests.stack import MakeStack

__all__ = ["ctl"]  # fixture

MIGRATION = """
import time
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{down}"
oldest_code = "{oldest}"

def upgrade():
    op.create_table("added_{revision}", sa.Column("id", sa.Integer(), primary_key=True))
    op.execute("UPDATE bots SET name = 'changed'")
    {body}
"""

Release = Callable[..., MigrationState]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def release(database: Database, tmp_path: Path) -> Release:
    """A release with migrations besides our own: `release((oldest_code, body), …)`."""

    def make(*migrations: tuple[str, str], folder: str = "release") -> MigrationState:
        copy = tmp_path / folder
        shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
        head = int(revisions()[0].revision)
        for number, (oldest, body) in enumerate(migrations, head + 1):
            source = MIGRATION.format(
                revision=f"{number:04}", down=f"{number - 1:04}", oldest=oldest, body=body
            )
            (copy / "versions" / f"{number:04}_extra.py").write_text(source)
        return MigrationState(database, copy)

    return make


def revisions() -> list[Any]:
    """Every migration, the newest first."""
    script = ScriptDirectory(str(FOLDER))
    return list(script.walk_revisions())


HEAD = revisions()[0].revision
NEXT = f"{int(HEAD) + 1:04}"


def test_every_migration_names_the_oldest_code_that_may_run_on_it() -> None:
    oldest = [script.module.oldest_code for script in reversed(revisions())]
    numbers = [script.revision for script in reversed(revisions())]

    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    assert all(code in numbers for code in oldest)
    # What is too old for one schema is too old for every later one.
    assert oldest == sorted(oldest)
    assert all(code <= number for code, number in zip(oldest, numbers, strict=True))


def test_the_migrations_make_the_tables_of_the_models(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, Base.metadata)

    assert differences == []


def test_an_upgraded_database_names_the_oldest_code(database: Database) -> None:
    schema = MigrationState(database).schema()

    assert (schema.state, schema.runs) == ("at head", True)
    assert schema.oldest_code == revisions()[0].module.oldest_code


def test_an_older_release_runs_on_a_newer_schema_that_allows_it(
    database: Database, release: Release
) -> None:
    release((HEAD, "")).upgrade()
    old = MigrationState(database)

    schema = old.schema()

    assert (schema.current, schema.state, schema.runs) == (NEXT, "newer, compatible", True)
    assert old.upgrade() == (NEXT, NEXT)
    assert old.schema() == schema


def test_an_older_release_does_not_run_on_a_newer_schema_that_refuses_it(
    database: Database, release: Release
) -> None:
    release((NEXT, "")).upgrade()
    old = MigrationState(database)

    assert old.schema().state == "newer, incompatible"
    with pytest.raises(SchemaError, match=f"needs code of revision {NEXT}.*has {HEAD}"):
        old.upgrade()
    assert old.schema().current == NEXT


@pytest.mark.parametrize("revision", ["0000", "abcd", "9999"])
def test_a_schema_that_nobody_vouches_for_is_refused(database: Database, revision: str) -> None:
    with database.write() as connection:
        connection.execute(text("DROP TABLE schema_compatibility"))
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})

    assert MigrationState(database).schema().state == "newer, incompatible"


def test_a_release_that_is_ahead_does_not_run(database: Database, release: Release) -> None:
    new = release((HEAD, ""))

    assert (new.schema().state, new.runs()) == ("behind", False)
    assert new.upgrade() == (HEAD, NEXT)
    assert new.runs()


def test_the_first_schema_is_brought_up(database: Database, release: Release) -> None:
    with database.write() as connection:
        connection.execute(text("DROP TABLE schema_compatibility"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    state = MigrationState(database)

    assert state.schema().state == "behind"
    assert state.upgrade() == ("0001", HEAD)
    assert state.runs()


@pytest.mark.parametrize(
    "body",
    ["raise RuntimeError('half-way')", "op.execute('SELECT nothing FROM nowhere')"],
    ids=["error-of-its-own", "error-of-the-database"],
)
def test_a_migration_that_fails_leaves_everything_as_it_was(
    database: Database, release: Release, body: str
) -> None:
    with database.write() as connection:
        connection.execute(
            text("INSERT INTO api_keys VALUES ('k', 'name', 'hash', NULL, '2026-01-01', NULL)")
        )
    before = contents(database)
    new = release((HEAD, ""), (HEAD, f"op.drop_table('audit_log')\n    {body}"))

    with pytest.raises(SchemaError, match="the database is as it was"):
        new.upgrade()

    assert contents(database) == before
    assert MigrationState(database).runs()
    if database.is_sqlite:
        with database.read() as connection:
            assert connection.scalar(text("PRAGMA foreign_keys")) == 1


def test_a_table_that_is_copied_keeps_the_rows_that_refer_to_it(
    database: Database, release: Release
) -> None:
    with database.write() as connection:
        connection.execute(text("CREATE TABLE parent (id INTEGER PRIMARY KEY, a VARCHAR(9))"))
        connection.execute(
            text(
                "CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL "
                "REFERENCES parent (id) ON DELETE CASCADE)"
            )
        )
        connection.execute(text("INSERT INTO parent VALUES (1, 'a')"))
        connection.execute(text("INSERT INTO child VALUES (1, 1)"))
    change = (
        "with op.batch_alter_table('parent') as batch:\n"
        "        batch.alter_column('a', type_=sa.Text(), existing_type=sa.String(9))"
    )

    release((HEAD, change)).upgrade()

    with database.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM child")) == 1


def test_two_upgrades_at_once_do_the_work_once(
    database: Database, database_url: str, release: Release
) -> None:
    first = release((HEAD, "time.sleep(1)"))
    other = Database(database_url)
    second = MigrationState(other, Path(str(first._config.get_main_option("script_location"))))
    results: list[tuple[str | None, str | None]] = []
    threads = [
        threading.Thread(target=lambda state=state: results.append(state.upgrade()))
        for state in (first, second)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    other.close()
    assert sorted(results) == [(HEAD, NEXT), (NEXT, NEXT)]


def test_ready_follows_the_rule(
    make_stack: MakeStack, database: Database, release: Release
) -> None:
    stack = make_stack()

    def ready() -> tuple[int, str]:
        # A process that starts now: one that runs may trust what it saw for 10 s.
        container = Container(stack.settings)
        answer = falcon.testing.TestClient(create_app(container)).simulate_get("/health/ready")
        container.close()
        return answer.status_code, answer.json["migrations"]

    at_head = ready()
    release((HEAD, "")).upgrade()
    compatible = ready()
    release((HEAD, ""), (f"{int(HEAD) + 2:04}", ""), folder="later").upgrade()
    incompatible = ready()

    assert at_head == (200, "at head")
    assert compatible == (200, "newer, compatible")
    assert incompatible == (503, "newer, incompatible: deploy a newer release")


def test_the_commands_follow_the_rule(
    make_stack: MakeStack, release: Release, ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in make_stack().variables.items():
        monkeypatch.setenv(name, value)
    release((HEAD, "")).upgrade()

    current, upgrade = ctl("db", "current", "--json"), ctl("db", "upgrade", "--json")

    assert (current.code, upgrade.code) == (0, 0)
    assert current.json == {
        "current": NEXT,
        "release": HEAD,
        "oldest_code": HEAD,
        "state": "newer, compatible",
        "runs": True,
    }
    assert upgrade.json == {"before": NEXT, "after": NEXT, "changed": False}

    release((HEAD, ""), (f"{int(HEAD) + 2:04}", ""), folder="later").upgrade()
    current, upgrade = ctl("db", "current", "--json"), ctl("db", "upgrade")

    assert (current.code, current.json["state"]) == (1, "newer, incompatible")
    assert (upgrade.code, upgrade.out) == (1, "")
    assert upgrade.err.count("\n") == 1


def contents(database: Database) -> dict[str, Any]:
    """Every table with its columns and rows."""
    with database.read() as connection:
        tables = inspect(connection).get_table_names()
        return {
            table: (
                [column["name"] for column in inspect(connection).get_columns(table)],
                [tuple(row) for row in connection.execute(text(f"SELECT * FROM {table}"))],  # noqa: S608
            )
            for table in tables
        }
