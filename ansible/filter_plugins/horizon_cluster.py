"""Which parts of the service a host carries, and what follows from that: addresses, rules, sizes.

The parts are groups of the inventory. Without any of these groups each host is a server of its own
and carries all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ansible.errors import AnsibleError, AnsibleFilterError
from jinja2 import Undefined

Finding = dict[str, str]
Groups = Mapping[str, Sequence[str]]
Address = IPv4Address | IPv6Address

PARTS = ("balancer", "web", "workers", "redis", "database")
LEAST_SENTINELS = 3
LOSS = {"web": "no message is taken", "workers": "no message is answered"}
"""What does not happen without any host of a part that more hosts can carry."""
VRRP = 112
"""Number of the protocol by which balancers agree who has their address; it knows no ports."""
SENTINEL_PASSWORD = "vault_redis_sentinel_password"  # noqa: S105 a variable's name
MIN_PASSWORD_CHARS = 16
SHARED = (
    *("app_domain", "app_database_url", "redis_port", "redis_sentinel_port", "postgresql_port"),
    *("redis_enabled", "redis_acknowledge_on_replica", "app_redis_host", "app_redis_port"),
    *("app_web_port", "app_postgresql_port", "app_postgresql_database"),
    *("keepalived_enabled", "keepalived_address", "keepalived_router_id"),
    "app_redis_url",
    *("vault_secret_key", "vault_admin_api_key", "vault_postgresql_password"),
    *("vault_redis_app_password", "vault_redis_backup_password"),
    *("vault_redis_replication_password", SENTINEL_PASSWORD),
)
"""Variables by which hosts understand each other: another value on one of them parts it from the rest."""
TAKE_AWAY = "ansible-playbook site.yml -e state=absent -e part={part} --limit {host}"
EXTERNAL_DATABASE = "app_database_url: postgresql://user:password@db.example.org:5432/name"
EXTERNAL_REDIS = "app_redis_url: redis://user:password@redis.example.org:6379/0"
OWN_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
"""Names that lead each host to itself."""
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
POOL_SIZE = 16
"""Connections that a process keeps at most: `_POOL_SIZE` in service/store/database.py."""
OTHER_CONNECTIONS = 24
"""Commands, probes, migrations, the backup, and PostgreSQL's own superusers."""
PROCESSES = 2
"""Of a kind on a host, where the inventory does not say: the role app's default."""


def is_cluster(groups: Groups) -> bool:
    """Whether the inventory spreads the service over several hosts."""
    return any(part in groups for part in PARTS)


def parts(groups: Groups, host: str) -> list[str]:
    """The parts that a host carries."""
    if not is_cluster(groups):
        return list(PARTS)
    return [part for part in PARTS if host in groups.get(part, ())]


