"""A vendor on loopback for the tests of the integrations: answers what a test tells it to."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from types import TracebackType
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qs, parse_qsl, urlsplit

from cryptography.fernet import Fernet
from requests.structures import CaseInsensitiveDict

from service.conversation.bot import Assistant, Bot, Texts
from service.settings import Settings
from tests.server_process import PATIENCE_S


@dataclass(frozen=True)
class Received:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        pairs = parse_qs(self.body.decode(), keep_blank_values=True)
        return {name: values[0] for name, values in pairs.items()}


@dataclass(frozen=True)
class Answer:
    """`ending`: sent whole, connection closed without a byte, or silent until the vendor closes.

    `dripping` sends the headers and then a byte every 50 ms, without end.
    """

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    ending: str = "whole"


class Closeable(Protocol):
    def close(self) -> None: ...


CallerT = TypeVar("CallerT", bound=Closeable)
Script = Callable[[Received], Answer]


class LoopbackVendor:
    """An HTTP/1.1 server; `received` has what came in, `answer` decides what goes out."""

    def __init__(self, answer: Script | Answer | None = None) -> None:
        self.received: list[Received] = []
        self.answer: Script | Answer = answer or Answer()
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._connections = 0
        self._callers: list[Closeable] = []
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def last(self) -> Received:
        return self.received[-1]

    def count_connection(self) -> int:
        with self._lock:
            self._connections += 1
            return self._connections

    def keep(self, caller: CallerT) -> CallerT:
        """The caller of this vendor, closed before the vendor is."""
        self._callers.append(caller)
        return caller

    def __enter__(self) -> LoopbackVendor:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for caller in self._callers:
            caller.close()
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE_S)


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    block_on_close = False


def _handler(vendor: LoopbackVendor) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def setup(self) -> None:
            super().setup()
            self.number = vendor.count_connection()

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:
                self.close_connection = True

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            received = Received(
                self.command,
                self.path,
                CaseInsensitiveDict(self.headers.items()),
                body,
                self.number,
            )
            vendor.received.append(received)
            script = vendor.answer
            answer = script if isinstance(script, Answer) else script(received)
            if answer.ending == "closed":
                self.close_connection = True
                return
            if answer.ending == "silent":
                vendor.closing.wait(PATIENCE_S)
                self.close_connection = True
                return
            content = answer.body
            if not isinstance(content, bytes):
                content = json.dumps(content).encode()
            self.send_response_only(answer.status)
            for name, value in {"Date": self.date_time_string(), **answer.headers}.items():
                self.send_header(name, value)
            if "Content-Type" not in answer.headers:
                self.send_header("Content-Type", "application/json")
            if answer.ending == "dripping":
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                self.close_connection = True
                until = monotonic() + PATIENCE_S
                while not vendor.closing.wait(0.05) and monotonic() < until:
                    self.wfile.write(b" ")
                    self.wfile.flush()
                return
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = respond

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    return Handler


def closed_port() -> int:
    """A port of loopback where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings_with(**values: Any) -> Settings:
    """Settings of a test: nothing of the environment's `.env`, the vendors' addresses as given."""
    required = {
        "secret_key": Fernet.generate_key().decode(),
        "public_base_url": "https://bots.example.com",
        "admin_api_key": "a" * 32,
    }
    return Settings(**{"_env_file": None, **required, **values})


def bot_with(**values: Any) -> Bot:
    """A bot with an assistant and nothing else but what is given."""
    assistant = Assistant(id="a1", version=1, name="Ana", model="gpt-6-luna", instructions="Ayuda.")
    texts = Texts("Perdón.", "Nada.", "Adiós.", "Hola.", ("STOP",), ("ALTA",))
    required: dict[str, Any] = {
        "id": "b1",
        "client_id": "c1",
        "name": "Clínica",
        "number": "+56911112222",
        "assistant": assistant,
        "texts": texts,
    }
    return Bot(**{**required, **values})
