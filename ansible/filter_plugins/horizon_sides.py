"""Whether the service goes where the Redis and the PostgreSQL of the same inventory are."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.errors import AnsibleFilterError

Finding = dict[str, str]
Groups = Mapping[str, Sequence[str]]

REDIS_SIDES = (("app_redis_port", "redis_port", "6379"),)
POSTGRESQL_SIDES = (
    ("app_postgresql_port", "postgresql_port", "5432"),
    ("app_postgresql_user", "postgresql_user", "horizonai_bots"),
    ("app_postgresql_database", "postgresql_database", "horizonai_bots"),
    ("app_postgresql_password", "postgresql_password", None),
)
"""The service's variable, the one that it derives from, and that one's default."""
FOLLOWED = {
    "PUBLIC_BASE_URL": "app_domain",
    "PUBLIC_OTHER_URLS": "nginx_domains",
    "SECRET_KEY": "vault_secret_key",
    "ADMIN_API_KEY": "vault_admin_api_key",
    "OPENAI_API_KEY": "vault_openai_api_key",
    "TWILIO_ACCOUNT_SID": "vault_twilio_account_sid",
    "TWILIO_AUTH_TOKEN": "vault_twilio_auth_token",
    "HORIZON_API_KEY": "vault_horizon_api_key",
    "WEB_WORKERS": "app_web_workers",
    "WEB_THREADS": "app_web_threads",
    "WORKER_THREADS": "app_worker_threads",
    "WORKER_DRAIN_S": "app_worker_drain_s",
    "SPOOL_DIR": "",
    "METRICS_DIR": "",
    "BACKUP_STATE_FILE": "",
    "ALERT_URL": "alert_url",
    "ALERT_COMMAND": "alert_command",
    "ALERT_LANGUAGE": "alerts_language",
    "ALERT_STATE_FILE": "",
    "ALERT_QUEUE_AGE_S": "alerts_queue_age_s",
    "ALERT_CERTIFICATE_DAYS": "alerts_certificate_days",
    "ALERT_BACKUP_FILE": "alerts_backup_file",
    "ALERT_BACKUP_AGE_H": "alerts_backup_age_h",
    "ALERT_DISK_PERCENT": "alerts_disk_percent",
    "ALERT_INODES_PERCENT": "alerts_inodes_percent",
    "ALERT_MEMORY_PERCENT": "alerts_memory_percent",
    "ALERT_UPDATES_DAYS": "alerts_updates_days",
    "ALERT_MODEL_DAYS": "alerts_model_days",
    "ALERT_VENDORS": "",
    "ALERT_DOMAIN": "",
}
"""Settings that units and other roles go by too, with the variable that all follow; empty where none is."""
EVERYWHERE = ("*", "0.0.0.0")  # noqa: S104 what a server may listen on
"""All addresses of a host, loopback included."""


def _beside(name: str) -> ModuleType:
    """Another file of this folder: Ansible loads each by itself, under a name of its own."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise AnsibleFilterError(f"{name} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cluster = _beside("horizon_cluster")


def problems(groups: Groups, hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[Finding]:
    """Variables of one side that the other does not follow."""
    return [*_other_side(groups, hosts, hostvars), *_unheard(groups, hosts, hostvars)]


def warnings(host: str, hostvars: Mapping[str, Any]) -> list[Finding]:
    """Settings in app_settings that reach the service alone, or not even that."""
    settings = cluster.said(hostvars[host], "app_settings")
    names = {str(name).upper() for name in settings} if isinstance(settings, Mapping) else set()
    return [
        cluster.finding(
            f"app_settings has {name}, which units and other roles do not follow there.",
            f"take it out of app_settings, and write {variable} instead."
            if variable
            else "take it out of app_settings: it is the same on every server.",
        )
        for name, variable in FOLLOWED.items()
        if name in names
    ]


def _has_redis(groups: Groups, variables: Mapping[str, Any]) -> bool:
    """Whether the service's Redis is the one of this inventory."""
    if not cluster.is_true(_said_or(variables, "redis_enabled", True)):
        return False
    if cluster.is_cluster(groups):
        return len(groups.get("redis", ())) > 0
    host = _said_or(variables, "app_redis_host", "localhost")
    return not cluster.said(variables, "app_redis_url") and cluster.is_itself(host)


def _has_postgresql(groups: Groups, variables: Mapping[str, Any]) -> bool:
    """Whether the service's PostgreSQL is the one of this inventory."""
    if cluster.is_cluster(groups):
        return len(groups.get("database", ())) > 0
    enabled = _said_or(variables, "postgresql_enabled", False)
    host = _said_or(variables, "app_postgresql_host", "localhost")
    return (
        cluster.is_true(enabled)
        and cluster.is_true(_said_or(variables, "app_use_postgresql", True))
        and (cluster.is_itself(host) or host.startswith("/"))
    )


def _said_or(variables: Mapping[str, Any], name: str, default: object) -> str:
    value = cluster.said(variables, name)
    return str(default if value is None else value)


def _other_side(groups: Groups, hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[Finding]:
    """Where the service was sent elsewhere than where our Redis and PostgreSQL are, by its own variables."""
    wrong: dict[tuple[str, str], list[str]] = {}
    for host in hosts:
        variables = hostvars[host]
        sides = (*(REDIS_SIDES if _has_redis(groups, variables) else ()),)
        sides += POSTGRESQL_SIDES if _has_postgresql(groups, variables) else ()
        for service, store, default in sides:
            sent = cluster.said(variables, service)
            if default is None:
                default = cluster.said(variables, cluster.POSTGRESQL_PASSWORD)
            if sent is not None and str(sent) != _said_or(variables, store, default):
                wrong.setdefault((service, store), []).append(host)
    return [
        cluster.finding(
            # Without the values: one may be a password.
            f"{service} is not what {store} is for {', '.join(members)}.",
            f"take {service} out: it follows {store}.",
        )
        for (service, store), members in wrong.items()
    ]


def _unheard(groups: Groups, hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[Finding]:
    """A Redis or PostgreSQL that listens elsewhere than where it is looked for."""
    found = []
    for name, part, has in (
        ("redis_bind", "redis", _has_redis),
        ("postgresql_listen", "database", _has_postgresql),
    ):
        for host in hosts:
            variables = hostvars[host]
            said = cluster.said(variables, name)
            if (
                said is None
                or part not in cluster.parts(groups, host)
                or not has(groups, variables)
            ):
                continue
            listed = [each.lstrip("-") for each in re.split(r"[,\s]+", str(said).strip())]
            needed = ["127.0.0.1"]
            if cluster.is_cluster(groups):
                needed.append(str(variables.get("cluster_address") or ""))
            missing = [
                address
                for address in needed
                if address not in listed and not (address == "127.0.0.1" and "localhost" in listed)
            ]
            if missing and not set(listed) & set(EVERYWHERE):
                found.append(
                    cluster.finding(
                        f"{name} of {host} does not name {' and '.join(missing)}, where it is looked for.",
                        f"add {' and '.join(missing)} to {name}, or take it out of the inventory.",
                    )
                )
    return found


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        """Names of the filters in templates."""
        return {"horizon_side_problems": problems, "horizon_side_warnings": warnings}
