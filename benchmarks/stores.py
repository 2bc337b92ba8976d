"""A turn on SQLite and on PostgreSQL, both writing through to the disk."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from benchmarks.lab import show
from benchmarks.service_lab import lab, postgresql_lab
from benchmarks.turns import measure_in, medians

BOTS = 10
COLUMNS = ("p50", "p99", "own", "open", "finish", "cpu_ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as started:
        labs = {
            "SQLite": started.enter_context(lab()),
            "PostgreSQL": started.enter_context(postgresql_lab()),
        }
        urls = {name: started.enter_context(bench.emulators()) for name, bench in labs.items()}
        for bench in labs.values():
            bench.add_bots(BOTS)
        for run in range(options.runs):
            for name, bench in labs.items():
                found = measure_in(bench, urls[name], options.rate, options.seconds, BOTS, run)
                runs.setdefault(name, []).append(found)
    rows = []
    first = 0.0
    for name in labs:
        figures = medians(runs[name])
        first = first or figures["p50"]
        rows.append(
            [name, f"{figures['p50'] / first:.2f}", *(f"{figures[c]:.1f}" for c in COLUMNS)]
        )
    show(
        f"A turn at {options.rate} turns/s by database (ms, medians of {options.runs} runs)",
        ["", "p50 ÷ SQLite", "accept → at Twilio p50", "p99", "own mean", "open", "finish", "CPU"],
        rows,
    )


if __name__ == "__main__":
    main()
