"""What happens when: a pure function of seed and duration, so that a run can be replayed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

QUIET_S = 3.0
"""Nothing happens so long after the start, and so long before the end."""

VENDOR_PATHS = {
    "openai": "/v1/responses",
    "twilio": "/2010-04-01/Accounts/*/Messages.json",
    "horizon": "/api/*",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when it begins (seconds since the start), how long it lasts, and its details."""

    at_s: float
    kind: str
    lasts_s: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ends_s(self) -> float:
        return self.at_s + self.lasts_s

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        details = "".join(f" {name}={value}" for name, value in self.details.items())
        return f"{self.at_s:7.1f} s  {self.kind}{lasts}{details}"


def schedule(seed: int, duration_s: float, pause_s: float) -> list[Fault]:
    """The faults of a run, in order of time.

    Three lanes run side by side, so faults meet: processes, stores, vendors. Each lane first goes
    through all of its kinds in a mixed order, then begins anew. `pause_s` is how long a process that
    stands still does so: longer than a lease.
    """
    # One generator a lane: a lane that gets a new kind leaves the others as they were.
    lanes: list[Mapping[str, Callable[[random.Random], Fault]]] = [
        {
            "kill one web process": _at_once("kill one web process"),
            "kill all web processes": _lasting("kill all web processes", 0.5, 3),
            "kill a worker": _at_once("kill a worker"),
            "kill all workers": _at_once("kill all workers"),
            "pause a worker": lambda _: Fault(0, "pause a worker", pause_s),
        },
        {
            "kill Redis": _lasting("kill Redis", 0.2, 4),
            "hang Redis": _lasting("hang Redis", 0.5, 4),
            "stop the database": _lasting("stop the database", 0.5, 5),
            "kill the database": _lasting("kill the database", 0.2, 2),
            "fill the spool without Redis": _lasting("fill the spool without Redis", 1, 4),
        },
        {
            f"{vendor} {kind}": _vendor(vendor, kind)
            for vendor in VENDOR_PATHS
            for kind in (
                "hang",
                "reset",
                "500",
                "429",
                "delay",
                "accept_then_hang",
                "accept_then_reset",
                "accept_then_status",
            )
        },
    ]
    gaps_s = [(1.5, 6.0), (2.5, 8.0), (0.5, 3.0)]
    faults: list[Fault] = []
    for number, (kinds, (shortest, longest)) in enumerate(zip(lanes, gaps_s, strict=True)):
        chance = random.Random(f"{seed}-{number}")  # noqa: S311 no secret
        at_s = QUIET_S
        for kind in _again_and_again(chance, list(kinds)):
            at_s += chance.uniform(shortest, longest)
            made = kinds[kind](chance)
            if at_s + made.lasts_s > duration_s - QUIET_S:
                break
            faults.append(Fault(round(at_s, 2), made.kind, made.lasts_s, made.details))
            at_s += made.lasts_s
    return sorted(faults, key=lambda fault: fault.at_s)


def _again_and_again(chance: random.Random, kinds: list[str]) -> Iterator[str]:
    while True:
        yield from chance.sample(kinds, len(kinds))


def _at_once(kind: str) -> Callable[[random.Random], Fault]:
    return lambda chance: Fault(0, kind, 0, {"which": chance.randrange(100)})


def _lasting(kind: str, shortest: float, longest: float) -> Callable[[random.Random], Fault]:
    return lambda chance: Fault(0, kind, round(chance.uniform(shortest, longest), 2))


def _vendor(vendor: str, kind: str) -> Callable[[random.Random], Fault]:
    def make(chance: random.Random) -> Fault:
        order: dict[str, Any] = {"path": VENDOR_PATHS[vendor], "times": chance.randint(1, 8)}
        if kind in ("500", "429"):
            order |= {"kind": "status", "status": int(kind)}
            if kind == "429":
                order["headers"] = {"Retry-After": str(chance.randint(0, 2))}
        else:
            order |= {"kind": kind}
            if kind == "delay":
                order["seconds"] = round(chance.uniform(0.5, 4), 1)
            elif kind in ("hang", "accept_then_hang"):
                # Beyond every time-out: the client gives up first.
                order["seconds"] = 12
        if vendor != "horizon":
            order["method"] = "POST"
        return Fault(0, f"{vendor}: {kind}", 0, {"vendor": vendor, "order": order})

    return make
