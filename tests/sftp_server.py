"""A real SFTP server (OpenSSH) that lets one key in, with a folder that the key's owner may write."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.server_process import ServerProcess, ServerUnavailableError

_PRIVILEGE_SEPARATION = Path("/run/sshd")


def make_key(path: Path) -> str:
    """Write a private key without a passphrase to the path; its text."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "backup", "-f", str(path)],  # noqa: S607
        check=True,
    )
    return path.read_text()


class SftpServer(ServerProcess):
    """sshd that gives SFTP and nothing else, to the user that runs the tests."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        super().__init__()
        self.address = address
        self.login = getpass.getuser()
        self.private_key = make_key(self.folder / "client")
        self.files = self.folder / "files"
        self.files.mkdir()
        self.new_host_key()

    @property
    def repository(self) -> str:
        """As `backup_repository` names a folder on a port of its own."""
        return f"sftp://{self.login}@{self.address}:{self.port}/{self.files}/bots"

    @property
    def known_hosts(self) -> list[str]:
        """The line that `ssh-keyscan` prints of it."""
        kind, key = (self.folder / "host.pub").read_text().split()[:2]
        return [f"[{self.address}]:{self.port} {kind} {key}"]

    def new_host_key(self) -> None:
        """As after a reinstallation, or of somebody in between; counts from the next start."""
        (self.folder / "host").unlink(missing_ok=True)
        (self.folder / "host.pub").unlink(missing_ok=True)
        make_key(self.folder / "host")

    def trust(self, *public_keys: str) -> None:
        """Let these keys in, and no other."""
        (self.folder / "authorized").write_text("".join(f"{key}\n" for key in public_keys))

    def _command(self) -> Sequence[str | Path]:
        # Not on every user's PATH; sshd wants to be named with its folder.
        sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if sshd is None:
            raise ServerUnavailableError("sshd is not installed: apt-get install openssh-server")
        if os.getuid() == 0:
            _PRIVILEGE_SEPARATION.mkdir(exist_ok=True)
        if not (self.folder / "authorized").exists():
            self.trust((self.folder / "client.pub").read_text().strip())
        (self.folder / "sshd_config").write_text(
            f"ListenAddress {self.address}:{self.port}\n"
            f"HostKey {self.folder}/host\n"
            f"AuthorizedKeysFile {self.folder}/authorized\n"
            "AuthenticationMethods publickey\n"
            "PermitRootLogin yes\n"
            "PidFile none\n"
            "StrictModes no\n"
            "UsePAM no\n"
            "Subsystem sftp internal-sftp\n"
            "ForceCommand internal-sftp\n"
        )
        return [sshd, "-D", "-e", "-f", self.folder / "sshd_config"]

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.address, self.port), timeout=5) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False
