"""Whose machine this is, and whether an address may move from one machine to another there.

A provider's network sends an address to the machine that its own tables name. What keepalived does,
taking an address over and telling the neighbours so, is then heard by nobody. `root` is where the
machine's files are.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ansible.module_utils.horizon_host import Finding

DMI = "sys/class/dmi/id"


class Cloud(NamedTuple):
    """A provider, the firmware's words that tell it, and how an address moves there."""

    name: str
    field: str
    words: str
    moves: str


NEVER = (
    Cloud("Amazon EC2", "sys_vendor", "Amazon", "an Elastic IP address, by the API"),
    Cloud("Amazon EC2", "bios_version", "amazon", "an Elastic IP address, by the API"),
    Cloud("Google Cloud", "sys_vendor", "Google", "an alias IP address or a route, by the API"),
    Cloud("Azure", "chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "by the API"),
    Cloud("DigitalOcean", "sys_vendor", "DigitalOcean", "a reserved IP address, by the API"),
    Cloud(
        "Hetzner Cloud", "sys_vendor", "Hetzner", "a floating or an alias IP address, by the API"
    ),
    Cloud("Oracle Cloud", "chassis_asset_tag", "OracleCloud", "a private IP address, by the API"),
)
"""Where nothing that a machine does moves an address."""
PERHAPS = (
    Cloud("OpenStack", "sys_vendor", "OpenStack", "allowed-address-pairs of both ports"),
    Cloud("OpenStack", "product_name", "OpenStack", "allowed-address-pairs of both ports"),
    Cloud("Alibaba Cloud", "sys_vendor", "Alibaba", "a HaVip with both machines"),
    Cloud("Linode", "sys_vendor", "Linode", "IP Sharing of both machines"),
    Cloud("Vultr", "sys_vendor", "Vultr", "its manual on moving addresses"),
    Cloud("Scaleway", "sys_vendor", "Scaleway", "its manual on moving addresses"),
)
"""Where it takes something of the provider's own."""
INSTEAD = (
    "put the provider's load balancer (TCP, ports 80 and 443) before both balancers and write: "
    "keepalived_enabled: false, or leave one host in the group balancer"
)


def vrrp(root: Path) -> tuple[list[Finding], list[Finding]]:
    """Problems and warnings for a balancer that is to hold an address by VRRP."""
    never = _first(root, NEVER)
    if never is not None:
        return [
            Finding(
                f"This is {never.name}, which carries no VRRP: there an address moves otherwise "
                f"({never.moves}), and a balancer that took it over would get nothing.",
                f"{INSTEAD}. If you know that it works here: keepalived_on_cloud: true",
            )
        ], []
    perhaps = _first(root, PERHAPS)
    if perhaps is not None:
        return [], [
            Finding(
                f"This is {perhaps.name}: an address moves between its machines only where that is "
                f"set up there ({perhaps.moves}).",
                f"look that up before the first balancer is lost, or {INSTEAD}. Where it is set up: "
                "keepalived_on_cloud: true",
            )
        ]
    return [], []


def _first(root: Path, clouds: tuple[Cloud, ...]) -> Cloud | None:
    return next((each for each in clouds if each.words in _told(root, each.field)), None)


def _told(root: Path, field: str) -> str:
    try:
        return (root / DMI / field).read_text(errors="replace")
    except OSError:
        return ""
