"""Whether the hosts of a cluster have one Redis and one database, and the service finds its data there."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ansible.errors import AnsibleFilterError

Finding = dict[str, str]
Groups = Mapping[str, Sequence[str]]

MIN_PASSWORD_CHARS = 16
EXTERNAL_DATABASE = "app_database_url: postgresql://user:password@db.example.org:5432/name"
EXTERNAL_REDIS = "app_redis_url: redis://user:password@redis.example.org:6379/0"
_DATABASE_URL = re.compile(
    r"(?P<scheme>[A-Za-z0-9+.-]+)://"
    r"(?:[^:/]*(?::[^@]*)?@)?"
    r"(?P<host>\[[^/?]*\]|[^/:?]*)(?::(?P<port>[^/?]*))?"
    r"(?:/(?P<name>[^?]*))?(?:\?(?P<query>.*))?"
)
"""As SQLAlchemy reads it: a password may hold everything but @."""
_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg2")
"""What `database_address` in service/setting_rules.py takes besides SQLite."""
DATABASE_SETTINGS = {
    "DATABASE_URL": "app_database_url",
    "DB_HOST": "app_postgresql_host",
    "DB_PORT": "app_postgresql_port",
    "DB_USER": "app_postgresql_user",
    "DB_PASSWORD": "app_postgresql_password",
    "DB_NAME": "app_postgresql_database",
}
REDIS_SETTINGS = {"REDIS_URL": "app_redis_url"}
"""Settings that the role app sets from these variables, and that app_settings would override."""
SENTINEL_SETTINGS = (
    *("REDIS_SENTINELS", "REDIS_SENTINEL_NAME", "REDIS_SENTINEL_USER", "REDIS_SENTINEL_PASSWORD"),
    "REDIS_ACKNOWLEDGE_ON_REPLICA",
)
"""Those that it sets where the group redis has hosts; elsewhere app_settings may."""


def _beside(name: str) -> ModuleType:
    """Another file of this folder: Ansible loads each by itself, under a name of its own."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise AnsibleFilterError(f"{name} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cluster = _beside("horizon_cluster")


def problems(
    groups: Groups, hosts: Sequence[str], hostvars: Mapping[str, Any], values: Mapping[str, Any]
) -> list[Finding]:
    """Why the hosts could not share a Redis and a database. `values` holds None for undefined."""
    if not cluster.is_cluster(groups):
        return []
    return [
        *_redis(groups, values),
        *_external_redis(groups, hostvars, values),
        *_database(groups, hosts, hostvars, values),
        *_other_database(groups, hosts, hostvars),
        *_settings(groups, hosts, hostvars),
    ]


def warnings(groups: Groups, host: str, hostvars: Mapping[str, Any]) -> list[Finding]:
    """What works on a server of its own but is hardly meant."""
    return [] if cluster.is_cluster(groups) else _overridden(hostvars[host])


def database_problems(
    groups: Groups, host: str, hostvars: Mapping[str, Any], present: str
) -> list[Finding]:
    """Why the service cannot be sent to another PostgreSQL, which would begin empty.

    `present` is where the host's service has its data now: `sqlite`, PostgreSQL's host, or nowhere.
    """
    hosts = groups.get("database", ())
    if len(hosts) != 1 or not present:
        return []
    wanted = str(hostvars[hosts[0]].get("cluster_address") or "")
    named = f"the group database names {hosts[0]} ({wanted}), where it would find none"
    if present == "sqlite":
        return [
            cluster.finding(
                f"The service's data are in the SQLite file of {host}, and {named}.",
                "move them to PostgreSQL while that server is still alone: docs/cluster.md, From one server.",
            )
        ]
    if present.startswith("/") or cluster.is_itself(present):
        if host == hosts[0]:
            return []
        present = f"{host} itself"
    elif cluster.usable(present) is not None and cluster.usable(present) == cluster.usable(wanted):
        return []
    return [
        cluster.finding(
            f"The service's data are in the PostgreSQL of {present}, and {named}.",
            "name that host again; docs/cluster.md, Moving the database, says how the data move. When they "
            "are there already, or only its address is another: -e preflight_database_moved=true",
        )
    ]


