"""The emulated vendors of a run, in a process that no fault touches: `python -m tests.chaos.vendors`.

One line of JSON with their addresses goes to standard output; the end of standard input ends it.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack

from service.demo.emulators.__main__ import allow_many_connections
from service.demo.emulators.horizon import HorizonEmulator
from service.demo.emulators.openai import OpenAIEmulator
from service.demo.emulators.twilio import TwilioEmulator
from tests.chaos.brain import chaos_brain

ACCOUNT_SID = "AC" + "c" * 32
AUTH_TOKEN = "token-of-the-chaos"
HORIZON_TOKEN = "horizon-of-the-chaos"
MODEL_DELAY_S = 0.3
KEEP_REQUESTS = 100


def main() -> None:
    allow_many_connections()
    with ExitStack() as running:
        openai = running.enter_context(
            OpenAIEmulator(chaos_brain, model_delay_s=MODEL_DELAY_S, keep_requests=KEEP_REQUESTS)
        )
        twilio = running.enter_context(
            TwilioEmulator({ACCOUNT_SID: AUTH_TOKEN}, keep_requests=KEEP_REQUESTS)
        )
        horizon = running.enter_context(
            HorizonEmulator({HORIZON_TOKEN: "client"}, keep_requests=KEEP_REQUESTS)
        )
        addresses = {"openai": openai.url, "twilio": twilio.url, "horizon": horizon.url}
        print(json.dumps(addresses), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
