"""Two releases beside each other on one socket, and what a stopping one still owes."""

from __future__ import annotations

import itertools
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from service.cli.main import main
from tests.server_process import PATIENCE_S
from tests.stack import Stack, wait_until
from tests.web_process import ROOT, Load, WebProcess, listening

REQUEST = b"GET /webhook/whatsapp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    with TemporaryDirectory(prefix="hb-") as folder:
        yield Path(folder)


@pytest.fixture
def variables(make_stack, request: pytest.FixtureRequest) -> dict[str, str]:  # type: ignore[no-untyped-def]
    stack: Stack = make_stack()
    return dict(stack.variables)


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    """The database plays no part here."""
    return sqlite_url


def test_an_overlap_of_two_releases_fails_no_request(
    variables: dict[str, str], sockets: Path
) -> None:
    public = sockets / "web.sock"
    with listening(public) as shared:

        def release(name: str) -> WebProcess:
            private = sockets / f"{name}.sock"
            return WebProcess(variables, "--release", name, shared=shared, private=private)

        with release("one").wait_until_ready() as one, Load(public) as load:
            load.wait_for(100)
            with release("two").wait_until_ready() as two:
                assert (one.release(), two.release()) == ("one", "two")
                wait_until(lambda: one.release(public) == "one", "answer of the old release")
                wait_until(lambda: one.release(public) == "two", "answer of the new release")
                load.wait_for(100)

                assert one.stop() == 0
                load.wait_for(200)
                load.stop()

                assert one.release(public) == "two"
                assert public.exists()
                assert not (sockets / "one.sock").exists()
    assert load.failures == []


def test_a_request_that_comes_after_the_stop_of_an_accepted_connection_is_answered(
    variables: dict[str, str], sockets: Path
) -> None:
    public = sockets / "web.sock"
    with (
        listening(public) as shared,
        WebProcess(variables, shared=shared, private=sockets / "p.sock").wait_until_ready() as web,
        socket.socket(socket.AF_UNIX) as early,
        socket.socket(socket.AF_UNIX) as late,
    ):
        early.connect(str(public))
        late.connect(str(public))
        # This one was accepted after them, so they were.
        assert web.release(public) == ""
        web.process.terminate()
        wait_until(lambda: any("Handling signal: term" in line for line in web.output), "stop")
        early.sendall(REQUEST)

        assert answer_of(early).endswith(b"ok")
        # gunicorn itself waits 5 s, then closes.
        time.sleep(6)
        late.sendall(REQUEST)
        assert answer_of(late).endswith(b"ok")
        assert web.process.wait(PATIENCE_S) == 0


def test_a_private_socket_stands_beside_web_bind(variables: dict[str, str], sockets: Path) -> None:
    public, private = sockets / "web.sock", sockets / "p.sock"
    variables["WEB_BIND"] = f"unix:{public}"

    with WebProcess(variables, "--release", "r1", private=private).wait_until_ready() as web:
        assert web.release(public) == "r1"
        assert stat.S_IMODE(private.stat().st_mode) == 0o660
        assert main(["health", "--url", f"unix:{private}"]) == 0
        assert web.stop() == 0
    assert not public.exists()
    assert not private.exists()


def test_a_socket_that_was_passed_may_be_named_too(
    variables: dict[str, str], sockets: Path
) -> None:
    public, private = sockets / "web.sock", sockets / "p.sock"
    with listening(public) as shared:
        web = WebProcess(variables, "--bind", "fd://3", shared=shared, private=private)
        with web.wait_until_ready():
            assert web.release(public) == ""
            assert web.stop() == 0
        assert public.exists()


def test_a_stale_private_socket_is_replaced(variables: dict[str, str], sockets: Path) -> None:
    private = sockets / "p.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(private))

    with WebProcess(variables, "--bind", "127.0.0.1:0", private=private) as web:
        web.wait_until_ready()


def test_a_private_socket_of_a_live_process_is_refused(
    variables: dict[str, str], sockets: Path
) -> None:
    private = sockets / "p.sock"
    with (
        listening(private),
        WebProcess(variables, "--bind", "127.0.0.1:0", private=private) as web,
    ):
        assert web.process.wait(PATIENCE_S) == 1
    assert "A live process listens on" in "".join(web.output)


def test_a_file_in_the_place_of_the_private_socket_is_kept(
    variables: dict[str, str], sockets: Path
) -> None:
    private = sockets / "p.sock"
    private.write_text("important")

    with WebProcess(variables, "--bind", "127.0.0.1:0", private=private) as web:
        assert web.process.wait(PATIENCE_S) == 1

    assert private.read_text() == "important"


def test_the_end_of_one_worker_leaves_the_private_socket(
    variables: dict[str, str], sockets: Path
) -> None:
    private = sockets / "p.sock"
    with WebProcess(variables, "--bind", "127.0.0.1:0", private=private).wait_until_ready() as web:
        (worker,) = children(web.process.pid)
        os.kill(worker, 15)
        wait_until(lambda: children(web.process.pid) not in ([worker], []), "new worker")

        web.wait_until_ready()


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def answer_of(client: socket.socket) -> bytes:
    client.settimeout(PATIENCE_S)
    answer = b""
    while chunk := client.recv(65_536):
        answer += chunk
    return answer


SIGNAL_AT_BIRTH = """
import os, signal
from service.log import configure_logging
from service.settings import load_settings
from service.web import server

def forked(arbiter, worker):
    server._introduce(arbiter, worker)
    if worker.age == 1:
        os.kill(os.getpid(), signal.SIGTERM)

settings = load_settings()
configure_logging("INFO")
server.WebServer(server.options(settings, "127.0.0.1:0") | {"post_fork": forked}).run()
"""


def test_a_worker_that_is_told_to_stop_while_it_is_born_stops(variables: dict[str, str]) -> None:
    command = [sys.executable, "-c", SIGNAL_AT_BIRTH]
    environment = {**os.environ, **variables, "WEB_WORKERS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as master:
        assert master.stdout is not None
        deadline = threading.Timer(PATIENCE_S, master.kill)
        deadline.start()
        born = (line for line in master.stdout if "Booting worker" in line)

        assert len(list(itertools.islice(born, 2))) == 2

        deadline.cancel()
        master.terminate()
