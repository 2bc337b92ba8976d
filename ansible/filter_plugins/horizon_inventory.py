"""Which inventories no cluster can be made of, and which hosts cannot leave it: each with what to change."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.errors import AnsibleFilterError

Finding = dict[str, str]
Groups = Mapping[str, Sequence[str]]
Address = IPv4Address | IPv6Address

LOSS = {"web": "no message is taken", "workers": "no message is answered"}
"""What does not happen without any host of a part that more hosts can carry."""
SHARED = (
    *("app_domain", "app_database_url", "app_redis_url", "app_redis_host", "app_redis_port"),
    *("redis_enabled", "redis_acknowledge_on_replica", "redis_port", "redis_app_user"),
    *("redis_sentinel_port", "redis_sentinel_name"),
    *("redis_app_password", "redis_backup_password"),
    *("redis_replication_password", "redis_sentinel_password"),
    *("app_web_port", "app_postgresql_port", "app_postgresql_database", "app_postgresql_user"),
    *("postgresql_port", "postgresql_database", "postgresql_user", "postgresql_password"),
    *("app_postgresql_password", "app_secret_key", "app_admin_api_key"),
    *("keepalived_enabled", "keepalived_address", "keepalived_router_id", "nginx_balancer_name"),
    *("vault_secret_key", "vault_admin_api_key", "vault_postgresql_password"),
    *("vault_redis_app_password", "vault_redis_backup_password"),
    *("vault_redis_replication_password", "vault_redis_sentinel_password"),
)
"""Variables by which hosts understand each other: another value on one of them parts it from the rest."""
TAKE_AWAY = "ansible-playbook site.yml -i <inventory> -e state=absent -e part={part} --limit {host}"


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
    """What no cluster can be made of, each with what to change. `values` holds None for undefined."""
    if not cluster.is_cluster(groups):
        return _no_groups(hosts, hostvars)
    return [
        *_groups(groups, hosts, values),
        *_addresses(hosts, hostvars),
        *_shared(hosts, hostvars),
    ]


def warnings(
    groups: Groups, host: str, hosts: Sequence[str], hostvars: Mapping[str, Any]
) -> list[Finding]:
    """What works but is hardly meant. The first of the `hosts` tells what is nobody's own."""
    if not cluster.is_cluster(groups):
        return []
    alone = {part: groups[part][0] for part in LOSS if len(groups.get(part, ())) == 1}
    return [
        cluster.finding(
            f"The group {part} has one host, {alone[part]}: {LOSS[part]} while it is lost.",
            f"name a second host below {part}.",
        )
        for part in (alone if host == hosts[0] else ())
    ]


def address_problems(
    groups: Groups, host: str, hostvars: Mapping[str, Any], interfaces: Sequence[str]
) -> list[Finding]:
    """Why the others would not find this host. `interfaces` holds its addresses; empty: not known."""
    address = cluster.usable(str(hostvars[host].get("cluster_address") or ""))
    if not cluster.is_cluster(groups) or address is None or not interfaces:
        return []
    if address in {ip_address(each.partition("%")[0]) for each in interfaces}:
        return []
    return [
        cluster.finding(
            f"No interface of {host} has its cluster_address {address}.",
            "correct cluster_address, or give it to the host.",
        )
    ]


def move_problems(
    groups: Groups, host: str, installed: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """Why parts cannot go from host to host in one run. `installed` has the parts of each host now."""
    if not cluster.is_cluster(groups):
        return []
    had = installed.get(host, ())
    found = []
    if "redis" in had and host not in groups.get("redis", ()):
        found.append(
            cluster.finding(
                f"{host} is not in the group redis any more, and the Redis there is still in use.",
                f"name it below redis again and run: {TAKE_AWAY.format(part='redis', host=host)}. "
                "Then take it out.",
            )
        )
    # A server that was alone is its own balancer, and goes on answering until the web hosts do.
    if "web" in had and "balancer" not in had and not _stays("web", groups, installed):
        found.append(
            cluster.finding(
                "None of the hosts that take messages now stays in the group web.",
                "name the new hosts beside them and run site.yml, then take these out and run it again.",
            )
        )
    if "balancer" in had and not _stays("balancer", groups, installed):
        found.append(
            cluster.finding(
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
    if not cluster.is_cluster(groups):
        return [f"{host} is a server of its own: it has no parts to take away."] if part else []
    carried = cluster.parts(groups, host)
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
    if "redis" in carried and len(groups["redis"]) <= cluster.LEAST_SENTINELS:
        found.append(
            f"Without {host} the group redis has fewer than {cluster.LEAST_SENTINELS} hosts: "
            "add another one first."
        )
    return found


def _groups(groups: Groups, hosts: Sequence[str], values: Mapping[str, Any]) -> list[Finding]:
    found = []
    needed = ["balancer", "web", "workers"]
    if cluster.is_on(values, "redis_enabled", default=True):
        needed.append("redis")
    for part in needed:
        if not groups.get(part):
            found.append(
                cluster.finding(
                    f"The group {part} has no host.",
                    f"name at least one host below {part}; any host may be in several groups.",
                )
            )
    idle = [host for host in hosts if not cluster.parts(groups, host)]
    if idle:
        found.append(
            cluster.finding(
                f"{', '.join(idle)} is in the group horizon and carries no part.",
                f"name it in one of {', '.join(cluster.PARTS)}, or take it out of horizon.",
            )
        )
    outside = sorted({each for part in cluster.PARTS for each in groups.get(part, ())} - set(hosts))
    if outside:
        found.append(
            cluster.finding(
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
        cluster.finding(
            f"{', '.join(meant)} has a cluster_address, and the inventory has none of the groups "
            f"{', '.join(cluster.PARTS)}: each host would be a server of its own.",
            "write the groups as inventories/example-cluster has them, or take cluster_address out.",
        )
    ]


def _addresses(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[Finding]:
    found: list[Finding] = []
    owner: dict[Address, str] = {}
    for host in hosts:
        text = str(hostvars[host].get("cluster_address") or "")
        address = cluster.usable(text)
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
            cluster.finding(
                f"{host} {wrong}.",
                f"write its address in a private network or a VPN below {host} in the inventory, without "
                "the network's length, like: cluster_address: 10.0.0.1",
            )
        )
    if len({address.version for address in owner}) > 1:
        longer = [host for address, host in owner.items() if address.version == 6]
        found.append(
            cluster.finding(
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
            value = cluster.said(hostvars[host], name)
            told = str(value).lower() if isinstance(value, bool) else str(value or "")
            by_value.setdefault(told, []).append(host)
        if len(by_value) > 1:
            sides = " and ".join(", ".join(members) for members in by_value.values())
            found.append(
                cluster.finding(
                    f"{name} is not the same for {sides}.",
                    f"write {name} once, in group_vars/all, and take it out of the hosts and their groups.",
                )
            )
    return found


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        """Names of the filters in templates."""
        return {
            "horizon_cluster_problems": problems,
            "horizon_cluster_warnings": warnings,
            "horizon_address_problems": address_problems,
            "horizon_move_problems": move_problems,
            "horizon_removal_problems": removal_problems,
        }
