"""What the core tells of itself: counters and stage times, without knowing who keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Literal, Protocol

from service.conversation.ports import Usage
from service.conversation.turn import Outcome

Stage = Literal["accept", "wait", "open", "model", "tool", "send", "finish", "own", "turn"]
"""`wait` is from the last arrival to the claim; `own` is a turn without model, tools and sends."""


class Observer(Protocol):
    def observe(self, stage: Stage, seconds: float) -> None: ...

    def turn_ended(self, outcome: Outcome) -> None: ...

    def turn_retried(self, reason: str) -> None: ...

    def tokens_used(self, usage: Usage) -> None: ...


class Stopwatch:
    """Times the stages of one turn; `outside_s` sums up what vendors took."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._started = perf_counter()
        self.outside_s = 0.0

    @contextmanager
    def stage(self, stage: Stage, outside: bool = False) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            taken = perf_counter() - started
            self._observer.observe(stage, taken)
            if outside:
                self.outside_s += taken

    @property
    def elapsed_s(self) -> float:
        return perf_counter() - self._started

    def stop(self) -> None:
        taken = self.elapsed_s
        self._observer.observe("turn", taken)
        self._observer.observe("own", taken - self.outside_s)
