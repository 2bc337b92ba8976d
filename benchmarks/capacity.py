"""How many hosts a load needs: simulated from what an acknowledgement and a turn were measured to cost.

Without --measure, --check or --table it plans for one load. Contacts write at random, in bursts; each
conversation has one turn at a time; one host of web and one of workers may be lost (--spare 0: none).
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence

from benchmarks.capacity_check import real_steps, simulated
from benchmarks.capacity_figures import FILE, Measured, MeasuredError, read, write
from benchmarks.capacity_measure import RUNS, measure
from benchmarks.capacity_plan import BeyondError, Day, Planner, Size
from benchmarks.capacity_report import show_check, show_plan, show_tables
from benchmarks.capacity_simulation import Load
from benchmarks.lab import console

SIZES = (Size(2, 4), Size(4, 8))


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 when no hosts carry the load or the check is off by too much; 2 without figures."""
    options = parser().parse_args(arguments)
    try:
        if options.measure:
            write(measure(), RUNS)
            console.print(FILE.read_text(encoding="utf-8"), highlight=False, markup=False)
            return 0
        measured, about = read()
        console.print(
            f"Measured {about['date']} on {about['machine']}, load average {about['load_average']}, "
            f"medians of {about['runs']} runs",
            highlight=False,
        )
        if options.check:
            return _check(measured)
        if options.table:
            planners = [planner_of(measured, size, options) for size in SIZES]
            show_tables(planners, load_of(options))
            return 0
        size = Size(options.cores, options.memory_gb)
        planner = planner_of(measured, size, options)
        show_plan(planner, planner.plan(load_of(options)))
    except BeyondError as error:
        print(f"capacity: {error}", file=sys.stderr)
        return 1
    except MeasuredError as error:
        print(f"capacity: {error}", file=sys.stderr)
        return 2
    return 0


def planner_of(measured: Measured, size: Size, options: argparse.Namespace) -> Planner:
    day = Day(options.peak_to_mean, options.messages_of_contact, options.text_bytes)
    return Planner(measured, size, day, options.spare, options.seed)


def load_of(options: argparse.Namespace) -> Load:
    return Load(
        messages_per_s=options.messages_per_s,
        model_s=options.model_s,
        vendor_s=options.twilio_s,
        burst=options.burst,
        gap_s=options.gap_s,
        contacts=max(1, math.ceil(options.messages_per_s * options.every_s)),
        debounce_s=options.debounce_s,
    )


def _check(measured: Measured) -> int:
    """0, or 1 when a judged figure is off by more than the bound."""
    load_average = os.getloadavg()[0]
    real = real_steps()
    predicted = [simulated(measured, step.rate, n) for n, step in enumerate(real)]
    return 0 if show_check(real, predicted, load_average) else 1


def _number(least: float, most: float, kind: type = float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    return number


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="capacity", description=__doc__)
    add = made.add_argument
    add("--messages-per-s", type=_number(0.1, 20_000), default=50, help="in the busiest minutes")
    add("--model-s", type=_number(0.05, 120), default=4, help="the model's time for a turn, its "
        "rounds with tools included")  # fmt: skip
    add("--cores", type=_number(1, 64, int), default=2, help="of every host")
    add("--memory-gb", type=_number(1, 1024), default=4, help="of every host")
    add("--spare", type=_number(0, 10, int), default=1, help="hosts of web and of workers that may "
        "be lost")  # fmt: skip
    add("--burst", type=_number(1, 20), default=1.5, help="messages that a contact writes one after "
        "another, on average")  # fmt: skip
    add("--gap-s", type=_number(0.1, 60), default=3, help="between two of them, on average")
    add("--every-s", type=_number(1, 3600), default=60, help="a contact that is writing writes a "
        "message so often")  # fmt: skip
    add("--debounce-s", type=_number(0, 60), default=0.8, help="DEBOUNCE_MS, in seconds")
    add("--twilio-s", type=_number(0, 15), default=0.2, help="Twilio's time for a reply")
    add("--peak-to-mean", type=_number(1, 100), default=3, help="messages/s of the busiest minutes ÷ "
        "the mean of the day: for the memory of Redis")  # fmt: skip
    add("--messages-of-contact", type=_number(1, 1000), default=10, help="in a day: for the memory "
        "of Redis")  # fmt: skip
    add("--text-bytes", type=_number(1, 10_000), default=200, help="of a message or a reply: for the "
        "memory of Redis")  # fmt: skip
    add("--seed", type=int, default=1, help="of the random arrivals")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--measure", action="store_true", help=f"write {FILE.name} anew (about 3 "
        "minutes)")  # fmt: skip
    which.add_argument(
        "--check", action="store_true", help="compare with the real service (about 3 minutes)"
    )
    which.add_argument("--table", action="store_true", help="print the tables of docs/capacity.md")
    return made


if __name__ == "__main__":
    sys.exit(main())
