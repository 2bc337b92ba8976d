"""The address that several balancers share: who may have it, where it is put, and who has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_interface,
)
from typing import Any

from ansible.errors import AnsibleFilterError

Finding = dict[str, str]
Groups = Mapping[str, Sequence[str]]
Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface

EXAMPLE = "keepalived_address: 203.0.113.10/24"
ROUTER_IDS = {str(number) for number in range(1, 256)}
ROUTER_ID = 51
"""Where the inventory does not say: the role keepalived's default."""


def interface_with(facts: Mapping[str, Any], address: str) -> str:
    """The interface that has an address. Raises AnsibleFilterError when none has."""
    for name, found in _networks(facts):
        if found.ip == ip_address(address):
            return name
    raise AnsibleFilterError(_nowhere(address))


def interface_towards(facts: Mapping[str, Any], address: str) -> str:
    """The interface whose network an address lies in. Raises AnsibleFilterError when none is."""
    wanted = ip_interface(address).ip
    for name, found in _networks(facts):
        if _beside(found, wanted):
            return name
    raise AnsibleFilterError(
        f"No interface has an address in the network of {address}. "
        "Write its name below the host: keepalived_interface: eth0"
    )


def problems(
    groups: Groups, hostvars: Mapping[str, Any], values: Mapping[str, Any]
) -> list[Finding]:
    """Why the balancers cannot share an address. `values` holds None for undefined."""
    balancers = groups.get("balancer", ())
    if not balancers or not _on(values, "keepalived_enabled", default=True):
        return []
    text = str(values.get("keepalived_address") or "")
    if not text:
        return _none(balancers)
    address = _parsed(text)
    if address is None or _is_network(address):
        return [
            _finding(
                f"keepalived_address is {text}, and no address with the length of its network.",
                f"write the address that no host has for itself: {EXAMPLE}",
            )
        ]
    found = (
        _useless(text, address)
        or [*_taken(address, hostvars), *_families(address, balancers, hostvars)]
        or _elsewhere(address, balancers, hostvars)
    )
    router = values.get("keepalived_router_id")
    if str(ROUTER_ID if router is None else router) not in ROUTER_IDS:
        found.append(
            _finding(
                f"keepalived_router_id is {router}.",
                f"write a number from 1 to 255: keepalived_router_id: {ROUTER_ID}",
            )
        )
    return found


def held(address: str, looks: Mapping[str, Mapping[str, Any]]) -> Finding:
    """What repair.yml says of the address. `looks` has each balancer's, empty where it has none."""
    silent = sorted(host for host, look in looks.items() if "holds" not in look)
    holders = sorted(host for host, look in looks.items() if look.get("holds"))
    state, found = "ok", ""
    if len(holders) > 1:
        state, found = "wrong", f"{' and '.join(holders)} both have {address}"
    elif not holders and silent:
        state, found = "unchecked", f"{', '.join(silent)} could not be looked at"
    elif not holders:
        state, found = "wrong", f"no balancer has {address}"
    remedy = (
        "the balancers do not hear each other (protocol 112 between their cluster_address): "
        "journalctl -u keepalived"
        if len(holders) > 1
        else "journalctl -u keepalived"
    )
    return {
        "check": "floating address",
        "state": state,
        "found": found,
        "remedy": "" if state == "ok" else remedy,
    }


def _none(balancers: Sequence[str]) -> list[Finding]:
    if len(balancers) < 2:
        return []
    return [
        _finding(
            f"The group balancer has {len(balancers)} hosts, and no keepalived_address that one of "
            "them holds.",
            f"write an address of their network that no host has for itself: {EXAMPLE}, or where "
            "something else stands before them, like the provider's load balancer: "
            "keepalived_enabled: false",
        )
    ]


def _is_network(address: Interface) -> bool:
    """Whether it names a whole network, or all hosts of one, and no single one."""
    network = address.network
    return network.num_addresses > 2 and address.ip in (
        network.network_address,
        network.broadcast_address,
    )


def _useless(text: str, address: Interface) -> list[Finding]:
    """What Python takes for an address with its network, and a balancer cannot use."""
    mask = text.partition("/")[2]
    if not mask.isdecimal():
        return [
            _finding(
                f"keepalived_address is {text}, with a mask in place of the length of its network.",
                f"write: keepalived_address: {address.with_prefixlen}",
            )
        ]
    if address.network.prefixlen == 0:
        return [
            _finding(
                f"keepalived_address is {text}, whose length of 0 is that of all addresses.",
                f"write the length of its network: {EXAMPLE}",
            )
        ]
    if address.ip.is_link_local:
        return [
            _finding(
                f"keepalived_address is {text}, a link-local address, which no name can lead to.",
                f"write an address that Twilio can reach: {EXAMPLE}",
            )
        ]
    return []


