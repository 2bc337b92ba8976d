"""The inventory's values are checked on the controller, and no message repeats a secret."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet

PREFLIGHT = Path(__file__).parents[2] / "roles/preflight/vars/main.yml"
# Not a new one each time: processes that share the tests have to name them alike.
KEY = urlsafe_b64encode(bytes(range(32))).decode()
GOOD: dict[str, Any] = {
    "app_domain": "bots.agency.test",
    "vault_secret_key": KEY,
    "vault_admin_api_key": "A" * 30 + "!~",
    "vault_redis_app_password": "redis-app_1234567",
    "vault_redis_backup_password": "redis-backup_1234567",
    "vault_redis_replication_password": "redis-replication_1",
}


def problems(settings: ModuleType, **changes: Any) -> list[str]:
    """The sentences for good values with some changed."""
    found = settings.setting_problems(GOOD | changes, None)
    assert all(finding["remedy"] for finding in found)
    return [finding["problem"] for finding in found]


def test_good_values_have_no_problem(settings: ModuleType) -> None:
    assert problems(settings) == []
    assert settings.setting_warnings(GOOD) == []


def test_everything_undefined_is_reported_at_once(settings: ModuleType) -> None:
    found = settings.setting_problems({}, None)
    assert [finding["problem"] for finding in found] == [
        "app_domain is missing.",
        "vault_secret_key is missing.",
        "vault_admin_api_key is missing.",
        "vault_redis_app_password is missing.",
        "vault_redis_backup_password is missing.",
        "vault_redis_replication_password is missing.",
    ]
    assert "inventories/<name>/group_vars/all/vault.yml" in found[1]["remedy"]
    assert (
        'vault_secret_key: "<what `.venv/bin/horizonctl key secret` prints>"' in found[1]["remedy"]
    )


def test_remedy_names_the_inventory_that_is_used(
    settings: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    inside = settings.setting_problems({}, str(tmp_path / "inventories" / "mine"))
    outside = settings.setting_problems({}, "/srv/inventory")
    assert "edit inventories/mine/group_vars/all/vault.yml`" in inside[1]["remedy"]
    assert "edit /srv/inventory/group_vars/all/vault.yml`" in outside[1]["remedy"]


@pytest.mark.parametrize("enabled", [True, "yes", "true"])
def test_postgresql_needs_its_password_only_when_it_is_enabled(
    settings: ModuleType, enabled: object
) -> None:
    assert problems(settings, postgresql_enabled=False) == []
    assert problems(settings, postgresql_enabled=enabled) == [
        "vault_postgresql_password is missing."
    ]


def test_redis_elsewhere_needs_no_passwords_here(settings: ModuleType) -> None:
    without = dict.fromkeys(name for name in GOOD if name.startswith("vault_redis"))
    assert problems(settings, redis_enabled=False, **without) == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("vault_secret_key", "", "is empty"),
        ("vault_secret_key", "CHANGE_ME", "still is a placeholder"),
        ("vault_secret_key", "<44 characters>", "still is a placeholder"),
        ("vault_secret_key", KEY[:-1], "it is not 44 characters"),
        ("vault_secret_key", KEY.replace("=", "A"), "it is not 44 characters"),
        ("vault_secret_key", f"{KEY},hunter2hunter2", "key 2 of 2 is not 44 characters"),
        ("vault_secret_key", 12345678, "is not a text"),
        ("vault_admin_api_key", "Q" * 31, "at least 32 characters"),
        ("vault_admin_api_key", "Q" * 31 + " ", "without spaces"),
        ("vault_admin_api_key", "Q" * 31 + "ñ", "printable ASCII"),
        ("vault_admin_api_key", "Q" * 32 + "\n", "printable ASCII"),
        ("vault_redis_app_password", "short-secret", "at least 16 characters"),
        ("vault_redis_app_password", "Secret:With/Signs@1", "only the characters"),
        ("vault_redis_backup_password", "change-me-please-now", "still is a placeholder"),
        ("vault_redis_replication_password", 1234567890123456, "is not a text"),
        ("vault_openai_api_key", "sk-secret with space", "without spaces"),
        ("vault_twilio_auth_token", "CHANGE_ME", "still is a placeholder"),
    ],
)
def test_bad_secret_is_named_and_not_repeated(
    settings: ModuleType, name: str, value: Any, reason: str
) -> None:
    found = settings.setting_problems(GOOD | {name: value}, None)
    assert len(found) == 1
    assert found[0]["problem"].startswith(name)
    assert reason in found[0]["problem"]
    assert f"{name}: " in found[0]["remedy"]
    if value and value not in ("CHANGE_ME", "<44 characters>"):
        assert str(value).split(",")[-1].strip() not in str(found)


BACKUPS: dict[str, Any] = {
    "backup_repository": "sftp:backup@203.0.113.20:/srv/bots",
    "vault_backup_password": "Printable:signs/too&16",
}


def test_no_backups_need_no_password(settings: ModuleType) -> None:
    bad = {"vault_backup_password": "CHANGE_ME", "backup_password": "CHANGE_ME"}
    for off in ({"backup_repository": ""}, {}, BACKUPS | {"backup_enabled": False}):
        assert problems(settings, **off | bad) == []


@pytest.mark.parametrize(
    "repository",
    ["/srv/backup", "sftp:u@h:/folder", "sftp://u@h/folder", "s3:https://host/bucket"],
)
def test_backups_that_can_be_taken_have_no_problem(settings: ModuleType, repository: str) -> None:
    good = BACKUPS | {"backup_repository": repository}
    password = good["vault_backup_password"]
    assert problems(settings, **good) == []
    assert problems(settings, **good, backup_password=password, backup_enabled=True) == []
    # As a block in a file ends; restic takes it without.
    assert problems(settings, **good | {"vault_backup_password": f"{password}\n"}) == []
    only = good | {"vault_backup_password": None}
    assert problems(settings, **only, backup_password=password) == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "is missing"),
        ("", "is empty"),
        ("CHANGE_ME_CHANGE_ME", "still is a placeholder"),
        ("Hidden-of-15-ch", "is too short: at least 16 characters"),
        ("Hidden of more than 16", "is malformed: only printable ASCII characters without spaces"),
        (
            "Hidden-ñ-of-more-than-16",
            "is malformed: only printable ASCII characters without spaces",
        ),
        (1234567890123456, "is not a text"),
    ],
)
def test_bad_password_of_the_backup_is_told_and_not_repeated(
    settings: ModuleType, value: Any, reason: str
) -> None:
    bad = GOOD | BACKUPS | {"vault_backup_password": value, "backup_password": value or ""}
    (found,) = settings.setting_problems(bad, None)
    assert found["problem"].startswith(f"vault_backup_password {reason}")
    assert "vault.yml` and write: vault_backup_password: " in found["remedy"]
    assert not value or str(value) not in str(found)


@pytest.mark.parametrize(("value", "reason"), [("", "is empty"), ("Hidden", "is too short")])
def test_password_that_takes_the_vaults_place_is_told_by_its_own_name(
    settings: ModuleType, value: str, reason: str
) -> None:
    (problem,) = problems(settings, **BACKUPS, backup_password=value)
    assert problem.startswith(f"backup_password {reason}")


@pytest.mark.parametrize(
    "repository", ["backup", "//", "sftp:host", "s3:", "rclone:x:y", "u:Hidden@host", ["/srv"]]
)
def test_repository_that_is_none_is_told_and_not_repeated(
    settings: ModuleType, repository: Any
) -> None:
    bad = GOOD | BACKUPS | {"backup_repository": repository}
    (found,) = settings.setting_problems(bad, None)
    assert found["problem"].startswith("backup_repository is ")
    assert "backup_repository: sftp:backup@203.0.113.20:/srv/bots" in found["remedy"]
    assert "Hidden" not in str(found)


def test_backups_that_are_switched_on_need_a_repository(settings: ModuleType) -> None:
    on = BACKUPS | {"backup_repository": "", "backup_enabled": True}
    assert problems(settings, **on) == ["backup_repository is empty, and backup_enabled is true."]


@pytest.mark.parametrize("value", [None, "", "admin@agency.test"])
def test_an_address_for_the_authority_may_be_left_out(
    settings: ModuleType, value: str | None
) -> None:
    assert problems(settings, certbot_email=value) == []


@pytest.mark.parametrize("value", ["admin", "admin@agency", "a b@agency.test", "a@b@c.test", 7])
def test_malformed_address_for_the_authority_is_a_problem(
    settings: ModuleType, value: object
) -> None:
    (problem,) = problems(settings, certbot_email=value)
    assert problem == f"certbot_email is {value!r}, and no address that mail could go to."


def test_a_variable_of_a_role_takes_the_place_of_the_vaults(settings: ModuleType) -> None:
    none = dict.fromkeys(settings.OF_ROLES)
    own = {settings.OF_ROLES[name]: value for name, value in GOOD.items() if name in none}
    own |= {"postgresql_enabled": True, "postgresql_password": "postgresql_1234567"}

    assert problems(settings, **none, **own) == []
    for name in ("redis_app_password", "postgresql_password", "app_secret_key"):
        (problem,) = problems(settings, **none, **own | {name: "Hidden/1"})
        assert problem.startswith(f"{name} is ")
        assert "Hidden" not in problem


def test_every_secret_that_a_role_takes_from_the_vault_is_known(settings: ModuleType) -> None:
    taken = re.compile(r"^(\w+): .\{\{ (vault_\w+)(?: \| default\(''\))? \}\}", re.MULTILINE)
    files = PREFLIGHT.parents[2].glob("*/defaults/main.yml")
    pairs = {vault: own for file in files for own, vault in taken.findall(file.read_text())}
    pairs.pop("vault_redis_sentinel_password")  # Judged with the groups of a cluster.
    pairs.pop("vault_backup_ssh_key")  # Judged with the repository that it opens.

    assert pairs == settings.OF_ROLES


def test_rotated_keys_are_fine(settings: ModuleType) -> None:
    assert problems(settings, vault_secret_key=f"{KEY}, {Fernet.generate_key().decode()}") == []


@pytest.mark.parametrize(
    ("value", "reason", "line"),
    [
        ("https://bots.agency.test", "has a scheme", "app_domain: bots.agency.test"),
        ("bots.agency.test/hook", "has a path", "app_domain: bots.agency.test"),
        ("bots.agency.test:8443", "has a port", "app_domain: bots.agency.test"),
        ("bots.agency.test.", "ends with a dot", "app_domain: bots.agency.test"),
        ("Bots.Agency.test", "capital letters", "app_domain: bots.agency.test"),
        ("my_bots.agency.test", "has an underscore", "app_domain: bots.example.com"),
        ("bots", "has no dot", "app_domain: bots.example.com"),
        ("203.0.113.7", "is an address", "app_domain: bots.example.com"),
        ("203.0.113.7:443", "is an address", "app_domain: bots.example.com"),
        ("[2001:db8::1]", "is an address", "app_domain: bots.example.com"),
        ("2001:db8::1", "is an address", "app_domain: bots.example.com"),
        ("niño.agency.test", "punycode", "app_domain: xn--nio-8ma.agency.test"),
        ("-bots.agency.test", "is not a DNS name", "app_domain: bots.example.com"),
        ("a..test", "is not a DNS name", "app_domain: bots.example.com"),
        ("*.agency.test", "is not a DNS name", "app_domain: bots.example.com"),
        ("x" * 64 + ".test", "is not a DNS name", "app_domain: bots.example.com"),
        ("CHANGE_ME", "placeholder", "app_domain: bots.example.com"),
        ("", "is empty", "app_domain: bots.example.com"),
        (["bots.agency.test"], "is not a text", "app_domain: bots.example.com"),
    ],
)
def test_bad_domain_comes_with_the_right_line(
    settings: ModuleType, value: Any, reason: str, line: str
) -> None:
    found = settings.setting_problems(GOOD | {"app_domain": value}, None)
    assert len(found) == 1
    assert reason in found[0]["problem"]
    assert found[0]["remedy"].endswith(line)


def test_reserved_name_is_a_warning(settings: ModuleType) -> None:
    values = GOOD | {"app_domain": "bots.example.com"}
    assert settings.setting_problems(values, None) == []
    assert "reserved for examples" in settings.setting_warnings(values)[0]["problem"]


@pytest.mark.parametrize("value", [0, -1, "two", "", True, 1.5, 65, [2]])
def test_count_outside_its_range_is_a_problem(settings: ModuleType, value: object) -> None:
    assert problems(settings, app_workers=value) == [
        f"app_workers is {value!r}, and a whole number from 1 to 64 is needed."
    ]


def test_count_from_the_command_line_is_a_text_and_fine(settings: ModuleType) -> None:
    assert problems(settings, app_workers="3", app_web_workers=1, app_worker_threads=256) == []


def test_threads_of_web_are_counted_too(settings: ModuleType) -> None:
    assert problems(settings, app_web_threads=0) == [
        "app_web_threads is 0, and a whole number from 1 to 1024 is needed."
    ]


@pytest.mark.parametrize("value", ["perhaps", "", 2, ["true"]])
def test_switch_that_is_neither_on_nor_off_is_a_problem(
    settings: ModuleType, value: object
) -> None:
    for name in settings.SWITCHES:
        told = f"{name} is {value!r}, and true or false is needed."
        assert told in problems(settings, **{name: value})


@pytest.mark.parametrize("value", [True, False, "yes", "No", "on", 0, "1"])
def test_switch_is_what_ansible_takes_for_one(settings: ModuleType, value: object) -> None:
    switched = BACKUPS | dict.fromkeys(("backup_enabled", "certbot_enabled"), value)
    assert problems(settings, **switched) == []


def test_preflight_asks_for_all_that_is_judged(settings: ModuleType) -> None:
    asked = yaml.safe_load(PREFLIGHT.read_text(encoding="utf-8"))
    others = {*BACKUPS, *settings.OF_ROLES, *settings.OF_ROLES.values(), "certbot_email"}
    assert {*settings.COUNTS, *settings.SWITCHES, *others} <= asked["preflight_values"].keys()


def test_report_numbers_every_finding_with_its_remedy(settings: ModuleType) -> None:
    findings = [{"problem": "A is missing.", "remedy": "write A"}, {"problem": "B.", "remedy": "b"}]
    assert settings.report(findings, "Not ready:") == (
        "Not ready:\n1. A is missing.\n   Remedy: write A\n2. B.\n   Remedy: b"
    )


@pytest.mark.parametrize(
    ("host_time", "problem", "warning"),
    [
        (1000.0, "", ""),
        (1003.0, "", ""),
        (1010.9, "", ""),
        (1018.0, "", "7 s ahead of"),
        (994.0, "", "6 s behind"),
        (1042.0, "31 s ahead of", ""),
        (969.0, "31 s behind", ""),
    ],
)
def test_clock_warns_and_then_refuses_but_never_for_a_slow_way(
    settings: ModuleType, host_time: float, problem: str, warning: str
) -> None:
    asked = {"time": host_time, "controller_time": 1000.0}
    found = settings.clock(asked, now=1010, warning_s=5, problem_s=30)
    assert [bool(found["problems"]), bool(found["warnings"])] == [bool(problem), bool(warning)]
    assert problem in str(found["problems"])
    assert warning in str(found["warnings"])
