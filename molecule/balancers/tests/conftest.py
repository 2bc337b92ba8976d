"""Two balancers, what holds the address, and one bot that echoes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))
sys.path.insert(0, str(Path(__file__).parents[3]))

from machine import EPHEMERAL, ROOT, address_of, code_on, on, start, wait_for
from steady_load import Load, echoed
from versions import Versions

BASE, ONE, TWO = "balancers-base", "balancers-one", "balancers-two"
BALANCERS = (ONE, TWO)
DOMAIN = "balancers.horizon.test"
FLOATING = address_of(ONE).rpartition(".")[0] + ".100"
RATE = 20


@pytest.fixture(scope="session")
def load() -> Iterator[Load]:
    """To the address that floats, whoever has it."""
    with echoed(TWO, FLOATING, DOMAIN, RATE) as running:
        yield running


@pytest.fixture(scope="session")
def versions() -> Versions:
    return Versions(ROOT, EPHEMERAL / "repository")


def other(machine: str) -> str:
    return TWO if machine == ONE else ONE


def holders() -> list[str]:
    """The balancers that have the address, among those that run."""
    command = f"ip -brief -4 address show to {FLOATING} | grep -q ."
    return [machine for machine in BALANCERS if code_on(machine, command) == 0]


def holder() -> str:
    wait_for(lambda: len(holders()) == 1, 120, "one balancer has the address")
    return holders()[0]


def is_holding(machine: str) -> bool:
    return holders() == [machine]


def start_again(machine: str) -> None:
    start(machine)
    # Docker writes it anew.
    on(machine, f"echo '{FLOATING} {DOMAIN}' >>/etc/hosts")


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
