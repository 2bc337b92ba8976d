"""What two roles need is said once: the other role derives it, whichever of its names an operator writes."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.cluster import Rendered, render
from tests.ansible.conftest import REPOSITORY, load

ROLES = REPOSITORY / "roles"
DEFAULTS = {
    path.parts[-3]: yaml.safe_load(path.read_text()) or {}
    for path in sorted(ROLES.glob("*/defaults/main.yml"))
}
SET = {name: value for defaults in DEFAULTS.values() for name, value in defaults.items()}
FIXED = {
    name: value
    for path in sorted(ROLES.glob("*/vars/main.yml"))
    for name, value in (yaml.safe_load(path.read_text()) or {}).items()
}
LISTED = {
    name
    for names in yaml.safe_load((REPOSITORY / "ansible/vars/inventory.yml").read_text()).values()
    for name in names
}
sides = load("filter_plugins/horizon_sides.py")
NOT_TWINS = {
    # Where an older installation was; it makes room for ours.
    "/opt/horizonai-bots": {"legacy_folder"},
    "horizonai-bots": {"legacy_sites"},
}
"""Variables that have a value by chance, or for a reason of their own."""
FALLBACK = re.compile(r"\b([a-z]\w*) *\| *default\(('[^']+'|[0-9]+)\)")


def written_files() -> list[Path]:
    kinds = ("tasks", "handlers", "templates", "vars", "defaults")
    files = [path for kind in kinds for path in ROLES.glob(f"*/{kind}/*") if path.is_file()]
    return [*files, *(REPOSITORY / "ansible").rglob("*.yml")]


def test_a_fallback_is_the_default_of_the_role_that_has_the_variable() -> None:
    """A play without that role does not see its defaults, so that others repeat them."""
    wrong = [
        f"{path.relative_to(REPOSITORY)}: {name} falls back to {fallback}, and is {known[name]!r}"
        for known in [SET | FIXED]
        for path in written_files()
        for name, fallback in FALLBACK.findall(path.read_text(encoding="utf-8"))
        if name in known
        and not str(known[name]).startswith("{{")
        and str(known[name]) != fallback.strip("'")
    ]

    assert wrong == []


def telling(name: str, value: Any) -> list[str]:
    """The values by which roles find each other: our paths and names, and ports."""
    if isinstance(value, list):
        return [each for element in value for each in telling(name, element)]
    if isinstance(value, int) and not isinstance(value, bool):
        return [str(value)] if name.endswith("_port") else []
    text = str(value)
    if "{{" in text:
        return []
    return [text] if "horizon" in text else []


def test_no_two_roles_have_the_same_value_of_their_own() -> None:
    """One of them would stay behind when the other is changed."""
    owners: dict[str, set[str]] = defaultdict(set)
    for role, defaults in DEFAULTS.items():
        for name, value in defaults.items():
            for each in telling(name, value):
                if name not in NOT_TWINS.get(each, ()):
                    owners[each].add(f"{role}: {name}")

    twins = {
        value: names
        for value, names in owners.items()
        if len({name.split(":")[0] for name in names}) > 1
    }

    assert twins == {}


def test_what_is_not_derived_cannot_be_changed_at_one_place_alone() -> None:
    """A literal in one role's files that is the default of a variable of another."""
    values = {
        each: name
        for name, value in SET.items()
        for each in telling(name, value)
        if "/" in each and each not in FIXED.values() and name not in NOT_TWINS.get(each, ())
    }
    found = {
        f"{path.relative_to(ROLES)}: {value} of {values[value]}"
        for path in written_files()
        if path.is_relative_to(ROLES)
        for value in values
        if not values[value].startswith(f"{path.relative_to(ROLES).parts[0]}_")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(rf"(?<![\w/-]){re.escape(value)}(?![\w/.-])", line)
        and f"{values[value]} | default('{value}')" not in line
    }

    assert found == set()


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """One server whose Redis and PostgreSQL have other ports, names and passwords than the defaults."""
    return render(
        tmp_path_factory.mktemp("twins"),
        {},
        {"bots1": {"postgresql_enabled": True, "cluster_address": "127.0.0.1"}},
        redis_port=6380,
        redis_app_user="bots",
        redis_app_password="own-password-of-redis",
        redis_backup_password="own-password-of-the-backup",
        postgresql_port=5433,
        postgresql_user="bots",
        postgresql_database="messages",
        postgresql_password="own-password-of-postgresql",
        backup_repository="/srv/backup",
        backup_enabled=False,
    )


