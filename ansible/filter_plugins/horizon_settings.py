"""What preflight can tell on the controller: the inventory's values, and the clocks.

Secrets never reach a host or a message.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError

Finding = dict[str, str]

MIN_ADMIN_KEY_CHARS = 32
MIN_PASSWORD_CHARS = 16
SECRET_KEY = "vault_secret_key"  # noqa: S105 a variable's name
ADMIN_KEY = "vault_admin_api_key"
REDIS_PASSWORDS = (
    "vault_redis_app_password",
    "vault_redis_backup_password",
    "vault_redis_replication_password",
)
DATABASE_PASSWORD = "vault_postgresql_password"  # noqa: S105 a variable's name
BACKUP_PASSWORD = "vault_backup_password"  # noqa: S105 a variable's name
OPTIONAL_SECRETS = (
    "vault_openai_api_key",
    "vault_twilio_account_sid",
    "vault_twilio_auth_token",
    "vault_horizon_api_key",
)
OF_ROLES = {
    SECRET_KEY: "app_secret_key",
    ADMIN_KEY: "app_admin_api_key",
    **{name: name.replace("vault_", "app_") for name in OPTIONAL_SECRETS},
    **{name: name.removeprefix("vault_") for name in REDIS_PASSWORDS},
    DATABASE_PASSWORD: "postgresql_password",
    BACKUP_PASSWORD: "backup_password",
}
"""Variables of roles that have the vault's value unless the inventory writes them themselves."""
# As many as one host may sensibly have.
COUNTS = {
    "app_web_workers": 64,
    "app_web_threads": 1024,
    "app_workers": 64,
    "app_worker_threads": 256,
}
SWITCHES = (
    "redis_enabled",
    "redis_acknowledge_on_replica",
    "postgresql_enabled",
    "keepalived_enabled",
    "certbot_enabled",
    "firewall_enabled",
    "backup_enabled",
    "legacy_enabled",
)
LINES = {
    SECRET_KEY: '{name}: "<what `.venv/bin/horizonctl key secret` prints>"',
    **dict.fromkeys((ADMIN_KEY, BACKUP_PASSWORD), '{name}: "<what `openssl rand -hex 32` prints>"'),
}
ROLES = Path(__file__).parents[2] / "roles"
MAY_BE_EMPTY = ("backup_repository", "keepalived_address")
"""Keys that need no value: nothing after the colon means the same as an empty text there."""
_PLACEHOLDER = re.compile(
    r"<.*>|.*(change|replace)[-_ ]?(me|this|it).*|x{3,}|todo.*|placeholder.*|your[-_ ].*|example.*",
    re.IGNORECASE | re.DOTALL,
)
_REPOSITORY = re.compile(r"/[^/]|sftp:[^:]+:.|sftp://.|s3:.")
_MAIL = re.compile(r"[^@\s]+@[^@\s]+[.][^@\s]+")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_RESERVED = ("example.com", "example.net", "example.org")


def setting_problems(values: Mapping[str, Any], inventory: str | None = None) -> list[Finding]:
    """What is missing or malformed; `values` holds None for what is undefined.

    No finding repeats a secret's value.
    """
    folder = shown_folder(inventory)
    variables = f"{folder}/group_vars/all/main.yml"
    vault = f"{folder}/group_vars/all/vault.yml"
    findings = [*_domain(values.get("app_domain"), variables)]
    for name in _required_secrets(values):
        findings += _secret(name, values, vault, required=True)
    for name in OPTIONAL_SECRETS:
        findings += _secret(name, values, vault, required=False)
    findings += _backup(values, variables, vault)
    findings += _mail(values.get("certbot_email"), variables)
    for name, most in COUNTS.items():
        findings += _count(name, values.get(name), most, variables)
    for name in SWITCHES:
        findings += _switch(name, values.get(name), variables)
    return findings


def setting_warnings(values: Mapping[str, Any]) -> list[Finding]:
    """What works but is hardly meant."""
    domain = values.get("app_domain")
    if isinstance(domain, str) and domain.lower().endswith(_RESERVED):
        return [
            {
                "problem": f"app_domain is {domain}, a name that is reserved for examples.",
                "remedy": "write the public host name that Twilio shall call.",
            }
        ]
    return []


