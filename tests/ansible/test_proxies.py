"""Proxies of the inventory reach every program of a server, and their passwords nobody else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.conftest import REPOSITORY, load

known = load("filter_plugins/horizon_proxies.py")
PROXY = "http://bots:s3cret@proxy.agency.test:3128"
GROUPS = {"horizon": ["bots1", "bots2"]}
HOSTS: dict[str, dict[str, Any]] = {"bots1": {"cluster_address": "10.0.0.1"}, "bots2": {}}


def tasks() -> list[tuple[str, dict[str, Any]]]:
    """Tasks of all roles, blocks opened, with the role's file."""
    found = []

    def walk(name: str, entries: list[dict[str, Any]]) -> None:
        for entry in entries or ():
            found.append((name, entry))
            for part in ("block", "rescue", "always"):
                walk(name, entry.get(part, []))

    for path in sorted(REPOSITORY.glob("roles/*/tasks/*.yml")):
        walk(str(path.relative_to(REPOSITORY)), yaml.safe_load(path.read_text()))
    return found


def test_both_spellings_are_set_and_loopback_and_servers_are_reached_directly() -> None:
    found = known.proxies({"HTTPS_PROXY": PROXY, "no_proxy": "crm.test, ::1"}, GROUPS, HOSTS)

    assert found["https_proxy"] == found["HTTPS_PROXY"] == PROXY
    assert "http_proxy" not in found
    assert found["no_proxy"] == found["NO_PROXY"] == "crm.test,::1,localhost,127.0.0.1,10.0.0.1"


def test_one_proxy_for_all_is_one_for_each_protocol() -> None:
    found = known.proxies({"all_proxy": PROXY}, {}, {})

    assert found["http_proxy"] == found["https_proxy"] == PROXY


@pytest.mark.parametrize(
    "environment", [{}, {"PIP_INDEX_URL": "x"}, {"no_proxy": "x"}, {"http_proxy": None}]
)
def test_without_a_proxy_there_are_no_variables(environment: dict[str, Any]) -> None:
    assert known.proxies(environment, GROUPS, HOSTS) == {}
    assert known.apt_settings({}) == ""


def test_apt_has_the_proxies_and_what_it_reaches_directly() -> None:
    found = known.proxies({"http_proxy": PROXY, "no_proxy": "mirror.test,.lan"}, {}, {})

    assert known.apt_settings(found) == (
        f'Acquire::http::Proxy "{PROXY}";\n'
        'Acquire::http::Proxy::mirror.test "DIRECT";\n'
        'Acquire::http::Proxy::127.0.0.1 "DIRECT";\n'
    )


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"http_proxy": PROXY, "HTTP_PROXY": PROXY},
        {"https_proxy": "https://[2001:db8::1]:3128/", "no_proxy": "10.0.0.0/8,.lan,*.test,::1"},
        {"https_proxy": "http://a:p%40ss@10.0.0.9:8080"},
        {"PIP_INDEX_URL": "https://u:p@pypi.test/simple?x=y", "http_proxy": ""},
    ],
)
def test_what_can_be_used_is_taken(environment: dict[str, str]) -> None:
    assert known.problems(environment) == []


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ("http://proxy:3128", "is no dictionary"),
        ({"https-proxy": PROXY}, "'https-proxy', which is no name"),
        ({"https_proxy": "proxy.test:3128"}, "https_proxy in common_environment is no address"),
        ({"https_proxy": "http://proxy.test"}, "is no address of a proxy"),
        ({"https_proxy": "http://:3128"}, "is no address of a proxy"),
        ({"https_proxy": "http://proxy.test:99999"}, "is no address of a proxy"),
        ({"HTTP_PROXY": "socks5://proxy.test:1080"}, "HTTP_PROXY in common_environment is no addr"),
        ({"all_proxy": "http://u:p#q@proxy.test:1"}, "is no address of a proxy"),
        ({"http_proxy": "http://u:s3cret@proxy test:1"}, "is no address of a proxy"),
        ({"no_proxy": "http://crm.test/a b;c"}, "is no list of hosts"),
        ({"http_proxy": PROXY, "HTTP_PROXY": "http://other:1"}, "http_proxy and HTTP_PROXY"),
        ({"PIP_INDEX_URL": "a\nb"}, "is no text on one line"),
        ({"no_proxy": ["crm.test"]}, "is no text on one line"),
    ],
)
def test_what_cannot_be_used_is_told_without_its_value(environment: Any, sentence: str) -> None:
    (problem,) = known.problems(environment)

    assert sentence in problem["problem"]
    assert "s3cret" not in str(problem)


def test_no_task_carries_the_variables_on_its_command_line() -> None:
    """Where Ansible becomes root, sudo writes a task's `environment` into the system's log."""
    assert [(name, task["name"]) for name, task in tasks() if "environment" in task] == []


def test_no_unit_carries_the_variables_in_a_file_that_everybody_reads() -> None:
    templates = [*REPOSITORY.glob("roles/*/templates/*.service*")]
    carrying = [
        path.name for path in templates if re.search(r"Environment=.*\{\{", path.read_text())
    ]

    assert carrying == []


@pytest.mark.parametrize(
    "path",
    [
        "roles/common/tasks/proxy.yml",
        "roles/certbot/tasks/configure.yml",
        "roles/backup/tasks/configure.yml",
        "roles/app/tasks/configure.yml",
    ],
)
def test_files_with_the_variables_are_for_few_and_show_no_difference(path: str) -> None:
    secret = [
        task
        for name, task in tasks()
        if name == path
        for action in ("ansible.builtin.template", "ansible.builtin.copy")
        if action in task and task[action].get("mode") in ("0600", "0640")
    ]

    assert secret
    assert all(task.get("diff") is False for task in secret)


def test_the_settings_of_the_service_have_the_proxies() -> None:
    variables = yaml.safe_load(Path(REPOSITORY / "roles/app/vars/main.yml").read_text())

    assert "horizon_proxies(groups, hostvars)" in variables["app_env"]
