"""Slow and large requests end at nginx, whose configuration is the one that the role renders.

The service's few threads are never held by a client, and nothing but the Unix socket leads to them.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml
from twilio.request_validator import RequestValidator

from service.container import Container
from service.demo.emulators.phone import inbound_form
from service.store.api_keys import Caller
from service.web.schemas import BotCreate
from tests.security.nginx import BINARY, DOMAIN, ROLE, Nginx, nginx_before, read_all
from tests.server_process import PATIENCE_S
from tests.servers import RealRedis
from tests.stack import (
    ACCOUNT_SID,
    AUTH_TOKEN,
    CONTACT,
    NUMBER,
    MakeStack,
    emulators,
    environment,
    settings_of,
)
from tests.web_process import WebProcess, listening

PATH = "/webhook/whatsapp"
FORM = "application/x-www-form-urlencoded"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: {DOMAIN}\r\nContent-Type: {FORM}\r\n"
SERVICE_THREADS = 4
SLOW_CLIENTS = 100
SHORT_S = 1
"""Of the nginx that has to give its clients up; the role's own is longer, and looked at below."""
LONG_S = 10 * int(PATIENCE_S)
"""Of the nginx that must not: whoever is answered meanwhile has not waited for a slow client's end."""

needs_nginx = pytest.mark.skipif(
    BINARY is None and os.environ.get("HORIZON_REQUIRE_NGINX") != "1",
    reason="nginx is not installed: apt-get install nginx-light",
)


@dataclass
class Edge:
    """nginx, and behind it one web process of few threads on a Unix socket."""

    admin_api_key: str
    nginx: Nginx
    hasty: Nginx

    def write(self) -> int:
        """A contact's message through nginx: the status."""
        form = inbound_form(ACCOUNT_SID, NUMBER, CONTACT, "hola")
        url = f"https://{DOMAIN}{PATH}"
        headers = {
            "Content-Type": FORM,
            "X-Twilio-Signature": RequestValidator(AUTH_TOKEN).compute_signature(url, form),
        }
        status, _, _ = self.nginx.ask("POST", PATH, headers, urlencode(form).encode())
        return status


@pytest.fixture(scope="module")
def edge(
    redis_server: RealRedis, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edge]:
    """One for all tests of this module: each of them leaves it as it was."""
    folder = tmp_path_factory.mktemp("edge")
    shutil.copytree(sqlite_template, folder / "sqlite")
    redis_server.reset()
    shared = folder / "web.sock"
    with ExitStack() as opened:
        variables = environment(
            f"sqlite:///{folder / 'sqlite' / 'horizon.db'}",
            redis_server.url,
            *opened.enter_context(emulators()),
            folder,
            PUBLIC_BASE_URL=f"https://{DOMAIN}",
            WEB_THREADS=str(SERVICE_THREADS),
        )
        settings = settings_of(variables)
        container = Container(settings)
        opened.callback(container.close)
        add_bot(container)
        listener = opened.enter_context(listening(shared))
        web = WebProcess(variables, shared=listener, private=folder / "private.sock")
        opened.enter_context(web).wait_until_ready()
        patient, hasty = (
            opened.enter_context(
                nginx_before(
                    shared, folder / f"nginx-{seconds}", nginx_client_timeout=f"{seconds}s"
                )
            )
            for seconds in (LONG_S, SHORT_S)
        )
        yield Edge(settings.admin_api_key, patient, hasty)


BEGINNINGS = {
    "headers": f"POST {PATH} HTTP/1.1\r\nHost: {DOMAIN}\r\nX-A: ",
    "body": f"{HEAD}Content-Length: 100000\r\n\r\nBody=",
}


