"""The three emulators as one process: it says where it listens, and it ends when it should."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from tests.server_process import PATIENCE_S

COMMAND = [
    sys.executable,
    "-m",
    "service.demo.emulators",
    *("--openai-port", "0", "--twilio-port", "0", "--horizon-port", "0"),
]


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    process = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        process.stdout.close()


def test_all_three_answer_where_it_says() -> None:
    account = "AC" + "a" * 32
    with running("--account", f"{account}:token", "--horizon-token", "t:client") as (_, urls):
        model = requests.get(
            f"{urls['openai']}/models/gpt-6-luna",
            headers={"Authorization": "Bearer k"},
            timeout=PATIENCE_S,
        )
        messages = requests.get(
            f"{urls['twilio']}/2010-04-01/Accounts/{account}/Messages.json",
            auth=(account, "token"),
            timeout=PATIENCE_S,
        )
        leads = requests.get(
            f"{urls['horizon']}/api/leads/",
            headers={"Authorization": "Bearer t"},
            timeout=PATIENCE_S,
        )

    assert [answer.status_code for answer in (model, messages, leads)] == [200, 200, 200]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it(number: signal.Signals) -> None:
    with running() as (process, _):
        process.send_signal(number)

        assert process.wait(PATIENCE_S) == 0


def test_it_ends_with_its_parent() -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(1000)"]
    with (
        subprocess.Popen(sleep) as parent,
        running("--parent-pid", str(parent.pid)) as (process, _),
    ):
        parent.kill()

        assert process.wait(PATIENCE_S) == 0