def _taken(address: Interface, hostvars: Mapping[str, Any]) -> list[Finding]:
    """What the inventory says of hosts, and not what they have: one of them holds the address."""
    found = []
    for host, variables in hostvars.items():
        names = {name: variables.get(name) for name in ("cluster_address", "ansible_host")}
        for name, own in {**names, "inventory_hostname": host}.items():
            if _is(address, own):
                found.append(
                    _finding(
                        f"keepalived_address is the {name} of {host}, which keeps it when another "
                        "balancer takes over.",
                        f"write an address that no host has for itself: {EXAMPLE}",
                    )
                )
                break
    return found


def _is(address: Interface, own: Any) -> bool:
    try:
        return ip_address(str(own)) == address.ip
    except ValueError:
        return False


def _elsewhere(
    address: Interface, balancers: Sequence[str], hostvars: Mapping[str, Any]
) -> list[Finding]:
    """Balancers of which nothing says on which interface they hold it."""
    hosts = [host for host in balancers if _is_far(address, hostvars[host])]
    if not hosts:
        return []
    return [
        _finding(
            f"No interface of {', '.join(hosts)} has an address in the network of "
            f"keepalived_address {address}.",
            "correct the address and its length, or name the interface that holds it all the same: "
            "keepalived_interface: eth0",
        )
    ]


def _is_far(address: Interface, variables: Mapping[str, Any]) -> bool:
    """False too where nobody has looked at the interfaces."""
    networks = [found for _, found in _networks(variables.get("ansible_facts") or {})]
    if variables.get("keepalived_interface") or not networks:
        return False
    return not any(_beside(found, address.ip) for found in networks)


def _families(
    address: Interface, balancers: Sequence[str], hostvars: Mapping[str, Any]
) -> list[Finding]:
    other = []
    for host in balancers:
        own = _parsed(f"{hostvars[host].get('cluster_address')}/0")
        if own is not None and own.version != address.version:
            other.append(host)
    if not other:
        return []
    return [
        _finding(
            f"keepalived_address is of IPv{address.version}, and the cluster_address of "
            f"{', '.join(other)} is not.",
            "give them addresses of one family: keepalived speaks of an address in its own.",
        )
    ]


def _beside(found: Interface, address: Address) -> bool:
    """Whether an address lies in an interface's network.

    The balancer that holds it has it as an interface's own too, which tells nothing of a network.
    """
    return found.ip != address and address in found.network


def _parsed(text: str) -> Interface | None:
    """None for what is no address, has no length, or could belong to nobody."""
    try:
        address = ip_interface(text)
    except ValueError:
        return None
    nobodys = address.ip.is_loopback or address.ip.is_unspecified or address.ip.is_multicast
    return None if "/" not in text or "%" in text or nobodys else address


def _networks(facts: Mapping[str, Any]) -> Iterator[tuple[str, Interface]]:
    """Every interface's addresses with their networks, as Ansible's facts tell them."""
    for fact in facts.values():
        if not isinstance(fact, Mapping) or "device" not in fact or "interface" in fact:
            continue
        fours = [fact.get("ipv4") or {}, *(fact.get("ipv4_secondaries") or ())]
        for each in fours:
            if each.get("address") and each.get("netmask"):
                yield str(fact["device"]), ip_interface(f"{each['address']}/{each['netmask']}")
        for each in fact.get("ipv6") or ():
            yield str(fact["device"]), ip_interface(f"{each['address']}/{each['prefix']}")


def _nowhere(address: str) -> str:
    return f"No interface of this host has its cluster_address {address}."


def _on(values: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = values.get(name)
    return default if value is None else str(value).lower() in ("true", "yes", "on", "1")


def _finding(problem: str, remedy: str) -> Finding:
    return {"problem": problem, "remedy": remedy}


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        """Names of the filters in templates."""
        return {
            "horizon_interface_with": interface_with,
            "horizon_interface_towards": interface_towards,
            "horizon_floating_problems": problems,
            "horizon_floating_held": held,
        }
