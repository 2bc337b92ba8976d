"""PostgreSQL that hangs: connections stay open and nothing answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import falcon.testing
import pytest
from sqlalchemy import text

from service.app import create_app
from service.container import Container
from service.store.database import Database, DatabaseDownError
from service.store.migrations_state import MigrationState
from tests.integration.test_webhook import PATH, Door
from tests.server_process import PATIENCE_S
from tests.servers import RealPostgres
from tests.stack import (
    ACCOUNT_SID,
    CONTACT,
    NUMBER,
    Stack,
    emulators,
    environment,
    settings_of,
    wait_until,
)

LIMIT_S = 1.0
MIGRATION_LOCK = 7_210_431

Result = TypeVar("Result")


@pytest.fixture
def door(postgres_url: str, redis_url: str, tmp_path: Path) -> Iterator[Door]:
    """The application as the web process makes it; it has used the database before."""
    with emulators() as vendors:
        settings = settings_of(environment(postgres_url, redis_url, *vendors, tmp_path))
        container = Container.for_web(settings)
        stack = Stack(settings, container, *vendors)
        stack.add_bot()
        door = Door(stack, falcon.testing.TestClient(create_app(container)))
        assert door.post().status_code == 200
        yield door
        container.close()


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url, answer_within_s=LIMIT_S, pool_wait_s=LIMIT_S)
    wait_until(lambda: is_up(database), "database that answers")
    yield database
    database.close()


def test_a_message_to_an_unknown_number_is_answered(
    door: Door, postgres_server: RealPostgres
) -> None:
    form = door.form(To="whatsapp:+56900000001")
    postgres_server.pause()

    assert ended(lambda: door.post(form).status_code) == 503


def test_a_delivery_callback_is_answered(door: Door, postgres_server: RealPostgres) -> None:
    form = {
        "MessageSid": "SM" + "1" * 32,
        "MessageStatus": "sent",
        "From": f"whatsapp:{NUMBER}",
        "To": f"whatsapp:{CONTACT}",
        "AccountSid": ACCOUNT_SID,
    }
    postgres_server.pause()

    assert ended(lambda: door.post(form, path=f"{PATH}/status?part=pt_x").status_code) == 503


def test_the_limits_of_the_web_process_are_less_than_twilio_waits(door: Door) -> None:
    container = door.stack.container

    assert container.sql_answer_within_s + container.sql_pool_wait_s <= 3


def test_health_says_that_the_database_is_down(door: Door, postgres_server: RealPostgres) -> None:
    postgres_server.pause()

    answer = ended(lambda: door.client.simulate_get("/health"))

    assert (answer.json["status"], answer.json["db"]) == ("degraded", "down")


def test_a_hang_in_the_middle_of_a_transaction_ends_it(
    database: Database, postgres_server: RealPostgres
) -> None:
    def write() -> None:
        with database.write() as connection:
            connection.execute(text("SELECT 1"))
            postgres_server.pause()
            connection.execute(text("SELECT 2"))

    error = ended(lambda: failure_of(write))

    assert str(error) == f"the database did not answer within {LIMIT_S:g} s"


def test_a_statement_that_takes_too_long_is_ended_by_the_server_and_its_connection_kept(
    postgres_url: str,
) -> None:
    limit_s = 2 * PATIENCE_S
    database = Database(postgres_url, answer_within_s=limit_s)
    session = session_of(database)
    with database.read() as connection:
        server_limit = connection.scalar(
            text("SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'")
        )

    def sleep() -> None:
        with database.read() as connection:
            connection.execute(text("SET LOCAL statement_timeout = 100"))
            connection.execute(text("SELECT pg_sleep(1000)"))

    error = ended(lambda: failure_of(sleep))

    assert 0 < server_limit < 1000 * limit_s
    assert "statement timeout" in str(error)
    assert session_of(database) == session
    database.close()


def test_every_thread_is_told_in_time(database: Database, postgres_server: RealPostgres) -> None:
    failures: list[str] = []

    def ask() -> None:
        failures.append(str(failure_of(database.ping)))

    postgres_server.pause()
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert len(failures) == len(threads)


def test_a_database_that_hung_works_again_when_it_goes_on(
    database: Database, postgres_server: RealPostgres
) -> None:
    postgres_server.pause()
    failure_of(database.ping)
    postgres_server.resume()

    wait_until(lambda: is_up(database), "database that answers again")

    with database.write() as connection:
        assert connection.scalar(text("SELECT 42")) == 42


def test_a_migration_may_take_longer_than_other_calls(postgres_server: RealPostgres) -> None:
    url = postgres_server.create_database()
    database, other_host = Database(url, answer_within_s=LIMIT_S), Database(url)
    migrations = MigrationState(database)
    upgrade = threading.Thread(target=migrations.upgrade, daemon=True)

    with other_host.write() as lock:
        lock.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        upgrade.start()
        wait_until(lambda: longest_wait_s(other_host) > 2 * LIMIT_S, "migration that waits")
    upgrade.join(PATIENCE_S)

    assert migrations.schema().state == "at head"
    database.close()
    other_host.close()
    postgres_server.drop_database(url)


def test_the_limit_holds_again_after_a_migration(postgres_server: RealPostgres) -> None:
    url = postgres_server.create_database()
    database = Database(url, answer_within_s=LIMIT_S)
    MigrationState(database).upgrade()
    postgres_server.pause()

    error = ended(lambda: failure_of(database.ping))

    postgres_server.resume()
    assert "did not answer within" in str(error)
    database.close()
    postgres_server.drop_database(url)


def ended(call: Callable[[], Result]) -> Result:
    """What the call returns; a test fails when it has no end."""
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert results, f"no end within {PATIENCE_S:g} s"
    return results[0]


def failure_of(call: Callable[[], None]) -> DatabaseDownError:
    with pytest.raises(DatabaseDownError) as caught:
        call()
    return caught.value


def session_of(database: Database) -> int:
    with database.read() as connection:
        pid: int = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return pid


def longest_wait_s(database: Database) -> float:
    """How long a statement has been waiting for an advisory lock of this database."""
    waiting = text(
        "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - query_start)), 0) "
        "FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
    )
    with database.read() as connection:
        return float(connection.execute(waiting).scalar_one())


def is_up(database: Database) -> bool:
    try:
        database.ping()
    except DatabaseDownError:
        return False
    return True
