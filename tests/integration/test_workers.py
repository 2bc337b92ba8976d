"""Heartbeats: a worker that can work says so at once, and `horizonctl workers` lists it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from service.worker import Worker
from tests.integration.test_cli import Ctl, ctl
from tests.server_process import PATIENCE_S
from tests.servers import RealRedis
from tests.stack import MakeStack, Stack, wait_until

__all__ = ["ctl"]  # fixture


@pytest.fixture
def as_stack(stack: Stack, ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The stack, with its settings in the environment."""
    for name, value in stack.variables.items():
        monkeypatch.setenv(name, value)
    return stack


@contextmanager
def running(stack: Stack, release: str) -> Iterator[Worker]:
    worker = Worker(stack.container, release)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(PATIENCE_S)


def beats(stack: Stack) -> list[str]:
    return [beat.release for beat in stack.container.heartbeats.live()]


def test_a_worker_is_listed_while_it_lives(as_stack: Stack, ctl: Ctl) -> None:
    with running(as_stack, "2026-11-25"):
        wait_until(lambda: beats(as_stack), "heartbeat")
        listed = ctl("workers", "--json")
        shown = ctl("workers")
    wait_until(lambda: not beats(as_stack), "end of the heartbeat")
    none = ctl("workers", "--json")

    (worker,) = listed.json["workers"]
    assert worker.keys() == {"id", "release", "threads", "busy", "at"}
    assert worker["id"] == f"{socket.gethostname()}:{os.getpid()}"
    assert (worker["release"], worker["threads"], worker["busy"]) == ("2026-11-25", 8, 0)
    assert "2026-11-25" in shown.out
    assert (none.code, none.json) == (0, {"workers": []})


def test_what_is_no_heartbeat_is_left_out(as_stack: Stack, ctl: Ctl) -> None:
    as_stack.container.redis.client.set("hb:worker:odd", b"{}")

    result = ctl("workers", "--json")

    assert (result.code, result.json) == (0, {"workers": []})


@pytest.fixture
def rare_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that waits for its next beat, instead of telling at once, is not heard of."""
    monkeypatch.setattr("service.worker.INTERVAL_S", 2 * PATIENCE_S)


@pytest.mark.usefixtures("rare_beats")
def test_a_worker_beats_and_claims_only_once_the_schema_runs(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.add_bot()
    set_revision(stack, "0001")
    stack.send("hola")
    with capture_logs() as logs, running(stack, "new"):
        wait_until(lambda: told(logs, "worker_waits"), "word that it waits")
        assert beats(stack) == []
        assert stack.container.mailbox.depth().leased == 0

        set_revision(stack, stack.container.migrations.head)
        wait_until(lambda: beats(stack) == ["new"], "heartbeat")

        assert stack.wait_for_replies(1) == ["eco: hola"]


@pytest.mark.usefixtures("rare_beats")
def test_a_worker_beats_as_soon_as_redis_is_there(
    make_stack: MakeStack, redis_server: RealRedis
) -> None:
    stack = make_stack()
    redis_server.stop()
    with capture_logs() as logs, running(stack, "new"):
        wait_until(lambda: told(logs, "heartbeat_failed"), "word that Redis is away")
        redis_server.start()
        wait_until(lambda: beats(stack) == ["new"], "heartbeat")


def told(logs: list[Any], event: str) -> bool:
    return any(line["event"] == event for line in logs)


def set_revision(stack: Stack, revision: str) -> None:
    with stack.container.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