def _redis(groups: Groups, values: Mapping[str, Any]) -> list[Finding]:
    if not cluster.is_on(values, "redis_enabled", default=True):
        return []
    found = []
    count = len(groups.get("redis", ()))
    if 0 < count < cluster.LEAST_SENTINELS:
        found.append(
            cluster.finding(
                f"The group redis has {count} {'host' if count == 1 else 'hosts'}, each with a Sentinel: "
                "a fail-over takes the votes of most of three.",
                "name three hosts below redis; hosts of web and workers may be among them.",
            )
        )
    if count < 2 and cluster.is_on(values, "redis_acknowledge_on_replica", default=False):
        found.append(
            cluster.finding(
                "redis_acknowledge_on_replica is true, and there is no replica.",
                "name three hosts below redis, or write: redis_acknowledge_on_replica: false",
            )
        )
    own = values.get("redis_sentinel_password")
    password = str(own or values.get(cluster.SENTINEL_PASSWORD) or "")
    if not re.fullmatch(r"[A-Za-z0-9_-]{16,}", password) or "CHANGE" in password.upper():
        found.append(
            cluster.finding(
                f"{cluster.SENTINEL_PASSWORD} is missing, or is no password of at least {MIN_PASSWORD_CHARS} "
                "letters, digits, _ and -.",
                f'write into the vault: {cluster.SENTINEL_PASSWORD}: "<what `openssl rand -hex 24` prints>"',
            )
        )
    return found


def _external_redis(
    groups: Groups, hostvars: Mapping[str, Any], values: Mapping[str, Any]
) -> list[Finding]:
    """Why the hosts cannot share a Redis that no group names. Its address has a password."""
    if cluster.is_on(values, "redis_enabled", default=True):
        return []
    members = groups.get("redis", ())
    if members:
        return [
            cluster.finding(
                f"redis_enabled is false, and the group redis names {', '.join(members)}: no Redis and "
                "no Sentinel would run there.",
                "take redis_enabled out, or empty the group and write the Redis that is elsewhere into "
                f"the vault: {EXTERNAL_REDIS}",
            )
        ]
    found = []
    users = {*groups.get("web", ()), *groups.get("workers", ())}
    by_sentinels = all("REDIS_SENTINELS" in _setting_names(hostvars[host]) for host in users)
    if not by_sentinels and not _is_elsewhere(_redis_host(values)):
        found.append(
            cluster.finding(
                "redis_enabled is false, and no Redis is named that all hosts reach.",
                f"write into the vault: {EXTERNAL_REDIS}",
            )
        )
    if cluster.is_on(values, "redis_acknowledge_on_replica", default=False):
        found.append(
            cluster.finding(
                "redis_acknowledge_on_replica is true, and holds for the group redis alone.",
                "write: redis_acknowledge_on_replica: false",
            )
        )
    return found


def _redis_host(values: Mapping[str, Any]) -> str:
    """Where the hosts would look for it; empty where that is no host."""
    url = values.get("app_redis_url")
    if not url:
        return str(values.get("app_redis_host") or "")
    try:
        parts = urlsplit(str(url))
    except ValueError:
        return ""
    return (parts.hostname or "") if parts.scheme in ("redis", "rediss") else ""


def _database(
    groups: Groups,
    hosts: Sequence[str],
    hostvars: Mapping[str, Any],
    values: Mapping[str, Any],
) -> list[Finding]:
    members = groups.get("database", ())
    url = str(values.get("app_database_url") or "")
    if not members:
        return _external_database(url)
    # An SQLite file among the values may be the role's default.
    said = [url] if not url.startswith("sqlite") else []
    said += [cluster.said(hostvars[host], "app_database_url") for host in hosts]
    if any(said):
        return [
            cluster.finding(
                "There are two databases: the group database, and app_database_url.",
                "empty the group, or take the variable out.",
            )
        ]
    if len(members) > 1:
        return [
            cluster.finding(
                f"The group database has {len(members)} hosts ({', '.join(members)}), and there is one "
                "database.",
                f"leave one there, or empty the group and write into the vault: {EXTERNAL_DATABASE}",
            )
        ]
    return []


def _external_database(url: str) -> list[Finding]:
    """Why several hosts cannot share it. The address has a password, so that it is not repeated."""
    if not url or url.startswith("sqlite"):
        wrong = "several hosts cannot share an SQLite file"
    else:
        reason = _not_external(url)
        wrong = f"app_database_url {reason}" if reason else ""
    if not wrong:
        return []
    return [
        cluster.finding(
            f"The group database has no host, and {wrong}.",
            f"name one host below database, or write into the vault: {EXTERNAL_DATABASE}",
        )
    ]


def _not_external(url: str) -> str:
    """What is wrong with the address of an external PostgreSQL; empty when nothing is."""
    parts = _DATABASE_URL.fullmatch(url)
    if parts is None:
        return "is no address of a database"
    if parts["scheme"] not in _SCHEMES:
        return f"begins with {parts['scheme']}://, and the service takes only PostgreSQL there"
    hosts = _hosts(parts["host"], parts["query"] or "")
    if any(cluster.is_itself(host) for host in hosts):
        return "names the host itself, which is another one for each of them"
    if not all(_is_elsewhere(host) for host in hosts):
        return "names no host that all of them reach, as a socket is none"
    if parts["port"] and not _is_port(parts["port"]):
        return "has no number from 1 to 65535 as port"
    return "" if parts["name"] else "names no database behind the last /"


