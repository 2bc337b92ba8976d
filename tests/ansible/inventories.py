"""A good inventory of four hosts, and what is found wrong with it once it is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.ansible.cluster import GROUPS, PASSWORDS
from tests.ansible.conftest import load

cluster = load("filter_plugins/horizon_cluster.py")
checks = load("filter_plugins/horizon_inventory.py")
stores = load("filter_plugins/horizon_stores.py")
sides = load("filter_plugins/horizon_sides.py")

ADDRESSES = {"bal1": "10.0.0.1", "web1": "10.0.0.2", "web2": "10.0.0.3", "work1": "10.0.0.4"}
HOSTS: Mapping[str, Mapping[str, Any]] = {
    host: {"cluster_address": address} for host, address in ADDRESSES.items()
}
VALUES = {**PASSWORDS, "redis_acknowledge_on_replica": True}


def all_problems(*inventory: Any) -> list[dict[str, str]]:
    """Those of the hosts, and those of what they share."""
    return [
        *checks.problems(*inventory),
        *stores.problems(*inventory),
        *sides.problems(*inventory[:3]),
    ]


def problems(
    groups: Mapping[str, list[str]] | None = None,
    hosts: Mapping[str, Mapping[str, Any]] = HOSTS,
    **values: Any,
) -> list[str]:
    found = all_problems({**GROUPS, **(groups or {})}, list(hosts), hosts, {**VALUES, **values})
    assert all(finding["remedy"] for finding in found)
    return [finding["problem"] for finding in found]


SECRET = "hunter2"


def with_variables(host: str, **variables: Any) -> Mapping[str, Mapping[str, Any]]:
    """The hosts, one of which has more in the inventory."""
    return {**HOSTS, host: {**HOSTS[host], **variables}}