@needs_nginx
@pytest.mark.parametrize("part", BEGINNINGS)
def test_clients_that_never_end_their_requests_hold_nobody_up(edge: Edge, part: str) -> None:
    """A byte now and then keeps nginx waiting, within its connections; the service knows nothing of it."""
    slow = connected(edge.nginx, BEGINNINGS[part])

    for _ in range(SERVICE_THREADS * 2):
        drip(slow)
        assert edge.write() == 200

    assert still_connected(slow) == SLOW_CLIENTS
    for connection in slow:
        connection.close()


@needs_nginx
@pytest.mark.parametrize("part", BEGINNINGS)
def test_clients_that_never_end_their_requests_are_cut_off(edge: Edge, part: str) -> None:
    assert cut_off(connected(edge.hasty, BEGINNINGS[part])) == SLOW_CLIENTS


@needs_nginx
@pytest.mark.parametrize(
    ("size", "server"),
    [
        (1_048_577, "service"),
        (1_126_400, "service"),
        (1_126_401, "nginx"),
        (30_000_000, "nginx"),
    ],
)
def test_a_body_that_is_too_large_is_refused(edge: Edge, size: int, server: str) -> None:
    for _ in range(5):
        status, headers, body = edge.nginx.ask("POST", PATH, {"Content-Type": FORM}, b"a" * size)

        assert status == 413
        assert headers["content-type"].startswith(
            "text/xml" if server == "service" else "application/problem+json"
        )
        assert len(body) < 1000


@needs_nginx
def test_a_body_without_a_length_is_measured_all_the_same(edge: Edge) -> None:
    chunk = b"10000\r\n" + b"a" * 65_536 + b"\r\n"
    with edge.nginx.connect() as connection:
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        # It may answer, and end, before everything is sent.
        with suppress(ConnectionError, ssl.SSLError):
            for _ in range(40):
                connection.sendall(chunk)
            connection.sendall(b"0\r\n\r\n")
        answer = read_all(connection)

    assert answer.startswith(b"HTTP/1.1 413 ")


@needs_nginx
@pytest.mark.parametrize(
    "headers",
    [
        {"X-Long": "a" * 40_000},
        {f"X-{number}": "a" * 300 for number in range(200)},
        {"Transfer-Encoding": "chunked", "Content-Length": "5"},
        {"Content-Length": "-1"},
        {"Content-Length": "5, 6"},
        {"Transfer-Encoding": "chunked, identity"},
    ],
)
def test_odd_headers_are_refused_before_the_service(edge: Edge, headers: dict[str, str]) -> None:
    status, _, _ = edge.nginx.ask("POST", PATH, {"Content-Type": FORM, **headers})

    assert 400 <= status < 502
    assert edge.write() == 200


@needs_nginx
def test_nothing_but_the_webhook_and_health_is_open(edge: Edge) -> None:
    key = {"Authorization": f"Bearer {edge.admin_api_key}"}
    spoofed = {
        **key,
        "X-Forwarded-For": "127.0.0.1",
        "X-Real-IP": "127.0.0.1",
        "Forwarded": "for=127.0.0.1",
    }
    for target in (
        "/bots",
        "/metrics",
        "/openapi.json",
        "/bots/bot_test",
        "//metrics",
        "/%6detrics",
    ):
        assert edge.nginx.ask("GET", target, spoofed)[0] == 403
    assert edge.nginx.ask("GET", "/webhook/../metrics", spoofed)[0] == 403
    assert edge.nginx.ask("GET", "/health/..%2fmetrics", spoofed)[0] in (400, 403, 404)
    assert edge.nginx.ask("GET", PATH)[::2] == (200, b"ok")
    assert edge.nginx.ask("GET", "/health")[0] == 200


def test_the_service_listens_on_no_port(make_stack: MakeStack, tmp_path: Path) -> None:
    """As systemd starts it: the socket is passed, and nothing else is opened."""
    stack = make_stack(SPOOL_DIR=str(tmp_path / "web-spool"))
    shared = tmp_path / "web.sock"
    with (
        listening(shared) as listener,
        WebProcess(stack.variables, shared=listener, private=tmp_path / "private.sock") as web,
    ):
        web.wait_until_ready()
        family = [web.process.pid, *children(web.process.pid)]
        assert len(family) >= 2
        assert {pid: sorted(listened_ports(pid)) for pid in family} == {pid: [] for pid in family}


