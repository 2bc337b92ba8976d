"""How many hosts a load needs: the least with which the simulation keeps its aims while one is lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from benchmarks.capacity_figures import Measured
from benchmarks.capacity_simulation import Layout, Load, Outcome, Simulation, percentile

MOST_BUSY = 0.8
"""Share of its time that a part may be busy; beyond it waits grow faster than the load."""
ACKNOWLEDGE_P99_S = 0.25
QUEUE_P95_S = 1.0
"""How much later than with hosts in plenty the 95th percentile of the answers may come."""
LEAST_THREADS, MOST_THREADS = 64, 1_000
"""The default of WORKER_THREADS, and as many as `benchmarks.in_flight` has measured."""
SPARE_THREADS = 1.25
SEEN_S = 48 * 3600
CONTEXT_S = 24 * 3600
CONTEXT_TEXTS = 30
BACKLOG_S = 3600
"""Redis has room for the messages of so long a time in which nothing is answered."""
REDIS_SPARE = 2.0
"""Memory for copies of pages while the append-only file is written anew."""
DEPLOY = 2
"""Processes of both releases hold connections while one replaces the other."""
OTHER_CONNECTIONS = 20
SHAPE_RATE = 20.0
PLENTY = 64


class BeyondError(Exception):
    """No number of hosts carries this; the message says why, and what helps."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


@dataclass(frozen=True, slots=True)
class Size:
    """Of every host. A worker or web process a core."""

    cores: int = 2
    memory_gb: float = 4
    system_mb: float = 512
    """Kept for the operating system."""

    @property
    def memory_mb(self) -> float:
        return self.memory_gb * 1024 - self.system_mb


@dataclass(frozen=True, slots=True)
class Day:
    """What Redis keeps hangs on the whole day, not on its busiest minutes."""

    peak_to_mean: float = 3.0
    """Messages in the busiest minutes ÷ the mean of the day."""
    messages_of_contact: float = 10.0
    """That one contact writes in a day."""
    text_bytes: float = 200.0
    """Of a message or a reply; the measured contexts are of texts that are shorter."""

    def redis_mb(self, measured: Measured, messages_per_s: float) -> float:
        mean = messages_per_s / self.peak_to_mean
        contacts = mean * CONTEXT_S / self.messages_of_contact
        texts = min(CONTEXT_TEXTS, 2 * self.messages_of_contact) * self.text_bytes
        kept = mean * SEEN_S * measured.redis_message_bytes
        backlog = messages_per_s * BACKLOG_S * measured.redis_waiting_bytes
        return (kept + contacts * (measured.redis_contact_bytes + texts) + backlog) / 2**20


@dataclass(frozen=True, slots=True)
class Plan:
    """The hosts, with one of each group to spare where `spare` is 1."""

    load: Load
    size: Size
    layout: Layout
    spare: int
    outcome: Outcome
    """All hosts up."""
    after_loss: Outcome
    """Without the spare ones."""
    busy: Mapping[str, float]
    """Share of what each part may take at most, after the loss; 1 is full."""
    connections: int
    redis_mb: float
    redis_host_gb: int
    """With room for a copy; more than the other hosts have, where a day's messages need it."""
    redis_commands_per_s: float
    web_host_mb: float
    worker_host_mb: float
    limit_s: float
    """Within which 95 % of the answers have to come."""

    @property
    def binding(self) -> str:
        return max(self.busy, key=lambda name: self.busy[name])