def _hosts(host: str, query: str) -> list[str]:
    """Those of the part behind the ? come before the one in front of it, and may have ports."""
    found = ",".join(parse_qs(query).get("host") or [host]).split(",")
    return [re.sub(r"^(\[.*\]|[^:]*):[0-9]*$", r"\1", each) for each in found]


def _is_elsewhere(host: str) -> bool:
    if cluster.is_itself(host):
        return False
    return cluster.usable(host.strip("[]")) is not None or _is_name(host)


def _is_name(host: str) -> bool:
    """Not only digits and dots: 127.1 is an address too."""
    return re.fullmatch(r"[A-Za-z0-9._-]*[A-Za-z_-][A-Za-z0-9._-]*", host) is not None


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) <= 65_535


def _other_database(
    groups: Groups, hosts: Sequence[str], hostvars: Mapping[str, Any]
) -> list[Finding]:
    """Hosts whose variables, which a single server has, say something else than the group."""
    members = groups.get("database", ())
    found = []
    for name, expected in (
        ("postgresql_enabled", {host: host in members for host in hosts}),
        ("app_use_postgresql", dict.fromkeys(hosts, len(members) > 0)),
    ):
        said = [(host, cluster.said(hostvars[host], name)) for host in hosts]
        wrong = [
            f"{value} for {host}"
            for host, value in said
            if value is not None and cluster.is_true(value) != expected[host]
        ]
        if wrong:
            found.append(
                cluster.finding(
                    f"{name} is {', '.join(wrong)}, and the group database says something else.",
                    "take the variable out: PostgreSQL is on the host of the group database, or where "
                    "app_database_url says.",
                )
            )
    return [*found, *_other_host(members, hosts, hostvars)]


def _other_host(
    members: Sequence[str], hosts: Sequence[str], hostvars: Mapping[str, Any]
) -> list[Finding]:
    """A name may lead to the database's host by another way; an address is judged."""
    if len(members) != 1 or members[0] not in hosts:
        return []
    address = str(hostvars[members[0]].get("cluster_address") or "")
    said = [
        (host, str(cluster.said(hostvars[host], "app_postgresql_host") or "")) for host in hosts
    ]
    wrong = [
        f"{value} for {host}"
        for host, value in said
        if value not in ("", address)
        and (cluster.is_itself(value) or not _is_name(value))
        and not (host in members and (cluster.is_itself(value) or value.startswith("/")))
    ]
    if not wrong:
        return []
    return [
        cluster.finding(
            f"app_postgresql_host is {', '.join(wrong)}, and PostgreSQL is on {members[0]} ({address}).",
            "take the variable out: the group database says where PostgreSQL is.",
        )
    ]


def _settings(groups: Groups, hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[Finding]:
    """Settings of the service that come before what the groups say."""
    instead = dict.fromkeys(
        DATABASE_SETTINGS,
        "name the host below database, or empty that group and write app_database_url",
    )
    instead |= dict.fromkeys(
        REDIS_SETTINGS, "name the hosts below redis, or empty that group and write app_redis_url"
    )
    if groups.get("redis"):
        instead |= dict.fromkeys(SENTINEL_SETTINGS, "the group redis and its variables say it")
    found = []
    for name, remedy in instead.items():
        where = [host for host in hosts if name in _setting_names(hostvars[host])]
        if where:
            found.append(
                cluster.finding(
                    f"app_settings has {name} for {', '.join(where)}, which the groups say.",
                    f"take it out of app_settings; {remedy}.",
                )
            )
    return found


def _overridden(variables: Mapping[str, Any]) -> list[Finding]:
    """Settings of a server of its own that the other roles do not know of."""
    names = _setting_names(variables)
    return [
        cluster.finding(
            f"app_settings has {name}, which the role app sets from {variable}: other roles go by that.",
            f"take it out of app_settings, and write {variable} instead.",
        )
        for name, variable in (DATABASE_SETTINGS | REDIS_SETTINGS).items()
        if name in names
    ]


def _setting_names(variables: Mapping[str, Any]) -> set[str]:
    settings = cluster.said(variables, "app_settings")
    return {str(name).upper() for name in settings} if isinstance(settings, Mapping) else set()


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        """Names of the filters in templates."""
        return {
            "horizon_store_problems": problems,
            "horizon_store_warnings": warnings,
            "horizon_database_problems": database_problems,
        }
