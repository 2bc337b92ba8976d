"""Whole answers: a burst of contacts writes at once, and the model needs seconds. Beside the classic
synchronous design, which asks the model inside the webhook.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import requests

from benchmarks.lab import median, quantile, show
from benchmarks.load import Connection
from benchmarks.service_lab import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL, lab, number
from service.demo.emulators.phone import inbound_form
from service.web.twilio_request import signature

PATH = "/webhook/whatsapp"
TWILIO_WAITS_S = 15.0
THREADS = 640
"""WORKER_THREADS of the one worker process: the largest burst fits."""
SYNCHRONOUS_LIMIT_S = 40.0
"""The synchronous design is watched for this long: it would need many minutes for a burst of 500."""
MIN_RATIO = {100: 45, 500: 80}
"""Answers per second ÷ those of the synchronous design, with a model of 2 s."""


@dataclass(frozen=True, slots=True)
class Burst:
    """Seconds from the contact's message to its reply; None for those that came too late or never."""

    waits_s: Sequence[float | None]
    taken_s: float

    @property
    def answered(self) -> list[float]:
        return sorted(wait for wait in self.waits_s if wait is not None)

    @property
    def per_second(self) -> float:
        return len(self.answered) / self.taken_s if self.answered else 0.0

    @property
    def late_share(self) -> float:
        """Share that Twilio's 15 s are too short for."""
        in_time = sum(wait <= TWILIO_WAITS_S for wait in self.answered)
        return 1 - in_time / len(self.waits_s)


def form_of(n: int) -> dict[str, str]:
    """The message of the nth contact."""
    return inbound_form(ACCOUNT_SID, number(0), f"+5698{n:07d}", f"mensaje {n}")


async def post(port: int, form: Mapping[str, str], within_s: float) -> float | None:
    """Seconds until the 200; None when it was none in time."""
    body = urlencode(form).encode()
    sign = signature(PUBLIC_URL + PATH, dict(form), AUTH_TOKEN).decode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: bots.example.com\r\nX-Twilio-Signature: {sign}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    began = time.perf_counter()
    connection = None
    try:
        async with asyncio.timeout(within_s):
            connection = Connection(*await asyncio.open_connection("127.0.0.1", port))
            status, _, _ = await connection.post(head.encode(), body)
    except (TimeoutError, OSError, EOFError):
        return None
    finally:
        if connection is not None:
            connection.close()
    return time.perf_counter() - began if status == 200 else None


def post_all(port: int, forms: Sequence[Mapping[str, str]], within_s: float) -> list[float | None]:
    """All at once; seconds until each one's 200."""

    async def go() -> list[float | None]:
        return await asyncio.gather(*(post(port, form, within_s) for form in forms))

    return asyncio.run(go())


def ours(count: int, model_s: float) -> Burst:
    """Web acknowledges, one worker process answers; a reply counts when Twilio has it."""
    with (
        lab(WORKER_THREADS=str(THREADS), LOG_LEVEL="WARNING") as bench,
        bench.emulators(model_s) as urls,
    ):
        bench.add_bots(1)
        with bench.web() as (_, port), bench.worker():
            forms = [form_of(n) for n in range(count)]
            began = time.time()
            acknowledged = post_all(port, forms, TWILIO_WAITS_S)
            if None in acknowledged:
                raise RuntimeError("a message was not acknowledged")
            time.sleep(model_s)
            # To ask the emulator again and again would take the CPU that answers need.
            bench.wait_idle(model_s * 10 + 60)
        sent = _sent(urls["twilio"])
    if len(sent) != count:
        raise RuntimeError(f"{len(sent)} replies to {count} messages")
    offset = time.time() - time.monotonic()
    ends = {to: at + offset for to, at in sent}
    waits = [ends[form["From"]] - began for form in forms]
    return Burst(waits, max(waits))


def synchronous(count: int, model_s: float) -> Burst:
    """2 sync processes; a reply counts when its HTTP answer came, however late."""
    with lab() as bench, bench.emulators(model_s):
        bench.variables |= {"TWILIO_AUTH_TOKEN": AUTH_TOKEN}
        with bench.synchronous_web("benchmarks.synchronous:app") as (_, port):
            began = time.perf_counter()
            waits = post_all(port, [form_of(n) for n in range(count)], SYNCHRONOUS_LIMIT_S)
            taken_s = time.perf_counter() - began
    return Burst(waits, min(taken_s, SYNCHRONOUS_LIMIT_S))


def _sent(twilio: str) -> list[tuple[str, float]]:
    asked = requests.get(f"{twilio}/_emulator/requests", timeout=60).json()
    return [
        (request["body"]["To"], request["at"])
        for request in asked
        if request["path"].endswith("/Messages.json") and request["method"] == "POST"
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bursts", type=int, nargs="+", default=[100, 500])
    parser.add_argument("--model", type=float, nargs="+", default=[2, 10])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    rows = []
    for model_s in options.model:
        for count in options.bursts:
            classic = synchronous(count, model_s)
            runs = [ours(count, model_s) for _ in range(options.runs)]
            rate = median([run.per_second for run in runs])
            ratio = rate / classic.per_second
            least = MIN_RATIO.get(count) if model_s == 2 else None
            rows.append(
                [
                    f"{count} contacts, {model_s:g} s",
                    f"{ratio:.0f}" + (f" (≥ {least}: {_word(ratio >= least)})" if least else ""),
                    f"{rate:.1f}",
                    f"{classic.per_second:.2f}",
                    f"{median([quantile(run.answered, 0.5) for run in runs]):.1f}",
                    f"{median([run.answered[-1] for run in runs]):.1f}",
                    f"{max(run.late_share for run in runs):.0%}",
                    f"{classic.late_share:.0%}",
                ]
            )
    show(
        f"Whole answers: ours (1 worker process, {THREADS} threads) and synchronous (2 processes, "
        f"watched for {SYNCHRONOUS_LIMIT_S:g} s)",
        [
            "burst, model",
            "ours ÷ synchronous",
            "ours/s",
            "synchronous/s",
            "ours p50 s",
            "ours last s",
            "ours late",
            "synchronous late",
        ],
        rows,
    )


def _word(reached: bool) -> str:
    return "reached" if reached else "short"


if __name__ == "__main__":
    main()
