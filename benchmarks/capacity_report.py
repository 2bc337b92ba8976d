"""The tables of `benchmarks.capacity`: a plan, what hosts carry, the simulation beside the service."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

from benchmarks.capacity_check import MODEL_S, MOST_ERROR, Step, compare
from benchmarks.capacity_plan import (
    ACKNOWLEDGE_P99_S,
    MOST_BUSY,
    QUEUE_P95_S,
    BeyondError,
    Plan,
    Planner,
    Size,
    of_rate,
)
from benchmarks.capacity_simulation import Load, percentile
from benchmarks.lab import console, show

BUSY = 4
"""Programs that wait for each CPU; the check itself keeps about two busy."""
LOADS = (5.0, 20.0, 50.0, 100.0, 200.0, 400.0, 800.0)


def show_plan(planner: Planner, plan: Plan) -> None:
    """The hosts of each group, what was simulated, and what binds."""
    load, layout, all_up, lost = plan.load, plan.layout, plan.outcome, plan.after_loss
    show(
        f"{load.messages_per_s:g} messages/s, a model of {load.model_s:g} s, hosts of "
        f"{plan.size.cores} cores and {plan.size.memory_gb:g} GB",
        ["group", "hosts", "of them to spare", "processes each", "threads each", "memory MB", "CPU",
         "after a loss"],
        [
            ["web", str(layout.web_hosts), str(plan.spare), str(layout.web_processes), "",
             f"{plan.web_host_mb:.0f}", *_shares(plan, "web")],
            ["workers", str(layout.worker_hosts), str(plan.spare), str(layout.worker_processes),
             str(layout.worker_threads), f"{plan.worker_host_mb:.0f}", *_shares(plan, "workers")],
            ["balancer", "1", "", "", "", "", *_shares(plan, "balancer")],
            ["redis (its one thread)", "3", "2", "1", "1", f"{plan.redis_mb:.0f}",
             *_shares(plan, "redis")],
            ["database", "1", "", "", "", "", *_shares(plan, "database")],
        ],
    )  # fmt: skip
    turns = all_up.turns / all_up.messages
    rows = [
        ["acknowledgement, p50 and p99 ms", _pair(all_up.acknowledged_s, 1000, "{:.1f}"),
         _pair(lost.acknowledged_s, 1000, "{:.1f}")],
        ["time to answer, p50 and p99 s", _pair(all_up.answered_s, 1, "{:.1f}"),
         _pair(lost.answered_s, 1, "{:.1f}")],
        ["turns in flight, at most", str(all_up.peak_in_flight), str(lost.peak_in_flight)],
    ]  # fmt: skip
    show("Simulated", ["", "all hosts up", "after a loss"], rows)
    name = plan.binding
    lines = [
        f"Turns: {turns:.2f} a message, {turns * load.messages_per_s:.1f}/s.",
        f"Database: {plan.connections} connections, {planner.measured.pool} a process at most, "
        "twice while one release replaces another, and some to spare.",
        f"Redis: {plan.redis_commands_per_s:,.0f} commands/s, {plan.redis_mb:,.0f} MB; set "
        f"redis_maxmemory to {math.ceil(plan.redis_mb * 1.5 / 64) * 64}mb or more, on hosts of "
        f"{plan.redis_host_gb} GB or more.",
        f"What binds: {name}, at {plan.busy[name]:.0%} of what it may take after a loss.",
        f"Headroom: {planner.headroom(plan):.0%} more messages while all hosts are up.",
        f"Aims: no part busy for more than {MOST_BUSY:.0%} of its time, acknowledgements within "
        f"{ACKNOWLEDGE_P99_S * 1000:.0f} ms (p99), answers at most {QUEUE_P95_S:g} s later (p95) than "
        "with hosts in plenty.",
    ]
    for line in lines:
        console.print(line, highlight=False)


def _shares(plan: Plan, part: str) -> list[str]:
    return [f"{plan.outcome.busy[part]:.0%}", f"{plan.after_loss.busy[part]:.0%}"]


def _pair(values: Sequence[float], factor: float, form: str) -> str:
    return ", ".join(form.format(percentile(values, part) * factor) for part in (50, 99))


def show_tables(planners: Sequence[Planner], load: Load) -> None:
    """What one host of each group carries, and the hosts for some loads like this one."""
    model = f"a model of {load.model_s:g} s"
    rows = []
    for planner in planners:
        one = planner.carries(load)
        for group in ("web", "workers"):
            (first, outcome), (second, _) = (planner.simulated(group, n, load) for n in (1, 2))
            in_flight = outcome.peak_in_flight if group == "workers" else 0
            rows.append(_group_row(planner, group, first, f"{second - first:,.0f}", in_flight))
        for group in ("balancer", "database", "redis"):
            rows.append(_group_row(planner, group, one[group], "0", 0))
    show(
        f"What one host of each group carries, {model}, at {MOST_BUSY:.0%} of its CPU",
        ["host", "group", "messages/s", "each added host", "in flight", "memory MB"],
        rows,
    )
    each_mb = planners[0].day.redis_mb(planners[0].measured, 1)
    console.print(f"Redis keeps {each_mb:.0f} MB for each message/s.\n", highlight=False)
    show(
        f"Hosts for a load, {model}, one of web and one of workers to spare",
        ["host", "messages/s", "web", "workers", "in flight", "connections", "Redis GB", "binds first"],
        [load_row(planner, of_rate(load, rate)) for planner in planners for rate in LOADS],
    )  # fmt: skip


def _group_row(planner: Planner, group: str, rate: float, added: str, in_flight: int) -> list[str]:
    size, measured = planner.size, planner.measured
    memory_mb = {
        "web": size.system_mb + size.cores * measured.web_mb,
        "workers": size.system_mb + size.cores * measured.worker_mb + in_flight * measured.turn_mb,
    }.get(group)
    return [
        _name(size),
        group,
        f"{rate:,.0f}",
        added,
        str(in_flight or ""),
        "" if memory_mb is None else f"{memory_mb:,.0f}",
    ]


def load_row(planner: Planner, load: Load) -> list[str]:
    rate = f"{load.messages_per_s:g}"
    try:
        plan = planner.plan(load)
    except BeyondError as error:
        return [_name(planner.size), rate, *"–––––", f"{error.part} is beyond it"]
    return [
        _name(planner.size),
        rate,
        str(plan.layout.web_hosts),
        str(plan.layout.worker_hosts),
        str(plan.outcome.peak_in_flight),
        str(plan.connections),
        str(plan.redis_host_gb),
        plan.binding,
    ]


def _name(size: Size) -> str:
    return f"{size.cores} cores, {size.memory_gb:g} GB"


def show_check(real: Sequence[Step], predicted: Sequence[Step], load_average: float) -> bool:
    """Whether every judged figure is within the bound."""
    show(
        f"A worker process and a model of {MODEL_S:g} s: simulated, measured (load average "
        f"{load_average:.1f} before, {os.getloadavg()[0]:.1f} after)",
        ["messages/s", "cores", "CPU ms a turn", "answers/s", "p95 s", "in flight", "MB",
         "ack. p99 ms"],
        [_step_row(a, b) for a, b in zip(predicted, real, strict=True)],
    )  # fmt: skip
    found = compare(real, predicted)
    show(
        f"Predicted and measured; at most {MOST_ERROR:.0%} off",
        ["", "predicted", "measured", "error", ""],
        [
            [
                each.name,
                f"{each.predicted:.1f}",
                f"{each.measured:.1f}",
                f"{each.error:.0%}",
                ("within" if each.is_within else "off") if each.is_judged else "not judged",
            ]
            for each in found
        ],
    )
    if (waiting := os.getloadavg()[0]) > BUSY * (os.cpu_count() or 1):
        console.print(
            f"Load average {waiting:.0f}: other programs took the CPUs, and the service was not "
            "alone with what the simulation gives it.",
            highlight=False,
        )
    if not real[-1].is_bent:
        console.print("The time to answer did not bend: no knee was found.", highlight=False)
        return False
    return all(each.is_within for each in found if each.is_judged)


def _step_row(predicted: Step, real: Step) -> list[str]:
    def pair(figure: Callable[[Step], float], form: str = "{:.1f}") -> str:
        return f"{form.format(figure(predicted))}, {form.format(figure(real))}"

    return [
        f"{real.rate:.1f}",
        pair(lambda step: step.cores, "{:.2f}"),
        pair(lambda step: step.turn_cpu_ms),
        pair(lambda step: step.answered_per_s),
        pair(lambda step: step.p95_s),
        pair(lambda step: step.in_flight, "{:.0f}"),
        pair(lambda step: step.memory_mb, "{:.0f}"),
        pair(lambda step: step.acknowledged_p99_s * 1000, "{:.0f}"),
    ]
