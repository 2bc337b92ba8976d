"""Whether finding a bot costs the same with 10 bots and with 10,000: acknowledgement and turns."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.acknowledge import PATH, WEBHOOK, Subject, measure, write_requests, wrk_script
from benchmarks.lab import median, show
from benchmarks.service_lab import lab
from benchmarks.turns import measure_in

ACTIVE = 10
"""Bots whose contacts write in the first turn figure; in the second, every turn is another bot's."""
TURN_RUNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bots", type=int, nargs="+", default=[10, 10_000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory()))
        labs = {bots: started.enter_context(lab()) for bots in options.bots}
        urls = {bots: started.enter_context(bench.emulators()) for bots, bench in labs.items()}
        subjects = {}
        for bots, bench in labs.items():
            requests, script = folder / f"requests-{bots}", folder / f"{bots}.lua"
            write_requests(requests, 24_000, bots)
            script.write_text(wrk_script(requests, 12_000))
            bench.add_bots(bots)
            subjects[str(bots)] = Subject(bench, WEBHOOK, script, 32)
        # Long enough for both processes to have met every bot.
        warm_up_s = 2 + max(options.bots) // 500
        acknowledged = measure(subjects, options.seconds, options.runs, warm_up_s)
        for bench in labs.values():
            bench.empty_redis()
        steady: dict[int, list[float]] = {bots: [] for bots in labs}
        each: dict[int, list[float]] = {bots: [] for bots in labs}
        for run in range(TURN_RUNS):
            for bots, bench in labs.items():
                for number, found, active in (
                    (2 * run, steady[bots], min(ACTIVE, bots)),
                    (2 * run + 1, each[bots], bots),
                ):
                    turn = measure_in(bench, urls[bots], 20, options.seconds * 2, active, number)
                    found.append(turn["p50"])
    rows = []
    first: dict[str, float] = {}
    for bots in labs:
        web = acknowledged[str(bots)]
        figures = {
            "cpu_us": web["cpu_us"],
            "rate": web["rate"],
            "p50": median(steady[bots]),
            "each_p50": median(each[bots]),
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
