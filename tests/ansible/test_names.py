"""A name that nothing here reads is told with the nearest that is read, and others' names are left alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.ansible.cluster import inventory, play
from tests.ansible.conftest import REPOSITORY, load

names = load("filter_plugins/horizon_names.py")


def found(variables: dict[str, Any], others: tuple[str, ...] = ()) -> list[dict[str, str]]:
    written: list[dict[str, str]] = names.name_problems(["bots1"], {"bots1": variables}, others)
    return written


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ngnix_rate_limit", "nginx_rate_limit"),
        ("app_worker", "app_workers"),
        ("app_threads", "app_web_threads"),
        ("redis_max_memory", "redis_maxmemory"),
        ("postgres_enabled", "postgresql_enabled"),
        ("backup_repo", "backup_repository"),
        ("certbot_mail", "certbot_email"),
        ("aler_url", "alert_url"),
        ("cluster_adress", "cluster_address"),
        ("vault_redis_password", "vault_redis_app_password"),
        ("vault_admin_key", "vault_admin_api_key"),
        ("keepalive_address", "keepalived_address"),
    ],
)
def test_a_name_that_nothing_reads_comes_with_the_nearest(name: str, near: str) -> None:
    (finding,) = found({name: "Hidden"})

    assert finding["problem"] == (
        f"There is no variable {name}, which is written for bots1: did you mean {near}?"
    )
    assert finding["remedy"].startswith(f"write {near} instead, or take {name} out.")
    assert "Hidden" not in str(finding)


def test_a_name_like_nothing_is_a_problem_where_it_begins_like_a_roles() -> None:
    (finding,) = found({"redis_zzz": 1})

    assert finding["problem"] == "There is no variable redis_zzz, which is written for bots1."
    assert "preflight_other_variables: [redis_zzz]" in finding["remedy"]
    assert found({"redis_zzz": 1}, ("redis_z*",)) == []


def test_all_hosts_that_have_a_name_are_in_one_finding() -> None:
    hosts = {"a": {"app_worker": 1}, "b": {}, "c": {"app_worker": 2, "ngnix_ipv6": True}}

    problems = [each["problem"] for each in names.name_problems(list(hosts), hosts)]

    assert problems == [
        "There is no variable app_worker, which is written for a, c: did you mean app_workers?",
        "There is no variable ngnix_ipv6, which is written for c: did you mean nginx_ipv6?",
    ]


@pytest.mark.parametrize("name", ["app_home", "app_user", "nginx_tls_directory", "backup_folder"])
def test_what_is_the_same_on_every_server_cannot_be_written(name: str) -> None:
    (finding,) = found({name: "/data"})

    assert f"{name} of bots1 has no effect: it is the same on every server." in finding["problem"]
    assert finding["remedy"] == f"take {name} out."


@pytest.mark.parametrize(
    "variables",
    [
        *({name: "x"} for name in ("my_note", "local_secrets", "grafana_port", "timezone")),
        *({name: "x"} for name in ("ansible_host", "ssh_port", "docker_users", "db_password")),
        *({name: "x"} for name in ("redis_exporter_port", "node_exporter_version", "own_proxy")),
        *({name: "x"} for name in ("php_packages", "ntp_timezone", "mysql_port", "machine_memory")),
        # What another variable reads.
        {"vault_repository": "s3:x", "backup_repository": "{{ vault_repository }}"},
        {"app_prefix": "a", "app_settings": {"LOG_LEVEL": "{{ ['DEBUG', app_prefix] | first }}"}},
    ],
)
def test_names_of_the_operators_own_are_left_alone(variables: dict[str, Any]) -> None:
    assert found(variables) == []


def test_a_text_that_is_no_template_reads_nothing() -> None:
    assert len(found({"vault_repository": "s3:x", "my_note": "see vault_repository"})) == 1


def test_every_variable_that_may_be_written_is_known() -> None:
    known = {*names.option_names(), *names.inventory_names()}

    assert found(dict.fromkeys(known, "x")) == []


@pytest.mark.parametrize(
    ("key", "near"), [("DEBOUCE_MS", "DEBOUNCE_MS"), ("debouce_ms", "DEBOUNCE_MS"), ("FOO", "")]
)
def test_a_setting_that_the_service_does_not_have_is_told(key: str, near: str) -> None:
    (finding,) = found({"app_settings": {key: 900, "LOG_LEVEL": "DEBUG", "https_proxy": "p"}})

    assert finding["problem"] == (
        f"app_settings of bots1 has {key}, and the service has no setting of that name."
    )
    assert (f"write {near} instead" if near else "take it out") in finding["remedy"]


def test_settings_are_those_of_the_service() -> None:
    assert names.setting_names() == {name.upper() for name in Settings.model_fields}


def test_keys_inside_a_variable_are_those_of_its_argument_spec() -> None:
    allowed = [{"port": 1, "source": "::/0"}, {"port": 2, "prot": "udp"}]

    (finding,) = found({"firewall_allow": allowed})
    (kind,) = found({"backup_keep": {"dayly": 7, "weekly": 5}})

    assert "firewall_allow of bots1 has prot, which the role" in finding["problem"]
    assert finding["remedy"] == "write proto."
    assert kind["remedy"] == "write daily."


@pytest.mark.parametrize(
    "folder",
    [*REPOSITORY.glob("inventories/*"), *REPOSITORY.glob("molecule/*/inventory")],
    ids=lambda folder: str(folder.relative_to(REPOSITORY)),
)
def test_no_inventory_of_ours_has_a_name_that_nothing_reads(folder: Path) -> None:
    variables: dict[str, Any] = {}
    for file in folder.glob("group_vars/**/*.yml"):
        variables |= yaml.safe_load(file.read_text(encoding="utf-8")) or {}

    assert names.unread_names(variables) == []


def test_the_list_of_the_vault_is_what_roles_read() -> None:
    files = REPOSITORY.glob("roles/*/*/main.yml")
    read = {name for file in files for name in re.findall(r"\bvault_\w+", file.read_text("utf-8"))}
    listed = yaml.safe_load((REPOSITORY / "ansible/vars/inventory.yml").read_text("utf-8"))

    assert {name for name in read if name in listed["inventory_secrets"]} == {
        *listed["inventory_secrets"]
    }
    assert read <= {*listed["inventory_secrets"]}


def test_preflight_tells_all_of_them_at_once(tmp_path: Path) -> None:
    """And leaves alone what the inventory's own templates read, as Ansible has them."""
    file = inventory(
        tmp_path,
        {},
        {"bots1": {"app_worker": 3}},
        ansible_become=False,
        ngnix_rate_limit="20r/s",
        app_settings={"DEBOUCE_MS": 900, "LOG_LEVEL": "{{ app_level }}"},
        app_level="DEBUG",
        my_note="x",
        redis_port=6380,
        app_redis_port=6379,
    )

    run = play(file, "site.yml", "--tags", "preflight")

    told = re.findall(r"\d\. (.*?) +Remedy:", " ".join(run.stdout.replace("\\n", " ").split()))
    assert sorted(set(told)) == [
        "There is no variable app_worker, which is written for bots1: did you mean app_workers?",
        "There is no variable ngnix_rate_limit, which is written for bots1: did you mean "
        "nginx_rate_limit?",
        "app_redis_port is not what redis_port is for bots1.",
        "app_settings of bots1 has DEBOUCE_MS, and the service has no setting of that name.",
    ], run.stdout
