"""The servers of the tests are real, and fail when and how a test wants it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import psycopg2
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from tests import servers
from tests.server_process import PATIENCE_S, ServerUnavailableError, wait_until
from tests.servers import RealPostgres, RealRedis


@pytest.fixture
def own_redis(redis_server: RealRedis) -> Iterator[RealRedis]:
    """A Redis that only this test knows; the shared one proves that this machine can run it."""
    with RealRedis() as server:
        yield server


def test_redis_writes_every_change_to_disk_and_evicts_nothing(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        settings = client.config_get("append*", "maxmemory-policy", "save")

    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "always"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["save"] == ""


def test_killed_redis_comes_back_on_its_port_with_its_data(own_redis: RealRedis) -> None:
    port = own_redis.port
    with own_redis.client() as client:
        client.set("kept", "yes")

    own_redis.kill()
    own_redis.start()

    assert own_redis.port == port
    with own_redis.client() as client:
        assert client.get("kept") == "yes"


def test_stopped_redis_refuses_connections(own_redis: RealRedis) -> None:
    own_redis.stop()

    with own_redis.client() as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_paused_redis_hangs_and_answers_again_when_resumed(own_redis: RealRedis) -> None:
    own_redis.pause()
    with own_redis.client(timeout_s=0.2) as hasty, pytest.raises(redis.TimeoutError):
        hasty.ping()

    own_redis.resume()

    with own_redis.client() as client:
        assert client.ping()


def test_reset_brings_redis_back_empty_and_with_its_settings(own_redis: RealRedis) -> None:
    own_redis.config_set("maxmemory", 2_000_000)
    with own_redis.client() as client:
        client.set("left", "over")
    own_redis.pause()

    own_redis.reset()

    with own_redis.client() as client:
        assert client.dbsize() == 0
        assert client.config_get("maxmemory") == {"maxmemory": "0"}


def test_redis_ends_with_the_process_that_started_it(
    redis_server: RealRedis, tmp_path: Path
) -> None:
    program = (
        "from tests.servers import RealRedis\n"
        "server = RealRedis(); server.start(); print(server.port, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(servers.__file__).parents[1],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())

        parent.send_signal(signal.SIGKILL)

    def refused() -> bool:
        try:
            redis.Redis(port=port, socket_timeout=1, retry=Retry(NoBackoff(), 0)).ping()
        except redis.ConnectionError:
            return True
        return False

    wait_until(refused, "the orphaned server has ended")


def test_server_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REDIS_SERVER", str(tmp_path / "absent"))
    server = RealRedis()

    with pytest.raises(ServerUnavailableError, match="absent"):
        server.start()

    server.close()


def value(url: str, query: str) -> object:
    """What one query answers on a fresh connection."""
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return connection.execute(text(query)).scalar_one()


def change(url: str, *statements: str) -> None:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


@pytest.mark.parametrize("order", ["first", "second"])
def test_each_test_has_a_database_of_its_own(database_url: str, order: str) -> None:
    change(database_url, "CREATE TABLE mine (id INTEGER)", "INSERT INTO mine VALUES (7)")

    assert value(database_url, "SELECT count(*) FROM mine") == 1, order


def test_new_postgres_database_is_a_copy_of_its_template(postgres_server: RealPostgres) -> None:
    template = postgres_server.create_database()
    change(template, "CREATE TABLE copied (id INTEGER)")

    copy = postgres_server.create_database(template.rpartition("/")[2])

    assert value(copy, "SELECT count(*) FROM copied") == 0
    postgres_server.drop_database(copy)
    postgres_server.drop_database(template)


def test_stopped_postgres_refuses_connections_and_returns_with_its_data(
    postgres_server: RealPostgres, postgres_url: str
) -> None:
    change(postgres_url, "CREATE TABLE kept (id INTEGER)")

    postgres_server.stop()
    with pytest.raises(OperationalError, match="refused"):
        value(postgres_url, "SELECT 1")
    postgres_server.start()

    assert value(postgres_url, "SELECT count(*) FROM kept") == 0


def test_killed_postgres_starts_again_although_sessions_were_open(
    postgres_server: RealPostgres, postgres_url: str
) -> None:
    with contextlib.closing(postgres_server.connect()) as session, session.cursor() as cursor:
        cursor.execute("SELECT 1")

        postgres_server.kill()
        postgres_server.start()

        with pytest.raises(psycopg2.OperationalError):
            cursor.execute("SELECT 1")
    assert value(postgres_url, "SELECT 1") == 1


def test_paused_postgres_hangs_until_it_is_resumed(
    postgres_server: RealPostgres, postgres_url: str
) -> None:
    with (
        contextlib.closing(postgres_server.connect()) as session,
        session.cursor() as cursor,
        ThreadPoolExecutor(1) as threads,
    ):
        cursor.execute("SELECT 1")
        postgres_server.pause()

        answer = threads.submit(cursor.execute, "SELECT 2")
        answered, _ = wait([answer], timeout=0.3)
        postgres_server.resume()

        assert not answered
        answer.result(PATIENCE_S)
    assert value(postgres_url, "SELECT 1") == 1
