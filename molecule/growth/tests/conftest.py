"""A server that answers, and its successors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))
sys.path.insert(0, str(Path(__file__).parents[3]))

from installed import add_bot
from machine import address_of, made, on, playbook
from steady_load import Load

OLD, A, B = "growth-old", "growth-a", "growth-b"
DOMAIN = "growth.horizon.test"
NUMBER = "+56226660001"
RATE = 50


@pytest.fixture(scope="session")
def load() -> Iterator[Load]:
    run = playbook("site.yml", inventory="before.yml", postgresql_enabled=False)
    assert run.code == 0, run.output
    add_bot(OLD, NUMBER, "Echo, so that every message is found again in its answer.")
    bot = str(json.loads(on(OLD, "horizonctl bots list --json"))[0]["id"])
    secrets = made()
    running = Load(
        *(address_of(OLD), DOMAIN, NUMBER, bot),
        *(secrets["vault_twilio_account_sid"], secrets["vault_twilio_auth_token"]),
    )
    running.start(RATE)
    yield running
    running.end()
