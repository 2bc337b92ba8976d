"""Backups over SFTP with the key and the known hosts of the inventory: a real OpenSSH, a real restic."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ansible.backup_host import BackupHost, make_host
from tests.server_process import free_port
from tests.sftp_server import SftpServer, make_key

IS_REQUIRED = os.environ.get("HORIZON_REQUIRE_RESTIC") == "1"
NEEDED = ("restic", "redis-cli", "ssh", "ssh-keygen")
HAS_ALL = (
    all(map(shutil.which, NEEDED)) and shutil.which("sshd", path="/usr/sbin:/usr/bin") is not None
)

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(
        not HAS_ALL and not IS_REQUIRED,
        reason="needs restic, redis-server, openssh-client, openssh-server",
    ),
]


@pytest.fixture(scope="module")
def server() -> Iterator[SftpServer]:
    with SftpServer() as server:
        yield server


def configure(host: BackupHost, server: SftpServer, **changes: object) -> None:
    """What the role writes for this server."""
    key, known = host.folder / "backup.key", host.folder / "backup.known_hosts"
    key.write_text(server.private_key)
    key.chmod(0o600)
    known.write_text("".join(f"{line}\n" for line in server.known_hosts))
    settings: dict[str, object] = {
        "repository": server.repository,
        "ssh_key_file": str(key),
        "known_hosts_file": str(known),
    }
    host.configure(**settings | changes)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[BackupHost]:
    host = make_host(tmp_path, real_restic=True)
    yield host
    host.systemctl("stop", "redis-server.service")


def test_a_new_host_restores_what_the_old_one_backed_up(
    host: BackupHost, server: SftpServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With nothing of root's own: the key and the known hosts are the inventory's."""
    shutil.rmtree(server.files / "bots", ignore_errors=True)
    configure(host, server)
    assert host.done("init") == {"changed": True}
    host.client().set("hb:present", "1")
    taken = host.done("run")
    new = make_host(tmp_path_factory.mktemp("new"), real_restic=True)
    try:
        configure(new, server)
        new.answer(restore_reconcile={"unsettled": []})

        assert new.done("init") == {"changed": False}
        known = new.done("snapshots")["snapshots"]
        new.done("restore")

        assert [snapshot["id"] for snapshot in known] == [taken["snapshot"]]
        assert new.client().get("hb:present") == b"1"
    finally:
        new.systemctl("stop", "redis-server.service")


def test_short_form_of_the_repository_takes_the_key_too(
    host: BackupHost, server: SftpServer
) -> None:
    """`sftp:user@host:/folder` has no port: ssh asks port 22, where this server is not."""
    configure(host, server, repository=f"sftp:{server.login}@127.0.0.1.invalid:/bots")

    refused = host.refused("init")

    assert "127.0.0.1.invalid cannot be reached over SSH" in refused


def test_unknown_host_key_is_told_with_its_remedy(host: BackupHost, server: SftpServer) -> None:
    configure(host, server)
    (host.folder / "backup.known_hosts").write_text("")

    refused = host.refused("init")

    assert f"ssh-keyscan -p {server.port} 127.0.0.1" in refused
    assert "backup_known_hosts" in refused


def test_changed_host_key_is_told_and_nothing_is_sent(host: BackupHost, server: SftpServer) -> None:
    configure(host, server)
    make_key(host.folder / "another")
    kind, key = (host.folder / "another.pub").read_text().split()[:2]
    (host.folder / "backup.known_hosts").write_text(f"[127.0.0.1]:{server.port} {kind} {key}\n")

    refused = host.refused("init")

    assert "shows another host key than backup_known_hosts has" in refused
    assert f"ssh-keyscan -p {server.port} 127.0.0.1" in refused


def test_key_that_is_not_let_in_is_told(host: BackupHost, server: SftpServer) -> None:
    configure(host, server)
    (host.folder / "backup.key").unlink()
    make_key(host.folder / "backup.key")

    refused = host.refused("init")

    assert f"does not let {server.login} in" in refused
    assert "authorized_keys" in refused


def test_text_that_is_not_a_key_is_told(host: BackupHost, server: SftpServer) -> None:
    configure(host, server)
    (host.folder / "backup.key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nnone\n")

    refused = host.refused("init")

    assert "vault_backup_ssh_key is not a private key without a passphrase" in refused


def test_server_that_is_away_is_told(host: BackupHost, server: SftpServer) -> None:
    port = free_port()
    configure(host, server, repository=f"sftp://{server.login}@127.0.0.1:{port}//bots")

    refused = host.refused("init")

    assert f"127.0.0.1 cannot be reached over SSH on port {port}" in refused
