"""Calls through the proxy of the environment: which take it, and which never do."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
import requests

from service.integrations.http_session import new_session, was_never_sent
from service.integrations.openai_transport import bots_client, operator_client

AWAY = "https://vendor.example.test/v1/things"
PLAIN = "http://vendor.example.test/v1/things"


class Proxy:
    """Answers plain requests itself, refuses tunnels, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.passwords: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                proxy.remember(self)
                self.send_error(502)

            def do_GET(self) -> None:
                proxy.remember(self)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://bots:s3cret@127.0.0.1:{self.server.server_port}"

    def remember(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(f"{request.command} {request.path}")
        kind, _, value = request.headers.get("Proxy-Authorization", "").partition(" ")
        if kind == "Basic":
            self.passwords.append(base64.b64decode(value).decode())


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that the environment names, for everything but loopback."""
    made = Proxy()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, made.address)
        monkeypatch.setenv(name.upper(), made.address)
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1,::1")
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1,::1")
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_twilio_horizon_and_alerts_go_through_it_with_its_password(proxy: Proxy) -> None:
    session = new_session(connections=1, hosts=1)

    assert session.get(PLAIN, timeout=60).text == "{}"
    with pytest.raises(requests.exceptions.ProxyError) as refused:
        session.get(AWAY, timeout=60)

    assert proxy.asked == [f"GET {PLAIN}", "CONNECT vendor.example.test:443"]
    assert proxy.passwords == ["bots:s3cret"] * 2
    assert was_never_sent(refused.value)


def test_openai_goes_through_it(proxy: Proxy) -> None:
    with operator_client(1, AWAY) as client, pytest.raises(httpx2.ProxyError):
        client.get(AWAY)

    assert proxy.asked == ["CONNECT vendor.example.test:443"]
    assert proxy.passwords == ["bots:s3cret"]


def test_this_machine_is_reached_without_it(proxy: Proxy) -> None:
    address = f"http://127.0.0.1:{proxy.server.server_port}/itself"

    assert new_session(connections=1, hosts=1).get(address, timeout=60).ok
    with operator_client(1, address) as client:
        assert client.get(address).is_success

    assert proxy.asked == ["GET /itself"] * 2


@pytest.mark.parametrize("guarded", [True, False])
def test_addresses_that_bots_name_are_reached_without_it(proxy: Proxy, guarded: bool) -> None:
    with bots_client(1, guarded=guarded) as client, pytest.raises(httpx2.TransportError):
        client.get(AWAY)
    with pytest.raises(requests.exceptions.ConnectionError):
        new_session(connections=1, hosts=1, guarded=True).get(AWAY, timeout=60)

    assert proxy.asked == []
