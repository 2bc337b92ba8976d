"""A day's busiest minutes of the service, simulated event by event: who waits for what, and how long.

Contacts write bursts of messages at random (Poisson). A message passes the balancer, a web process and
Redis, and is acknowledged. Its conversation is due after the debounce; a worker process with a free
thread claims it and runs one turn over all that was written. A conversation has one turn at a time.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle

from benchmarks.capacity_stations import Clock, Station, SyncedThread, Then

MOST_DEBOUNCES = 5
"""A turn waits this many debounces at most (docs/architecture.md, Schedule)."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What a message and a turn cost each part: CPU in ms of one core, times in ms."""

    acknowledge_cpu_ms: float
    balancer_cpu_ms: float
    turn_cpu_ms: float
    redis_accept_ms: float
    redis_turn_ms: float
    database_turn_ms: float
    transactions: float
    """Of a turn, each synced to the disk."""
    sync_ms: float
    """Until a write is on the disk; what waits meanwhile in Redis shares the next one."""


@dataclass(frozen=True, slots=True)
class Load:
    """What comes in, and how slow the vendors are. `cv`: standard deviation ÷ mean; 0 is constant."""

    messages_per_s: float
    model_s: float
    vendor_s: float = 0.2
    """Twilio's answer to a part."""
    burst: float = 1.0
    """Messages that a contact writes one after another, on average (geometric)."""
    gap_s: float = 3.0
    """Between two messages of a burst, on average."""
    contacts: int = 1_000
    """Who are writing: one that writes again while its turn runs has to wait."""
    debounce_s: float = 0.8
    model_cv: float = 0.5
    cpu_cv: float = 0.5


@dataclass(frozen=True, slots=True)
class Layout:
    """The processes of all hosts that are up. A process is one interpreter: a core at most."""

    web_hosts: int
    web_processes: int
    worker_hosts: int
    worker_processes: int
    worker_threads: int
    cores: float
    """Of each host; less than one where other programs take the rest."""


@dataclass(slots=True)
class Outcome:
    """Of the messages that came in within `seconds`, after the warm-up."""

    seconds: float
    messages: int = 0
    turns: int = 0
    acknowledged_s: list[float] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)
    """From each message's arrival until Twilio has its reply."""
    answered_at: list[float] = field(default_factory=list)
    """The same since the start."""
    in_flight: list[int] = field(default_factory=list)
    """Turns that run, looked at when each one begins."""
    most_in_process: int = 0
    busy: dict[str, float] = field(default_factory=dict)
    """Share of its time that each part was busy."""

    @property
    def peak_in_flight(self) -> int:
        return max(self.in_flight, default=0)


@dataclass(slots=True)
class Worker:
    """A worker process: its interpreter and its threads."""

    cpu: Station
    threads: int
    running: int = 0


@dataclass(slots=True, eq=False)
class Conversation:
    """What was written and not answered, by time of arrival."""

    mailbox: list[float] = field(default_factory=list)
    first: float = 0.0
    last: float = 0.0
    is_scheduled: bool = False
    is_running: bool = False


