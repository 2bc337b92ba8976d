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
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.lab import cpu_s, median, show
from benchmarks.service_lab import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL, Lab, lab, number
from service.demo.emulators.phone import inbound_form
from service.web.twilio_request import signature

PATH = "/webhook/whatsapp"
_SCRIPT = """
local threads, requests = 0, nil
function setup(thread) thread:set("part", threads); threads = threads + 1 end
function init()
  requests = {}
  for line in io.lines("%s") do
    requests[#requests + 1] = line:gsub("\\1", "\\r\\n")
  end
end
local next_one = 0
function request()
  next_one = next_one + 1
  return requests[(part * %d + next_one) %% #requests + 1]
end
function done(summary, latency)
  print(string.format("RESULT %%d %%d %%d %%d", summary.requests,
    summary.errors.status + summary.errors.timeout + summary.errors.read + summary.errors.connect,
    summary.duration, latency:percentile(99)))
end
"""


def wrk_script(requests: Path, second_thread_from: int) -> str:
    """wrk's script: each of its two threads goes through the requests from another place."""
    return _SCRIPT % (requests, second_thread_from)


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
        ["wrk", "-t", "2", "-c", str(connections), "-d", f"{seconds}s", "-s", str(script),
         f"http://127.0.0.1:{port}{PATH}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    used = cpu_s(pid) - before
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+)", output)
    if found is None:
        sys.exit(f"wrk said something unexpected:\n{output}")
    requests, errors, duration_us, p99_us = map(int, found.groups())
    if errors:
        sys.exit(f"{errors} of {requests} requests failed")
    return {
        "rate": requests / (duration_us / 1e6),
        "p99_ms": p99_us / 1000,
        "cpu_us": used / requests * 1e6,
    }


def measure(
    bench: Lab,
    module: str,
    script: Path,
    connections: int,
    seconds: int,
    runs: int,
    warm_up_s: int = 2,
) -> dict[str, float]:
    """Medians of several runs; the first, which warms up, is not counted."""
    with bench.web(module) as (pid, port):
        run(port, pid, script, connections, warm_up_s)
        results = []
        for _ in range(runs):
            # The same messages again: Redis must have forgotten them.
            with bench.redis.client() as client:
                for key in client.scan_iter("hb:seen:*", count=5_000):
                    client.unlink(key)
            results.append(run(port, pid, script, connections, seconds))
    return {name: median([result[name] for result in results]) for name in results[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--bots", type=int, default=100)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        requests, script = Path(folder, "requests"), Path(folder, "wrk.lua")
        write_requests(requests, 24_000, options.bots)
        script.write_text(wrk_script(requests, 12_000))
        hello: dict[str, float] = {}
        for name, module, fsync in (
            ("hello Falcon application", "benchmarks.hello:app", "always"),
            ("webhook, appendfsync always", "service.wsgi:app", "always"),
            ("webhook, appendfsync everysec", "service.wsgi:app", "everysec"),
        ):
            with lab(fsync) as bench:
                bench.add_bots(options.bots)
                figures = measure(
                    bench, module, script, options.connections, options.seconds, options.runs
                )
            hello = hello or figures
            rows.append(
                [
                    name,
                    f"{figures['cpu_us'] / hello['cpu_us']:.2f}",
                    f"{figures['cpu_us']:.0f}",
                    f"{figures['rate']:.0f}",
                    f"{figures['p99_ms']:.1f}",
                ]
            )
    show(
        f"Acknowledgement at {options.connections} connections "
        f"(medians of {options.runs} runs of {options.seconds} s)",
        ["", "CPU ÷ hello", "CPU µs each", "per second", "p99 ms"],
        rows,
    )


if __name__ == "__main__":
    main()
