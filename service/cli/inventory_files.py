"""The texts of a new inventory: the example's, with the servers, the name and the secrets in them.

The example's lines are replaced as text, so that its comments stay.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from ipaddress import ip_address

from cryptography.fernet import Fernet

from service.cli.failures import USAGE, CommandError

_PLACEHOLDER = re.compile(r"^(vault_\w+): CHANGE_ME$", re.MULTILINE)
_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_NAME = re.compile(rf"(?=.*[a-zA-Z])({_LABEL}[.])*{_LABEL}")
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
_PLAIN = re.compile(r"[a-z][a-z0-9.-]*|[0-9]+([.][0-9]+){3}")
_YAML_WORDS = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
_SSH_PORT = 22
_CLUSTER_HOSTS = 4


@dataclass(frozen=True, slots=True)
class Login:
    """How Ansible gets in; the same for every server. Raises CommandError."""

    user: str
    port: int

    def __post_init__(self) -> None:
        if not _USER.fullmatch(self.user):
            raise CommandError(f"--user: {self.user!r} is no name of a user.", USAGE)

    def into(self, text: str, indent: str) -> str:
        """The hosts' file with this login in place of root's."""
        line = f"{indent}ansible_user: {_quoted(self.user)}\n"
        if self.port != _SSH_PORT:
            line += f"{indent}ansible_port: {self.port}\n"
        return replaced(text, f"\n{indent}ansible_user: root\n", f"\n{line}")


def _address(text: str) -> str:
    """What SSH reaches, as it was given."""
    if "@" in text:
        raise CommandError(f"--host: give the user of {text} with --user.", USAGE)
    try:
        ip_address(text)
    except ValueError:
        if re.fullmatch(r"[^:]+:\d+", text):
            raise CommandError(f"--host: give the port of {text} with --port.", USAGE) from None
        if not _NAME.fullmatch(text):
            raise CommandError(
                f"--host: {text!r} is neither an address nor a name of a server.", USAGE
            ) from None
    return text


def with_server(text: str, hosts: list[str], login: Login) -> str:
    """The hosts' file with one server. Raises CommandError."""
    if len(hosts) != 1:
        raise CommandError("Give --host once; for several servers see --cluster.", USAGE)
    address = _quoted(_address(hosts[0]))
    text = replaced(text, "ansible_host: 203.0.113.10", f"ansible_host: {address}")
    return login.into(text, " " * 6)


def in_light(text: str) -> str:
    """The server moves to the other profile, with its lines."""
    head, full, rest = text.partition("full:\n  hosts:\n")
    server, light, tail = rest.partition("light:\n  hosts: {}\n")
    if not full or not light:
        raise RuntimeError("inventories/example/hosts.yml has changed its form")
    return f"{head}full:\n  hosts: {{}}\nlight:\n  hosts:\n{server}{tail}"


def with_cluster(text: str, hosts: list[str], login: Login) -> str:
    """The hosts' file with the servers of a cluster. Raises CommandError."""
    pairs = [host.split(",") for host in hosts]
    if len(pairs) != _CLUSTER_HOSTS or any(len(pair) != 2 for pair in pairs):
        raise CommandError(
            "With --cluster give --host ADDRESS,PRIVATE_ADDRESS four times: the balancer, two servers "
            "with web, workers and Redis, and the database with the third Redis. What each carries may "
            "be changed in hosts.yml afterwards.",
            USAGE,
        )
    for position, (public, private) in enumerate(pairs, 1):
        try:
            ip_address(private)
        except ValueError:
            raise CommandError(f"--host: {private!r} is no private address.", USAGE) from None
        if [pair[1] for pair in pairs].count(private) > 1:
            raise CommandError(f"--host: two servers have the private address {private}.", USAGE)
        text = replaced(
            text,
            f"{{ansible_host: 203.0.113.1{position}, cluster_address: 10.0.0.{position}}}",
            f"{{ansible_host: {_quoted(_address(public))}, cluster_address: {_quoted(private)}}}",
        )
    return login.into(text, " " * 4)


def with_secrets(text: str, keys: dict[str, str]) -> str:
    """The example's vault with a new value for every placeholder."""

    def value(found: re.Match[str]) -> str:
        if found[1] == "vault_secret_key":
            return f"{found[1]}: {Fernet.generate_key().decode()}"
        return f'{found[1]}: "{secrets.token_hex(32)}"'

    text = _PLACEHOLDER.sub(value, text)
    for variable, key in keys.items():
        text = replaced(text, f'{variable}: ""', f"{variable}: {_quoted(key)}")
    return text


def _quoted(value: str) -> str:
    """A YAML scalar; quoted where it would not be read as the text that it is."""
    if _PLAIN.fullmatch(value) and value not in _YAML_WORDS:
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def replaced(text: str, old: str, new: str) -> str:
    """The example's text with something else in the one place where it says `old`."""
    if text.count(old) != 1:
        raise RuntimeError(f"the example inventory has not exactly one {old!r}")
    return text.replace(old, new)