class Simulation:
    """One run. Make it, `run` it once."""

    def __init__(
        self,
        costs: Costs,
        load: Load,
        layout: Layout,
        seconds: float,
        warm_up_s: float = 0.0,
        seed: int = 1,
        database_cores: int = 2,
    ) -> None:
        self._costs, self._load = costs, load
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._clock = clock = Clock()
        self._from, self._until = warm_up_s, warm_up_s + seconds
        whole = max(1, int(layout.cores))
        speed = min(1.0, layout.cores)
        self._balancer = Station(clock, whole, speed)
        self._web = [
            Station(clock, min(layout.web_processes, whole), speed) for _ in range(layout.web_hosts)
        ]
        self._redis = SyncedThread(clock, costs.sync_ms / 1000)
        self._database = Station(clock, database_cores)
        self._workers = [
            Worker(Station(clock, 1, speed), layout.worker_threads)
            for _ in range(layout.worker_hosts * layout.worker_processes)
        ]
        self._due: deque[Conversation] = deque()
        self._contacts = [Conversation() for _ in range(load.contacts)]
        self._next_web = 0
        self._in_flight = 0
        self.outcome = Outcome(seconds)

    def run(self, times_s: Sequence[float] | None = None) -> Outcome:
        """Everything that comes in until the end, and until all of it is answered.

        With `times_s` a message comes at each of them, from contacts in turn.
        """
        arrivals = self._arrivals() if times_s is None else zip(times_s, cycle(self._contacts))
        for at, contact in arrivals:
            self._clock.after(at, lambda contact=contact: self._arrive(contact))  # type: ignore[misc]
        self._clock.after(self._until, self._note_busy)
        self._clock.run()
        return self.outcome

    def _arrivals(self) -> Iterator[tuple[float, Conversation]]:
        load, at = self._load, 0.0
        more = 1 - 1 / load.burst
        while (at := at + self._random.expovariate(load.messages_per_s / load.burst)) < self._until:
            contact, writes = self._random.choice(self._contacts), at
            yield writes, contact
            while self._random.random() < more:
                writes += self._random.expovariate(1 / load.gap_s)
                yield writes, contact

    def _arrive(self, contact: Conversation) -> None:
        arrived = self._clock.now
        counts = self._counts(arrived)
        self.outcome.messages += counts
        web = self._web[self._next_web]
        self._next_web = (self._next_web + 1) % len(self._web)

        def accepted() -> None:
            if counts:
                self.outcome.acknowledged_s.append(self._clock.now - arrived)
            contact.first = contact.first if contact.mailbox else self._clock.now
            contact.last = self._clock.now
            contact.mailbox.append(arrived)
            self._schedule(contact)

        costs = self._costs
        self._steps(
            (self._balancer, costs.balancer_cpu_ms),
            (web, costs.acknowledge_cpu_ms),
            (self._redis, costs.redis_accept_ms),
            then=accepted,
        )

    def _schedule(self, contact: Conversation) -> None:
        """Due once nothing more came for the debounce, unless its turn runs."""
        if contact.is_running or contact.is_scheduled:
            return
        contact.is_scheduled = True

        def look() -> None:
            debounce_s = self._load.debounce_s
            due = min(contact.last + debounce_s, contact.first + MOST_DEBOUNCES * debounce_s)
            # Another message has moved it, unless only the arithmetic has.
            if due > self._clock.now + 1e-9:
                self._clock.after(due - self._clock.now, look)
                return
            self._due.append(contact)
            self._claim()

        look()

    def _claim(self) -> None:
        """The process with the fewest turns takes the longest-waiting conversation."""
        while self._due:
            worker = min(self._workers, key=lambda each: each.running)
            if worker.running >= worker.threads:
                return
            contact = self._due.popleft()
            contact.is_scheduled, contact.is_running = False, True
            self._turn(worker, contact)

    def _turn(self, worker: Worker, contact: Conversation) -> None:
        messages, contact.mailbox = contact.mailbox, []
        worker.running += 1
        self._in_flight += 1
        outcome, costs, load = self.outcome, self._costs, self._load
        if self._counts(self._clock.now):
            outcome.turns += 1
            outcome.in_flight.append(self._in_flight)
        outcome.most_in_process = max(outcome.most_in_process, worker.running)

        def answered() -> None:
            for arrived in messages:
                if self._counts(arrived):
                    outcome.answered_s.append(self._clock.now - arrived)
                    outcome.answered_at.append(self._clock.now)

        def ended() -> None:
            worker.running -= 1
            self._in_flight -= 1
            contact.is_running = False
            if contact.mailbox:
                self._schedule(contact)
            self._claim()

        def replied() -> None:
            answered()
            self._steps(
                (worker.cpu, costs.turn_cpu_ms / 4),
                (self._database, costs.database_turn_ms / 2),
                (costs.sync_ms * costs.transactions / 2, 0.0),
                (self._redis, costs.redis_turn_ms / 2),
                then=ended,
            )

        self._steps(
            (self._redis, costs.redis_turn_ms / 2),
            (worker.cpu, costs.turn_cpu_ms / 2),
            (self._database, costs.database_turn_ms / 2),
            (costs.sync_ms * costs.transactions / 2, 0.0),
            (load.model_s * 1000, load.model_cv),
            (worker.cpu, costs.turn_cpu_ms / 4),
            (load.vendor_s * 1000, load.model_cv),
            then=replied,
        )

    def _steps(self, *steps: tuple[Station | SyncedThread | float, float], then: Then) -> None:
        """One after another: so many ms of a part's time, or so many ms with that `cv` of nobody's."""
        if not steps:
            then()
            return
        (what, figure), rest = steps[0], steps[1:]

        def go_on() -> None:
            self._steps(*rest, then=then)

        if isinstance(what, Station | SyncedThread):
            what.serve(self._time_s(figure, self._load.cpu_cv), go_on)
        else:
            self._clock.after(self._time_s(what, figure), go_on)

    def _time_s(self, mean_ms: float, cv: float) -> float:
        """A time of that mean, with the gamma distribution: 1 is exponential, 0 constant."""
        if cv == 0 or mean_ms == 0:
            return mean_ms / 1000
        return self._random.gammavariate(1 / cv**2, mean_ms / 1000 * cv**2)

    def _counts(self, at: float) -> bool:
        return self._from <= at < self._until

    def _note_busy(self) -> None:
        parts: dict[str, Sequence[Station | SyncedThread]] = {
            "balancer": [self._balancer],
            "web": self._web,
            "redis": [self._redis],
            "workers": [worker.cpu for worker in self._workers],
            "database": [self._database],
        }
        for name, stations in parts.items():
            servers = sum(station.servers for station in stations)
            busy_s = sum(station.busy_s for station in stations)
            self.outcome.busy[name] = busy_s / servers / self._until


def percentile(values: Sequence[float], percent: float) -> float:
    """Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
