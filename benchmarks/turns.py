"""Our own time per turn: everything besides the model's and Twilio's answers, at a steady rate.

Messages of many contacts go into the mailbox of one worker process (debounce 0, model without delay).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence

import requests

from benchmarks.lab import cpu_s, median, quantile, show
from benchmarks.service_lab import ACCOUNT_SID, Lab, lab, number
from service.conversation.event import Event, encode
from service.conversation.mailbox import Inbound
from service.demo.emulators.phone import inbound_form


def inbound(n: int, bots: int, contacts: int = 1_000_000) -> Inbound:
    """The nth message, of the nth contact (modulo `contacts`)."""
    bot = n % bots
    form = inbound_form(ACCOUNT_SID, number(bot), f"+5698{n % contacts:07d}", f"mensaje {n}")
    event = Event(form["MessageSid"], "message", f"bot_{bot}", int(time.time() * 1000), form)
    event = Event(event.id, event.kind, event.bot_id, event.at_ms, form, encode(event))
    return Inbound(event, f"client_{bot}", number(bot), form["From"])


def stage_times(bench: Lab) -> dict[str, tuple[float, int]]:
    """Seconds and count of each stage so far, from the metrics of the host."""
    from prometheus_client.parser import text_string_to_metric_families

    from service.metrics import exposition

    container = bench.container
    _ = container.metrics
    text = exposition(container.mailbox, None, 0).decode()
    container.close()
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        if family.name == "horizon_stage_seconds":
            for sample in family.samples:
                if sample.name.endswith(("_sum", "_count")):
                    stage = found.setdefault(sample.labels["stage"], {})
                    stage[sample.name.rpartition("_")[2]] = sample.value
    return {name: (stage["sum"], int(stage["count"])) for name, stage in found.items()}


def measure_in(
    bench: Lab, urls: Mapping[str, str], rate: int, seconds: int, bots: int, run: int = 0
) -> dict[str, float]:
    """Send at `rate` messages/s to the first `bots`, and answer with a worker that starts anew.

    Times in ms from acceptance to the reply at the messenger. `run` tells repeats in one lab apart.
    """
    container = bench.container
    start = run * rate * seconds
    with bench.worker() as pid:
        for n in range(20):
            container.mailbox.accept(inbound(900_000 + run * 20 + n, bots))
        bench.wait_idle()
        before, cpu = stage_times(bench), cpu_s(pid)
        accepted: dict[str, float] = {}
        started = time.monotonic()
        for n in range(rate * seconds):
            while time.monotonic() - started < n / rate:
                time.sleep(0.0005)
            message = inbound(start + n, bots)
            accepted[message.sender] = time.time()
            container.mailbox.accept(message)
        bench.wait_idle()
        cpu = cpu_s(pid) - cpu
        after = stage_times(bench)
    container.close()
    sent = {
        request["body"]["To"]: request["at"]
        for request in requests.get(f"{urls['twilio']}/_emulator/requests", timeout=30).json()
        if request["path"].endswith("/Messages.json")
    }
    figures = {"cpu_ms": cpu / len(accepted) * 1000, "turns": float(len(accepted))}
    for stage in ("own", "open", "model", "send", "finish", "turn"):
        seconds_of, count = (a - b for a, b in zip(after[stage], before[stage], strict=True))
        figures[stage] = seconds_of / count * 1000
    offset = time.time() - time.monotonic()
    waits = [(sent[to] + offset - at) * 1000 for to, at in accepted.items()]
    figures |= {"p50": quantile(waits, 0.5), "p99": quantile(waits, 0.99)}
    return figures


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure."""
    return {name: median([run[name] for run in runs]) for name in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--bots", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with lab() as bench, bench.emulators() as urls:
        bench.add_bots(options.bots)
        figures = medians(
            [
                measure_in(bench, urls, options.rate, options.seconds, options.bots, run)
                for run in range(options.runs)
            ]
        )
    show(
        f"A turn at {options.rate} turns/s, model and Twilio without delay of their own (ms, medians of "
        f"{options.runs} runs)",
        ["accept → at Twilio p50", "p99", "own mean", "open", "model", "send", "finish", "CPU"],
        [
            [f"{figures[name]:.1f}"
             for name in ("p50", "p99", "own", "open", "model", "send", "finish", "cpu_ms")]
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
