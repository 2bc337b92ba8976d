"""What the preflight says of a backup over SFTP that lacks its key or the server's host key."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ansible.conftest import load

sftp = load("filter_plugins/horizon_sftp.py")
GOOD: dict[str, Any] = {
    "backup_repository": "sftp:backup@203.0.113.20:/srv/bots",
    "vault_backup_ssh_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nHidden\n",
    "backup_known_hosts": ["203.0.113.20 ssh-ed25519 AAAAC3Nz"],
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"backup_enabled": "no", "backup_known_hosts": None},
        {"backup_repository": "/srv/backup", "vault_backup_ssh_key": None},
        {"backup_known_hosts": ["[h]:23 ssh-rsa AAAA", "@cert-authority *.b ssh-rsa AAAA"]},
        {"vault_backup_ssh_key": None, "backup_ssh_key": GOOD["vault_backup_ssh_key"]},
    ],
)
def test_complete_settings_have_no_problem(change: dict[str, Any]) -> None:
    assert sftp.sftp_problems(GOOD | change) == []


@pytest.mark.parametrize(
    ("repository", "scan", "name"),
    [
        ("sftp:u@203.0.113.20:/srv/bots", "ssh-keyscan 203.0.113.20`", '["203.0.113.20 ssh'),
        ("sftp:host:bots", "ssh-keyscan host`", '["host ssh'),
        ("sftp://u@host:2222//srv/bots", "ssh-keyscan -p 2222 host`", '["[host]:2222 ssh'),
        ("sftp://u@[2001:db8::1]:23//b", "ssh-keyscan -p 23 2001:db8::1`", '["[2001:db8::1]:23 '),
        ("sftp://u@[2001:db8::1]//b", "ssh-keyscan 2001:db8::1`", '["2001:db8::1 ssh'),
        ("sftp://u@host//srv/bots", "ssh-keyscan host`", '["host ssh'),
    ],
)
def test_sftp_without_key_and_host_key_is_told_with_the_lines_to_add(
    repository: str, scan: str, name: str
) -> None:
    bad = GOOD | {
        "backup_repository": repository,
        "vault_backup_ssh_key": None,
        "backup_known_hosts": [],
    }
    key, known = sftp.sftp_problems(bad)
    assert key["problem"].startswith("vault_backup_ssh_key is missing")
    assert "ssh-keygen -t ed25519" in key["remedy"]
    assert "vault_backup_ssh_key: |" in key["remedy"]
    assert known["problem"].startswith("backup_known_hosts is missing")
    assert scan in known["remedy"]
    assert f"backup_known_hosts: {name}" in known["remedy"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vault_backup_ssh_key": "ssh-ed25519 Hidden"}, "vault_backup_ssh_key is not a private"),
        ({"backup_known_hosts": "a ssh-rsa AAAA"}, "backup_known_hosts is no list"),
        ({"backup_known_hosts": ["ssh-rsa AAAA"]}, "backup_known_hosts is no list"),
    ],
)
def test_malformed_key_of_an_sftp_server_is_told_and_not_repeated(
    change: dict[str, Any], reason: str
) -> None:
    (found,) = sftp.sftp_problems(GOOD | change)
    assert found["problem"].startswith(reason)
    assert "Hidden" not in str(found)


def test_sftp_by_options_of_restic_needs_no_key() -> None:
    own: dict[str, Any] = {"vault_backup_ssh_key": None, "backup_known_hosts": []}
    options = ["sftp.command=ssh -i /root/.ssh/backup u@h -s sftp"]
    assert sftp.sftp_problems(GOOD | own | {"backup_options": options}) == []