def empty_keys(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[Finding]:
    """Roles' variables whose line in the inventory has nothing after the colon.

    Ansible takes that for a value, so that the role's default does not hold.
    """
    defaults: dict[str, Any] = {}
    for file in ROLES.glob("*/defaults/main.yml"):
        defaults |= yaml.safe_load(file.read_text()) or {}
    found = []
    for name, default in sorted(defaults.items()):
        where = [host for host in hosts if _is_empty(name, hostvars[host])]
        if name in MAY_BE_EMPTY or not where:
            continue
        empty = {"": '""', "[]": "[]", "{}": "{}"}.get(str(default))
        what = f"write `{name}: {empty}`" if empty else "write a value"
        found.append(
            {
                "problem": f"{name} has no value for {', '.join(where)}: nothing stands after the colon.",
                "remedy": f"{what}, or take the line out of the inventory: the default holds then.",
            }
        )
    return found


def _is_empty(name: str, variables: Mapping[str, Any]) -> bool:
    try:
        return name in variables and variables[name] is None
    except AnsibleError:
        # A template whose parts are known in its role alone.
        return False


def clock(
    host: Mapping[str, Any], now: float, warning_s: float, problem_s: float
) -> dict[str, list[Finding]]:
    """Signatures, certificates and leases need the right time.

    The host read its clock between the controller's question (controller_time) and now (in whole
    seconds): only what lies outside of these is a difference, however slow the way is.
    """
    ahead = max(0.0, float(host["time"]) - (now + 1))
    behind = max(0.0, float(host["controller_time"]) - float(host["time"]))
    difference = max(ahead, behind)
    if difference <= warning_s:
        return {"problems": [], "warnings": []}
    finding = {
        "problem": f"The clock is {difference:.0f} s {'ahead of' if ahead else 'behind'} the controller's.",
        "remedy": "timedatectl set-ntp true (in a container: on its host), and look at the "
        "controller's clock.",
    }
    if difference > problem_s:
        return {"problems": [finding], "warnings": []}
    return {"problems": [], "warnings": [finding]}


def report(findings: list[Finding], title: str) -> str:
    """One message with every finding and its remedy."""
    lines = [title]
    for number, finding in enumerate(findings, 1):
        lines += [f"{number}. {finding['problem']}", f"   Remedy: {finding['remedy']}"]
    return "\n".join(lines)


def shown_folder(inventory: str | None) -> str:
    """The inventory's folder as an operator would type it."""
    if not inventory:
        return "inventories/<name>"
    relative = os.path.relpath(inventory)
    return str(inventory) if relative.startswith("..") else relative


def _required_secrets(values: Mapping[str, Any]) -> list[str]:
    names = [SECRET_KEY, ADMIN_KEY]
    if _true(values.get("redis_enabled"), default=True):
        names += REDIS_PASSWORDS
    if _true(values.get("postgresql_enabled"), default=False):
        names.append(DATABASE_PASSWORD)
    return names


def _backup(values: Mapping[str, Any], file: str, vault: str) -> list[Finding]:
    """What the role backup refuses, where it takes backups. A repository may hold a secret too."""
    repository = values.get("backup_repository") or ""
    if not _true(values.get("backup_enabled"), default=bool(repository)):
        return []
    findings = _secret(BACKUP_PASSWORD, values, vault, required=True)
    if not repository:
        wrong = "empty, and backup_enabled is true"
    elif not _REPOSITORY.match(str(repository)):
        wrong = "no folder like /srv/backup, sftp:user@host:/folder or s3:https://host/bucket"
    else:
        return findings
    return [
        {
            "problem": f"backup_repository is {wrong}.",
            "remedy": f"write into {file}: backup_repository: sftp:backup@203.0.113.20:/srv/bots",
        },
        *findings,
    ]


def _written(secret: str, values: Mapping[str, Any]) -> str:
    """The variable that the operator wrote: without one of its own the role has the vault's."""
    own = values.get(OF_ROLES[secret])
    return secret if own is None or own == (values.get(secret) or "") else OF_ROLES[secret]


def _mail(value: Any, file: str) -> list[Finding]:
    if value is None or value == "" or _MAIL.fullmatch(str(value)):
        return []
    return [
        {
            "problem": f"certbot_email is {value!r}, and no address that mail could go to.",
            "remedy": f'write into {file}: certbot_email: admin@example.com (or "" for none)',
        }
    ]


def _true(value: Any, *, default: bool) -> bool:
    if value is None:
        return default
    return str(value).lower() in ("true", "yes", "on", "1")


def _secret(secret: str, values: Mapping[str, Any], file: str, *, required: bool) -> list[Finding]:
    name = _written(secret, values)
    value = values.get(name)
    if value is None or value == "":
        if not required:
            return []
        wrong = "is missing" if value is None else "is empty"
    elif not isinstance(value, str):
        wrong = "is not a text: put it into quotes"
    elif _PLACEHOLDER.fullmatch(value.strip()):
        wrong = "still is a placeholder"
    else:
        wrong = _malformed(secret, value)
    if not wrong:
        return []
    line = LINES.get(secret)
    if line is None:
        line = '{name}: "<what `openssl rand -hex 24` prints>"'
        if secret in OPTIONAL_SECRETS:
            line = '{name}: "<the value that the vendor shows>"'
    return [
        {
            "problem": f"{name} {wrong}.",
            "remedy": f"`ansible-vault edit {file}` and write: {line.format(name=name)}",
        }
    ]


def _malformed(name: str, value: str) -> str:
    """What is wrong with a secret, without its value; empty when nothing is."""
    if name == SECRET_KEY:
        keys = value.split(",")
        for number, key in enumerate(keys, 1):
            if not _is_fernet(key.strip()):
                which = f"key {number} of {len(keys)}" if len(keys) > 1 else "it"
                return f"is malformed: {which} is not 44 characters of url-safe base64 for 32 bytes"
        return ""
    printable = name in (ADMIN_KEY, *OPTIONAL_SECRETS, BACKUP_PASSWORD)
    if name == BACKUP_PASSWORD:
        # A line's end counts neither for restic nor for the role.
        value = value.removesuffix("\n")
    if printable and not re.fullmatch(r"[!-~]*", value):
        return "is malformed: only printable ASCII characters without spaces are allowed"
    if not printable and not re.fullmatch(r"[A-Za-z0-9_-]*", value):
        return "is malformed: only the characters A-Z, a-z, 0-9, _ and - are allowed"
    least = MIN_ADMIN_KEY_CHARS if name == ADMIN_KEY else MIN_PASSWORD_CHARS
    if name not in OPTIONAL_SECRETS and len(value) < least:
        return f"is too short: at least {least} characters are needed"
    return ""


def _is_fernet(key: str) -> bool:
    if not re.fullmatch(r"[A-Za-z0-9_-]{43}=", key):
        return False
    try:
        return len(base64.urlsafe_b64decode(key)) == 32
    except (binascii.Error, ValueError):
        return False


def _domain(value: Any, file: str) -> list[Finding]:
    line = "app_domain: bots.example.com"
    if value is None or value == "":
        wrong = "is missing" if value is None else "is empty"
    elif not isinstance(value, str):
        wrong = "is not a text"
    elif _PLACEHOLDER.fullmatch(value) and "." not in value:
        wrong = "still is a placeholder"
    else:
        wrong, line = _bad_name(value)
    if not wrong:
        return []
    return [
        {
            "problem": f"app_domain {wrong}.",
            "remedy": f"write the public host name into {file}: {line}",
        }
    ]


def _bad_name(value: str) -> tuple[str, str]:
    """What is wrong with a host name (empty: nothing), and the line that would be right."""
    bare = re.sub(r"^[a-z+]+://", "", value.strip(), flags=re.IGNORECASE)
    bare = re.sub(r"[/?#].*$", "", bare).rstrip(".")
    host = re.sub(r":[0-9]*$", "", bare).lower()
    better = "app_domain: bots.example.com"
    if not host.isascii():
        with contextlib.suppress(UnicodeError):
            better = f"app_domain: {host.encode('idna').decode()}"
        return f"{value!r} has characters beyond ASCII: DNS wants its punycode form", better
    if _is_address(value.strip("[]")) or _is_address(host):
        return f"{value!r} is an address, and certificates need a name", better
    if not _is_name(host):
        reason = "is not a DNS name"
        if "_" in host:
            reason = "has an underscore, which host names must not have"
        elif "." not in host:
            reason = "is not a full name: it has no dot"
        return f"{value!r} {reason}", better
    better = f"app_domain: {host}"
    for bad, reason in (
        ("://" in value, "has a scheme: the host name alone is needed"),
        ("/" in value, "has a path: the host name alone is needed"),
        (":" in value, "has a port: Twilio comes to 443"),
        (value.endswith("."), "ends with a dot"),
        (value != host, "has spaces or capital letters"),
    ):
        if bad:
            return f"{value!r} {reason}", better
    return "", better


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_name(host: str) -> bool:
    labels = host.split(".")
    return (
        len(host) <= 253
        and len(labels) >= 2
        and all(_LABEL.fullmatch(label) for label in labels)
        and not labels[-1].isdigit()
    )


def _count(name: str, value: Any, most: int, file: str) -> list[Finding]:
    if value is None:
        return []
    number = int(value) if re.fullmatch(r"[0-9]{1,9}", str(value)) else 0
    if not isinstance(value, bool) and 1 <= number <= most:
        return []
    return [
        {
            "problem": f"{name} is {value!r}, and a whole number from 1 to {most} is needed.",
            "remedy": f"write into {file}: {name}: 1",
        }
    ]


def _switch(name: str, value: Any, file: str) -> list[Finding]:
    # What Ansible's own filter takes for a boolean.
    words = ("true", "false", "yes", "no", "on", "off", "1", "0")
    if value is None or str(value).lower() in words:
        return []
    return [
        {
            "problem": f"{name} is {value!r}, and true or false is needed.",
            "remedy": f"write into {file}: {name}: true",
        }
    ]


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        """Names of the filters in templates."""
        return {
            "horizon_setting_problems": setting_problems,
            "horizon_setting_warnings": setting_warnings,
            "horizon_empty_keys": empty_keys,
            "horizon_clock": clock,
            "horizon_report": report,
        }
