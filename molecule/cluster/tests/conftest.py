"""The machines of a cluster, and one bot that echoes."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))
sys.path.insert(0, str(Path(__file__).parents[3]))

from machine import EPHEMERAL, ROOT, address_of, made, on, wait_for
from steady_load import Load, echoed
from versions import Versions

BALANCER, WEB1, WEB2, WORK = "cluster-bal", "cluster-web1", "cluster-web2", "cluster-work"
NEW = "cluster-new"
REDIS = (BALANCER, WEB1, WORK)
COUNTED_S = 5
"""Until every process of web counts a replica that has come back: it looks every 2 s."""
DOMAIN = "cluster.horizon.test"
RATE = 50


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    """With a failure goes what the Sentinels and Redis have said meanwhile: the machines are gone then."""
    report = yield
    if call.when == "call" and report.failed:
        since = f"--since @{int(call.start) - 5}"
        for machine in (BALANCER, WEB1, WEB2, WORK):
            units = "-u redis-sentinel -u redis-server -u 'horizonai-bots*'"
            said = on(machine, f"journalctl {units} {since} -o short-precise --no-hostname")
            report.sections.append((machine, said))
        failed = "tail -n 300 /var/log/nginx/error.log 2>/dev/null || true"
        report.sections.append(("nginx", on(BALANCER, failed)))
        report.sections.append(("answers of nginx", answers(int(call.start) - 5)))
    return report


def answers(since: int) -> str:
    """How many requests ended in each second, by what nginx and what the web hosts said, and how soon."""
    ended: Counter[tuple[str, str, str, str]] = Counter()
    for line in on(BALANCER, "tail -n 40000 /var/log/nginx/horizonai-bots.access.log").splitlines():
        entry = json.loads(line)
        at = datetime.fromisoformat(entry["time"])
        if at.timestamp() >= since:
            seconds = f"{int(float(entry['seconds']))} s"
            ended[f"{at:%H:%M:%S}", entry["status"], entry["service_status"], seconds] += 1
    return "\n".join(f"{count:5} {' | '.join(what)}" for what, count in sorted(ended.items()))


@pytest.fixture(scope="session")
def load() -> Iterator[Load]:
    with echoed(WEB2, address_of(BALANCER), DOMAIN, RATE) as running:
        yield running


@pytest.fixture(scope="session")
def versions() -> Versions:
    return Versions(ROOT, EPHEMERAL / "repository")


def ask_sentinel(machine: str, *words: str) -> list[str]:
    """What the Sentinel of this machine says."""
    command = f"redis-cli -p 26379 --no-auth-warning --user sentinel {' '.join(words)}"
    password = made()["vault_redis_sentinel_password"]
    return on(machine, f"REDISCLI_AUTH={password} {command}").splitlines()


def primary(machine: str = BALANCER) -> str:
    """The machine with Redis's primary, by the Sentinel of this machine."""
    address = ask_sentinel(machine, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "horizon")[0]
    return next(each for each in (*REDIS, NEW) if address_of(each) == address)


def sentinels(machine: str) -> int:
    """How many there are, as the one of this machine knows."""
    words = ask_sentinel(machine, "SENTINEL", "MASTER", "horizon")
    return int(words[words.index("num-other-sentinels") + 1]) + 1


def info_period_ms(machine: str) -> int:
    """How often the Sentinel of this machine asks who follows whom."""
    words = ask_sentinel(machine, "SENTINEL", "DEBUG")
    return int(words[words.index("INFO-PERIOD") + 1])


def make_primary(machine: str, among: Sequence[str] = REDIS) -> None:
    """By a fail-over that leaves no other choice. Sentinels hear of priorities and roles every second."""
    others = [each for each in among if each != machine]
    if (now := primary()) != machine:
        # One that is behind would be chosen all the same, for want of another.
        wait_for(lambda: _is_online(machine, now), 120, f"{machine} has what {now} has")
        time.sleep(COUNTED_S)
        for other in others:
            as_admin(other, "CONFIG SET replica-priority 0")
        wait_for(lambda: _fails_over_to(machine), 120, f"{machine} is the primary")
        for other in others:
            as_admin(other, "CONFIG SET replica-priority 100")
    wait_for(lambda: _replicas(machine) == len(others), 120, "all replicas")
    # What they still took for a replica that may not lead could be no primary of the next fail-over.
    # And one that a Sentinel has last heard of as the primary it was would be made a replica again, by
    # that Sentinel, when the two meet after a partition: docs/decisions/0022-sentinel.md.
    for word, said in (("slave-priority", "100"), ("role-reported", "slave")):
        wanted = [(each, word, [said] * len(others)) for each in among]
        for each, field, heard in wanted:
            wait_for(lambda e=each, f=field, h=heard: _heard(e, f) == h, 120, f"{word} of replicas")


def as_admin(machine: str, words: str) -> str:
    password = "$(cat /etc/redis/horizonai-bots.admin)"
    return on(machine, f"REDISCLI_AUTH={password} redis-cli --no-auth-warning --user admin {words}")


def _fails_over_to(machine: str) -> bool:
    if primary() != machine:
        # It refuses while another one runs, and when it knows no good replica yet.
        ask_sentinel(BALANCER, "SENTINEL", "FAILOVER", "horizon")
        time.sleep(5)
    return primary() == machine


def _heard(machine: str, field: str) -> list[str]:
    """What the Sentinel of this machine has last heard from each replica."""
    words = ask_sentinel(machine, "SENTINEL", "REPLICAS", "horizon")
    return [after for word, after in pairwise(words) if word == field]


def _is_online(replica: str, primary_: str) -> bool:
    address = address_of(replica)
    return re.search(rf"ip={address},port=\d+,state=online", _replication(primary_)) is not None


def _replicas(machine: str) -> int:
    return _replication(machine).count("state=online")


def _replication(machine: str) -> str:
    return as_admin(machine, "INFO replication")


CUT = """
nft add table inet cut
nft add chain inet cut in '{ type filter hook input priority -10; }'
nft add chain inet cut out '{ type filter hook output priority -10; }'
"""


def cut(machine: str, *others: str) -> None:
    """No packet comes to this machine from those, nor goes to them."""
    rules = [CUT]
    for other in others:
        address = address_of(other)
        rules.append(f"nft add rule inet cut in ip saddr {address} drop")
        rules.append(f"nft add rule inet cut out ip daddr {address} drop")
    on(machine, "\n".join(rules))


def join(machine: str) -> None:
    on(machine, "nft delete table inet cut")
