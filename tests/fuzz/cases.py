"""Counts the cases of a fuzz run, limits the time of each and prints one table at the end.

`FUZZ_CASES` says how many cases a whole run promises, `FUZZ_SEED` which ones: the same seed
generates the same cases. Hypothesis prints the smallest case that fails.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

CASES = int(os.environ.get("FUZZ_CASES", "600"))
SEED = int(os.environ.get("FUZZ_SEED", "20261126"))
CASE_TIMEOUT_S = 60.0
MIN_SIGNED = 0.8
"""Share of the webhook's cases that carry the right signature: the others end at the door."""

Value = TypeVar("Value")


class HungError(AssertionError):
    """A case took longer than any may."""


@dataclass
class Part:
    """One row of the table. `outcomes` are HTTP statuses, or words where there is no HTTP."""

    name: str
    promised: int = 0
    cases: int = 0
    signed: int = 0
    slowest_s: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def server_errors(self) -> int:
        return sum(count for outcome, count in self.outcomes.items() if outcome.startswith("5"))

    @contextmanager
    def case(self) -> Iterator[None]:
        """Counts what ends within the limit. Raises HungError for what does not."""
        started = time.perf_counter()
        with _alarm(CASE_TIMEOUT_S):
            yield
        self.cases += 1
        self.slowest_s = max(self.slowest_s, time.perf_counter() - started)


PARTS: dict[str, Part] = {}
"""What has run in this process, in order."""


def fuzz(
    name: str,
    share: float,
    values: SearchStrategy[Value],
    check: Callable[[Part, Value], None],
) -> Part:
    """Check this share of `CASES` of the values, and that so many really were checked."""
    part = PARTS.setdefault(name, Part(name))
    wanted = max(10, ceil(CASES * share))
    before = part.cases
    part.promised += wanted

    @seed(SEED)
    @settings(
        max_examples=wanted,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(values)
    def each(value: Value) -> None:
        with part.case():
            check(part, value)

    each()
    assert part.cases - before >= wanted, f"{part.cases - before} cases of {wanted} were made"
    return part


def table() -> list[str]:
    """The rows of what has run."""
    columns = f"{'part':<34} {'cases':>7} {'signed':>7} {'slowest ms':>10} {'5xx':>4}  outcomes"
    rows = [columns]
    for part in PARTS.values():
        outcomes = ", ".join(f"{word} {count}" for word, count in sorted(part.outcomes.items()))
        rows.append(
            f"{part.name:<34} {part.cases:>7,} {part.signed or '':>7} "
            f"{part.slowest_s * 1000:>10.0f} {part.server_errors:>4}  {outcomes}"
        )
    total = sum(part.cases for part in PARTS.values())
    errors = sum(part.server_errors for part in PARTS.values())
    rows.append(f"{'all':<34} {total:>7,} {'':>7} {'':>10} {errors:>4}  seed {SEED}")
    return rows


@contextmanager
def _alarm(limit_s: float) -> Iterator[None]:
    def hung(*_: Any) -> None:
        raise HungError(f"the case did not end within {limit_s:.0f} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