def addresses(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[str]:
    """The private addresses of hosts, each once. Raises AnsibleFilterError."""
    found = []
    for host in hosts:
        address = hostvars[host].get("cluster_address")
        if not address:
            raise AnsibleFilterError(
                f"{host} has no cluster_address: write its private address into the inventory."
            )
        if address not in found:
            found.append(str(address))
    return found


def networks(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[str]:
    """The same, each as a network of one address."""
    return [
        f"{address}/{ip_address(address).max_prefixlen}" for address in addresses(hosts, hostvars)
    ]


def endpoint(address: str, port: int | str) -> str:
    """Address and port in one text."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def rules(
    groups: Groups, host: str, hostvars: Mapping[str, Any], ports: Mapping[str, int]
) -> list[dict[str, Any]]:
    """What the firewall of a host lets in: its own parts' ports, from the hosts that need them.

    `ports` has those of web, redis, sentinel and postgresql. Balancers hear each other without one.
    """
    if not is_cluster(groups):
        return []
    users = [*groups.get("web", ()), *groups.get("workers", ())]
    open_to = {
        "web": [("web", groups.get("balancer", ()))],
        "redis": [(port, [*users, *groups.get("redis", ())]) for port in ("redis", "sentinel")],
        "database": [("postgresql", users)],
    }
    balancers = groups.get("balancer", ())
    others = [each for each in balancers if each != host] if host in balancers else []
    return [{"protocol": VRRP, "source": address} for address in addresses(others, hostvars)] + [
        {"port": ports[port], "source": address}
        for part in parts(groups, host)
        for port, hosts in open_to.get(part, ())
        for address in addresses([each for each in hosts if each != host], hostvars)
    ]


def primary(
    looks: Mapping[str, Mapping[str, Any]], nodes: Mapping[str, str], port: int
) -> dict[str, Any]:
    """Host and port of the primary, or the `problem` that keeps it from being certain.

    What the Sentinels say counts. Where none knows, it is the only one that has data, else the one
    that others follow, else the first. `looks` is what each host said, `nodes` its address.
    """
    told = [look["told"] for look in looks.values() if look.get("told")]
    if told:
        _, host, at = max((int(epoch), str(host), int(at)) for epoch, host, at in told)
        if _usable(host) not in {_usable(address) for address in nodes.values()}:
            return _uncertain(
                f"The Sentinels name {endpoint(host, at)} as the primary, and no host of the group redis has "
                "that address. Remedy: name it there again and take it away with: ansible-playbook site.yml "
                "-e state=absent -e part=redis --limit <its name>. When it is gone for good, wait until they "
                "have chosen another one (journalctl -u redis-sentinel)."
            )
        return _primary(host, at)
    missing = [host for host in nodes if host not in looks]
    if missing:
        return _uncertain(
            "No Sentinel tells which Redis is the primary, and not all hosts of the group redis were "
            f"looked at ({', '.join(missing)} was not). Remedy: run this without --limit."
        )
    full = [host for host, look in looks.items() if look["role"] == "master" and look["keys"]]
    if len(full) > 1:
        return _uncertain(
            f"{' and '.join(full)} each have a Redis with data, and no Sentinel tells which is the "
            "primary. Remedy: empty the one that is not needed, on that host: sudo sh -c "
            "'REDISCLI_AUTH=$(cat /etc/redis/horizonai-bots.admin) redis-cli --user admin FLUSHALL'"
        )
    followed = [look["follows"] for look in looks.values() if look["follows"]]
    ours = {endpoint(address, port): address for address in nodes.values()}
    found = [nodes[host] for host in full] + [ours[each] for each in followed if each in ours]
    return _primary((found or [*nodes.values()])[0], port)


def _primary(host: str, port: int) -> dict[str, Any]:
    return {"host": host, "port": port, "address": endpoint(host, port), "problem": ""}


def _uncertain(problem: str) -> dict[str, Any]:
    return {"host": "", "port": 0, "address": "", "problem": problem}


def connections(groups: Groups, hostvars: Mapping[str, Any]) -> int:
    """What the database has to take: every pool full, twice while one release replaces another.

    In hundreds: another number restarts PostgreSQL, and not every host that is added should.
    """
    processes = 0
    for part, variable in (("web", "app_web_workers"), ("workers", "app_workers")):
        for host in groups.get(part, ()):
            processes += int(hostvars[host].get(variable) or PROCESSES)
    return -(-(2 * processes * POOL_SIZE + OTHER_CONNECTIONS) // 100) * 100


def problems(
    groups: Groups, hosts: Sequence[str], hostvars: Mapping[str, Any], values: Mapping[str, Any]
) -> list[Finding]:
    """What no cluster can be made of, each with what to change. `values` holds None for undefined."""
    if not is_cluster(groups):
        return _no_groups(hosts, hostvars)
    return [
        *_groups(groups, hosts, values),
        *_addresses(hosts, hostvars),
        *_shared(hosts, hostvars),
        *_redis(groups, values),
        *_external_redis(groups, hostvars, values),
        *_database(groups, hosts, hostvars, values),
        *_other_database(groups, hosts, hostvars),
        *_settings(groups, hosts, hostvars),
    ]


def warnings(
    groups: Groups, host: str, hosts: Sequence[str], hostvars: Mapping[str, Any]
) -> list[Finding]:
    """What works but is hardly meant. The first of the `hosts` tells what is nobody's own."""
    if not is_cluster(groups):
        return _overridden(hostvars[host])
    alone = {part: groups[part][0] for part in LOSS if len(groups.get(part, ())) == 1}
    return [
        _finding(
            f"The group {part} has one host, {alone[part]}: {LOSS[part]} while it is lost.",
            f"name a second host below {part}.",
        )
        for part in (alone if host == hosts[0] else ())
    ]


def address_problems(
    groups: Groups, host: str, hostvars: Mapping[str, Any], interfaces: Sequence[str]
) -> list[Finding]:
    """Why the others would not find this host. `interfaces` holds its addresses; empty: not known."""
    address = _usable(str(hostvars[host].get("cluster_address") or ""))
    if not is_cluster(groups) or address is None or not interfaces:
        return []
    if address in {ip_address(each.partition("%")[0]) for each in interfaces}:
        return []
    return [
        _finding(
            f"No interface of {host} has its cluster_address {address}.",
            "correct cluster_address, or give it to the host.",
        )
    ]


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
            _finding(
                f"The service's data are in the SQLite file of {host}, and {named}.",
                "move them to PostgreSQL while that server is still alone: docs/cluster.md, From one server.",
            )
        ]
    if present == "localhost" or present.startswith("/") or _is_loopback(present):
        if host == hosts[0]:
            return []
        present = f"{host} itself"
    elif _usable(present) is not None and _usable(present) == _usable(wanted):
        return []
    return [
        _finding(
            f"The service's data are in the PostgreSQL of {present}, and {named}.",
            "name that host again; docs/cluster.md, Moving the database, says how the data move. When they "
            "are there already, or only its address is another: -e preflight_database_moved=true",
        )
    ]


def move_problems(
    groups: Groups, host: str, installed: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """Why parts cannot go from host to host in one run. `installed` has the parts of each host now."""
    if not is_cluster(groups):
        return []
    had = installed.get(host, ())
    found = []
    if "redis" in had and host not in groups.get("redis", ()):
        found.append(
            _finding(
                f"{host} is not in the group redis any more, and the Redis there is still in use.",
                f"name it below redis again and run: {TAKE_AWAY.format(part='redis', host=host)}. "
                "Then take it out.",
            )
        )
    # A server that was alone is its own balancer, and goes on answering until the web hosts do.
    if "web" in had and "balancer" not in had and not _stays("web", groups, installed):
        found.append(
            _finding(
                "None of the hosts that take messages now stays in the group web.",
                "name the new hosts beside them and run site.yml, then take these out and run it again.",
            )
        )
    if "balancer" in had and not _stays("balancer", groups, installed):
        found.append(
            _finding(
                f"{host} is the balancer, and not in the group balancer any more.",
                "name it there again beside the new one (docs/cluster.md, Several balancers) and run "
                "site.yml. Once the public name leads to the new one, run: "
                f"{TAKE_AWAY.format(part='balancer', host=host)}.",
            )
        )
    return found


def _stays(part: str, groups: Groups, installed: Mapping[str, Sequence[str]]) -> bool:
    """Whether a host that has the part goes on having it; yes, when not all that should are known."""
    hosts = groups.get(part, ())
    return any(part in installed.get(host, (part,)) for host in hosts)


def removal_problems(groups: Groups, hosts: Sequence[str], part: str = "") -> list[str]:
    """Why these hosts cannot be taken away; nothing when the one that is named can.

    With `part` only that part of the host goes.
    """
    if len(hosts) != 1:
        return [f"{', '.join(hosts)} would be taken away: name the one that is meant with --limit."]
    host = hosts[0]
    if not is_cluster(groups):
        return [f"{host} is a server of its own: it has no parts to take away."] if part else []
    carried = parts(groups, host)
    if not carried or (part and part not in carried):
        return [
            f"{host} is not in {f'the group {part}' if part else 'any group'}, so nothing is taken away: "
            "name it there again until this has run."
        ]
    carried = [part] if part else carried
    found = []
    if "database" in carried:
        found.append(
            f"{host} has the database. Move it first: docs/cluster.md, Moving the database."
        )
    for part in ("balancer", "web", "workers"):
        if list(groups.get(part, ())) == [host]:
            found.append(f"{host} is the only host of {part}: add another one first.")
    if "redis" in carried and len(groups["redis"]) <= LEAST_SENTINELS:
        found.append(
            f"Without {host} the group redis has fewer than {LEAST_SENTINELS} hosts: add another one first."
        )
    return found


def _groups(groups: Groups, hosts: Sequence[str], values: Mapping[str, Any]) -> list[Finding]:
    found = []
    needed = ["balancer", "web", "workers"]
    if _on(values, "redis_enabled", default=True):
        needed.append("redis")
    for part in needed:
        if not groups.get(part):
            found.append(
                _finding(
                    f"The group {part} has no host.",
                    f"name at least one host below {part}; any host may be in several groups.",
                )
            )
    idle = [host for host in hosts if not parts(groups, host)]
    if idle:
        found.append(
            _finding(
                f"{', '.join(idle)} is in the group horizon and carries no part.",
                f"name it in one of {', '.join(PARTS)}, or take it out of horizon.",
            )
        )
    outside = sorted({each for part in PARTS for each in groups.get(part, ())} - set(hosts))
    if outside:
        found.append(
            _finding(
                f"{', '.join(outside)} is not in the group horizon.",
                "write balancer, web, workers, redis and database as children of horizon.",
            )
        )
    return found


def _no_groups(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[Finding]:
    meant = [host for host in hosts if hostvars[host].get("cluster_address")]
    if not meant:
        return []
    return [
        _finding(
            f"{', '.join(meant)} has a cluster_address, and the inventory has none of the groups "
            f"{', '.join(PARTS)}: each host would be a server of its own.",
            "write the groups as inventories/example-cluster has them, or take cluster_address out.",
        )
    ]


def _addresses(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[Finding]:
    found: list[Finding] = []
    owner: dict[Address, str] = {}
    for host in hosts:
        text = str(hostvars[host].get("cluster_address") or "")
        address = _usable(text)
        if not text:
            wrong = "has no cluster_address"
        elif address is None:
            wrong = (
                f"has the cluster_address {text}, which is no address that other hosts can reach"
            )
        elif address.is_global:
            wrong = (
                f"has the public cluster_address {text}, and hosts talk to each other in clear text"
            )
        elif address in owner:
            wrong = f"has the cluster_address {text} of {owner[address]}"
        else:
            owner[address] = host
            continue
        found.append(
            _finding(
                f"{host} {wrong}.",
                f"write its address in a private network or a VPN below {host} in the inventory, without "
                "the network's length, like: cluster_address: 10.0.0.1",
            )
        )
    if len({address.version for address in owner}) > 1:
        longer = [host for address, host in owner.items() if address.version == 6]
        found.append(
            _finding(
                f"{', '.join(longer)} has a cluster_address of IPv6, and the others have one of IPv4: "
                "each lets in the addresses that the inventory names.",
                "give all hosts a cluster_address of one kind.",
            )
        )
    return found


def _shared(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[Finding]:
    """Told by name: a value may be a secret."""
    found = []
    for name in SHARED:
        by_value: dict[str, list[str]] = {}
        for host in hosts:
            value = _said(hostvars[host], name)
            told = str(value).lower() if isinstance(value, bool) else str(value or "")
            by_value.setdefault(told, []).append(host)
        if len(by_value) > 1:
            sides = " and ".join(", ".join(members) for members in by_value.values())
            found.append(
                _finding(
                    f"{name} is not the same for {sides}.",
                    f"write {name} once, in group_vars/all, and take it out of the hosts and their groups.",
                )
            )
    return found


def _redis(groups: Groups, values: Mapping[str, Any]) -> list[Finding]:
    if not _on(values, "redis_enabled", default=True):
        return []
    found = []
    count = len(groups.get("redis", ()))
    if 0 < count < LEAST_SENTINELS:
        found.append(
            _finding(
                f"The group redis has {count} {'host' if count == 1 else 'hosts'}, each with a Sentinel: "
                "a fail-over takes the votes of most of three.",
                "name three hosts below redis; hosts of web and workers may be among them.",
            )
        )
    if count < 2 and _on(values, "redis_acknowledge_on_replica", default=False):
        found.append(
            _finding(
                "redis_acknowledge_on_replica is true, and there is no replica.",
                "name three hosts below redis, or write: redis_acknowledge_on_replica: false",
            )
        )
    password = str(values.get(SENTINEL_PASSWORD) or "")
    if not re.fullmatch(r"[A-Za-z0-9_-]{16,}", password) or "CHANGE" in password.upper():
        found.append(
            _finding(
                f"{SENTINEL_PASSWORD} is missing, or is no password of at least {MIN_PASSWORD_CHARS} "
                "letters, digits, _ and -.",
                f'write into the vault: {SENTINEL_PASSWORD}: "<what `openssl rand -hex 24` prints>"',
            )
        )
    return found


def _external_redis(
    groups: Groups, hostvars: Mapping[str, Any], values: Mapping[str, Any]
) -> list[Finding]:
    """Why the hosts cannot share a Redis that no group names. Its address has a password."""
    if _on(values, "redis_enabled", default=True):
        return []
    members = groups.get("redis", ())
    if members:
        return [
            _finding(
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
            _finding(
                "redis_enabled is false, and no Redis is named that all hosts reach.",
                f"write into the vault: {EXTERNAL_REDIS}",
            )
        )
    if _on(values, "redis_acknowledge_on_replica", default=False):
        found.append(
            _finding(
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
    said += [_said(hostvars[host], "app_database_url") for host in hosts]
    if any(said):
        return [
            _finding(
                "There are two databases: the group database, and app_database_url.",
                "empty the group, or take the variable out.",
            )
        ]
    if len(members) > 1:
        return [
            _finding(
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
        _finding(
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
    if any(_is_itself(host) for host in hosts):
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


def _is_itself(host: str) -> bool:
    name = host.strip("[]").rstrip(".").lower()
    try:
        found = ip_address(name)
    except ValueError:
        return name in OWN_NAMES or name.endswith(".localhost")
    mapped = getattr(found, "ipv4_mapped", None) or found
    return bool(mapped.is_loopback or mapped.is_unspecified)


def _is_elsewhere(host: str) -> bool:
    if _is_itself(host):
        return False
    return _usable(host.strip("[]")) is not None or _is_name(host)


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
        said = [(host, _said(hostvars[host], name)) for host in hosts]
        wrong = [
            f"{value} for {host}"
            for host, value in said
            if value is not None and _is_true(value) != expected[host]
        ]
        if wrong:
            found.append(
                _finding(
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
    said = [(host, str(_said(hostvars[host], "app_postgresql_host") or "")) for host in hosts]
    wrong = [
        f"{value} for {host}"
        for host, value in said
        if value not in ("", address)
        and (_is_itself(value) or not _is_name(value))
        and not (host in members and (_is_itself(value) or value.startswith("/")))
    ]
    if not wrong:
        return []
    return [
        _finding(
            f"app_postgresql_host is {', '.join(wrong)}, and PostgreSQL is on {members[0]} ({address}).",
            "take the variable out: the group database says where PostgreSQL is.",
        )
    ]


def _is_loopback(text: str) -> bool:
    try:
        return ip_address(text).is_loopback
    except ValueError:
        return False
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
                _finding(
                    f"app_settings has {name} for {', '.join(where)}, which the groups say.",
                    f"take it out of app_settings; {remedy}.",
                )
            )
    return found


def _overridden(variables: Mapping[str, Any]) -> list[Finding]:
    """Settings of a server of its own that the other roles do not know of."""
    names = _setting_names(variables)
    return [
        _finding(
            f"app_settings has {name}, which the role app sets from {variable}: other roles go by that.",
            f"take it out of app_settings, and write {variable} instead.",
        )
        for name, variable in (DATABASE_SETTINGS | REDIS_SETTINGS).items()
        if name in names
    ]


def _setting_names(variables: Mapping[str, Any]) -> set[str]:
    settings = _said(variables, "app_settings")
    return {str(name).upper() for name in settings} if isinstance(settings, Mapping) else set()


def _said(variables: Mapping[str, Any], name: str) -> Any:
    """What the inventory says; None for nothing, and for a template that only its role can fill in."""
    try:
        value = variables.get(name)
    except AnsibleError:
        return None
    return None if isinstance(value, Undefined) else value


def _usable(text: str) -> Address | None:
    """None for what is no address, and for those of no single other host."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    useless = (
        *(found.is_loopback, found.is_unspecified, found.is_multicast, found.is_link_local),
        str(found) == "255.255.255.255",
    )
    return None if any(useless) else found


def _on(values: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = values.get(name)
    return default if value is None else _is_true(value)


def _is_true(value: Any) -> bool:
    return str(value).lower() in ("true", "yes", "on", "1")


def _finding(problem: str, remedy: str) -> Finding:
    return {"problem": problem, "remedy": remedy}


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        """Names of the filters in templates."""
        return {
            "horizon_is_cluster": is_cluster,
            "horizon_move_problems": move_problems,
            "horizon_parts": parts,
            "horizon_addresses": addresses,
            "horizon_networks": networks,
            "horizon_endpoint": endpoint,
            "horizon_rules": rules,
            "horizon_connections": connections,
            "horizon_primary": primary,
            "horizon_cluster_problems": problems,
            "horizon_cluster_warnings": warnings,
            "horizon_address_problems": address_problems,
            "horizon_database_problems": database_problems,
            "horizon_removal_problems": removal_problems,
        }
