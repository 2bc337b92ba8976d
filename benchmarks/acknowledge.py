"""How fast the webhook acknowledges signed messages, beside an application that does nothing.

Load comes from `wrk` (Debian's package); CPU time is that of the web processes alone.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.lab import cpu_s, median, show
from benchmarks.service_lab import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL, Lab, lab, number
from service.demo.emulators.phone import inbound_form
from service.web.twilio_request import signature

PATH = "/webhook/whatsapp"
WEBHOOK = "service.wsgi:app"
MOST_CPU = 2.5
MOST_P99_MS = 25
_SCRIPT = """
local threads, requests = 0, nil
function setup(thread) thread:set("part", threads); threads = threads + 1 end
function init()
  requests = {}
  for line in io.lines("%s") do
    requests[#requests + 1] = line:gsub("\\1", "\\r\\n")
  end
end
local pause_ms = %d
if pause_ms > 0 then
  function delay() return pause_ms end
end
local next_one = 0
function request()
  next_one = next_one + 1
  return requests[(part * %d + next_one) %% #requests + 1]
end
function done(summary, latency)
  print(string.format("RESULT %%d %%d %%d %%d %%d", summary.requests,
    summary.errors.status + summary.errors.timeout + summary.errors.read + summary.errors.connect,
    summary.duration, latency:percentile(50), latency:percentile(99)))
end
"""


def wrk_script(requests: Path, second_thread_from: int, pause_ms: int = 0) -> str:
    """wrk's script: each of its two threads goes through the requests from another place.

    Every connection waits `pause_ms` before its next request.
    """
    return _SCRIPT % (requests, pause_ms, second_thread_from)


def write_requests(path: Path, count: int, bots: int) -> None:
    """Distinct signed messages of many contacts, a line each."""
    with open(path, "w") as file:
        for n in range(count):
            form = inbound_form(
                ACCOUNT_SID, number(n % bots), f"+5698{n % 5000:07d}", f"mensaje {n}"
            )
            sign = signature(PUBLIC_URL + PATH, form, AUTH_TOKEN).decode()
            body = urlencode(form)
            head = (
                f"POST {PATH} HTTP/1.1",
                "Host: bots.example.com",
                "User-Agent: TwilioProxy/1.1",
                "Content-Type: application/x-www-form-urlencoded; charset=utf-8",
                f"X-Twilio-Signature: {sign}",
                f"Content-Length: {len(body)}",
            )
            file.write("\1".join((*head, "", body)) + "\n")


def run(port: int, pid: int, script: Path, connections: int, seconds: int) -> dict[str, float]:
    """One run of wrk: requests/s, p99 in ms, CPU µs of the web processes per request."""
    before = cpu_s(pid)
    output = subprocess.run(
        ["wrk", "-t", str(min(2, connections)), "-c", str(connections), "-d", f"{seconds}s",
         "-s", str(script), f"http://127.0.0.1:{port}{PATH}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    used = cpu_s(pid) - before
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if found is None:
        sys.exit(f"wrk said something unexpected:\n{output}")
    requests, errors, duration_us, p50_us, p99_us = map(int, found.groups())
    if errors:
        sys.exit(f"{errors} of {requests} requests failed")
    return {
        "rate": requests / (duration_us / 1e6),
        "p50_ms": p50_us / 1000,
        "p99_ms": p99_us / 1000,
        "cpu_us": used / requests * 1e6,
    }


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: an application of a lab, and what wrk is told."""

    bench: Lab
    module: str
    script: Path
    connections: int
    is_synchronous: bool = False


def measure(
    subjects: Mapping[str, Subject], seconds: int, runs: int, warm_up_s: int = 2
) -> dict[str, dict[str, float]]:
    """Medians of several runs of each, taken in turn: the machine's own speed varies by the minute.

    The first run of each warms up and is not counted.
    """
    results: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}
    with ExitStack() as started:
        running = {}
        for name, subject in subjects.items():
            web = subject.bench.synchronous_web if subject.is_synchronous else subject.bench.web
            running[name] = started.enter_context(web(subject.module))
        for turn in range(runs + 1):
            for name, subject in subjects.items():
                pid, port = running[name]
                subject.bench.forget_messages()
                found = run(
                    port, pid, subject.script, subject.connections, seconds if turn else warm_up_s
                )
                if turn:
                    results[name].append(found)
    return {
        name: {figure: median([found[figure] for found in kept]) for figure in kept[0]}
        for name, kept in results.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--bots", type=int, default=100)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name:
        bench = Acknowledgement(Path(name), options)
        bench.stages()
        bench.connections()


class Acknowledgement:
    """The tables of this page."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._options = options
        self._requests = folder / "requests"
        write_requests(self._requests, 24_000, options.bots)

    def stages(self) -> None:
        """CPU of each stage at the connections' third figure, and the whole at half load."""
        options = self._options
        many = options.connections[-2:][0]
        stages = {
            "hello Falcon application": "benchmarks.hello:app",
            "+ form": "benchmarks.stages:form()",
            "+ signature": "benchmarks.stages:signed()",
            "+ Redis, appendfsync always": "benchmarks.stages:stored()",
            "webhook, appendfsync always": WEBHOOK,
        }
        everysec = "webhook, appendfsync everysec"
        with ExitStack() as labs:
            subjects = {
                name: Subject(self._lab(labs), module, self._script(), many)
                for name, module in stages.items()
            }
            subjects[everysec] = Subject(self._lab(labs, "everysec"), WEBHOOK, self._script(), many)
            found = measure(subjects, options.seconds, options.runs)
            whole = found["webhook, appendfsync always"]
            # So long between two requests of a connection that half of what it can comes in.
            pause_ms = round(1000 * many / (whole["rate"] / 2))
            half = measure(
                {"half": Subject(self._lab(labs), WEBHOOK, self._script(pause_ms), many)},
                options.seconds,
                options.runs,
            )["half"]
        hello = found["hello Falcon application"]
        rows = []
        before = None
        for name in stages:
            rows.append(_row(name, found[name], hello, before))
            before = found[name]
        rows.append(_row(everysec, found[everysec], hello))
        rows.append(_row("webhook at half load", half, hello))
        target = whole["cpu_us"] / hello["cpu_us"]
        show(
            f"Acknowledgement at {many} connections (medians of {options.runs} runs of "
            f"{options.seconds} s). Targets: CPU ≤ {MOST_CPU} × hello: "
            f"{_word(target <= MOST_CPU)}; p99 at half load ≤ {MOST_P99_MS} ms: "
            f"{_word(half['p99_ms'] <= MOST_P99_MS)}",
            ["", "CPU ÷ hello", "CPU µs each", "of this stage", "per second", "p50 ms", "p99 ms"],
            rows,
        )

    def connections(self) -> None:
        """From one connection to many, beside the synchronous design with a model that needs no time."""
        options = self._options
        rows = []
        with ExitStack() as labs:
            ours_lab, hello_lab, classic_lab = (self._lab(labs) for _ in range(3))
            labs.enter_context(classic_lab.emulators())
            for many in options.connections:
                script = self._script()
                found = measure(
                    {
                        "ours": Subject(ours_lab, WEBHOOK, script, many),
                        "hello": Subject(hello_lab, "benchmarks.hello:app", script, many),
                        "classic": Subject(
                            classic_lab, "benchmarks.synchronous:app", script, many, True
                        ),
                    },
                    options.seconds,
                    options.runs,
                )
                rows.append(_connections_row(many, **found))
        show(
            "Acknowledgement by connections; the synchronous design waits for a model that answers at "
            "once",
            [
                "connections",
                "CPU ÷ hello",
                "rate ÷ hello",
                "rate ÷ synchronous",
                "ours/s",
                "p99 ms",
                "hello/s",
                "synchronous/s",
                "its p99 ms",
            ],
            rows,
        )

    def _lab(self, labs: ExitStack, fsync: str = "always") -> Lab:
        bench = labs.enter_context(lab(fsync, TWILIO_AUTH_TOKEN=AUTH_TOKEN))
        bench.add_bots(self._options.bots)
        return bench

    def _script(self, pause_ms: int = 0) -> Path:
        script = self._folder / f"wrk-{pause_ms}.lua"
        script.write_text(wrk_script(self._requests, 12_000, pause_ms))
        return script


def _connections_row(
    many: int, ours: dict[str, float], hello: dict[str, float], classic: dict[str, float]
) -> list[str]:
    return [
        str(many),
        f"{ours['cpu_us'] / hello['cpu_us']:.2f}",
        f"{ours['rate'] / hello['rate']:.2f}",
        f"{ours['rate'] / classic['rate']:.1f}",
        f"{ours['rate']:.0f}",
        f"{ours['p99_ms']:.1f}",
        f"{hello['rate']:.0f}",
        f"{classic['rate']:.0f}",
        f"{classic['p99_ms']:.1f}",
    ]


def _row(
    name: str,
    figures: dict[str, float],
    hello: dict[str, float],
    before: dict[str, float] | None = None,
) -> list[str]:
    return [
        name,
        f"{figures['cpu_us'] / hello['cpu_us']:.2f}",
        f"{figures['cpu_us']:.0f}",
        "" if before is None else f"{figures['cpu_us'] - before['cpu_us']:.0f}",
        f"{figures['rate']:.0f}",
        f"{figures['p50_ms']:.1f}",
        f"{figures['p99_ms']:.1f}",
    ]


def _word(reached: bool) -> str:
    return "reached" if reached else "short"


if __name__ == "__main__":
    main()
