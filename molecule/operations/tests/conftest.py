"""One machine with a bot, and everything of it that the tests use."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest

import ansible.module_utils

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))
from installed import add_bot
from machine import EPHEMERAL, address_of, made, typed, vendors, wait_for
from message import deliver, message, tell_vendor, wait_for_reply

ansible.module_utils.__path__.append(str(Path(__file__).parents[3] / "ansible/module_utils"))

MACHINE = "operations-bookworm"
DOMAIN = "operations.horizon.test"
NUMBER = "+56226660001"


@pytest.fixture(scope="session", autouse=True)
def bot() -> None:
    wait_for(
        lambda: "ok" in typed(MACHINE, "sudo horizonctl health || true"), 60, "healthy service"
    )
    add_bot(MACHINE, NUMBER)


def ctl(words: str, *, stdin: str = "") -> Any:
    """What a command of horizonctl says as JSON."""
    return json.loads(typed(MACHINE, f"sudo horizonctl {words} --json", stdin=stdin))


def write(number: str, text: str = "Hola") -> str:
    """A contact of Twilio's writes to the number, over HTTPS with the real chain; the contact."""
    vault = made()
    contact = f"+569{secrets.randbelow(10**8):08}"
    form = message(number, contact, text, vault["vault_twilio_account_sid"])
    tell_vendor(vendors()["twilio"], "heard", form)
    root = (EPHEMERAL / "acme/root.crt").read_text()
    token = vault["vault_twilio_auth_token"]
    assert deliver(DOMAIN, address_of(MACHINE), form, token, root) == 200
    return contact


def answers(number: str = NUMBER) -> bool:
    """A message gets its reply."""
    return bool(wait_for_reply(vendors()["twilio"], write(number)))


def told(output: str) -> str:
    """A playbook's words without its line ends."""
    return " ".join(output.split())