def test_the_socket_unit_lets_in_only_its_user_and_group() -> None:
    unit = (ROLE.parent / "app" / "templates" / "horizonai-bots.socket.j2").read_text()
    assert re.search(r"^SocketMode=0660$", unit, re.MULTILINE)
    defaults = yaml.safe_load((ROLE.parent / "app" / "defaults" / "main.yml").read_text())
    # In a cluster alone: the private address, which the firewall opens to the balancers.
    balanced = re.compile(r"{% if app_web_address %}\n(.*?){% endif %}\n", re.DOTALL)
    assert _listens(balanced.sub("", unit)) == ["{{ app_socket }}"]
    (block,) = balanced.findall(unit)
    assert _listens(block) == ["{{ app_web_address | horizon_endpoint(app_web_port) }}"]
    assert "horizon_is_cluster" in defaults["app_web_address"]
    assert "cluster_address" in defaults["app_web_address"]
    fixed = yaml.safe_load((ROLE.parent / "app" / "vars" / "main.yml").read_text())
    assert str(fixed["app_socket"]).startswith("/run/")


def _listens(unit: str) -> list[str]:
    return re.findall(r"^Listen\w+=(.*)$", unit, re.MULTILINE)


def test_nginx_waits_no_longer_than_its_role_says() -> None:
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    site = (ROLE / "templates" / "horizonai-bots.conf.j2").read_text()

    assert int(defaults["nginx_client_timeout"].removesuffix("s")) <= 10
    servers = site.split("\nserver {")[1:]
    assert len(servers) == 5
    for server in servers:
        # Until a client has named a host it is the default server whose limit holds.
        assert "client_header_timeout {{ nginx_client_timeout }};" in server
        if "default_server" not in server.split("server_name")[0]:
            assert "client_body_timeout {{ nginx_client_timeout }};" in server
            assert "send_timeout {{ nginx_client_timeout }};" in server
    assert "proxy_request_buffering on;" in site
    assert "proxy_request_buffering off" not in site


def connected(nginx: Nginx, beginning: str) -> list[ssl.SSLSocket]:
    """Slow clients that have sent this much and go no further."""
    slow = [nginx.connect() for _ in range(SLOW_CLIENTS)]
    for connection in slow:
        connection.sendall(beginning.encode())
    return slow


def drip(slow: list[ssl.SSLSocket]) -> None:
    for connection in slow:
        with suppress(ConnectionError, ssl.SSLError):
            connection.sendall(b"a")


def still_connected(slow: list[ssl.SSLSocket]) -> int:
    """How many of them nginx still waits for."""
    waiting = 0
    for connection in slow:
        connection.setblocking(False)
        with suppress(ConnectionError):
            try:
                connection.recv(1)
            except ssl.SSLWantReadError:
                waiting += 1
    return waiting


def cut_off(slow: list[ssl.SSLSocket]) -> int:
    """How many of them nginx ends: with 408, or with nothing."""
    ended = 0
    for connection in slow:
        connection.settimeout(PATIENCE_S)
        with connection:
            try:
                answer = read_all(connection)
            except TimeoutError:
                continue
            except (ConnectionError, ssl.SSLError):
                answer = b""
            ended += answer == b"" or answer.startswith(b"HTTP/1.1 408 ")
    return ended


def add_bot(container: Container) -> None:
    account = {"twilio_account_sid": ACCOUNT_SID, "twilio_auth_token": AUTH_TOKEN}
    fields = BotCreate.model_validate({"name": "A", "twilio_phone_number": NUMBER, **account})
    container.bots.create(Caller("test"), fields.changes(), None)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def listened_ports(pid: int) -> set[int]:
    """TCP ports that this process listens on (proc(5))."""
    held = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in held:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports
