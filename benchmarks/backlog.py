"""More processes and more waiting messages: 1 to 4 workers, and a backlog of 100,000 messages."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks.lab import cpu_s, quantile, show, wait_until
from benchmarks.service_lab import Lab, lab
from benchmarks.turns import inbound
from service.container import Container
from service.conversation.mailbox import Inbound

BOTS = 20
MODEL_S = 1.0
MESSAGES_OF_A_CONVERSATION = 10


def _message(n: int, contacts: int) -> Inbound:
    # The contact belongs to one bot, so its number decides both.
    return inbound(n % contacts, BOTS, contacts)


@contextmanager
def _workers(bench: Lab, count: int) -> Iterator[Sequence[int]]:
    with ExitStack() as stack:
        yield [stack.enter_context(bench.worker()) for _ in range(count)]


def scale(workers: int, turns: int) -> tuple[float, float]:
    """Turns per second of so many worker processes with a model of 1 s, and CPU ms of a turn."""
    with lab(LOG_LEVEL="WARNING", WORKER_THREADS="64") as bench, bench.emulators(MODEL_S):
        bench.add_bots(BOTS)
        container = bench.container
        with _workers(bench, workers) as pids:
            before = sum(map(cpu_s, pids))
            began = time.monotonic()
            for n in range(turns):
                container.mailbox.accept(inbound(n, BOTS))
            bench.wait_idle()
            taken_s = time.monotonic() - began
            used_s = sum(map(cpu_s, pids)) - before
        container.close()
    return turns / taken_s, used_s / turns * 1000


def deep(messages: int, seconds: float) -> dict[str, float]:
    """With so many messages waiting: acceptance, and what one worker gets done meanwhile."""
    contacts = max(1, messages // MESSAGES_OF_A_CONVERSATION)
    with lab(LOG_LEVEL="WARNING", WORKER_THREADS="64") as bench, bench.emulators():
        bench.add_bots(BOTS)
        container = bench.container
        for n in range(messages):
            container.mailbox.accept(_message(n, contacts))
        accept_ms = _accept_times(container, contacts)
        memory_mb = _redis_mb(bench)
        with bench.worker() as pid:
            before, cpu = container.mailbox.depth().due, cpu_s(pid)
            began = time.monotonic()
            wait_until(
                lambda: time.monotonic() - began > seconds or container.mailbox.depth().due == 0,
                seconds + 30,
                "the time",
            )
            taken_s = time.monotonic() - began
            # At least one, so that ratios can be told of the shortest run too.
            done = max(before - container.mailbox.depth().due, 1)
            cpu = cpu_s(pid) - cpu
        container.close()
    return {
        "accept_p50": quantile(accept_ms, 0.5),
        "accept_p99": quantile(accept_ms, 0.99),
        "turns_s": done / taken_s,
        "turn_cpu": max(cpu, 0.01) / done * 1000,
        "redis_mb": memory_mb,
    }


def _accept_times(container: Container, contacts: int) -> list[float]:
    times = []
    for n in range(500):
        began = time.perf_counter()
        container.mailbox.accept(_message(n, contacts))
        times.append((time.perf_counter() - began) * 1000)
    return times


def _redis_mb(bench: Lab) -> float:
    with bench.redis.client() as client:
        used: dict[str, int] = client.info("memory")
        return used["used_memory"] / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--turns", type=int, default=1_500)
    parser.add_argument("--messages", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--seconds", type=float, default=15)
    options = parser.parse_args()
    rows = []
    first = 0.0
    for workers in options.workers:
        rate, cpu_ms = scale(workers, options.turns)
        first = first or rate
        rows.append([str(workers), f"{rate / first:.2f}", f"{rate:.0f}", f"{cpu_ms:.1f}"])
    show(
        f"Growth in workers: a burst of {options.turns} conversations, 64 threads each, a model of "
        f"{MODEL_S:g} s",
        ["worker processes", "÷ one", "turns/s", "CPU ms a turn"],
        rows,
    )
    rows = []
    lowest: dict[str, float] = {}
    for messages in options.messages:
        found = deep(messages, options.seconds)
        lowest = lowest or found
        rows.append(
            [
                f"{messages:,}",
                f"{found['accept_p50'] / lowest['accept_p50']:.2f}",
                f"{found['turn_cpu'] / lowest['turn_cpu']:.2f}",
                f"{found['accept_p50']:.2f}",
                f"{found['accept_p99']:.2f}",
                f"{found['turns_s']:.0f}",
                f"{found['turn_cpu']:.1f}",
                f"{found['redis_mb']:.0f}",
            ]
        )
    show(
        f"A backlog in the mailboxes ({MESSAGES_OF_A_CONVERSATION} messages a conversation, answered at "
        "once)",
        [
            "messages waiting",
            "accept ÷ first",
            "turn CPU ÷ first",
            "accept p50 ms",
            "p99",
            "turns/s",
            "CPU ms a turn",
            "Redis MB",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
