"""One client's 2,000 conversations wait; how long another client's contact waits beside them.

The wait is from acceptance into the mailbox to the arrival of the model's call, with debounce 0.
"""

from __future__ import annotations

import argparse
import time

import requests

from benchmarks.lab import median, quantile, show
from benchmarks.service_lab import lab
from benchmarks.turns import inbound

FLOOD = 2_000
PROBES = 40
GAP_S = 0.4
MODEL_S = 1.0
MOST_FACTOR, MOST_MORE_MS = 2.0, 250.0


def waits_ms(flood: int, probes: int) -> tuple[float, float]:
    """Median and 95th percentile of the quiet client's waits, while the other one floods."""
    with lab(LOG_LEVEL="WARNING", WORKER_THREADS="64") as bench, bench.emulators(MODEL_S) as urls:
        bench.add_bots(2)
        container = bench.container
        for n in range(flood):
            # Even numbers are the first client's: it has written before the worker is there.
            container.mailbox.accept(inbound(2 * n + 2_000_000, 2))
        with bench.worker():
            time.sleep(1)
            accepted = {}
            for n in range(probes):
                message = inbound(2 * n + 1, 2)
                accepted[message.event.fields["Body"]] = time.monotonic()
                container.mailbox.accept(message)
                time.sleep(GAP_S)
            if flood and container.mailbox.depth().due == 0:
                raise RuntimeError("the flood was over before the last message")
            time.sleep(MODEL_S + 2)
        asked = requests.get(f"{urls['openai']}/_emulator/requests", timeout=60).json()
        container.close()
    arrived: dict[str, float] = {}
    for request in asked:
        if request["path"].endswith("/responses"):
            arrived.setdefault(request["body"]["input"][-1]["content"], request["at"])
    found = [(arrived[body] - at) * 1000 for body, at in accepted.items()]
    return quantile(found, 0.5), quantile(found, 0.95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flood", type=int, default=FLOOD)
    parser.add_argument("--probes", type=int, default=PROBES)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    alone = [waits_ms(0, options.probes) for _ in range(options.runs)]
    flooded = [waits_ms(options.flood, options.probes) for _ in range(options.runs)]
    alone_p95, flooded_p95 = (median([p95 for _, p95 in runs]) for runs in (alone, flooded))
    limit = max(MOST_FACTOR * alone_p95, alone_p95 + MOST_MORE_MS)
    show(
        f"Fairness: one client floods {options.flood} conversations, 64 threads, a model "
        f"of {MODEL_S:g} s (accept → model call, ms)",
        ["the other client's contact", "p95 ÷ alone", "p50", "p95", "limit", ""],
        [
            [
                "alone",
                "1.00",
                f"{median([p50 for p50, _ in alone]):.1f}",
                f"{alone_p95:.1f}",
                "",
                "",
            ],
            [
                "beside the flood",
                f"{flooded_p95 / alone_p95:.2f}",
                f"{median([p50 for p50, _ in flooded]):.1f}",
                f"{flooded_p95:.1f}",
                f"{limit:.0f}",
                "reached" if flooded_p95 <= limit else "short",
            ],
        ],
    )


if __name__ == "__main__":
    main()
