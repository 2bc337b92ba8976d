"""What a backup over SFTP needs beside its repository: a key, and the host key of the server."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.errors import AnsibleFilterError

Finding = dict[str, str]

_OFF = ("false", "no", "off", "0")
_REPOSITORY = re.compile(r"sftp:([^:]+:.|//.)")
_OWN_SSH = re.compile(r"sftp[.](command|args)=")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n")
_KNOWN_HOST = re.compile(r"(@cert-authority )?\S+ (ssh|ecdsa|sk)-\S+ AAAA\S*")


def _beside(name: str) -> ModuleType:
    """Another file of this folder: Ansible loads each by itself, under a name of its own."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise AnsibleFilterError(f"{name} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


settings = _beside("horizon_settings")


def sftp_problems(values: Mapping[str, Any], inventory: str | None = None) -> list[Finding]:
    """What is missing for a backup over SFTP; no finding repeats a secret's value.

    Options of restic may bring key and host key in the operator's own way.
    """
    repository = str(values.get("backup_repository") or "")
    options = values.get("backup_options")
    own = [str(option) for option in options] if isinstance(options, list) else []
    is_enabled = str(values.get("backup_enabled", True)).lower() not in _OFF
    if not is_enabled or not _REPOSITORY.match(repository) or any(map(_OWN_SSH.match, own)):
        return []
    folder = settings.shown_folder(inventory)
    return [
        *_key(
            values.get("backup_ssh_key") or values.get("vault_backup_ssh_key"),
            f"{folder}/group_vars/all/vault.yml",
        ),
        *_known_hosts(
            values.get("backup_known_hosts"), repository, f"{folder}/group_vars/all/main.yml"
        ),
    ]


def _key(key: Any, vault: str) -> list[Finding]:
    if _PRIVATE_KEY.match(str(key or "").strip()):
        return []
    wrong = "is not a private key" if key else "is missing"
    return [
        {
            "problem": f"vault_backup_ssh_key {wrong}, and backup_repository is an sftp: address.",
            "remedy": "make a key with `ssh-keygen -t ed25519 -N '' -f backup_key`, put the line of "
            "backup_key.pub into .ssh/authorized_keys of the repository's user, then "
            f"`ansible-vault edit {vault}` and write, with the lines of backup_key indented by two "
            "spaces below: vault_backup_ssh_key: |",
        }
    ]


def _known_hosts(known: Any, repository: str, file: str) -> list[Finding]:
    if isinstance(known, list) and known and all(map(_KNOWN_HOST.match, map(str, known))):
        return []
    wrong = "is no list of lines of known_hosts" if known else "is missing"
    scan, host = _keyscan(repository)
    return [
        {
            "problem": f"backup_known_hosts {wrong}, and backup_repository is an sftp: address.",
            "remedy": f"`{scan}` prints the lines; compare them with the server's own and write "
            f'into {file}: backup_known_hosts: ["{host} ssh-ed25519 AAAA…"]',
        }
    ]


def _keyscan(repository: str) -> tuple[str, str]:
    """The command that asks a repository's server for its host keys, and its name in known_hosts."""
    if repository.startswith("sftp://"):
        address = repository.removeprefix("sftp://").partition("/")[0].rpartition("@")[2]
        host, _, port = (
            address.rpartition(":") if re.search(r":\d+$", address) else (address, "", "")
        )
    else:
        host, port = re.sub(r"^sftp:(?:[^@/]+@)?(\[[^]]+\]|[^:]+):.*", r"\1", repository), ""
    host = host.strip("[]")
    if port and port != "22":
        return f"ssh-keyscan -p {port} {host}", f"[{host}]:{port}"
    return f"ssh-keyscan {host}", host


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        """Names of the filters in templates."""
        return {"horizon_sftp_problems": sftp_problems}
