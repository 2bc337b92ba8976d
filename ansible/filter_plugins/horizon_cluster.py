"""Which parts of the service a host carries, and what follows from that: addresses, rules, sizes.

The parts are groups of the inventory. Without any of these groups each host is a server of its own
and carries all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from ansible.errors import AnsibleError, AnsibleFilterError
from jinja2 import Undefined

Finding = dict[str, str]
Groups = Mapping[str, Sequence[str]]
Address = IPv4Address | IPv6Address

PARTS = ("balancer", "web", "workers", "redis", "database")
LEAST_SENTINELS = 3
SENTINEL_PASSWORD = "vault_redis_sentinel_password"  # noqa: S105 a variable's name
POSTGRESQL_PASSWORD = "vault_postgresql_password"  # noqa: S105 a variable's name
VRRP = 112
"""Number of the protocol by which balancers agree who has their address; it knows no ports."""
OWN_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
"""Names that lead each host to itself."""
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
        if usable(host) not in {usable(address) for address in nodes.values()}:
            return _uncertain(
                f"The Sentinels name {endpoint(host, at)} as the primary, and no host of the group redis has "
                "that address. Remedy: name it there again and take it away with: ansible-playbook site.yml "
                "-i <inventory> -e state=absent -e part=redis --limit <its name>. When it is gone for "
                "good, wait until they have chosen another one (journalctl -u redis-sentinel)."
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


def usable(text: str) -> Address | None:
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


def is_itself(host: str) -> bool:
    name = host.strip("[]").rstrip(".").lower()
    try:
        found = ip_address(name)
    except ValueError:
        return name in OWN_NAMES or name.endswith(".localhost")
    mapped = getattr(found, "ipv4_mapped", None) or found
    return bool(mapped.is_loopback or mapped.is_unspecified)


def is_on(values: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = values.get(name)
    return default if value is None else is_true(value)


def is_true(value: Any) -> bool:
    return str(value).lower() in ("true", "yes", "on", "1")


def finding(problem: str, remedy: str) -> Finding:
    return {"problem": problem, "remedy": remedy}


def said(variables: Mapping[str, Any], name: str) -> Any:
    """What the inventory says; None for nothing, and for a template that only its role can fill in."""
    try:
        value = variables.get(name)
    except AnsibleError:
        return None
    return None if isinstance(value, Undefined) else value


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        """Names of the filters in templates."""
        return {
            "horizon_is_cluster": is_cluster,
            "horizon_parts": parts,
            "horizon_addresses": addresses,
            "horizon_networks": networks,
            "horizon_endpoint": endpoint,
            "horizon_rules": rules,
            "horizon_connections": connections,
            "horizon_primary": primary,
        }
