"""Which inventories give the hosts no Redis or no database that they could share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from jinja2 import Undefined

from service.setting_rules import database_address
from tests.ansible.cluster import GROUPS
from tests.ansible.conftest import REPOSITORY
from tests.ansible.inventories import (
    HOSTS,
    SECRET,
    VALUES,
    all_problems,
    problems,
    sides,
    stores,
    with_variables,
)


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
    (found,) = all_problems(
        {**GROUPS, "database": []}, list(HOSTS), HOSTS, {**VALUES, "app_database_url": url}
    )

    assert f"The group database has no host, and app_database_url {sentence}" in found["problem"]
    assert "postgresql://user:password@db.example.org:5432/name" in found["remedy"]
    assert SECRET not in str(found)


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
        (
            {"hosts": {host: {**HOSTS[host], "app_postgresql_port": 5433} for host in HOSTS}},
            "app_postgresql_port is not what postgresql_port is for bal1, web1, web2, work1.",
        ),
        (
            {"hosts": {host: {**HOSTS[host], "app_postgresql_user": "bots"} for host in HOSTS}},
            "app_postgresql_user is not what postgresql_user is for",
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
        {
            host: {**HOSTS[host], "app_postgresql_port": 5433, "postgresql_port": "5433"}
            for host in HOSTS
        },
        # The service's side follows.
        {host: {**HOSTS[host], "postgresql_port": 5433, "redis_port": 6380} for host in HOSTS},
        with_variables("web1", redis_bind="127.0.0.1 10.0.0.2"),
        with_variables("work1", postgresql_listen="*"),
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


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"app_redis_port": 6380}, "app_redis_port is not what redis_port is for bots1."),
        (
            {"app_postgresql_password": SECRET, "vault_postgresql_password": f"{SECRET}2"},
            "app_postgresql_password is not what postgresql_password is for bots1.",
        ),
        (
            {"app_postgresql_database": "x"},
            "app_postgresql_database is not what postgresql_database is for bots1.",
        ),
        ({"redis_bind": "10.0.0.5"}, "redis_bind of bots1 does not name 127.0.0.1"),
        ({"postgresql_listen": "10.0.0.5, ::1"}, "postgresql_listen of bots1 does not name 127."),
    ],
)
def test_a_service_that_is_sent_elsewhere_than_its_own_stores_is_told(
    variables: dict[str, Any], sentence: str
) -> None:
    host = {"postgresql_enabled": True, **variables}

    (found,) = sides.problems({}, ["bots1"], {"bots1": host})

    assert sentence in found["problem"]
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    "variables",
    [
        {"redis_port": 6380, "postgresql_port": 5433, "postgresql_password": SECRET},
        {"app_redis_port": "6380", "redis_port": 6380},
        {"app_redis_port": 6380, "redis_enabled": False, "redis_bind": "10.0.0.5"},
        {"app_redis_port": 6380, "app_redis_host": "10.0.0.9"},
        {"app_postgresql_port": 5433, "app_postgresql_host": "10.0.0.9"},
        {"app_postgresql_port": 5433, "postgresql_enabled": False, "app_use_postgresql": True},
        {"app_postgresql_password": SECRET, "vault_postgresql_password": SECRET},
        {"redis_bind": "127.0.0.1 -::1", "postgresql_listen": "localhost, 10.0.0.5"},
    ],
)
def test_a_service_that_finds_its_stores_is_left_alone(variables: dict[str, Any]) -> None:
    host = {"postgresql_enabled": True, **variables}

    assert sides.problems({}, ["bots1"], {"bots1": host}) == []


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
    (found,) = all_problems(groups, list(hosts), hosts, {**VALUES, **changes})

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
        *stores.DATABASE_SETTINGS,
        *stores.REDIS_SETTINGS,
        *stores.SENTINEL_SETTINGS,
    }


def test_a_server_of_its_own_is_told_of_the_roles_variable() -> None:
    variables = {"app_settings": {"DB_HOST": "db.lan", "REDIS_SENTINELS": "10.0.0.9:26379"}}
    hosts = {"bots1": variables, "bots2": {}}

    assert all_problems({}, ["bots1", "bots2"], hosts, {}) == []
    assert stores.warnings({}, "bots2", hosts) == []
    (found,) = stores.warnings({}, "bots1", hosts)
    assert found["problem"].startswith("app_settings has DB_HOST, which")
    assert "app_postgresql_host" in found["remedy"]


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
    (found,) = stores.database_problems(GROUPS, host, HOSTS, present)

    assert sentence in found["problem"]
    assert "work1 (10.0.0.4), where it would find none" in found["problem"]


def test_the_database_that_is_used_already_is_no_other_one() -> None:
    hosts = {**HOSTS, "work1": {"cluster_address": "FD00:0::4"}}

    assert stores.database_problems(GROUPS, "web1", HOSTS, "10.0.0.4") == []
    assert stores.database_problems(GROUPS, "web1", hosts, "fd00::4") == []
    assert stores.database_problems(GROUPS, "web1", HOSTS, "") == []
    for local in ("127.0.0.1", "localhost", "::1", "/run/postgresql"):
        assert stores.database_problems(GROUPS, "work1", HOSTS, local) == []
    assert stores.database_problems({**GROUPS, "database": []}, "web1", HOSTS, "sqlite") == []
    assert stores.database_problems({}, "web1", HOSTS, "sqlite") == []
