"""A turn on SQLite and on PostgreSQL, both writing through to the disk."""

from __future__ import annotations

import argparse

from benchmarks.lab import median, show
from benchmarks.service_lab import lab, postgresql_lab
from benchmarks.turns import measure

COLUMNS = ("p50", "p99", "own", "open", "finish", "cpu_ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    rows = []
    first = 0.0
    for name, make in (("SQLite", lab), ("PostgreSQL", postgresql_lab)):
        runs = [measure(options.rate, options.seconds, 10, make=make) for _ in range(options.runs)]
        figures = {column: median([run[column] for run in runs]) for column in COLUMNS}
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
