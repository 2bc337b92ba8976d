"""Fixtures of all tests: real servers, one of each a session, and clean data for each test."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog

from service.settings import Settings
from service.store import redis_client
from service.store.database import Database
from service.store.migrations_state import MigrationState
from tests.server_process import (
    PATIENCE_S,
    ServerProcess,
    ServerUnavailableError,
    data_folder,
    memory_folder,
)
from tests.servers import RealPostgres, RealRedis

MigrateDatabase = Callable[[str], None]
SERVER_FIXTURES = frozenset({"redis_server", "postgres_server"})
TEMPLATE = "horizon_template"
FUZZ = "tests/fuzz/"
PRODUCTION_WAITS = {
    name: getattr(redis_client, name)
    for name in ("CONNECT_TIMEOUT_S", "SOCKET_TIMEOUT_S", "POOL_WAIT_S", "_SLOW_S")
}
fuzz_of_workers: list[str] = []
# The settings of whoever works in this checkout are not the tests'.
os.environ["HORIZON_ENV_FILE"] = ""


def pytest_configure() -> None:
    """Make the tests, and the programs that they start, independent of who starts them and where."""
    # A shell lets its background jobs ignore SIGINT, and so would everything that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.umask(0o022)
    if "TMPDIR" not in os.environ and (memory := memory_folder()) is not None:
        os.environ["TMPDIR"] = str(memory)
        tempfile.tempdir = None
    for name in Settings.model_fields:
        os.environ.pop(name.upper(), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that use a real server, so that `-m "not servers"` leaves them out."""
    for item in items:
        if isinstance(item, pytest.Function) and SERVER_FIXTURES & set(item.fixturenames):
            item.add_marker("servers")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One worker runs a file's tests, for its fixtures; one runs all fuzz tests, which it counts."""
    from xdist.scheduler import LoadFileScheduling

    class FileScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return FUZZ if nodeid.startswith(FUZZ) else super()._split_scope(nodeid)

    return FileScheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker has ended."""
    fuzz_of_workers.extend(getattr(node, "workeroutput", {}).get("fuzz", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if fuzz_of_workers:
        print_fuzz(terminalreporter, fuzz_of_workers)


def print_fuzz(terminalreporter: pytest.TerminalReporter, rows: Iterable[str]) -> None:
    """What the fuzz tests counted, at the end of the run."""
    terminalreporter.section("fuzz")
    for row in rows:
        terminalreporter.write_line(row)


def serve(server: ServerProcess) -> None:
    """Start it for a fixture. Where it cannot run, the test is skipped, or fails where it must."""
    try:
        server.start()
    except ServerUnavailableError as error:
        if os.environ.get("HORIZON_REQUIRE_SERVERS") == "1":
            pytest.fail(f"HORIZON_REQUIRE_SERVERS=1, and {error}", pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def logging_of_this_test() -> Iterator[None]:
    """A command silences the service's log in its own process; here the next test needs it."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(autouse=True)
def patient_redis_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer of Redis comes too late on a slow machine; see `hasty_redis_client`."""
    for name in PRODUCTION_WAITS:
        monkeypatch.setattr(redis_client, name, PATIENCE_S)


@pytest.fixture
def hasty_redis_client(patient_redis_client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests in which Redis hangs: the service gives it up as soon as in production."""
    for name, value in PRODUCTION_WAITS.items():
        monkeypatch.setattr(redis_client, name, value)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RealRedis]:
    """One Redis for all tests. A test may stop, kill or pause it: `redis_url` brings it back."""
    server = RealRedis()
    try:
        serve(server)
        yield server
    finally:
        server.close()


@pytest.fixture
def redis_url(redis_server: RealRedis) -> str:
    """The address of the running and empty Redis."""
    redis_server.reset()
    return redis_server.url


@pytest.fixture(scope="session")
def migrate_database() -> MigrateDatabase:
    """Brings an empty database, named by its URL, to the newest schema and lets go of it.

    The one place that knows how: it runs once a session, and every test gets a copy.
    """

    def migrate(url: str) -> None:
        database = Database(url)
        MigrationState(database).upgrade()
        database.close()

    return migrate


@pytest.fixture(scope="session")
def postgres_server(migrate_database: MigrateDatabase) -> Iterator[RealPostgres]:
    """One PostgreSQL for all tests, with the migrated database that the others are copies of."""
    server = RealPostgres()
    try:
        serve(server)
        server.execute(f'CREATE DATABASE "{TEMPLATE}"')
        migrate_database(server.url(TEMPLATE))
        yield server
    finally:
        server.close()


@pytest.fixture
def postgres_url(postgres_server: RealPostgres) -> Iterator[str]:
    """A PostgreSQL database of this test's own. It may stop, kill or pause the server."""
    if postgres_server.running:
        postgres_server.resume()
    postgres_server.start()
    url = postgres_server.create_database(TEMPLATE)
    yield url
    if postgres_server.running:
        postgres_server.resume()
    postgres_server.start()
    postgres_server.drop_database(url)


@pytest.fixture(scope="session")
def sqlite_folder() -> Iterator[Path]:
    """Where the SQLite databases of the tests are."""
    folder = data_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sqlite_template(sqlite_folder: Path, migrate_database: MigrateDatabase) -> Path:
    """The folder of the migrated SQLite database that the others are copies of."""
    folder = sqlite_folder / "template"
    folder.mkdir()
    migrate_database(f"sqlite:///{folder / 'horizon.db'}")
    return folder


@pytest.fixture
def sqlite_url(sqlite_template: Path) -> Iterator[str]:
    """A SQLite database of this test's own."""
    folder = sqlite_template.with_name(uuid4().hex)
    shutil.copytree(sqlite_template, folder)
    yield f"sqlite:///{folder / 'horizon.db'}"
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A database of this test's own: the test runs on SQLite and on PostgreSQL."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url
