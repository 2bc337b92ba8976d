"""How restic reaches an SFTP server with the key and the known hosts of the inventory."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from horizon_backup.host import Config, run

_OWN_OPTIONS = ("sftp.command=", "sftp.args=")
_SHORT_FORM = re.compile(r"sftp:(?:(?P<user>[^@/]+)@)?(?P<host>\[[^]]+\]|[^:/]+):.")
# ssh's own words, in the order in which they are looked for: a broken key is refused as well.
_BROKEN_KEY = re.compile(
    r"Load key [^\n]*(invalid format|error in libcrypto|incorrect passphrase|unsupported)", re.I
)
_OTHER_HOST_KEY = re.compile(r"REMOTE HOST IDENTIFICATION HAS CHANGED", re.I)
_UNKNOWN_HOST_KEY = re.compile(r"Host key verification failed|No [^\n]* host key is known", re.I)
_REFUSED_KEY = re.compile(r"Permission denied \(|Too many authentication failures", re.I)
_AWAY = re.compile(
    r"Could not resolve hostname|Connection refused|Connection timed out|Operation timed out"
    r"|No route to host|Network is unreachable|Connection (reset|closed) by",
    re.I,
)


@dataclass(frozen=True)
class Server:
    """Where a repository `sftp:…` is."""

    host: str
    user: str = ""
    port: int | None = None

    @classmethod
    def of(cls, repository: str) -> Server | None:
        """By restic's two forms, sftp:user@host:/folder and sftp://user@host:port//folder."""
        if repository.startswith("sftp://"):
            parts = urlsplit(repository)
            return cls(parts.hostname or "", unquote(parts.username or ""), parts.port)
        found = _SHORT_FORM.match(repository)
        return cls(found["host"].strip("[]"), found["user"] or "") if found else None

    @property
    def scan(self) -> str:
        """The command that prints its lines for backup_known_hosts."""
        return f"ssh-keyscan {f'-p {self.port} ' if self.port else ''}{shlex.quote(self.host)}"


def ssh_command(config: Config) -> list[str]:
    """The command that opens the repository's SFTP server; empty when the tool does not give it.

    That is so for a repository elsewhere, and where the operator's own options of restic say how.
    """
    server = Server.of(config.repository)
    if server is None or config.ssh_key_file is None or config.known_hosts_file is None:
        return []
    if any(option.startswith(_OWN_OPTIONS) for option in config.options):
        return []
    settings = {
        "IdentityFile": config.ssh_key_file,
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": config.known_hosts_file,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "30",
        # A server that falls silent ends the backup instead of holding it until the unit's timeout.
        "ServerAliveInterval": "30",
        "ServerAliveCountMax": "4",
    }
    # What root has in ~/.ssh and the system in /etc/ssh does not count.
    words = ["ssh", "-F", "none"]
    for name, value in settings.items():
        words += ["-o", f"{name}={value}"]
    words += ["-p", str(server.port)] if server.port else []
    words += ["-l", server.user] if server.user else []
    return [*words, "-s", "--", server.host, "sftp"]


def restic_options(config: Config) -> list[str]:
    """restic 0.14 has no sftp.args: it is given the whole command."""
    command = shlex.join(ssh_command(config))
    # restic takes an option for a line of CSV.
    return ['"sftp.command=' + command.replace('"', '""') + '"'] if command else []


def why_not(config: Config) -> str | None:
    """Why SSH does not let this host in, and what to do; None when it does, or is not asked.

    restic may end before it has passed on what ssh said: ssh is asked itself.
    """
    server, command = Server.of(config.repository), ssh_command(config)
    if server is None or not command:
        return None
    ended = run(command, "ssh", may_fail=True)
    return _remedy(server, ended.stderr) if ended.returncode else None


def _remedy(server: Server, told: str) -> str:
    if _BROKEN_KEY.search(told):
        return (
            "vault_backup_ssh_key is not a private key without a passphrase: make one with "
            "`ssh-keygen -t ed25519 -N '' -f backup_key` and put the file's text into the vault"
        )
    if _OTHER_HOST_KEY.search(told):
        return (
            f"{server.host} shows another host key than backup_known_hosts has: when the server was "
            f"really installed anew, put what `{server.scan}` prints into backup_known_hosts; "
            "otherwise somebody stands between"
        )
    if _UNKNOWN_HOST_KEY.search(told):
        return (
            f"backup_known_hosts has no host key of {server.host}: put what `{server.scan}` prints "
            "into it, compared with the server's own"
        )
    if _REFUSED_KEY.search(told):
        return (
            f"{server.host} does not let {server.user or 'root'} in with vault_backup_ssh_key: put "
            "what `ssh-keygen -y -f` prints of that key into that user's .ssh/authorized_keys there"
        )
    if _AWAY.search(told):
        return (
            f"{server.host} cannot be reached over SSH on port {server.port or 22}: see that it runs "
            "and that its firewall lets this server in"
        )
    return f"SSH to {server.host} fails: {told.strip() or 'it says nothing'}"
