"""One point of the simulation on the real service: a worker process, and a rate that rises until the
time to answer bends.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import requests

from benchmarks.answers import TWILIO_WAITS_S, form_of, post
from benchmarks.capacity_figures import Measured
from benchmarks.capacity_simulation import Layout, Load, Simulation, percentile
from benchmarks.lab import cpu_s, memory_mb
from benchmarks.service_lab import Lab, SafePostgres, lab

MOST_ERROR = 0.25
MODEL_S = 2.0
THREADS = 320
FIRST_RATE, GROWTH, MOST_STEPS = 20.0, 1.35, 7
SECONDS = 10.0
BENT_S = 1.5
"""A step has bent when its p95 is this much above the model's own time."""


@dataclass(frozen=True, slots=True)
class Step:
    """What became of `SECONDS` of messages at one rate."""

    rate: float
    answered_per_s: float
    """Within the time of the load, less the time that a turn needs at least."""
    p95_s: float
    in_flight: int
    memory_mb: float
    cores: float
    """That the worker used while the load lasted."""
    turn_cpu_ms: float
    acknowledged_p99_s: float

    @property
    def is_bent(self) -> bool:
        return self.p95_s > MODEL_S + BENT_S


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure by the simulation and on the real service."""

    name: str
    predicted: float
    measured: float
    is_judged: bool = True

    @property
    def error(self) -> float:
        return abs(self.predicted - self.measured) / self.measured

    @property
    def is_within(self) -> bool:
        return self.error <= MOST_ERROR


def arrivals(rate: float, seed: int) -> list[float]:
    """Poisson, within the step's seconds."""
    chance, at, found = random.Random(seed), 0.0, []  # noqa: S311 - no secret
    while (at := at + chance.expovariate(rate)) < SECONDS:
        found.append(at)
    return found


def real_steps() -> list[Step]:
    """Rates that rise until a step has bent."""
    steps: list[Step] = []
    settings = {"WORKER_THREADS": str(THREADS), "LOG_LEVEL": "WARNING"}
    with ExitStack() as started:
        postgres = started.enter_context(SafePostgres())
        bench = started.enter_context(lab(DATABASE_URL=postgres.url(), **settings))
        urls = started.enter_context(bench.emulators(MODEL_S))
        bench.add_bots(1)
        _, port = started.enter_context(bench.web())
        pid = started.enter_context(bench.worker())
        contacts = 0
        warm_up = [n / FIRST_RATE for n in range(20)]
        _drive(bench, urls, pid, port, FIRST_RATE, warm_up, contacts)
        contacts += len(warm_up)
        for number in range(MOST_STEPS):
            rate = FIRST_RATE * GROWTH**number
            due = arrivals(rate, number)
            steps.append(_drive(bench, urls, pid, port, rate, due, contacts))
            contacts += len(due)
            if steps[-1].is_bent:
                break
    return steps


def _drive(
    bench: Lab,
    urls: Mapping[str, str],
    pid: int,
    port: int,
    rate: float,
    due: Sequence[float],
    first: int,
) -> Step:
    """Post each message when it is due, each of another contact, and wait until all are answered."""
    forms = [form_of(first + n) for n in range(len(due))]
    before_s = cpu_s(pid)
    used_s, peak_mb, most = 0.0, 0.0, 0

    async def drive() -> list[float | None]:
        began = time.perf_counter()

        async def send(n: int) -> float | None:
            await asyncio.sleep(began + due[n] - time.perf_counter())
            return await post(port, forms[n], TWILIO_WAITS_S)

        posts = asyncio.gather(*(send(n) for n in range(len(due))))
        while not posts.done():
            look()
            await asyncio.sleep(0.5)
        return await posts

    container = bench.container

    def look() -> int:
        nonlocal used_s, peak_mb, most
        if time.time() - began <= SECONDS:
            used_s = (cpu_s(pid) - before_s) / (time.time() - began)
        depth = container.mailbox.depth()
        most, peak_mb = max(most, depth.leased), max(peak_mb, memory_mb(pid))
        return depth.due + depth.leased

    began = time.time()
    acknowledged = asyncio.run(drive())
    while look():
        time.sleep(0.5)
    container.close()
    if None in acknowledged:
        raise RuntimeError("a message was not acknowledged")
    turn_cpu_ms = (cpu_s(pid) - before_s) / len(due) * 1000
    offset = time.time() - time.monotonic()
    sent = requests.get(f"{urls['twilio']}/_emulator/requests", timeout=60).json()
    ends = {
        request["body"]["To"]: request["at"] + offset - began
        for request in sent
        if request["path"].endswith("/Messages.json") and request["method"] == "POST"
    }
    answered = [ends[form["From"]] for form in forms]
    return Step(
        rate=rate,
        answered_per_s=_per_s(answered),
        p95_s=percentile([end - at for end, at in zip(answered, due, strict=True)], 95),
        in_flight=most,
        memory_mb=peak_mb,
        cores=used_s,
        turn_cpu_ms=turn_cpu_ms,
        acknowledged_p99_s=percentile([wait for wait in acknowledged if wait is not None], 99),
    )


def _per_s(ends: Sequence[float]) -> float:
    """Answers a second from the first one that can come until the load ends."""
    return sum(MODEL_S <= end < SECONDS for end in ends) / (SECONDS - MODEL_S)


def simulated(measured: Measured, rate: float, seed: int) -> Step:
    """The same step, simulated."""
    times_s = arrivals(rate, seed)
    load = Load(rate, MODEL_S, vendor_s=0.0, contacts=len(times_s), debounce_s=0.0, model_cv=0.0)
    # nginx is not there.
    costs = replace(measured.costs, balancer_cpu_ms=0.0)
    layout = Layout(1, 2, 1, 1, THREADS, 1)
    outcome = Simulation(costs, load, layout, SECONDS, seed=seed).run(times_s)
    return Step(
        rate=rate,
        answered_per_s=_per_s(outcome.answered_at),
        p95_s=percentile(outcome.answered_s, 95),
        in_flight=outcome.peak_in_flight,
        memory_mb=measured.worker_mb + outcome.peak_in_flight * measured.turn_mb,
        cores=outcome.busy["workers"],
        turn_cpu_ms=measured.turn_cpu_ms,
        acknowledged_p99_s=percentile(outcome.acknowledged_s, 99),
    )


def compare(real: Sequence[Step], predicted: Sequence[Step]) -> list[Comparison]:
    """The knee and the last step before it; the waits beyond the knee hang on how long it lasts."""
    knee = max(range(len(real)), key=lambda n: real[n].answered_per_s)
    straight = max((n for n, step in enumerate(real) if not step.is_bent), default=0)
    bent = len(real) - 1
    return [
        Comparison(
            "answers/s at the knee",
            max(step.answered_per_s for step in predicted),
            real[knee].answered_per_s,
        ),
        Comparison(
            f"time to answer, p95 s, at {real[straight].rate:.0f} messages/s",
            predicted[straight].p95_s,
            real[straight].p95_s,
        ),
        Comparison(
            f"memory of the worker, MB, at {real[bent].rate:.0f} messages/s",
            predicted[bent].memory_mb,
            real[bent].memory_mb,
        ),
        Comparison(
            f"time to answer, p95 s, at {real[bent].rate:.0f} messages/s, the last step",
            predicted[bent].p95_s,
            real[bent].p95_s,
            is_judged=False,
        ),
    ]
