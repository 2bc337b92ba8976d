"""Which inventories no cluster can be made of, and which hosts cannot leave it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.cluster import GROUPS, inventory, play
from tests.ansible.inventories import (
    ADDRESSES,
    HOSTS,
    all_problems,
    checks,
    problems,
)


def test_a_good_inventory_has_no_problem() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"groups": {"workers": []}}, "The group workers has no host."),
        ({"groups": {"balancer": []}}, "The group balancer has no host."),
        ({"groups": {"web": []}}, "The group web has no host."),
        ({"groups": {"redis": []}}, "The group redis has no host."),
        ({"groups": {"redis": ["web1"]}}, "The group redis has 1 host, each with a Sentinel"),
        ({"groups": {"redis": ["web1", "web2"]}}, "The group redis has 2 hosts, each with a"),
        ({"groups": {"redis": ["web1"]}}, "redis_acknowledge_on_replica is true, and there is no"),
        ({"groups": {"database": []}}, "several hosts cannot share an SQLite file."),
        (
            {"groups": {"database": []}, "app_database_url": "sqlite:////x.db"},
            "several hosts cannot share an SQLite file.",
        ),
        ({"groups": {"database": ["web1", "web2"]}}, "database has 2 hosts (web1, web2)"),
        ({"app_database_url": "postgresql://db.example.test/x"}, "There are two databases"),
        ({"groups": {"web": ["web1", "other"]}}, "other is not in the group horizon."),
        ({"groups": {"balancer": ["web1"], "redis": ["web1", "web2", "work1"]}}, "bal1 is in the"),
        ({"hosts": {**HOSTS, "web1": {}}}, "web1 has no cluster_address."),
        (
            {"hosts": {**HOSTS, "web1": {"cluster_address": "127.0.0.1"}}},
            "which is no address",
        ),
        ({"hosts": {**HOSTS, "web1": {"cluster_address": "web1.lan"}}}, "which is no address"),
        ({"hosts": {**HOSTS, "web1": HOSTS["web2"]}}, "web2 has the cluster_address 10.0.0.3 of"),
        (
            {
                "hosts": {
                    **HOSTS,
                    "web1": {"cluster_address": "FD00:0::4"},
                    "work1": {"cluster_address": "fd00::4"},
                }
            },
            "work1 has the cluster_address fd00::4 of web1",
        ),
        (
            {"hosts": {**HOSTS, "work1": {"cluster_address": "fd00::4"}}},
            "work1 has a cluster_address of IPv6, and the others have one of IPv4",
        ),
        ({"hosts": {**HOSTS, "web1": {"cluster_address": "10.0.0.2/24"}}}, "which is no address"),
        ({"hosts": {**HOSTS, "web1": {"cluster_address": "169.254.1.2"}}}, "which is no address"),
        ({"hosts": {**HOSTS, "web1": {"cluster_address": "8.8.8.8"}}}, "public cluster_address"),
        (
            {"hosts": {**HOSTS, "work1": {**HOSTS["work1"], "postgresql_enabled": False}}},
            "postgresql_enabled is False for work1",
        ),
        (
            {
                "groups": {"database": []},
                "hosts": {**HOSTS, "web1": {**HOSTS["web1"], "postgresql_enabled": "yes"}},
                "app_database_url": "postgresql://u:p@db.example.test/x",
            },
            "postgresql_enabled is yes for web1",
        ),
        (
            {"hosts": {**HOSTS, "web2": {**HOSTS["web2"], "vault_secret_key": "another"}}},
            "vault_secret_key is not the same for bal1, web1, work1 and web2.",
        ),
        (
            {"hosts": {**HOSTS, "bal1": {**HOSTS["bal1"], "redis_acknowledge_on_replica": False}}},
            "redis_acknowledge_on_replica is not the same for bal1 and web1, web2, work1.",
        ),
        ({"vault_redis_sentinel_password": None}, "vault_redis_sentinel_password is missing"),
        (
            {"vault_redis_sentinel_password": "CHANGE_ME"},
            "vault_redis_sentinel_password is missing",
        ),
    ],
)
def test_a_wrong_inventory_is_told_with_what_to_change(
    changes: dict[str, Any], sentence: str
) -> None:
    assert any(sentence in problem for problem in problems(**changes)), problems(**changes)


@pytest.mark.parametrize(
    ("groups", "sentences"),
    [
        ({}, []),
        ({"web": ["web1"]}, ["The group web has one host, web1"]),
        ({"workers": ["work1"]}, ["The group workers has one host, work1"]),
        (
            {"web": ["web1"], "workers": ["web1"]},
            ["The group web has one host, web1", "The group workers has one host, web1"],
        ),
    ],
)
def test_a_host_that_may_not_be_lost_is_told_once(
    groups: dict[str, list[str]], sentences: list[str]
) -> None:
    told = {
        host: [
            finding["problem"].partition(":")[0]
            for finding in checks.warnings({**GROUPS, **groups}, host, list(HOSTS), HOSTS)
        ]
        for host in HOSTS
    }

    assert told == {**{host: [] for host in HOSTS}, "bal1": sentences}


def test_preflight_knows_what_the_inventory_says(tmp_path: Path) -> None:
    """Its templates, its roles' defaults and what belongs to a later role, as Ansible has them."""
    hosts = {host: {"cluster_address": address} for host, address in ADDRESSES.items()}
    file = inventory(
        tmp_path,
        {**GROUPS, "workers": ["work1"], "redis": []},
        hosts,
        ansible_become=False,
        redis_enabled=False,
        app_redis_port=6380,
        app_database_url="sqlite:///{{ inventory_dir }}/x.db",
        app_settings={"SPOOL_DIR": "{{ app_home }}/s", "DB_HOST": "{{ app_domain }}"},
        app_postgresql_host="{{ app_domain }}{{ app_home }}",
    )

    run = play(file, "site.yml", "--tags", "preflight")

    told = re.findall(r"\d\. (.*?) +Remedy:", " ".join(run.stdout.replace("\\n", " ").split()))
    assert sorted(set(told)) == [
        "There are two databases: the group database, and app_database_url.",
        "app_settings has DB_HOST for bal1, web1, web2, work1, which the groups say.",
        "redis_enabled is false, and no Redis is named that all hosts reach.",
    ], run.stdout


