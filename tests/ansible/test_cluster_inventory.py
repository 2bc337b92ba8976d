"""What follows from the groups of an inventory, and which inventories no cluster can be made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Undefined

from service.setting_rules import database_address
from service.store import database
from tests.ansible.cluster import GROUPS, PASSWORDS, inventory, play
from tests.ansible.conftest import REPOSITORY, load

cluster = load("filter_plugins/horizon_cluster.py")

ADDRESSES = {"bal1": "10.0.0.1", "web1": "10.0.0.2", "web2": "10.0.0.3", "work1": "10.0.0.4"}
HOSTS: Mapping[str, Mapping[str, Any]] = {
    host: {"cluster_address": address} for host, address in ADDRESSES.items()
}
PORTS = {"web": 8000, "redis": 6379, "sentinel": 26379, "postgresql": 5432}
VALUES = {**PASSWORDS, "redis_acknowledge_on_replica": True}


def problems(
    groups: Mapping[str, list[str]] | None = None,
    hosts: Mapping[str, Mapping[str, Any]] = HOSTS,
    **values: Any,
) -> list[str]:
    found = cluster.problems({**GROUPS, **(groups or {})}, list(hosts), hosts, {**VALUES, **values})
    assert all(finding["remedy"] for finding in found)
    return [finding["problem"] for finding in found]


def test_a_server_of_its_own_carries_everything() -> None:
    groups = {"all": ["bots1"], "horizon": ["bots1"], "full": ["bots1"]}

    assert cluster.parts(groups, "bots1") == list(cluster.PARTS)
    assert cluster.rules(groups, "bots1", {}, PORTS) == []
    assert cluster.problems(groups, ["bots1"], {"bots1": {}}, {}) == []


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


def test_a_good_inventory_has_no_problem() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@db.example.test/x",
        "postgres://u@10.0.0.9:6432/x?sslmode=require",
        "postgresql+psycopg2://u:p%2F@[fd00::9]:5432/x",
        "postgresql://u:p/w#1@db/x",
        "postgresql://u:p@/x?host=db1.example.test:5432&host=[fd00::9]:5432",
        "postgresql://u:p@/x?host=db1.example.test,fd00::9",
    ],
)
def test_an_external_database_is_what_the_service_takes(url: str) -> None:
    assert problems({"database": []}, app_database_url=url) == []
    assert database_address(url)


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (f"postgresql://u:{SECRET}@127.0.0.1/x", "names the host itself"),
        (f"postgresql://u:{SECRET}@127.1/x", "names no host"),
        (f"postgresql://u:{SECRET}@[::1]:5432/x", "names the host itself"),
        (f"postgresql://u:{SECRET}@LOCALHOST./x", "names the host itself"),
        (f"postgresql://u:{SECRET}@0.0.0.0/x", "names the host itself"),
        (
            f"postgresql://u:{SECRET}@/x?host=db.example.test&host=localhost",
            "names the host itself",
        ),
        (f"postgresql://u:{SECRET}@/x?host=db.example.test,[::1]:5432", "names the host itself"),
        (f"postgresql://u:{SECRET}@db.example.test/x?host=/run/postgresql", "names no host"),
        ("postgresql:///x", "names no host"),
        ("postgresql:///x?host=/run/postgresql", "names no host"),
        (f"postgresql://u:{SECRET}@%2Frun%2Fpostgresql/x", "names no host"),
        ("postgres", "is no address of a database"),
        ("postgresql:x", "is no address of a database"),
        (f"u:{SECRET}@db.example.test/x", "is no address of a database"),
        ("postgresql://…", "names no host"),
        (f"postgresql://u:{SECRET}@db.example.test", "names no database"),
        (f"postgresql://u:{SECRET}@db.example.test/?sslmode=require", "names no database"),
        (
            f"postgresql://u:{SECRET}@db.example.test:port/x",
            "has no number from 1 to 65535 as port",
        ),
        (f"postgresql://u:{SECRET}@db.example.test:0/x", "has no number from 1 to 65535 as port"),
        (f"mysql://u:{SECRET}@db.example.test/x", "begins with mysql://, and the service takes"),
        (f"postgresql+asyncpg://u:{SECRET}@db.example.test/x", "begins with postgresql+asyncpg://"),
    ],
)
def test_an_external_database_that_is_none_is_told_without_its_password(
    url: str, sentence: str
) -> None:
    (found,) = cluster.problems(
        {**GROUPS, "database": []}, list(HOSTS), HOSTS, {**VALUES, "app_database_url": url}
    )

    assert f"The group database has no host, and app_database_url {sentence}" in found["problem"]
    assert "postgresql://user:password@db.example.org:5432/name" in found["remedy"]
    assert SECRET not in str(found)


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


def with_variables(host: str, **variables: Any) -> Mapping[str, Mapping[str, Any]]:
    """The hosts, one of which has more in the inventory."""
    return {**HOSTS, host: {**HOSTS[host], **variables}}


EXTERNAL = {
    "groups": {"database": []},
    "app_database_url": "postgresql://u:p@db.example.test/x",
}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"hosts": with_variables("web1", app_use_postgresql=False)},
            "app_use_postgresql is False for web1, and the group database says something else.",
        ),
        (
            {**EXTERNAL, "hosts": with_variables("work1", app_use_postgresql="yes")},
            "app_use_postgresql is yes for work1, and the group database says something else.",
        ),
        (
            {
                "hosts": {
                    host: {**HOSTS[host], "app_database_url": "sqlite:////x.db"} for host in HOSTS
                }
            },
            "There are two databases: the group database, and app_database_url.",
        ),
        (
            {
                "hosts": {
                    host: {**HOSTS[host], "app_database_url": "mysql://db/x"} for host in HOSTS
                }
            },
            "There are two databases: the group database, and app_database_url.",
        ),
        (
            {"hosts": with_variables("web1", app_postgresql_host="10.0.0.9")},
            "app_postgresql_host is 10.0.0.9 for web1, and PostgreSQL is on work1 (10.0.0.4).",
        ),
        (
            {"hosts": with_variables("web1", app_postgresql_host="localhost")},
            "app_postgresql_host is localhost for web1",
        ),
        (
            {"hosts": with_variables("web1", app_postgresql_host="/run/postgresql")},
            "app_postgresql_host is /run/postgresql for web1",
        ),
        *(
            (
                {"hosts": with_variables("web1", app_settings={name: "x", "DEBOUNCE_MS": 900})},
                f"app_settings has {name.upper()} for web1, which the groups say.",
            )
            for name in (
                *("DATABASE_URL", "DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD", "DB_NAME"),
                *("db_host", "REDIS_URL", "REDIS_SENTINELS", "REDIS_SENTINEL_NAME"),
                *("REDIS_SENTINEL_USER", "REDIS_SENTINEL_PASSWORD", "REDIS_ACKNOWLEDGE_ON_REPLICA"),
            )
        ),
        (
            {**EXTERNAL, "hosts": with_variables("web1", app_settings={"DB_HOST": "10.0.0.9"})},
            "app_settings has DB_HOST for web1, which the groups say.",
        ),
    ],
)
def test_another_variable_does_not_name_another_store(
    changes: dict[str, Any], sentence: str
) -> None:
    (problem,) = problems(**changes)

    assert sentence in problem


@pytest.mark.parametrize(
    "hosts",
    [
        with_variables("web1", app_use_postgresql=True, app_database_url=""),
        with_variables("web1", app_postgresql_host="10.0.0.4"),
        with_variables("web1", app_postgresql_host="work1.lan"),
        with_variables("work1", app_postgresql_host="127.0.0.1"),
        with_variables("web1", app_settings={"DB_SSL_MODE": "require", "REDIS_REPLICA_WAIT_MS": 9}),
        with_variables("web1", app_settings=None),
        with_variables("web1", app_settings="DB_HOST"),
        # What only its role can fill in.
        with_variables("web1", app_use_postgresql=Undefined(), app_settings=Undefined()),
        {host: {**HOSTS[host], "app_database_url": Undefined()} for host in HOSTS},
    ],
)
def test_variables_that_agree_with_the_groups_may_stay(
    hosts: Mapping[str, Mapping[str, Any]],
) -> None:
    assert problems(hosts=hosts) == []


ELSEWHERE: Mapping[str, Any] = {
    "groups": {"redis": []},
    "redis_enabled": False,
    "redis_acknowledge_on_replica": False,
    "vault_redis_sentinel_password": None,
}


@pytest.mark.parametrize(
    "variables",
    [
        {"app_redis_url": "redis://horizon:p@redis.example.test:6379/0"},
        {"app_redis_url": "rediss://redis.example.test"},
        {"app_redis_url": "redis://u:p@[fd00::9]:6379/0"},
        # What its role makes of it is not known here.
        {"app_redis_url": None, "app_redis_host": "10.0.0.9"},
        # The Sentinels know the host.
        {
            "app_redis_url": "redis://horizon:p@127.0.0.1:6379/0",
            "hosts": {
                host: {**HOSTS[host], "app_settings": {"REDIS_SENTINELS": "10.0.0.9:26379"}}
                for host in HOSTS
            },
        },
    ],
)
def test_redis_may_be_elsewhere(variables: dict[str, Any]) -> None:
    assert problems(**{**ELSEWHERE, **variables}) == []


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"app_redis_host": "127.0.0.1"},
        {"app_redis_host": "10.0.0.9", "app_redis_url": f"redis://u:{SECRET}@localhost:6379/0"},
        {"app_redis_url": f"redis://u:{SECRET}@[::1]/0"},
        {"app_redis_url": f"redis://u:{SECRET}@/0"},
        {"app_redis_url": f"redis://u:{SECRET}@[db/0"},
        {"app_redis_url": f"unix://u:{SECRET}@/run/redis.sock"},
        {"app_redis_url": f"http://u:{SECRET}@redis.example.test/"},
        {
            "app_redis_url": "redis://127.0.0.1",
            "hosts": {
                **HOSTS,
                "web1": {**HOSTS["web1"], "app_settings": {"REDIS_SENTINELS": "10.0.0.9:26379"}},
            },
        },
    ],
)
def test_redis_elsewhere_has_an_address_that_all_reach(variables: dict[str, Any]) -> None:
    changes = {**ELSEWHERE, **variables}
    groups, hosts = {**GROUPS, **changes.pop("groups")}, changes.pop("hosts", HOSTS)
    (found,) = cluster.problems(groups, list(hosts), hosts, {**VALUES, **changes})

    assert "redis_enabled is false, and no Redis is named that all hosts reach." in found["problem"]
    assert "app_redis_url: redis://user:password@redis.example.org:6379/0" in found["remedy"]
    assert SECRET not in str(found)


def test_redis_is_in_its_group_or_elsewhere() -> None:
    (problem,) = problems(redis_enabled="no")

    assert problem == (
        "redis_enabled is false, and the group redis names bal1, web1, web2: no Redis and no Sentinel "
        "would run there."
    )


def test_redis_elsewhere_confirms_nothing_for_its_replicas() -> None:
    (problem,) = problems(
        **{
            **ELSEWHERE,
            "app_redis_host": "10.0.0.9",
            "redis_acknowledge_on_replica": True,
        }
    )

    assert problem == "redis_acknowledge_on_replica is true, and holds for the group redis alone."


def test_the_groups_say_every_setting_that_connects_the_hosts() -> None:
    variables = yaml.safe_load((REPOSITORY / "roles/app/vars/main.yml").read_text())
    set_by_the_role = {
        *variables["app_env_postgresql"],
        *variables["app_env_sqlite"],
        *variables["app_env_sentinels"],
    }

    assert set_by_the_role | {"REDIS_URL"} == {
        *cluster.DATABASE_SETTINGS,
        *cluster.REDIS_SETTINGS,
        *cluster.SENTINEL_SETTINGS,
    }


def test_a_server_of_its_own_is_told_of_the_roles_variable() -> None:
    variables = {"app_settings": {"DB_HOST": "db.lan", "REDIS_SENTINELS": "10.0.0.9:26379"}}
    hosts = {"bots1": variables, "bots2": {}}

    assert cluster.problems({}, ["bots1", "bots2"], hosts, {}) == []
    assert cluster.warnings({}, "bots2", ["bots1", "bots2"], hosts) == []
    (found,) = cluster.warnings({}, "bots1", ["bots1", "bots2"], hosts)
    assert found["problem"].startswith("app_settings has DB_HOST, which")
    assert "app_postgresql_host" in found["remedy"]


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
            for finding in cluster.warnings({**GROUPS, **groups}, host, list(HOSTS), HOSTS)
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
    (found,) = cluster.problems({"horizon": list(HOSTS), "webs": ["web1"]}, list(HOSTS), HOSTS, {})

    assert "bal1, web1, web2, work1 has a cluster_address" in found["problem"]


def test_each_host_has_the_address_at_which_it_is_looked_for() -> None:
    hosts = {**HOSTS, "work1": {"cluster_address": "fd00::4"}}

    def found(*interfaces: str) -> list[Any]:
        told: list[Any] = cluster.address_problems(GROUPS, "work1", hosts, interfaces)
        return told

    assert found("127.0.0.1", "192.0.2.7", "fd00:0::4") == []
    assert found() == []
    (wrong,) = found("127.0.0.1", "10.0.0.4", "fe80::1%eth0")
    assert wrong["problem"] == "No interface of work1 has its cluster_address fd00::4."
    assert cluster.address_problems({}, "work1", hosts, ["10.0.0.5"]) == []


@pytest.mark.parametrize(
    ("host", "present", "sentence"),
    [
        ("web1", "10.0.0.9", "in the PostgreSQL of 10.0.0.9, and"),
        # A server that was alone, and is not the database now.
        ("bal1", "10.0.0.9", "in the PostgreSQL of 10.0.0.9, and"),
        ("bal1", "127.0.0.1", "in the PostgreSQL of bal1 itself, and"),
        ("web1", "/run/postgresql", "in the PostgreSQL of web1 itself, and"),
        ("web1", "localhost", "in the PostgreSQL of web1 itself, and"),
        ("web1", "db.example.test", "in the PostgreSQL of db.example.test, and"),
        ("web1", "sqlite", "in the SQLite file of web1, and"),
        ("work1", "sqlite", "in the SQLite file of work1, and"),
    ],
)
def test_the_service_is_not_sent_to_an_empty_database(
    host: str, present: str, sentence: str
) -> None:
    (found,) = cluster.database_problems(GROUPS, host, HOSTS, present)

    assert sentence in found["problem"]
    assert "work1 (10.0.0.4), where it would find none" in found["problem"]


def test_the_database_that_is_used_already_is_no_other_one() -> None:
    hosts = {**HOSTS, "work1": {"cluster_address": "FD00:0::4"}}

    assert cluster.database_problems(GROUPS, "web1", HOSTS, "10.0.0.4") == []
    assert cluster.database_problems(GROUPS, "web1", hosts, "fd00::4") == []
    assert cluster.database_problems(GROUPS, "web1", HOSTS, "") == []
    for local in ("127.0.0.1", "localhost", "::1", "/run/postgresql"):
        assert cluster.database_problems(GROUPS, "work1", HOSTS, local) == []
    assert cluster.database_problems({**GROUPS, "database": []}, "web1", HOSTS, "sqlite") == []
    assert cluster.database_problems({}, "web1", HOSTS, "sqlite") == []


INSTALLED = {"bal1": ["balancer", "redis"], "web1": ["web", "redis"], "web2": ["web", "redis"]}


def moved(host: str, installed: Any = INSTALLED, **groups: list[str]) -> list[str]:
    found = cluster.move_problems({**GROUPS, **groups}, host, {"work1": [], **installed})
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
    assert cluster.move_problems({**GROUPS, "web": ["web2"]}, "web1", {"web1": ["web"]}) == []
    # A server that was alone goes on answering by itself until the others do.
    alone = {"bal1": ["balancer", "web", "redis"], "web1": [], "web2": []}
    assert moved("bal1", alone) == []


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
    assert any(sentence in problem for problem in cluster.removal_problems(GROUPS, hosts))


def test_a_primary_that_the_inventory_does_not_name_is_not_dropped() -> None:
    looks = {host: look("slave", 9, "10.0.0.9:6379", (1, "10.0.0.9", 6379)) for host in NODES}

    found = cluster.primary(looks, NODES, 6379)

    assert "name 10.0.0.9:6379 as the primary, and no host of the group" in found["problem"]
    assert "-e state=absent -e part=redis" in found["problem"]


def test_a_part_can_go_alone() -> None:
    more = {**GROUPS, "balancer": ["bal1", "work1"], "redis": ["bal1", "web1", "web2", "work1"]}

    assert cluster.removal_problems(more, ["work1"], "redis") == []
    assert cluster.removal_problems(more, ["work1"], "balancer") == []
    (few,) = cluster.removal_problems(GROUPS, ["web1"], "redis")
    assert "fewer than 3 hosts" in few
    (only,) = cluster.removal_problems(GROUPS, ["bal1"], "balancer")
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
    (found,) = cluster.removal_problems(groups, [host], part)

    assert sentence in found


def test_another_host_can_go() -> None:
    groups = {**GROUPS, "web": ["web1", "web2", "web3"]}

    assert cluster.removal_problems(groups, ["web3"]) == []


def test_one_of_two_balancers_can_go() -> None:
    groups = {**GROUPS, "balancer": ["bal1", "bal2"]}

    assert cluster.removal_problems(groups, ["bal2"]) == []
