#!/usr/bin/python
"""Looks at a host before anything is changed, and returns everything that stands in the way."""

from __future__ import annotations

import platform
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils import horizon_cloud, horizon_foreign, horizon_host, horizon_ports
from ansible.module_utils.horizon_surroundings import leave_login

DOCUMENTATION = r"""
module: horizon_preflight
short_description: Everything on a host that stands in the installation's way
description:
  - Looks at system, Python, architecture, disk, memory, names, ports and at what already
    stands at our paths, units and nginx sites. It changes nothing.
options:
  controller_time:
    description: The controller's clock before it asked, in seconds since 1970; it is given back.
    type: float
    required: true
  disk_mb:
    description: Free space that each folder needs.
    type: dict
    required: true
  memory_mb:
    description: Memory that the machine needs.
    type: int
    required: true
  domain:
    description: The public host name; empty when it is not known.
    type: str
    default: ""
  resolve:
    description: Check that the domain resolves to this host.
    type: bool
    default: false
  addresses:
    description: Addresses of this host that its interfaces do not show.
    type: list
    elements: str
    default: []
  ports:
    description: Ports that will be ours.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: Number of the TCP port.
        type: int
        required: true
      processes:
        description: Names of the processes that may hold it.
        type: list
        elements: str
        required: true
      unit:
        description: How the name of a unit begins whose processes may hold it too; none when empty.
        type: str
        default: ""
      loopback:
        description: Sockets on loopback and on all addresses count, others do not.
        type: bool
        default: false
      addresses:
        description: Sockets on these and on all addresses count, others do not; added to loopback.
        type: list
        elements: str
        default: []
  vrrp:
    description: Check whether an address may move to this host from another one.
    type: bool
    default: false
  first_boot_s:
    description: Longest wait for cloud-init, which installs packages at the first boot, in seconds.
    type: int
    default: 600
  leaving:
    description: An older installation that will have made room by then; none when empty.
    type: dict
    default: {}
    suboptions:
      units:
        description: Names of its units.
        type: list
        elements: str
        default: []
      folder:
        description: Its folder.
        type: str
        default: ""
      sites:
        description: File names of its nginx sites.
        type: list
        elements: str
        default: []
author:
  - Horizon
"""

EXAMPLES = r"""
- name: The host is looked at
  horizon_preflight:
    controller_time: 1790000000
    disk_mb: {/opt: 1000}
    memory_mb: 450
    domain: bots.example.com
    ports:
      - {port: 443, processes: [nginx]}
  register: preflight_host
"""

RETURN = r"""
problems:
  description: What has to be mended first, each with a sentence and its remedy.
  type: list
  elements: dict
  returned: always
notes:
  description: What should be known, likewise.
  type: list
  elements: dict
  returned: always
apt_ready:
  description: Whether Ansible's apt module can look (python3-apt and the package lists are there).
  type: bool
  returned: always
packages:
  description: Names of the installed packages. Where all are there, a second of asking apt is saved.
  type: list
  elements: str
  returned: always
database:
  description: Where the installed service has its data, C(sqlite) or PostgreSQL's host; empty without one.
  type: str
  returned: always
installed:
  description: Parts of the service that this host has now, of C(balancer), C(web) and C(redis).
  type: list
  elements: str
  returned: always
memory_mb:
  description: Memory that this host may use, its control groups' limits included, in MB.
  type: int
  returned: always
time:
  description: This host's clock, in seconds since 1970.
  type: float
  returned: always
controller_time:
  description: The option of the same name.
  type: float
  returned: always
"""

ROOT = Path("/")


def apt_ready(root: Path) -> bool:
    """Without these the apt module fails in check mode, or knows no package."""
    lists = any((root / "var/lib/apt/lists").glob("*_Packages*"))
    return lists and (root / "usr/lib/python3/dist-packages/apt/__init__.py").exists()


def look(params: dict) -> tuple[list, list]:
    """Problems and warnings of this host."""
    problems, notes = horizon_host.system(ROOT)
    problems += horizon_host.architecture(platform.machine())
    problems += horizon_host.python("/usr/bin/python3")
    problems += horizon_host.disk(ROOT, {name: int(mb) for name, mb in params["disk_mb"].items()})
    problems += horizon_host.memory(ROOT, params["memory_mb"])
    domain = params["domain"]
    if domain and params["resolve"]:
        own = horizon_host.own_addresses(ROOT) | set(params["addresses"])
        notes += horizon_host.names(domain, horizon_host.resolve(domain), own)
    if params["vrrp"]:
        cloud_problems, cloud_notes = horizon_cloud.vrrp(ROOT)
        problems += cloud_problems
        notes += cloud_notes
    old = params["leaving"]
    problems += horizon_ports.busy(ROOT, params["ports"], old.get("units") or [])
    leaving = horizon_foreign.leaving_paths(
        old.get("units") or [], old.get("folder") or "", old.get("sites") or []
    )
    problems += horizon_foreign.findings(ROOT, domain, leaving)
    return problems, notes


def main() -> None:
    """Ansible's entry."""
    leave_login()
    port = {
        "port": {"type": "int", "required": True},
        "processes": {"type": "list", "elements": "str", "required": True},
        "unit": {"type": "str", "default": ""},
        "loopback": {"type": "bool", "default": False},
        "addresses": {"type": "list", "elements": "str", "default": []},
    }
    leaving = {
        "units": {"type": "list", "elements": "str", "default": []},
        "folder": {"type": "str", "default": ""},
        "sites": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(
        argument_spec={
            "controller_time": {"type": "float", "required": True},
            "disk_mb": {"type": "dict", "required": True},
            "memory_mb": {"type": "int", "required": True},
            "domain": {"type": "str", "default": ""},
            "resolve": {"type": "bool", "default": False},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "ports": {"type": "list", "elements": "dict", "default": [], "options": port},
            "vrrp": {"type": "bool", "default": False},
            "first_boot_s": {"type": "int", "default": 600},
            "leaving": {"type": "dict", "default": {}, "options": leaving},
        },
        supports_check_mode=True,
    )
    clock = time.time()
    unfinished = horizon_host.first_boot(ROOT, module.params["first_boot_s"])
    problems, notes = look(module.params)
    problems = unfinished + problems
    module.exit_json(
        changed=False,
        problems=[finding._asdict() for finding in problems],
        notes=[finding._asdict() for finding in notes],
        apt_ready=apt_ready(ROOT),
        packages=horizon_host.packages(ROOT),
        database=horizon_host.database(ROOT),
        installed=horizon_host.installed(ROOT),
        memory_mb=horizon_host.memory_mb(ROOT),
        controller_time=module.params["controller_time"],
        time=clock,
    )


if __name__ == "__main__":
    main()
