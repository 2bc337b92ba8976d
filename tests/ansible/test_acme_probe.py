"""What an authority would find on port 80, told apart before it is asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.ansible.modules import load

probe = load("horizon_acme_probe")

CONTENT = "the content"


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(301)
            self.send_header(
                "Location", f"http://127.0.0.1:{self.connection.getsockname()[1]}/there"
            )
            self.end_headers()
            return
        self.send_response(200 if self.path == "/there" else 404)
        self.end_headers()
        self.wfile.write(f"{CONTENT}\n".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@contextmanager
def site() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def look(domain: str, path: str, port: int, content: str = CONTENT) -> dict[str, str]:
    wanted = {"domain": domain, "path": path, "content": content}
    result: dict[str, str] = probe.look(wanted, port, 2)
    return result


def test_the_right_content_is_ok() -> None:
    with site() as port:
        assert look("127.0.0.1", "/there", port)["outcome"] == "ok"


def test_a_redirect_is_followed() -> None:
    with site() as port:
        assert look("127.0.0.1", "/moved", port)["outcome"] == "ok"


def test_another_servers_content_is_wrong() -> None:
    with site() as port:
        found = look("127.0.0.1", "/there", port, content="something else")
    assert found["outcome"] == "wrong"
    assert "127.0.0.1 (HTTP 200)" in found["reason"]


def test_a_404_is_wrong_and_the_remedy_is_dns() -> None:
    with site() as port:
        found = look("127.0.0.1", "/elsewhere", port)
    assert found["outcome"] == "wrong"
    assert "Point the A record" in found["remedy"]


def test_a_closed_port_is_unreachable_and_named() -> None:
    with site() as port:
        pass
    found = look("127.0.0.1", "/there", port)
    assert found["outcome"] == "unreachable"
    assert "127.0.0.1 (connection refused)" in found["reason"]
    assert "Open port 80" in found["remedy"]


def test_a_name_that_dns_does_not_know_is_named() -> None:
    found = look("name.invalid", "/there", 80)
    assert found["outcome"] == "unreachable"
    assert found["reason"] == "DNS knows no address of name.invalid"
