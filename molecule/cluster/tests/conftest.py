"""The machines of a cluster, and one bot that echoes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))
sys.path.insert(0, str(Path(__file__).parents[3]))

from installed import add_bot
from machine import EPHEMERAL, ROOT, SCENARIO, address_of, made, on, wait_for
from steady_load import Load
from versions import Versions

BALANCER, WEB1, WEB2, WORK = "cluster-bal", "cluster-web1", "cluster-web2", "cluster-work"
NEW = "cluster-new"
DOMAIN = "cluster.horizon.test"
NUMBER = "+56226660001"
RATE = 50


@pytest.fixture(scope="session")
def bot() -> str:
    add_bot(WEB2, NUMBER, "Echo, so that every message is found again in its answer.")
    return str(json.loads(on(WEB2, "horizonctl bots list --json"))[0]["id"])


@pytest.fixture(scope="session")
def load(bot: str) -> Iterator[Load]:
    secrets = made()
    running = Load(
        *(address_of(BALANCER), DOMAIN, NUMBER, bot),
        *(secrets["vault_twilio_account_sid"], secrets["vault_twilio_auth_token"]),
    )
    running.start(RATE)
    yield running
    running.end()


@pytest.fixture(scope="session")
def versions() -> Versions:
    return Versions(ROOT, EPHEMERAL / "repository")


def private_address_of(machine: str) -> str:
    """Also of one that does not run."""
    inventory = yaml.safe_load((SCENARIO / "inventory/hosts.yml").read_text(encoding="utf-8"))
    return str(inventory["machines"]["hosts"][machine]["cluster_address"])


def stop(machine: str) -> None:
    """As a power cut does it."""
    subprocess.run(["docker", "kill", machine], check=True, capture_output=True)


def start(machine: str) -> None:
    subprocess.run(["docker", "start", machine], check=True, capture_output=True)
    wait_for(lambda: _is_up(machine), 90, f"{machine} is up")


def _is_up(machine: str) -> bool:
    command = ["docker", "exec", machine, "systemctl", "is-system-running"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return told in ("running", "degraded")


def ask_sentinel(machine: str, *words: str) -> list[str]:
    """What the Sentinel of this machine says."""
    command = f"redis-cli -p 26379 --no-auth-warning --user sentinel {' '.join(words)}"
    password = made()["vault_redis_sentinel_password"]
    return on(machine, f"REDISCLI_AUTH={password} {command}").splitlines()


def primary(machine: str = BALANCER) -> str:
    """The machine with Redis's primary, by the Sentinel of this machine."""
    address = ask_sentinel(machine, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "horizon")[0]
    return next(each for each in (BALANCER, WEB1, WORK) if private_address_of(each) == address)


def make_primary(machine: str) -> None:
    """By a fail-over that leaves no other choice; Sentinels look at the priorities each 10 s."""
    others = [each for each in (BALANCER, WEB1, WORK) if each != machine]
    if primary() != machine:
        for other in others:
            as_admin(other, "CONFIG SET replica-priority 0")
        wait_for(lambda: _fails_over_to(machine), 90, f"{machine} is the primary")
        for other in others:
            as_admin(other, "CONFIG SET replica-priority 100")
    wait_for(lambda: _replicas(machine) == 2, 60, "two replicas")


def as_admin(machine: str, words: str) -> str:
    password = "$(cat /etc/redis/horizonai-bots.admin)"
    return on(machine, f"REDISCLI_AUTH={password} redis-cli --no-auth-warning --user admin {words}")


def _fails_over_to(machine: str) -> bool:
    if primary() != machine:
        # It refuses while another one runs, and when it knows no good replica yet.
        ask_sentinel(BALANCER, "SENTINEL", "FAILOVER", "horizon")
        time.sleep(5)
    return primary() == machine


def _replicas(machine: str) -> int:
    return as_admin(machine, "INFO replication").count("state=online")


CUT = """
nft add table inet cut
nft add chain inet cut in '{ type filter hook input priority -10; }'
nft add chain inet cut out '{ type filter hook output priority -10; }'
"""


def cut(machine: str, *others: str) -> None:
    """No packet comes to this machine from those, nor goes to them."""
    rules = [CUT]
    for other in others:
        address = private_address_of(other)
        rules.append(f"nft add rule inet cut in ip saddr {address} drop")
        rules.append(f"nft add rule inet cut out ip daddr {address} drop")
    on(machine, "\n".join(rules))


def join(machine: str) -> None:
    on(machine, "nft delete table inet cut")
