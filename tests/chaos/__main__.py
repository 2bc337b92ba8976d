"""Break the service for a while and check what it promised: `make chaos` or `python -m tests.chaos`.

Exit code 0: every promise was kept. 1: one was not, and the seed that shows it is named.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.chaos import evidence
from tests.chaos.checker import RULES, check, dead
from tests.chaos.driver import Driver
from tests.chaos.record import Record
from tests.chaos.schedule import Fault, schedule
from tests.chaos.system import PAUSE_S, Database, System, running, wait_for

SETTLE_S = 60.0
"""Every acknowledged message has ended within this time after the last fault."""
CONTACTS = 300
MAX_RATE = 200.0
MAX_DURATION_S = 3600.0
SHOWN = 10

console = Console(width=150, highlight=False)


@dataclass
class Outcome:
    """How one run ended."""

    seed: int
    driver: Driver
    record: Record
    faults: Sequence[Fault]
    settled_s: float | None
    findings: dict[str, list[str]]
    restarts: int
    late_s: float
    """How late the latest fault came: the machine's own trouble."""

    @property
    def is_clean(self) -> bool:
        return self.settled_s is not None and not any(self.findings.values())

    @property
    def acknowledged(self) -> int:
        return sum(message.acked_at is not None for message in self.driver.sent)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    outcomes = []
    for seed in options.seed:
        outcome = run(seed, options.duration, options.rate, options.database, options.keep)
        report(outcome, options)
        outcomes.append(outcome)
    summary(outcomes, options)
    return 0 if all(outcome.is_clean for outcome in outcomes) else 1


def run(seed: int, duration_s: float, rate: float, database: Database, keep: bool) -> Outcome:
    """One run from nothing to its record."""
    faults = schedule(seed, duration_s, PAUSE_S)
    if database == "sqlite":
        faults = [fault for fault in faults if "database" not in fault.kind]
    with running(database) as system:
        console.print(
            f"seed {seed}: {duration_s:g} s, {rate:g} messages/s, {system.database}, "
            f"{len(faults)} faults, {'nginx in front' if system.has_nginx else 'no nginx'}, "
            f"the spool is on {system.spool_kind}"
        )
        driver = Driver(system.door, system.bots, CONTACTS, rate, duration_s, seed)
        driver.start()
        began = time.monotonic()
        late_s = _strike(system, faults, began)
        driver.join()
        system.heal()
        settled_s = wait_for(lambda: _is_idle(system), SETTLE_S)
        # What comes late must not come twice.
        time.sleep(2)
        record = evidence.collect(system, driver.sent, driver.statuses)
        restarts = sum(child.starts - 1 for child in system.children)
        outcome = Outcome(seed, driver, record, faults, settled_s, check(record), restarts, late_s)
        if keep or not outcome.is_clean:
            system.keep_logs()
    return outcome


def _strike(system: System, faults: Sequence[Fault], began: float) -> float:
    """Every fault at its time. Returns how late the latest one came, in seconds."""
    moments = sorted(
        [(fault.at_s, True, number) for number, fault in enumerate(faults)]
        + [(fault.ends_s, False, number) for number, fault in enumerate(faults) if fault.lasts_s]
    )
    late_s = 0.0
    for at_s, begins, number in moments:
        time.sleep(max(0.0, began + at_s - time.monotonic()))
        late_s = max(late_s, time.monotonic() - began - at_s)
        (system.strike if begins else system.relieve)(faults[number])
    return late_s


def _is_idle(system: System) -> bool:
    return (
        not system.spool_files()
        and not system.left_over_keys()
        and not evidence.running_turns(system)
    )


def report(outcome: Outcome, options: argparse.Namespace) -> None:
    """What was found, and how to see it again."""
    for fault in outcome.faults if not outcome.is_clean else ():
        console.print(f"  {fault}")
    for name, findings in outcome.findings.items():
        for finding in findings[:SHOWN]:
            console.print(f"  [red]{name}[/]: {finding}", markup=True)
        if len(findings) > SHOWN:
            console.print(f"  {name}: and {len(findings) - SHOWN} more")
    if outcome.settled_s is None:
        console.print(f"  [red]not done within {SETTLE_S:g} s after the last fault[/]")
    for turn in dead(outcome.record)[:SHOWN]:
        console.print(f"  dead turn {turn.id}: {turn.reason}")
    if not outcome.is_clean:
        console.print(
            f"Replay: make chaos SEED={outcome.seed} DURATION_S={options.duration:g} "
            f"RATE={options.rate:g}"
            + (" ARGS='--database sqlite'" if options.database == "sqlite" else "")
        )


def summary(outcomes: Sequence[Outcome], options: argparse.Namespace) -> None:
    """One table, a column a run."""
    table = Table(
        title=f"Chaos: {options.duration:g} s a run, {options.rate:g} messages/s, {CONTACTS} contacts, "
        f"{platform.machine()}, {os.cpu_count()} CPUs"
    )
    table.add_column("seed")
    for outcome in outcomes:
        table.add_column(str(outcome.seed), justify="right")

    def row(name: str, values: Sequence[object]) -> None:
        table.add_row(name, *map(str, values))

    turns = [Counter(turn.status for turn in outcome.record.turns) for outcome in outcomes]
    row("faults", [len(outcome.faults) for outcome in outcomes])
    row("latest fault came late by (s)", [f"{outcome.late_s:.1f}" for outcome in outcomes])
    row("processes started again", [outcome.restarts for outcome in outcomes])
    row("messages", [len(outcome.driver.sent) for outcome in outcomes])
    row("acknowledged", [outcome.acknowledged for outcome in outcomes])
    row(
        "acknowledged at a retry",
        [
            sum(m.acked_at is not None and m.attempts > 1 for m in outcome.driver.sent)
            for outcome in outcomes
        ],
    )
    words = sorted({word for outcome in outcomes for word in outcome.driver.statuses})
    for word in words:
        row(f"answers: {word}", [outcome.driver.statuses.get(word, 0) for outcome in outcomes])
    row("delivered again after it", [outcome.driver.delivered_again for outcome in outcomes])
    for status in ("replied", "silent", "dead"):
        row(f"turns that ended {status}", [counted[status] for counted in turns])
    row("parts at Twilio", [len(outcome.record.delivered) for outcome in outcomes])
    row("effects of tools", [len(outcome.record.effects) for outcome in outcomes])
    row(
        "done after the last fault (s)",
        ["never" if o.settled_s is None else f"{o.settled_s:.1f}" for o in outcomes],
    )
    table.add_section()
    for name in RULES:
        row(name, [len(outcome.findings[name]) for outcome in outcomes])
    console.print(table)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--seed", type=int, nargs="*", help="one run each; without: one that is made up"
    )
    parser.add_argument("--duration", type=float, default=120, help="seconds of a run")
    parser.add_argument("--rate", type=float, default=50, help="messages a second")
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a clean run too")
    options = parser.parse_args(arguments)
    if not (0 < options.rate <= MAX_RATE and 10 <= options.duration <= MAX_DURATION_S):
        parser.error(f"10 to {MAX_DURATION_S:g} s, and at most {MAX_RATE:g} messages/s")
    options.seed = options.seed or [random.randrange(1, 1_000_000)]  # noqa: S311 no secret
    return options


if __name__ == "__main__":
    sys.exit(main())