@pytest.mark.parametrize(
    "line",
    [
        'REDIS_URL="redis://bots:own-password-of-redis@127.0.0.1:6380/0"',
        'DB_PORT="5433"',
        'DB_USER="bots"',
        'DB_NAME="messages"',
        'DB_PASSWORD="own-password-of-postgresql"',
    ],
)
def test_the_service_goes_to_the_stores_that_the_other_roles_set_up(
    changed: Rendered, line: str
) -> None:
    assert line in changed.text("bots1", "app", "env.j2").splitlines()


def test_the_backup_goes_to_the_same_redis(changed: Rendered) -> None:
    redis = changed.value("bots1", "backup_config.redis")

    assert (redis["port"], redis["password"]) == (6380, "own-password-of-the-backup")


def test_nobody_waits_for_backups_that_are_switched_off(changed: Rendered) -> None:
    assert "BACKUP_STATE_FILE" not in changed.text("bots1", "app", "env.j2")
    assert changed.value("bots1", "alerts_backup_file") == ""


def test_in_a_cluster_they_go_with_the_same_password(tmp_path: Path) -> None:
    groups = {"balancer": ["a"], "web": ["a"], "workers": ["a"], "redis": ["a", "b"]}
    hosts = {"a": {"cluster_address": "10.0.0.1"}, "b": {"cluster_address": "10.0.0.2"}}
    rendered = render(
        tmp_path,
        {**groups, "database": ["b"]},
        hosts,
        redis_port=6380,
        redis_app_password="own-password-of-redis",
        redis_sentinel_name="bots",
        postgresql_port=5433,
    )

    lines = rendered.text("a", "app", "env.j2").splitlines()

    assert 'REDIS_SENTINEL_PASSWORD="own-password-of-redis"' in lines
    assert 'REDIS_SENTINEL_NAME="bots"' in lines
    assert 'DB_PORT="5433"' in lines


def test_a_setting_that_others_follow_is_not_hidden_in_app_settings() -> None:
    settings = {"worker_drain_s": 90, "ALERT_URL": "x", "SPOOL_DIR": "/x", "DEBOUNCE_MS": 900}

    found = sides.warnings("bots1", {"bots1": {"app_settings": settings}})

    assert [finding["remedy"] for finding in found] == [
        "take it out of app_settings, and write app_worker_drain_s instead.",
        "take it out of app_settings: it is the same on every server.",
        "take it out of app_settings, and write alert_url instead.",
    ]


def test_every_setting_that_a_role_writes_is_one_that_others_follow() -> None:
    """Those of the stores are judged with the groups."""
    alone = {name for part in ("always", "optional") for name in FIXED[f"app_env_{part}"]}
    alone |= set(re.findall(r"'(ALERT_\w+)':", FIXED["alerts_env"]))

    assert alone - {"REDIS_URL"} == {*sides.FOLLOWED}
    assert {*sides.FOLLOWED.values()} - {""} <= {*SET, *LISTED, "app_domain"}


def test_defaults_that_filters_know_are_those_of_the_roles() -> None:
    """A filter sees what the inventory says, and not the defaults."""
    cluster = load("filter_plugins/horizon_cluster.py")
    floating = load("filter_plugins/horizon_floating.py")

    known = {store: default for _, store, default in sides.REDIS_SIDES + sides.POSTGRESQL_SIDES}
    known |= dict.fromkeys(("app_web_workers", "app_workers"), str(cluster.PROCESSES))
    known |= {"keepalived_router_id": str(floating.ROUTER_ID)}
    known.pop("postgresql_password")

    assert known == {name: str(SET[name]) for name in known}
