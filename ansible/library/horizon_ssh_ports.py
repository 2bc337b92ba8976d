#!/usr/bin/python
"""Every port on which this host is, or will be, reached by SSH: a firewall must never close one."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils import horizon_ports
from ansible.module_utils.horizon_surroundings import leave_login

DOCUMENTATION = r"""
module: horizon_ssh_ports
short_description: Ports on which SSH comes in
description:
  - Collects them from the connection that this module came by, from the daemon's configuration,
    from its listening sockets and from systemd's socket units. It changes nothing.
options:
  port:
    description: The port that Ansible was told to connect to.
    type: int
author:
  - Horizon
"""

EXAMPLES = r"""
- name: The ports of SSH are known
  horizon_ssh_ports:
    port: "{{ ansible_port | default(omit) }}"
  register: firewall_ssh
"""

RETURN = r"""
ports:
  description: Port numbers in ascending order; 22 alone when nothing was found.
  type: list
  elements: int
  returned: always
"""

DEFAULT_PORT = 22
UNITS = ("ssh.service", "sshd.service")
SOCKETS = ("ssh.socket", "sshd.socket")


def of_connection(root: Path, pid: int) -> set[int]:
    """The server's side of SSH_CONNECTION, which sudo hides: looked for in every parent process."""
    while pid > 1:
        folder = root / "proc" / str(pid)
        try:
            environ = (folder / "environ").read_bytes().split(b"\0")
            parent = re.search(r"(?m)^PPid:\s*(\d+)", (folder / "status").read_text())
        except OSError:
            break
        for entry in environ:
            fields = entry.decode(errors="replace").partition("SSH_CONNECTION=")[2].split()
            if entry.startswith(b"SSH_CONNECTION=") and len(fields) == 4:
                return {int(fields[3])}
        pid = int(parent.group(1)) if parent else 0
    return set()


def of_configuration(text: str) -> set[int]:
    """Ports of `sshd -T`."""
    return {int(port) for port in re.findall(r"(?m)^(?:port |listenaddress .*:)(\d+)$", text)}


def of_sockets(text: str) -> set[int]:
    """Ports of `systemctl show --property=Listen`: `Listen=[::]:22 (Stream)`."""
    return {int(port) for port in re.findall(r"(?m)^Listen=.*?(\d+) \(Stream\)$", text)}


def of_listeners(root: Path) -> set[int]:
    """Ports on which the daemon listens now, whatever its configuration has become."""
    sockets = [found for found in horizon_ports.listeners(root) if not found.address.is_loopback]
    held = horizon_ports.holders(root, {found.inode for found in sockets})
    return {
        found.port
        for found in sockets
        if any(process.unit in UNITS for process in held.get(found.inode, []))
    }


def output(*command: str) -> str:
    """What a command prints; nothing when it fails or is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def main() -> None:
    """Ansible's entry."""
    leave_login()
    module = AnsibleModule(argument_spec={"port": {"type": "int"}}, supports_check_mode=True)
    root = Path("/")
    ports = {module.params["port"]} - {None}
    ports |= of_connection(root, os.getpid())
    ports |= of_configuration(output("/usr/sbin/sshd", "-T"))
    ports |= of_listeners(root)
    ports |= of_sockets(
        output("systemctl", "show", "--property=Listen", "--state=active", *SOCKETS)
    )
    module.exit_json(changed=False, ports=sorted(ports) or [DEFAULT_PORT])


if __name__ == "__main__":
    main()
