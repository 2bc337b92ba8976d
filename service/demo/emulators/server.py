"""The base of the emulators: an HTTP server on loopback that records, fails on order and stops."""

from __future__ import annotations

import contextlib
import enum
import logging
import socket
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from service.demo.emulators.faults import Fault, FaultError, FaultQueue, Match, fault_from_json
from service.demo.emulators.sockets import listen, reset
from service.demo.emulators.wire import (
    BadRequestError,
    Request,
    Response,
    read_request,
    write_response,
)

STACK_BYTES = 512 * 1024
CONTROL_PREFIX = "/_emulator/"

_log = logging.getLogger(__name__)
_stack_size_lock = threading.Lock()


class StoppedError(Exception):
    """The emulator stops, so what waits inside it ends without an answer."""


class _End(enum.Enum):
    CLOSE = "close"
    RESET = "reset"


class Emulator:
    """A vendor on loopback. Port 0 takes a free one; after `stop` it can `start` again there.

    Subclasses answer in `handle` and may extend `control`, `state` and `clear_state`. `requests`
    keeps the newest `keep_requests`; `request_count` counts all of them.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1", keep_requests: int = 20_000) -> None:
        self._host = host
        self._port = port
        self._faults = FaultQueue()
        self._lock = threading.Lock()
        self._requests: deque[Request] = deque(maxlen=keep_requests)
        self._request_count = 0
        self._listener: socket.socket | None = None
        self._stopping = threading.Event()
        self._connections: set[socket.socket] = set()

    # What a subclass fills in

    def handle(self, request: Request) -> Response:
        """Answer a request of the vendor's API, performing its effect."""
        raise NotImplementedError

    def error_answer(self, status: int, message: str) -> Response:
        """An error of the emulator's own, in the vendor's shape."""
        return Response(status, {"error": message})

    def control(self, request: Request) -> Response | None:
        """Answer a request to `/_emulator/…` beyond the common ones; None when there is none.

        Errors about the body (KeyError, TypeError, ValueError, AttributeError) become a 400.
        """
        return None

    def state(self) -> dict[str, Any]:
        """What it holds, as JSON."""
        return {}

    def clear_state(self) -> None:
        """Forget what the emulator holds."""

    # Life

    @property
    def url(self) -> str:
        """The address of the running emulator, without a path."""
        return f"http://{self._host}:{self._port}"

    def start(self) -> None:
        """Listen, and answer in threads until `stop`.

        Raises:
            OSError: the port is taken.
        """
        self._listener = listen(self._host, self._port)
        self._port = self._listener.getsockname()[1]
        self._stopping = threading.Event()
        threading.Thread(
            target=self._accept, args=(self._listener, self._stopping), daemon=True
        ).start()

    def stop(self) -> None:
        """Stop listening and break every connection, also those that hang. Safe to call twice."""
        self._stopping.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # What tests see and order

    @property
    def requests(self) -> list[Request]:
        """The newest requests in the order of their arrival; `/_emulator/…` is not among them."""
        with self._lock:
            return list(self._requests)

    @property
    def request_count(self) -> int:
        """How many requests arrived since the start or the last `clear_state` over HTTP."""
        with self._lock:
            return self._request_count

    def fail(self, fault: Fault, times: int | None = 1, match: Match | None = None) -> None:
        """Let `fault` strike the next `times` requests that `match`; None: until cleared."""
        self._faults.add(fault, times, match)

    def clear_faults(self) -> None:
        """Work as usual again."""
        self._faults.clear()

    def pause(self, seconds: float) -> None:
        """Wait inside a request.

        Raises:
            StoppedError: the emulator stopped meanwhile.
        """
        if seconds > 0 and self._stopping.wait(seconds):
            raise StoppedError

    # Connections

    def _accept(self, listener: socket.socket, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection, stopping), daemon=True)
            try:
                with _small_stacks():
                    thread.start()
            except RuntimeError:
                _log.warning("no thread for a connection: it is closed")
                connection.close()

    def _serve(self, connection: socket.socket, stopping: threading.Event) -> None:
        with self._lock:
            self._connections.add(connection)
        reader = connection.makefile("rb")
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not stopping.is_set():
                request = read_request(reader, connection)
                if request is None:
                    return
                answer = self._answer(request)
                if answer is _End.RESET:
                    reset(connection)
                if isinstance(answer, _End):
                    return
                keep_alive = request.headers.get("connection", "").lower() != "close"
                write_response(connection, answer, keep_alive=keep_alive)
                if not keep_alive:
                    return
        except BadRequestError as error:
            with contextlib.suppress(OSError):
                write_response(connection, Response(400, str(error)), keep_alive=False)
        except OSError:
            return
        finally:
            with self._lock:
                self._connections.discard(connection)
            with contextlib.suppress(OSError):
                reader.close()
            connection.close()

    def _answer(self, request: Request) -> Response | _End:
        if request.path.startswith(CONTROL_PREFIX):
            return self._control(request)
        with self._lock:
            self._requests.append(request)
            self._request_count += 1
        try:
            fault = self._faults.take(request)
            return self._handle(request) if fault is None else self._strike(fault, request)
        except StoppedError:
            return _End.CLOSE

    def _strike(self, fault: Fault, request: Request) -> Response | _End:
        if fault.has_effect:
            self._handle(request)
        match fault.kind:
            case "delay":
                self.pause(fault.seconds)
                return self._handle(request)
            case "hang" | "accept_then_hang":
                self.pause(fault.seconds)
                return _End.CLOSE
            case "reset" | "accept_then_reset":
                return _End.RESET
            case "status" | "accept_then_status":
                answer = fault.answer
                if answer.body is not None:
                    return answer
                plain = self.error_answer(answer.status, "This failure was ordered.")
                return Response(answer.status, plain.body, answer.headers)

    def _handle(self, request: Request) -> Response:
        try:
            return self.handle(request)
        except StoppedError:
            raise
        except Exception as error:
            _log.exception("the emulator itself failed")
            reason = "".join(traceback.format_exception_only(error)).strip()
            return self.error_answer(500, f"the emulator itself failed: {reason}")

    def _control(self, request: Request) -> Response:
        match request.method, request.path.removeprefix(CONTROL_PREFIX):
            case "POST", "faults":
                try:
                    self._faults.add(*fault_from_json(request.body))
                except FaultError as error:
                    return Response(400, {"error": str(error)})
                return Response(201, {"faults": len(self._faults)})
            case "DELETE", "faults":
                self.clear_faults()
                return Response(204)
            case "GET", "requests":
                return Response(200, [entry.to_json() for entry in self.requests])
            case "GET", "state":
                return Response(200, {"request_count": self.request_count, **self.state()})
            case "DELETE", "state":
                with self._lock:
                    self._requests.clear()
                    self._request_count = 0
                self.clear_state()
                return Response(204)
        try:
            answer = self.control(request)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return Response(400, {"error": f"{type(error).__name__}: {error}"})
        return answer or Response(404, {"error": f"{request.method} {request.path} is not known"})


@contextlib.contextmanager
def _small_stacks() -> Iterator[None]:
    # A thousand waiting connections need not reserve 8 MB of address space each.
    with _stack_size_lock:
        previous = threading.stack_size(STACK_BYTES)
        try:
            yield
        finally:
            threading.stack_size(previous)
