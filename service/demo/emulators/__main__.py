"""The three emulators in one process: `python -m service.demo.emulators --openai-port 8801 …`.

Once all listen, one line of JSON with their addresses goes to standard output. The process ends on
SIGTERM, SIGINT and with the process named by `--parent-pid`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from service.demo.emulators import horizon, twilio
from service.demo.emulators.horizon import HorizonEmulator
from service.demo.emulators.openai import OpenAIEmulator
from service.demo.emulators.twilio import TwilioEmulator

KEEP_REQUESTS = 2_000
PARENT_POLL_S = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop; 0 is an ordinary end."""
    options = _parser().parse_args(arguments)
    allow_many_connections()
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if options.parent_pid is not None:
        threading.Thread(target=_watch, args=(options.parent_pid, stopped), daemon=True).start()
    with contextlib.ExitStack() as stack:
        openai = stack.enter_context(
            OpenAIEmulator(
                port=options.openai_port,
                host=options.host,
                model_delay_s=options.model_delay,
                keep_requests=KEEP_REQUESTS,
            )
        )
        twilio_emulator = stack.enter_context(
            TwilioEmulator(
                dict(options.account) or None,
                port=options.twilio_port,
                host=options.host,
                keep_requests=KEEP_REQUESTS,
            )
        )
        horizon_emulator = stack.enter_context(
            HorizonEmulator(
                dict(options.horizon_token) or None,
                port=options.horizon_port,
                host=options.host,
                keep_requests=KEEP_REQUESTS,
            )
        )
        addresses = {
            "openai": f"{openai.url}/v1",
            "twilio": twilio_emulator.url,
            "horizon": horizon_emulator.url,
        }
        print(json.dumps(addresses), flush=True)
        stopped.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service.demo.emulators",
        description="OpenAI, Twilio and Horizon on loopback. Port 0 takes a free one.",
    )
    parser.add_argument("--openai-port", type=int, default=8801)
    parser.add_argument("--twilio-port", type=int, default=8802)
    parser.add_argument("--horizon-port", type=int, default=8803)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--model-delay", type=float, default=0.0, metavar="S", help="seconds before an answer"
    )
    parser.add_argument(
        "--account",
        type=_pair,
        action="append",
        default=[],
        metavar="SID:TOKEN",
        help=f"a Twilio account, repeatable (default {twilio.ACCOUNT_SID}:{twilio.AUTH_TOKEN})",
    )
    parser.add_argument(
        "--horizon-token",
        type=_pair,
        action="append",
        default=[],
        metavar="TOKEN:CLIENT",
        help=f"a Horizon token, repeatable (default {horizon.TOKEN}:demo)",
    )
    parser.add_argument("--parent-pid", type=int, metavar="PID", help="end when this process ends")
    return parser


def _pair(value: str) -> tuple[str, str]:
    first, colon, second = value.partition(":")
    if not first or not colon or not second:
        raise argparse.ArgumentTypeError(f"{value} is not two words with a colon between them")
    return first, second


def allow_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems name a hard limit that they do not grant.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _watch(pid: int, stopped: threading.Event) -> None:
    """Set `stopped` when the process ends, also when it stays a zombie where the system tells."""
    try:
        if hasattr(os, "pidfd_open"):
            select.select([os.pidfd_open(pid)], [], [])
        else:
            while not stopped.wait(PARENT_POLL_S):
                os.kill(pid, 0)
    except ProcessLookupError:
        pass
    stopped.set()


if __name__ == "__main__":
    sys.exit(main())
