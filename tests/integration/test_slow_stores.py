"""Stores that are slow or restart in the middle, and the webhook's three seconds."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import falcon.testing
import pytest

from service.app import create_app
from service.container import Container
from service.store.redis_client import SOCKET_TIMEOUT_S
from service.web.background import start_background
from tests.integration.test_webhook import PATH, Door
from tests.servers import RealRedis
from tests.stack import (
    ACCOUNT_SID,
    CONTACT,
    NUMBER,
    MakeStack,
    Stack,
    emulators,
    environment,
    settings_of,
    wait_until,
)

TWILIO_WAITS_S = 3


class SlowWay:
    """A way to Redis on which each answer takes `delay_s`; `answers` counts what it has delayed."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        self.answers = 0
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self._to))
                for source, target, slow in ((ours, theirs, False), (theirs, ours, True)):
                    threading.Thread(
                        target=self._pump, args=(source, target, slow), daemon=True
                    ).start()

    def _pump(self, source: socket.socket, target: socket.socket, slow: bool) -> None:
        with contextlib.suppress(OSError), source:
            while data := source.recv(65536):
                if slow and self.delay_s:
                    self.answers += 1
                    time.sleep(self.delay_s)
                target.sendall(data)


@pytest.fixture
def slow_way(redis_server: RealRedis) -> Iterator[SlowWay]:
    way = SlowWay(redis_server.port)
    yield way
    way.close()


@pytest.mark.usefixtures("hasty_redis_client")
def test_a_message_waits_for_fewer_slow_answers_of_redis_than_twilio_has_seconds(
    sqlite_url: str, redis_url: str, slow_way: SlowWay, tmp_path: Path
) -> None:
    way = f"redis://127.0.0.1:{slow_way.port}/0"
    with emulators() as vendors:
        variables = environment(sqlite_url, way, *vendors, tmp_path)
        settings = settings_of(variables)
        known, fresh = (Stack(settings, Container(settings), *vendors) for _ in range(2))
        known.add_bot()
        known.container.directory.find(NUMBER)
        door = Door(fresh, falcon.testing.TestClient(create_app(fresh.container)))
        # Less than the longest wait for one answer, so that each is waited for.
        slow_way.delay_s = 0.9
        status = door.post().status_code
        slow_way.delay_s = 0
        known.container.close()
        fresh.container.close()
    assert status == 200
    assert slow_way.answers * SOCKET_TIMEOUT_S < TWILIO_WAITS_S


def test_a_callback_that_names_a_nul_is_no_fault_of_ours(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.add_bot()
    door = Door(stack, falcon.testing.TestClient(create_app(stack.container)))
    form = {
        "MessageSid": "SM" + "1" * 32,
        "MessageStatus": "sent",
        "From": f"whatsapp:{NUMBER}",
        "To": f"whatsapp:{CONTACT}",
        "AccountSid": ACCOUNT_SID,
    }
    assert door.post(form, path=f"{PATH}/status?part=%00").status_code == 200


def test_a_turn_goes_on_after_redis_was_killed_in_its_middle(
    make_stack: MakeStack, redis_server: RealRedis
) -> None:
    stack = make_stack(WORKER_THREADS="1")
    stack.add_bot()
    with stack.worker():
        with stack.held_model():
            stack.send("uno")
            stack.wait_for_calls()
            redis_server.kill()
            redis_server.start()
        stack.wait_for_turns(1)
        # The end of the turn may have met the dead connection.
        stack.expire_leases()
        stack.send("dos")
        stack.wait_for_turns(2)
    assert stack.replies() == ["eco: uno", "eco: dos"]
    assert [turn["tries"] for turn in stack.turns()] == [0, 0]


@pytest.mark.usefixtures("hasty_redis_client")
def test_messages_keep_their_order_through_two_web_processes_and_a_hung_redis(
    make_stack: MakeStack, redis_server: RealRedis
) -> None:
    stack = make_stack()
    stack.add_bot()
    containers = [Container(stack.settings) for _ in range(2)]
    doors = [Door(stack, falcon.testing.TestClient(create_app(each))) for each in containers]
    stops = [start_background(each) for each in containers]
    sent = 0

    def post(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            form = doors[0].form(f"m{sent:02d}")
            assert doors[sent % 2].post(form).status_code == 200
            sent += 1

    for _ in range(2):
        post(6)
        redis_server.pause()
        post(6)
        redis_server.resume()
        post(6)
    wait_until(lambda: not stack.container.spool, "empty spool")
    for stop in stops:
        stop.set()
    claims, _ = stack.container.mailbox.claim(1)
    assert [event.text for event in claims[0].events] == [f"m{n:02d}" for n in range(sent)]
    for each in containers:
        each.close()