def test_groups_that_are_all_misspelled_make_no_single_servers() -> None:
    (found,) = all_problems({"horizon": list(HOSTS), "webs": ["web1"]}, list(HOSTS), HOSTS, {})

    assert "bal1, web1, web2, work1 has a cluster_address" in found["problem"]


def test_each_host_has_the_address_at_which_it_is_looked_for() -> None:
    hosts = {**HOSTS, "work1": {"cluster_address": "fd00::4"}}

    def found(*interfaces: str) -> list[Any]:
        told: list[Any] = checks.address_problems(GROUPS, "work1", hosts, interfaces)
        return told

    assert found("127.0.0.1", "192.0.2.7", "fd00:0::4") == []
    assert found() == []
    (wrong,) = found("127.0.0.1", "10.0.0.4", "fe80::1%eth0")
    assert wrong["problem"] == "No interface of work1 has its cluster_address fd00::4."
    assert checks.address_problems({}, "work1", hosts, ["10.0.0.5"]) == []


INSTALLED = {"bal1": ["balancer", "redis"], "web1": ["web", "redis"], "web2": ["web", "redis"]}


def moved(host: str, installed: Any = INSTALLED, **groups: list[str]) -> list[str]:
    found = checks.move_problems({**GROUPS, **groups}, host, {"work1": [], **installed})
    assert all(each["remedy"] for each in found)
    return [each["problem"] for each in found]


def test_nothing_moves_when_the_hosts_have_what_the_inventory_says() -> None:
    assert all(moved(host) == [] for host in HOSTS)
    # Nothing is installed yet, or it is not known.
    assert all(moved(host, {}, web=["work1"]) == [] for host in HOSTS)


def test_a_redis_or_a_balancer_is_taken_away_first() -> None:
    (redis,) = moved("web2", redis=["bal1", "web1", "work1"])
    (balancer,) = moved("bal1", balancer=["web1"])

    assert redis == "web2 is not in the group redis any more, and the Redis there is still in use."
    assert balancer == "bal1 is the balancer, and not in the group balancer any more."
    # Another one that works stays.
    both = {**INSTALLED, "web1": ["balancer", "web", "redis"]}
    assert moved("bal1", both, balancer=["web1"]) == []


def test_web_does_not_leave_all_its_hosts_at_once() -> None:
    assert moved("web1", web=["work1"]) == [
        "None of the hosts that take messages now stays in the group web."
    ]
    assert moved("web1", web=["web2", "work1"]) == []
    # Whether another one stays is not known of hosts that were not looked at.
    assert checks.move_problems({**GROUPS, "web": ["web2"]}, "web1", {"web1": ["web"]}) == []
    # A server that was alone goes on answering by itself until the others do.
    alone = {"bal1": ["balancer", "web", "redis"], "web1": [], "web2": []}
    assert moved("bal1", alone) == []


@pytest.mark.parametrize(
    ("hosts", "sentence"),
    [
        (["web1", "web2"], "name the one that is meant with --limit"),
        (["work1"], "work1 has the database."),
        (["bal1"], "bal1 is the only host of balancer"),
        (["web1"], "Without web1 the group redis has fewer than 3 hosts"),
    ],
)
def test_what_cannot_be_done_without_stays(hosts: list[str], sentence: str) -> None:
    assert any(sentence in problem for problem in checks.removal_problems(GROUPS, hosts))


def test_a_part_can_go_alone() -> None:
    more = {**GROUPS, "balancer": ["bal1", "work1"], "redis": ["bal1", "web1", "web2", "work1"]}

    assert checks.removal_problems(more, ["work1"], "redis") == []
    assert checks.removal_problems(more, ["work1"], "balancer") == []
    (few,) = checks.removal_problems(GROUPS, ["web1"], "redis")
    assert "fewer than 3 hosts" in few
    (only,) = checks.removal_problems(GROUPS, ["bal1"], "balancer")
    assert "the only host of balancer" in only


@pytest.mark.parametrize(
    ("groups", "host", "part", "sentence"),
    [
        (GROUPS, "web1", "balancer", "web1 is not in the group balancer, so nothing is taken away"),
        (GROUPS, "gone", "", "gone is not in any group, so nothing is taken away"),
        ({}, "bots1", "redis", "bots1 is a server of its own"),
    ],
)
def test_what_a_host_does_not_carry_is_not_taken_away(
    groups: Any, host: str, part: str, sentence: str
) -> None:
    (found,) = checks.removal_problems(groups, [host], part)

    assert sentence in found


def test_another_host_can_go() -> None:
    groups = {**GROUPS, "web": ["web1", "web2", "web3"]}

    assert checks.removal_problems(groups, ["web3"]) == []


def test_one_of_two_balancers_can_go() -> None:
    groups = {**GROUPS, "balancer": ["bal1", "bal2"]}

    assert checks.removal_problems(groups, ["bal2"]) == []
