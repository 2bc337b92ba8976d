"""Whether finding a bot costs the same with 10 bots and with 10,000: acknowledgement and turns."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.acknowledge import PATH, measure, write_requests, wrk_script
from benchmarks.lab import median, show
from benchmarks.service_lab import lab
from benchmarks.turns import measure as measure_turns

ACTIVE = 10
"""Bots whose contacts write in the first turn figure; in the second, every turn is another bot's."""
TURN_RUNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bots", type=int, nargs="+", default=[10, 10_000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    rows = []
    first: dict[str, float] = {}
    for bots in options.bots:
        with tempfile.TemporaryDirectory() as folder, lab() as bench:
            requests, script = Path(folder, "requests"), Path(folder, "wrk.lua")
            write_requests(requests, 24_000, bots)
            script.write_text(wrk_script(requests, 12_000))
            bench.add_bots(bots)
            # Long enough for both processes to have met every bot.
            warm_up_s = 2 + bots // 500
            web = measure(
                bench, "service.wsgi:app", script, 32, options.seconds, options.runs, warm_up_s
            )
        steady = [
            measure_turns(20, options.seconds * 2, bots, active=ACTIVE)["p50"]
            for _ in range(TURN_RUNS)
        ]
        each = [measure_turns(20, options.seconds * 2, bots)["p50"] for _ in range(TURN_RUNS)]
        figures = {
            "cpu_us": web["cpu_us"],
            "rate": web["rate"],
            "p50": median(steady),
            "each_p50": median(each),
        }
        first = first or figures
        rows.append(
            [
                f"{bots:,}",
                f"{figures['cpu_us'] / first['cpu_us']:.2f}",
                f"{figures['p50'] / first['p50']:.2f}",
                f"{figures['each_p50'] / first['each_p50']:.2f}",
                f"{figures['cpu_us']:.0f}",
                f"{figures['rate']:.0f}",
                f"{figures['p50']:.1f}",
                f"{figures['each_p50']:.1f}",
            ]
        )
    show(
        f"Growth in bots (POST {PATH} at 32 connections; turns at 20/s)",
        [
            "bots",
            "ack ÷ first",
            f"turn ÷ first, {ACTIVE} bots",
            "turn ÷ first, all bots",
            "ack CPU µs",
            "acks per second",
            "turn p50 ms",
            "all bots",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
