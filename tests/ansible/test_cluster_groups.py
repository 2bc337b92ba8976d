"""What follows from the groups of an inventory: parts, rules, sizes, and which Redis is the primary."""

from __future__ import annotations

from typing import Any

import pytest

from service.store import database
from tests.ansible.cluster import GROUPS
from tests.ansible.inventories import (
    ADDRESSES,
    HOSTS,
    all_problems,
    cluster,
)

PORTS = {"web": 8000, "redis": 6379, "sentinel": 26379, "postgresql": 5432}


def test_a_server_of_its_own_carries_everything() -> None:
    groups = {"all": ["bots1"], "horizon": ["bots1"], "full": ["bots1"]}

    assert cluster.parts(groups, "bots1") == list(cluster.PARTS)
    assert cluster.rules(groups, "bots1", {}, PORTS) == []
    assert all_problems(groups, ["bots1"], {"bots1": {}}, {}) == []


def test_a_host_carries_what_its_groups_say() -> None:
    assert cluster.parts(GROUPS, "bal1") == ["balancer", "redis"]
    assert cluster.parts(GROUPS, "work1") == ["workers", "database"]


def test_each_port_is_open_to_those_that_need_it_alone() -> None:
    found = {
        (host, rule["port"], rule["source"])
        for host in HOSTS
        for rule in cluster.rules(GROUPS, host, HOSTS, PORTS)
    }

    web = {("web1", 8000, "10.0.0.1"), ("web2", 8000, "10.0.0.1")}
    database = {("work1", 5432, "10.0.0.2"), ("work1", 5432, "10.0.0.3")}
    redis = {
        (host, port, ADDRESSES[other])
        for host in GROUPS["redis"]
        for other in HOSTS
        for port in (6379, 26379)
        if other != host
    }
    assert found == web | database | redis


def test_balancers_hear_each_other_and_nobody_else() -> None:
    groups = {**GROUPS, "balancer": ["bal1", "web1"]}

    found = {
        host: [rule for rule in cluster.rules(groups, host, HOSTS, PORTS) if "protocol" in rule]
        for host in HOSTS
    }

    assert found == {
        "bal1": [{"protocol": 112, "source": "10.0.0.2"}],
        "web1": [{"protocol": 112, "source": "10.0.0.1"}],
        "web2": [],
        "work1": [],
    }


def test_networks_hold_one_address_each() -> None:
    assert cluster.networks(["web1", "work1", "web1"], HOSTS) == ["10.0.0.2/32", "10.0.0.4/32"]
    assert cluster.networks(["six"], {"six": {"cluster_address": "fd00::4"}}) == ["fd00::4/128"]


def test_the_database_takes_the_pools_of_all_processes_twice() -> None:
    hosts = {**HOSTS, "web1": {"app_web_workers": 4}, "web2": {"app_workers": 1}}

    needed = 2 * (4 + 2 + 1 + 2) * 16
    assert needed + cluster.OTHER_CONNECTIONS <= cluster.connections(GROUPS, hosts) == 400
    assert database._POOL_SIZE == cluster.POOL_SIZE


def look(role: str = "master", keys: int = 0, follows: str = "", told: Any = ()) -> dict[str, Any]:
    return {"role": role, "keys": keys, "follows": follows, "told": list(told)}


NODES = {"bal1": "10.0.0.1", "web1": "10.0.0.2", "web2": "10.0.0.3"}


@pytest.mark.parametrize(
    ("looks", "address"),
    [
        ([look("absent"), look("absent"), look("absent")], "10.0.0.1:6379"),
        ([look(), look(), look()], "10.0.0.1:6379"),
        # A server that has become a cluster.
        ([look(), look(keys=9), look("absent")], "10.0.0.2:6379"),
        # Sentinels that have lost their files.
        ([look("slave", 9, "10.0.0.3:6379"), look("absent"), look()], "10.0.0.3:6379"),
        # One that was cut off still names the old one.
        (
            [look(told=(3, "10.0.0.3", 6379)), look(keys=9, told=(2, "10.0.0.2", 6379)), look()],
            "10.0.0.3:6379",
        ),
    ],
)
def test_the_primary_is_found(looks: list[dict[str, Any]], address: str) -> None:
    found = cluster.primary(dict(zip(NODES, looks, strict=True)), NODES, 6379)

    assert (found["address"], found["problem"]) == (address, "")


def test_two_servers_with_data_are_a_persons_matter() -> None:
    looks = {"bal1": look(keys=1), "web1": look(keys=2), "web2": look()}

    assert (
        "bal1 and web1 each have a Redis with data"
        in (cluster.primary(looks, NODES, 6379)["problem"])
    )


def test_a_part_of_the_hosts_does_not_say_who_is_the_primary() -> None:
    assert "(web1, web2 was not)" in cluster.primary({"bal1": look()}, NODES, 6379)["problem"]
    sure = cluster.primary({"bal1": look(told=(1, "10.0.0.2", 6379))}, NODES, 6379)
    assert sure["host"] == "10.0.0.2"


def test_a_primary_that_the_inventory_does_not_name_is_not_dropped() -> None:
    looks = {host: look("slave", 9, "10.0.0.9:6379", (1, "10.0.0.9", 6379)) for host in NODES}

    found = cluster.primary(looks, NODES, 6379)

    assert "name 10.0.0.9:6379 as the primary, and no host of the group" in found["problem"]
    assert "-e state=absent -e part=redis" in found["problem"]
