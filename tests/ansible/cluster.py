"""An inventory of several servers on this machine, and what the roles write there, without a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.ansible.conftest import REPOSITORY
from tests.server_process import free_port

PASSWORDS = {
    f"vault_{name}_password": f"{name.replace('_', '-')}-password-of-the-tests"
    for name in ("redis_app", "redis_backup", "redis_replication", "redis_sentinel", "postgresql")
}
ADDRESSES = {
    "bal1": "127.0.0.11",
    "web1": "127.0.0.12",
    "web2": "127.0.0.13",
    "work1": "127.0.0.14",
}
GROUPS: Mapping[str, list[str]] = {
    "balancer": ["bal1"],
    "web": ["web1", "web2"],
    "workers": ["web2", "work1"],
    "redis": ["bal1", "web1", "web2"],
    "database": ["work1"],
}
TEMPLATES = {
    "nginx": ["horizonai-bots.conf.j2", "upstream.conf.j2"],
    "redis": ["horizonai-bots.conf.j2", "horizonai-bots-sentinel.conf.j2", "sentinel-unit.conf.j2"],
    "postgresql": ["horizonai-bots.conf.j2"],
    "firewall": ["firewall.nft"],
    "keepalived": ["keepalived.conf.j2"],
    "app": [
        "env.j2",
        "horizonai-bots.socket.j2",
        "horizonai-bots.service.j2",
        "horizonai-bots@.service.j2",
    ],
}
VALUES = [
    *("redis_all_users", "redis_sentinel_acl", "redis_sentinel_addresses", "redis_sentinel_quorum"),
    *("postgresql_enabled", "postgresql_networks", "app_web_enabled", "app_processes"),
    *("app_repair_parts", "app_repair_boot_units", "app_use_postgresql", "nginx_backends"),
    *("keepalived_is_here", "preflight_floating", "nginx_other_balancers"),
    *("backup_enabled", "app_takes_backups", "firewall_web", "redis_bind", "backup_packages"),
    *("redis_port", "redis_sentinel_port", "alerts_url", "alerts_command", "preflight_ports"),
    *("alerts_backup_file", "backup_config.redis"),
]
"""Variables of the roles that are looked at."""


def inventory(
    folder: Path, groups: Mapping[str, list[str]], hosts: Mapping[str, Any], **variables: Any
) -> Path:
    """A file of an inventory whose hosts are this machine."""
    file = folder / "hosts.yml"
    children = {name: {"hosts": dict.fromkeys(members)} for name, members in groups.items()}
    horizon = {"hosts": hosts, "children": children}
    everything = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    everything |= {"app_domain": "bots.example.test", **PASSWORDS, **variables}
    file.write_text(yaml.safe_dump({"all": {"children": {"horizon": horizon}, "vars": everything}}))
    return file


def play(file: Path, name: Path | str, *options: str) -> subprocess.CompletedProcess[str]:
    """`ansible-playbook` with this inventory."""
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *(str(REPOSITORY / name), "-i", str(file), *options),
        ],
        cwd=REPOSITORY,
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")},
            "ANSIBLE_HOME": str(file.parent / "ansible"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "LC_ALL": "C.UTF-8",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@dataclass(frozen=True)
class Rendered:
    """What each host would get."""

    told: Mapping[str, Any]

    def text(self, host: str, role: str, template: str) -> str:
        return str(self.told[host]["templates"][f"{role}/{template}"])

    def value(self, host: str, name: str) -> Any:
        return self.told[host][name]


def render(
    folder: Path, groups: Mapping[str, list[str]], hosts: Mapping[str, Any], **variables: Any
) -> Rendered:
    """The templates and variables of the roles for each host, as a play of them has them."""
    values = [f"'{name}': {name}" for name in VALUES]
    texts = [
        f"'{role}/{name}': lookup('ansible.builtin.template', '{REPOSITORY}/roles/{role}/templates/{name}')"
        for role, names in TEMPLATES.items()
        for name in names
    ]
    told = f"{{{', '.join(values)}, 'templates': {{{', '.join(texts)}}}}}"
    document = {
        "hosts": "horizon",
        "gather_facts": False,
        # What a run finds out on its way.
        "vars": {
            "firewall_ssh": {"ports": [22]},
            "preflight_host": {"memory_mb": 2000},
            "postgresql_version": "17",
            "nginx_version": "1.26.3",
            "keepalived_interface": "eth0",
            "keepalived_private_interface": "eth1",
            "vault_secret_key": "key",
            "vault_admin_api_key": "admin",
        },
        # Their variables are wanted, not their tasks.
        "roles": [
            {"role": role, "when": False} for role in [*TEMPLATES, "backup", "alerts", "preflight"]
        ],
        "post_tasks": [
            {
                "name": "What the roles would write",
                "ansible.builtin.copy": {
                    "dest": f"{folder}/{{{{ inventory_hostname }}}}.json",
                    "content": f"{{{{ ({told}) | to_json }}}}",
                },
                "tags": "render",
            }
        ],
    }
    playbook = folder / "render.yml"
    playbook.write_text(yaml.safe_dump([document], sort_keys=False))
    done = play(inventory(folder, groups, hosts, **variables), playbook, "--tags", "render")
    assert done.returncode == 0, done.stdout + done.stderr
    return Rendered({host: json.loads((folder / f"{host}.json").read_text()) for host in hosts})


def cluster(folder: Path, **variables: Any) -> Rendered:
    """Four hosts on addresses of loopback, with a port of Redis's and Sentinel's own."""
    hosts = {name: {"cluster_address": address} for name, address in ADDRESSES.items()}
    ports = {"redis_port": free_port(), "redis_sentinel_port": free_port()}
    return render(
        folder, GROUPS, hosts, **{**ports, "redis_acknowledge_on_replica": True, **variables}
    )
