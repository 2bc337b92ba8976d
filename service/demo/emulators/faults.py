"""What can go wrong between a client and a vendor, as tests and demonstrations order it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from service.demo.emulators.wire import Request, Response

Kind = Literal[
    "hang",
    "reset",
    "status",
    "delay",
    "accept_then_hang",
    "accept_then_reset",
    "accept_then_status",
]
Match = Callable[[Request], bool]


class FaultError(ValueError):
    """The fault that another process asked for is not understood."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way of failing. The kinds that begin with `accept` perform the effect first."""

    kind: Kind
    seconds: float = 0.0
    answer: Response = field(default_factory=Response)

    @property
    def has_effect(self) -> bool:
        """Whether the vendor does what was asked before it fails."""
        return self.kind.startswith("accept")

    @classmethod
    def hang(cls, seconds: float = 60.0) -> Fault:
        """Hold the connection, then close it without an answer."""
        return cls("hang", seconds)

    @classmethod
    def reset(cls) -> Fault:
        """Break the connection with a TCP reset."""
        return cls("reset")

    @classmethod
    def status(
        cls, status: int, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Fault:
        """Answer with this instead; nothing is done. No body: the vendor's error."""
        return cls("status", answer=Response(status, body, headers or {}))

    @classmethod
    def delay(cls, seconds: float) -> Fault:
        """Wait, then answer as usual."""
        return cls("delay", seconds)

    @classmethod
    def accept_then_hang(cls, seconds: float = 60.0) -> Fault:
        """Do it, then hold the connection and close it without an answer."""
        return cls("accept_then_hang", seconds)

    @classmethod
    def accept_then_reset(cls) -> Fault:
        """Do it, then break the connection with a TCP reset."""
        return cls("accept_then_reset")

    @classmethod
    def accept_then_status(
        cls, status: int = 500, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Fault:
        """Do it, then answer as if it had failed."""
        return cls("accept_then_status", answer=Response(status, body, headers or {}))


@dataclass(slots=True)
class _Order:
    fault: Fault
    times: int | None
    match: Match


class FaultQueue:
    """The faults still to come; the oldest that matches a request strikes it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: list[_Order] = []

    def add(self, fault: Fault, times: int | None, match: Match | None) -> None:
        """Let the fault strike `times` matching requests; None: until the queue is cleared."""
        with self._lock:
            self._orders.append(_Order(fault, times, match or (lambda _: True)))

    def take(self, request: Request) -> Fault | None:
        """The fault that strikes this request, counted down."""
        with self._lock:
            for order in self._orders:
                if not order.match(request):
                    continue
                if order.times is not None:
                    order.times -= 1
                    if order.times <= 0:
                        self._orders.remove(order)
                return order.fault
        return None

    def clear(self) -> None:
        """Forget every fault."""
        with self._lock:
            self._orders.clear()

    def __len__(self) -> int:
        with self._lock:
            return len(self._orders)


def fault_from_json(order: Any) -> tuple[Fault, int | None, Match]:
    """Read `{"kind", "seconds", "status", "body", "headers", "times", "method", "path"}`.

    `path` may be a pattern (`/2010-04-01/Accounts/*/Messages.json`); `times: null` means always.

    Raises:
        FaultError: it names no known kind or a value has the wrong type.
    """
    if not isinstance(order, dict) or order.get("kind") not in get_args(Kind):
        raise FaultError(f'"kind" must be one of {", ".join(get_args(Kind))}')
    try:
        times = None if order.get("times", 1) is None else int(order.get("times", 1))
        answer = Response(
            int(order.get("status", 500)), order.get("body"), dict(order.get("headers") or {})
        )
        fault = Fault(order["kind"], float(order.get("seconds", 60)), answer)
    except (TypeError, ValueError) as error:
        raise FaultError(f"a value has the wrong type: {error}") from error
    method, path = str(order.get("method", "*")), str(order.get("path", "*"))

    def match(request: Request) -> bool:
        return fnmatchcase(request.method, method.upper()) and fnmatchcase(request.path, path)

    return fault, times, match
