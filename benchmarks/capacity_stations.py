"""What a simulation is made of: a clock, and parts of the service that serve one thing after another."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count

Then = Callable[[], None]


class Clock:
    """Events in the order of their time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Then]] = []
        self._numbers = count()

    def after(self, seconds: float, event: Then) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), event))

    def run(self) -> None:
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()


class Station:
    """Servers with one queue, first come first served."""

    def __init__(self, clock: Clock, servers: int, speed: float = 1.0) -> None:
        self._clock = clock
        self.servers = servers
        self._free = servers
        self._speed = speed
        self._waiting: deque[tuple[float, Then]] = deque()
        self.busy_s = 0.0

    def serve(self, seconds: float, then: Then) -> None:
        self._waiting.append((seconds / self._speed, then))
        self._next()

    def _next(self) -> None:
        if not self._free or not self._waiting:
            return
        self._free -= 1
        seconds, then = self._waiting.popleft()
        self.busy_s += seconds

        def done() -> None:
            self._free += 1
            then()
            self._next()

        self._clock.after(seconds, done)


class SyncedThread:
    """Redis: one thread takes all that has come, then one sync for all of it, then the answers."""

    servers = 1

    def __init__(self, clock: Clock, sync_s: float) -> None:
        self._clock = clock
        self._sync_s = sync_s
        self._waiting: list[tuple[float, Then]] = []
        self._is_busy = False
        self.busy_s = 0.0
        """Without the syncs: more work makes them fewer for each command."""

    def serve(self, seconds: float, then: Then) -> None:
        self._waiting.append((seconds, then))
        if not self._is_busy:
            self._take()

    def _take(self) -> None:
        taken, self._waiting = self._waiting, []
        self._is_busy = bool(taken)
        if not taken:
            return
        seconds = sum(each for each, _ in taken)
        self.busy_s += seconds

        def done() -> None:
            for _, then in taken:
                then()
            self._take()

        self._clock.after(seconds + self._sync_s, done)
