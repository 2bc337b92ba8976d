"""The emulators' base: HTTP, faults, recording and stopping."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from service.demo.emulators.faults import Fault
from service.demo.emulators.server import Emulator
from service.demo.emulators.wire import Request, Response
from tests.server_process import PATIENCE_S, wait_until


class Counter(Emulator):
    """Counts what it did, so that a test sees whether a fault let the effect happen."""

    def __init__(self) -> None:
        super().__init__()
        self.done = 0

    def handle(self, request: Request) -> Response:
        if request.path == "/bug":
            raise LookupError("a bug")
        if request.path == "/slow":
            self.pause(60)
        self.done += 1
        return Response(200, {"body": request.body, "query": dict(request.query)})


def post_json(url: str, body: object) -> requests.Response:
    headers = {"Content-Type": "application/json"}
    return requests.post(url, data=json.dumps(body), headers=headers, timeout=PATIENCE_S)


@pytest.fixture
def emulator() -> Iterator[Counter]:
    with Counter() as running:
        yield running


def test_json_forms_and_queries_are_parsed(emulator: Counter) -> None:
    as_json = requests.post(
        f"{emulator.url}/a?x=1&y=", json={"k": ["v"]}, timeout=PATIENCE_S
    ).json()
    as_form = requests.post(
        f"{emulator.url}/a", data=[("Body", ""), ("M", "1"), ("M", "2")], timeout=PATIENCE_S
    ).json()

    assert as_json == {"body": {"k": ["v"]}, "query": {"x": "1", "y": ""}}
    assert as_form["body"] == {"Body": "", "M": ["1", "2"]}


def test_chunked_body_is_read(emulator: Counter) -> None:
    answer = requests.post(
        f"{emulator.url}/a",
        data=iter([b'{"a"', b": 1}"]),
        headers={"Content-Type": "application/json"},
        timeout=PATIENCE_S,
    )

    assert answer.json()["body"] == {"a": 1}


def test_connection_is_kept_for_the_next_request(emulator: Counter) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(emulator.url.rsplit(":", 1)[1]))
    connection.request("GET", "/1")
    connection.getresponse().read()
    first = connection.sock
    connection.request("GET", "/2")
    connection.getresponse().read()

    assert connection.sock is first
    assert [request.path for request in emulator.requests] == ["/1", "/2"]
    connection.close()


def test_what_is_not_http_is_answered_with_400(emulator: Counter) -> None:
    port = int(emulator.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"hello\r\n")

        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_status_fault_strikes_as_often_as_ordered_and_does_nothing(emulator: Counter) -> None:
    emulator.fail(Fault.status(429, {"slow": True}, {"Retry-After": "2"}), times=2)

    answers = [requests.get(emulator.url, timeout=PATIENCE_S) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].json() == {"slow": True}
    assert answers[0].headers["Retry-After"] == "2"
    assert emulator.done == 1


def test_fault_strikes_only_what_it_matches(emulator: Counter) -> None:
    emulator.fail(Fault.status(503), match=lambda request: request.path == "/b")

    statuses = [
        requests.get(emulator.url + path, timeout=PATIENCE_S).status_code for path in ("/a", "/b")
    ]

    assert statuses == [200, 503]


def test_reset_breaks_the_connection_with_rst(emulator: Counter) -> None:
    emulator.fail(Fault.reset())
    port = int(emulator.url.rsplit(":", 1)[1])

    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert emulator.done == 0


@pytest.mark.parametrize(
    "fault", [Fault.accept_then_reset(), Fault.accept_then_hang(0.01)], ids=["reset", "hang"]
)
def test_accepting_faults_perform_the_effect_without_an_answer(
    emulator: Counter, fault: Fault
) -> None:
    emulator.fail(fault)

    with pytest.raises(requests.ConnectionError):
        requests.post(emulator.url, timeout=PATIENCE_S)
    assert emulator.done == 1


def test_accept_then_status_performs_the_effect(emulator: Counter) -> None:
    emulator.fail(Fault.accept_then_status(500))

    assert requests.post(emulator.url, timeout=PATIENCE_S).status_code == 500
    assert emulator.done == 1


def test_hang_closes_without_an_answer(emulator: Counter) -> None:
    emulator.fail(Fault.hang(0.01))

    with pytest.raises(requests.ConnectionError):
        requests.get(emulator.url, timeout=PATIENCE_S)
    assert emulator.done == 0


def test_hang_outlasts_the_client(emulator: Counter) -> None:
    emulator.fail(Fault.hang(60))

    with pytest.raises(requests.ReadTimeout):
        requests.get(emulator.url, timeout=(PATIENCE_S, 0.05))


def test_delay_answers_later(emulator: Counter) -> None:
    emulator.fail(Fault.delay(0.1))
    begun = time.monotonic()

    assert requests.get(emulator.url, timeout=PATIENCE_S).status_code == 200
    assert time.monotonic() - begun >= 0.1


def test_faults_are_ordered_and_cleared_over_http(emulator: Counter) -> None:
    control = f"{emulator.url}/_emulator/faults"
    order = {"kind": "status", "status": 418, "path": "/a/*", "method": "GET", "times": None}
    post_json(control, order).raise_for_status()

    struck = [
        requests.get(f"{emulator.url}/a/{i}", timeout=PATIENCE_S).status_code for i in range(2)
    ]
    missed = requests.post(f"{emulator.url}/a/1", timeout=PATIENCE_S).status_code
    requests.delete(control, timeout=PATIENCE_S).raise_for_status()
    cleared = requests.get(f"{emulator.url}/a/1", timeout=PATIENCE_S).status_code

    assert (struck, missed, cleared) == ([418, 418], 200, 200)


@pytest.mark.parametrize("order", [{"kind": "fire"}, {"kind": "hang", "seconds": "long"}, []])
def test_fault_that_is_not_understood_is_refused(emulator: Counter, order: object) -> None:
    answer = post_json(f"{emulator.url}/_emulator/faults", order)

    assert answer.status_code == 400
    assert answer.json()["error"]


def test_requests_are_shown_and_forgotten_over_http(emulator: Counter) -> None:
    requests.post(f"{emulator.url}/a", json={"k": 1}, timeout=PATIENCE_S)
    listed = requests.get(f"{emulator.url}/_emulator/requests", timeout=PATIENCE_S).json()
    requests.delete(f"{emulator.url}/_emulator/state", timeout=PATIENCE_S)

    assert [(entry["method"], entry["path"], entry["body"]) for entry in listed] == [
        ("POST", "/a", {"k": 1})
    ]
    assert emulator.requests == []
    assert emulator.request_count == 0


def test_bug_in_an_emulator_is_an_answer_not_a_silence(emulator: Counter) -> None:
    answer = requests.get(f"{emulator.url}/bug", timeout=PATIENCE_S)

    assert answer.status_code == 500
    assert "LookupError: a bug" in answer.text


def test_stop_releases_what_waits(emulator: Counter) -> None:
    ended = threading.Event()

    def call() -> None:
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{emulator.url}/slow", timeout=PATIENCE_S * PATIENCE_S)
        ended.set()

    threading.Thread(target=call, daemon=True).start()
    wait_until(lambda: emulator.request_count == 1, "the request")

    emulator.stop()

    assert ended.wait(PATIENCE_S)


def test_stopped_emulator_refuses_and_starts_again_at_the_same_address(emulator: Counter) -> None:
    address = emulator.url
    emulator.stop()
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=PATIENCE_S)

    emulator.start()

    assert requests.get(address, timeout=PATIENCE_S).status_code == 200
    assert emulator.url == address


def test_hundreds_of_connections_wait_at_once(emulator: Counter) -> None:
    port = int(emulator.url.rsplit(":", 1)[1])
    waiting = [
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) for _ in range(300)
    ]
    for connection in waiting:
        connection.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
    wait_until(lambda: emulator.request_count == 300, "300 waiting requests")

    assert requests.get(emulator.url, timeout=PATIENCE_S).status_code == 200
    for connection in waiting:
        connection.close()
