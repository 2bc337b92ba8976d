"""Whether finding a bot costs the same with 10 bots and with 10,000: acknowledgement and turns."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.acknowledge import PATH, measure, write_requests, wrk_script
from benchmarks.lab import show
from benchmarks.service_lab import lab
from benchmarks.turns import measure as measure_turns


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
        turns = measure_turns(20, options.seconds * 2, bots)
        figures = {"cpu_us": web["cpu_us"], "rate": web["rate"], "p50": turns["p50"]}
        first = first or figures
        rows.append(
            [
                f"{bots:,}",
                f"{figures['cpu_us'] / first['cpu_us']:.2f}",
                f"{figures['p50'] / first['p50']:.2f}",
                f"{figures['cpu_us']:.0f}",
                f"{figures['rate']:.0f}",
                f"{figures['p50']:.1f}",
            ]
        )
    show(
        f"Growth in bots (POST {PATH} at 32 connections; turns at 20/s)",
        ["bots", "ack ÷ first", "turn ÷ first", "ack CPU µs", "acks per second", "turn p50 ms"],
        rows,
    )


if __name__ == "__main__":
    main()