@dataclass(frozen=True)
class Planner:
    """Plans for one size of hosts, from what was measured."""

    measured: Measured
    size: Size = Size()
    day: Day = Day()
    spare: int = 1
    seed: int = 1
    simulated_messages: int = 3_000
    """Of a run at least; fewer are quicker, and less sure."""

    def plan(self, load: Load) -> Plan:
        """Raises BeyondError."""
        ideal, turns_per_message = self._shape(load)
        self._refuse(load, turns_per_message)
        layout = self._least(load, turns_per_message)
        limit_s = percentile(ideal.answered_s, 95) + QUEUE_P95_S
        after_loss = self._simulate(load, layout)
        while not _keeps(after_loss, limit_s):
            if percentile(after_loss.acknowledged_s, 99) > ACKNOWLEDGE_P99_S:
                layout = replace(layout, web_hosts=layout.web_hosts + 1)
            else:
                layout = replace(layout, worker_hosts=layout.worker_hosts + 1)
            after_loss = self._simulate(load, layout)
        threads = self._threads(after_loss)
        layout = replace(layout, worker_threads=threads)
        whole = replace(
            layout,
            web_hosts=layout.web_hosts + self.spare,
            worker_hosts=layout.worker_hosts + self.spare,
        )
        outcome = self._simulate(load, whole) if self.spare else after_loss
        processes = (
            whole.web_hosts * whole.web_processes + whole.worker_hosts * whole.worker_processes
        )
        redis_mb = self.day.redis_mb(self.measured, load.messages_per_s)
        worker_host_mb = (
            self.size.system_mb
            + layout.worker_processes * self.measured.worker_mb
            + after_loss.peak_in_flight / layout.worker_hosts * self.measured.turn_mb
        )
        web_host_mb = self.size.system_mb + layout.web_processes * self.measured.web_mb
        total_mb = self.size.memory_gb * 1024
        busy = {f"CPU of {name}": share / MOST_BUSY for name, share in after_loss.busy.items()}
        busy["the one thread of Redis"] = busy.pop("CPU of redis")
        busy["memory of workers"] = worker_host_mb / total_mb
        commands = (
            self.measured.redis_commands_accept
            + turns_per_message * self.measured.redis_commands_turn
        )
        return Plan(
            load=load,
            size=self.size,
            layout=whole,
            spare=self.spare,
            outcome=outcome,
            after_loss=after_loss,
            busy=busy,
            connections=DEPLOY * processes * self.measured.pool + OTHER_CONNECTIONS,
            redis_mb=redis_mb,
            redis_host_gb=math.ceil((redis_mb * REDIS_SPARE + self.size.system_mb) / 1024),
            redis_commands_per_s=load.messages_per_s * commands,
            web_host_mb=web_host_mb,
            worker_host_mb=worker_host_mb,
            limit_s=limit_s,
        )

    def headroom(self, plan: Plan) -> float:
        """The load may grow by this share while all hosts are up."""
        load, factor = plan.load, MOST_BUSY / max(plan.outcome.busy.values())
        while factor > 1:
            more = of_rate(load, load.messages_per_s * factor)
            if _keeps(self._simulate(more, plan.layout), plan.limit_s):
                return factor - 1
            factor = 1 + (factor - 1) * 0.8 if factor > 1.02 else 1
        return 0.0

    def carries(self, load: Load) -> dict[str, float]:
        """Messages/s of one host of each group. The balancer, Redis and database by their CPU alone."""
        return self._most(self._shape(load)[1])

    def simulated(self, group: str, hosts: int, load: Load) -> tuple[float, Outcome]:
        """Messages/s of so many hosts of web or of workers, everything else in plenty."""
        if group == "web":
            # Web has done its part when the turn begins: short ones tell the same sooner.
            load = replace(load, model_s=0.1, vendor_s=0.1, burst=1, gap_s=0.1, debounce_s=0)
        ideal, turns_per_message = self._shape(load)
        limit_s = percentile(ideal.answered_s, 95) + QUEUE_P95_S
        rate = self._most(turns_per_message)[group] * hosts
        layout = self._layout(PLENTY * hosts, PLENTY * hosts)
        alone = replace(layout, **{f"{group.removesuffix('s')}_hosts": hosts})
        while not _keeps(found := self._simulate(of_rate(load, rate), alone, True), limit_s):
            rate *= 0.95
        return rate, found

    def _shape(self, load: Load) -> tuple[Outcome, float]:
        """With hosts in plenty and at one rate: the best answers, and turns per message."""
        few = of_rate(load, SHAPE_RATE)
        outcome = self._simulate(few, self._layout(PLENTY, PLENTY))
        return outcome, outcome.turns / outcome.messages

    def _most(self, turns_per_message: float) -> dict[str, float]:
        """Messages/s of one host of each group at which its CPU is as busy as it may be."""
        measured, cores = self.measured, self.size.cores
        turn = turns_per_message
        return {
            "balancer": MOST_BUSY * cores * 1000 / measured.balancer_cpu_ms,
            "web": MOST_BUSY * cores * 1000 / measured.acknowledge_cpu_ms,
            "workers": MOST_BUSY * cores * 1000 / (measured.turn_cpu_ms * turn),
            "redis": MOST_BUSY * 1000 / (measured.redis_accept_ms + measured.redis_turn_ms * turn),
            "database": MOST_BUSY * cores * 1000 / (measured.database_turn_ms * turn),
        }

    def _refuse(self, load: Load, turns_per_message: float) -> None:
        """What cannot have a second host is the end. Raises BeyondError."""
        rate, most = load.messages_per_s, self._most(turns_per_message)
        reasons = {
            "balancer": "The balancer is one host: give it more cores, or put a load balancer of the "
            "provider before several",
            "redis": "Redis does all its work in one thread, and more hosts or cores do not help",
            "database": "The database is one host: give it more cores",
        }
        for group, reason in reasons.items():
            if rate > most[group]:
                raise BeyondError(
                    group,
                    f"{reason}. Of this load it carries {most[group]:,.0f} messages/s at most with "
                    f"{self.size.cores} cores; {rate:,.0f} are asked for.",
                )
        for part, each_mb in (("web", self.measured.web_mb), ("worker", self.measured.worker_mb)):
            if each_mb * self.size.cores + self.measured.turn_mb > self.size.memory_mb:
                raise BeyondError(
                    part,
                    f"{self.size.cores} {part} processes need {each_mb * self.size.cores:,.0f} MB, "
                    f"and {self.size.memory_mb:,.0f} MB are there: give the hosts more memory.",
                )

    def _least(self, load: Load, turns_per_message: float) -> Layout:
        """By CPU, threads and memory alone; bursts are the simulation's."""
        most = self._most(turns_per_message)
        in_flight = load.messages_per_s * turns_per_message * (load.model_s + load.vendor_s)
        of_threads = self.size.cores * MOST_THREADS / SPARE_THREADS
        free_mb = self.size.memory_mb - self.size.cores * self.measured.worker_mb
        workers = max(
            load.messages_per_s / most["workers"],
            in_flight / of_threads,
            in_flight * SPARE_THREADS * self.measured.turn_mb / free_mb,
        )
        return self._layout(math.ceil(load.messages_per_s / most["web"]), math.ceil(workers))

    def _layout(self, web_hosts: int, worker_hosts: int) -> Layout:
        cores = self.size.cores
        return Layout(web_hosts, cores, worker_hosts, cores, MOST_THREADS, cores)

    def _threads(self, after_loss: Outcome) -> int:
        wanted = after_loss.most_in_process * SPARE_THREADS
        return min(MOST_THREADS, max(LEAST_THREADS, math.ceil(wanted / 32) * 32))

    def _simulate(self, load: Load, layout: Layout, is_alone: bool = False) -> Outcome:
        """With `is_alone` nothing waits for the hosts of which there is one."""
        costs = self.measured.costs
        if is_alone:
            costs = replace(
                costs, balancer_cpu_ms=0, redis_accept_ms=0, redis_turn_ms=0, database_turn_ms=0
            )
        turn_s = load.model_s + load.vendor_s + load.debounce_s + load.burst * load.gap_s
        seconds = max(self.simulated_messages / load.messages_per_s, turn_s)
        return Simulation(
            costs, load, layout, seconds, 2 * turn_s, self.seed, database_cores=self.size.cores
        ).run()


def of_rate(load: Load, messages_per_s: float) -> Load:
    """The same contacts, more or fewer of them."""
    contacts = max(1, round(load.contacts * messages_per_s / load.messages_per_s))
    return replace(load, messages_per_s=messages_per_s, contacts=contacts)


def _keeps(outcome: Outcome, limit_s: float) -> bool:
    """The aims: acknowledgements and answers in time."""
    return (
        percentile(outcome.acknowledged_s, 99) <= ACKNOWLEDGE_P99_S
        and percentile(outcome.answered_s, 95) <= limit_s
    )
