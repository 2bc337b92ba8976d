"""Two balancers, what holds the address, and one bot that echoes."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))
sys.path.insert(0, str(Path(__file__).parents[3]))

from installed import add_bot
from machine import EPHEMERAL, ROOT, SCENARIO, code_on, made, on, wait_for
from steady_load import Load
from versions import Versions

BASE, ONE, TWO = "balancers-base", "balancers-one", "balancers-two"
BALANCERS = (ONE, TWO)
DOMAIN = "balancers.horizon.test"
FLOATING = "172.29.79.100"
NUMBER = "+56226660001"
RATE = 20
LONGEST_SILENCE_S = 8.0


@pytest.fixture(scope="session")
def bot() -> str:
    add_bot(TWO, NUMBER, "Echo, so that every message is found again in its answer.")
    return str(json.loads(on(TWO, "horizonctl bots list --json"))[0]["id"])


@pytest.fixture(scope="session")
def load(bot: str) -> Iterator[Load]:
    """To the address that floats, whoever has it."""
    secrets = made()
    running = Load(
        *(FLOATING, DOMAIN, NUMBER, bot),
        *(secrets["vault_twilio_account_sid"], secrets["vault_twilio_auth_token"]),
    )
    running.start(RATE)
    yield running
    running.end()


@pytest.fixture(scope="session")
def versions() -> Versions:
    return Versions(ROOT, EPHEMERAL / "repository")


@contextmanager
def event(load: Load, name: str, longest_s: float = LONGEST_SILENCE_S) -> Iterator[None]:
    """What happens in the block interrupts the acknowledgements for no longer than this."""
    since = time.time()
    yield
    time.sleep(5)
    silence = load.silence_s(since, time.time() - 0.5)
    print(f"{name}: {silence:.1f} s without an acknowledgement")
    assert silence <= longest_s


def other(machine: str) -> str:
    return TWO if machine == ONE else ONE


def private_address_of(machine: str) -> str:
    """Also of one that does not run; Docker names the floating one to nobody."""
    inventory = yaml.safe_load((SCENARIO / "inventory/hosts.yml").read_text(encoding="utf-8"))
    return str(inventory["machines"]["hosts"][machine]["cluster_address"])


def holders() -> list[str]:
    """The balancers that have the address, among those that run."""
    command = f"ip -brief -4 address show to {FLOATING} | grep -q ."
    return [machine for machine in BALANCERS if code_on(machine, command) == 0]


def holder() -> str:
    wait_for(lambda: len(holders()) == 1, 20, "one balancer has the address")
    return holders()[0]


def is_holding(machine: str) -> bool:
    return holders() == [machine]


def stop(machine: str) -> None:
    """As a power cut does it."""
    subprocess.run(["docker", "kill", machine], check=True, capture_output=True)


def start(machine: str) -> None:
    subprocess.run(["docker", "start", machine], check=True, capture_output=True)
    wait_for(lambda: _is_up(machine), 90, f"{machine} is up")
    # Docker writes it anew.
    on(machine, f"echo '{FLOATING} {DOMAIN}' >>/etc/hosts")


def _is_up(machine: str) -> bool:
    command = ["docker", "exec", machine, "systemctl", "is-system-running"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return told in ("running", "degraded")


DEAF = """
nft add table inet deaf
nft add chain inet deaf in '{ type filter hook input priority -10; }'
nft add chain inet deaf out '{ type filter hook output priority -10; }'
nft add rule inet deaf in meta l4proto 112 drop
nft add rule inet deaf out meta l4proto 112 drop
"""


def deafen(machine: str) -> None:
    """It hears no balancer any more, nor does any hear it; everything else goes on."""
    on(machine, DEAF)


def undeafen(machine: str) -> None:
    on(machine, "nft delete table inet deaf")


def authority() -> str:
    """The certificate of the test authority's root."""
    gateway = re.match(r"https://([^:]+):", str(made()["certbot_server"]))
    assert gateway is not None
    context = ssl.create_default_context(cafile=str(made()["certbot_ca_file"]))
    url = f"https://{gateway[1]}:15000/roots/0"
    with urllib.request.urlopen(url, context=context, timeout=10) as answer:
        return str(answer.read().decode())
