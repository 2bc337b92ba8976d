"""Memory and CPU of one worker process that carries many turns at once: a burst, a slow model."""

from __future__ import annotations

import argparse
import time

import requests

from benchmarks.lab import cpu_s, memory_mb, show, wait_until
from benchmarks.service_lab import lab
from benchmarks.turns import inbound

MOST_MB = 300


def measure(turns: int, model_delay_s: float, bots: int) -> dict[str, float]:
    """One burst of `turns` conversations; peak memory is sampled while the model answers."""
    settings = {"WORKER_THREADS": str(turns), "LOG_LEVEL": "WARNING"}
    with lab(**settings) as bench, bench.emulators(model_delay_s) as urls:
        bench.add_bots(bots)
        container = bench.container
        with bench.worker() as pid:
            idle_mb, cpu = memory_mb(pid), cpu_s(pid)
            started = time.monotonic()
            for n in range(turns):
                container.mailbox.accept(inbound(n, bots))
            peak_mb, leased = 0.0, 0

            def done() -> bool:
                nonlocal peak_mb, leased
                peak_mb = max(peak_mb, memory_mb(pid))
                depth = container.mailbox.depth()
                leased = max(leased, depth.leased)
                return depth.due == 0 and depth.leased == 0

            wait_until(done, model_delay_s * 5 + 120, "the end of the burst")
            taken, cpu = time.monotonic() - started, cpu_s(pid) - cpu
        asked = requests.get(f"{urls['twilio']}/_emulator/requests", timeout=60).json()
        sent = [request for request in asked if request["path"].endswith("/Messages.json")]
        state = requests.get(f"{urls['openai']}/_emulator/state", timeout=60).json()
        container.close()
    return {
        "idle_mb": idle_mb,
        "peak_mb": peak_mb,
        "leased": leased,
        "taken_s": taken,
        "cpu_s": cpu,
        "sent": len(sent),
        "in_model": state.get("peak_in_flight", 0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, nargs="+", default=[100, 500, 1000])
    parser.add_argument("--model-delay", type=float, default=30)
    parser.add_argument("--bots", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for turns in options.turns:
        figures = measure(turns, options.model_delay, options.bots)
        rows.append(
            [
                str(turns),
                f"{figures['in_model']:.0f}",
                f"{figures['peak_mb']:.0f}",
                "reached" if figures["peak_mb"] <= MOST_MB else "short",
                f"{figures['idle_mb']:.0f}",
                f"{figures['taken_s']:.1f}",
                f"{figures['cpu_s']:.1f}",
                f"{figures['sent']:.0f}",
            ]
        )
    show(
        f"A burst of conversations in one worker process, a model of {options.model_delay:g} s",
        ["turns", "at once", "peak MB", "≤ 300 MB", "idle MB", "all done s", "CPU s", "replies"],
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
