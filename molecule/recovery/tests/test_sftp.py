"""Backups on an SFTP server outlive the machine: a new one gets them with the inventory alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from installed import add_bot
from machine import SCENARIO, on, playbook, vendors, wait_for
from test_recovery import MACHINE, NUMBER, answers, assert_says

from tests.sftp_server import SftpServer

CONTROL_GROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


@pytest.fixture(scope="module")
def server() -> Iterator[SftpServer]:
    """On the scenario's network, named in its inventory."""
    address = urlsplit(vendors()["twilio"]).hostname
    assert address
    file = SCENARIO / "inventory/group_vars/all/made.yml"
    before = file.read_text(encoding="utf-8")
    with SftpServer(address) as server:
        lines = {
            "backup_repository": server.repository,
            "backup_known_hosts": server.known_hosts,
            "vault_backup_ssh_key": server.private_key,
        }
        file.write_text(before + yaml.safe_dump(lines), encoding="utf-8")
        yield server
        file.write_text(before, encoding="utf-8")


def new_machine() -> None:
    """The old one is gone with all that was on it."""
    subprocess.run(["docker", "rm", "--force", MACHINE], check=True, capture_output=True)
    for root in CONTROL_GROUPS:
        folder = root / MACHINE
        wait_for(lambda folder=folder: _is_removed(folder), 60, f"{folder} is gone")
    created = playbook("molecule/shared/create.yml")
    assert created.code == 0, created.output


def _is_removed(folder: Path) -> bool:
    if folder.is_dir():
        command = ["find", str(folder), "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]
        subprocess.run(command, check=False, capture_output=True)
    return not folder.is_dir()


def test_new_server_gets_everything_back(server: SftpServer) -> None:
    installed = playbook("site.yml")
    assert installed.code == 0, installed.output
    assert on(MACHINE, "stat -c '%U %a' /etc/horizonai-bots/backup.key").split() == ["root", "600"]
    assert server.private_key.splitlines()[1] not in installed.output
    again = playbook("site.yml")
    assert (again.code, again.changed) == (0, 0), again.output
    add_bot(MACHINE, NUMBER)
    assert answers()
    bots = on(MACHINE, "horizonctl bots list --json")
    taken = playbook("backup.yml")
    assert taken.code == 0, taken.output
    new_machine()

    site = playbook("site.yml")
    restored = playbook("restore.yml", snapshot="latest", confirmar=MACHINE)

    assert site.code == 0, site.output
    assert restored.code == 0, restored.output
    assert on(MACHINE, "horizonctl bots list --json") == bots
    assert answers()
    drill = playbook("restore-drill.yml")
    assert drill.code == 0, drill.output


def test_server_with_another_host_key_gets_nothing(server: SftpServer) -> None:
    server.new_host_key()
    server.restart()

    run = playbook("backup.yml")

    assert_says(run, "shows another host key than backup_known_hosts has", "ssh-keyscan -p")


def test_inventory_without_the_key_is_told_before_anything_is_touched(server: SftpServer) -> None:
    run = playbook("site.yml", vault_backup_ssh_key="", backup_known_hosts=[])

    assert_says(run, "vault_backup_ssh_key is missing", f"ssh-keyscan -p {server.port}")
