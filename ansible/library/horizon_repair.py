#!/usr/bin/python
"""Ansible module: what is wrong on a host, and what of it was mended."""

from __future__ import annotations

DOCUMENTATION = r"""
module: horizon_repair
short_description: Looks at everything that the service needs, and mends what is safe to mend
description:
  - Every mend is safe to run twice and loses nothing; what needs a person is told with its remedy.
  - In check mode nothing is mended.
options:
  mend: {description: Mend; without it the host is only looked at., type: bool, default: true}
  parts:
    description: What the host carries of balancer, floating, web, workers, redis, sentinel and database.
    type: list
    elements: str
    default: [balancer, web, workers, redis, database]
  without: {description: Names of checks that make no sense here., type: list, elements: str, default: []}
  controller_time:
    description: The controller's clock a moment ago, in seconds since 1970.
    type: float
    required: true
  root: {description: Folder of the installation., type: path, default: /opt/horizonai-bots}
  home: {description: Folder of the data., type: path, default: /var/lib/horizonai-bots}
  user: {description: The service's user., type: str, default: horizonai-bots}
  workers: {description: Worker processes., type: int, required: true}
  tls: {description: Folder of the certificates that nginx reads., type: path, required: true}
  domains: {description: Public names., type: list, elements: str, default: []}
  addresses:
    description: Addresses of which a public name must have one; none, any will do.
    type: list
    elements: str
    default: []
  outside_names:
    description: Names that must be found.
    type: list
    elements: str
    default: [api.twilio.com, api.openai.com]
  public_ports: {description: Ports that must be open., type: list, elements: int, default: [80, 443]}
  private_addresses:
    description: Addresses on which these ports may listen besides.
    type: list
    elements: str
    default: []
  floating:
    description: Address that this host or another balancer holds; empty for none.
    type: str
    default: ""
  private_ports: {description: Ports of loopback alone., type: list, elements: int, default: []}
  boot_units: {description: Units that start with the machine., type: list, elements: str, default: []}
  disks: {description: Folders whose disks need room., type: list, elements: path, default: [/]}
  files:
    description: Files and folders with their path, owner, group and mode.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: The host is looked at
  horizon_repair:
    mend: false
    controller_time: 1790000000
    workers: 2
    tls: /etc/horizonai-bots/tls
"""

RETURN = r"""
findings:
  description: For each check its state (ok, mended, would mend, wrong, unchecked), the finding, its remedy.
  type: list
  elements: dict
  returned: always
holds: {description: Whether this host has the address of the option floating., type: bool, returned: always}
left: {description: How many are still wrong., type: int, returned: always}
"""

import datetime
import grp
import json
import os
import pwd
import re
import socket
import ssl
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.horizon_check import UncheckedError, examine
from ansible.module_utils.horizon_checks import checks_of
from ansible.module_utils.horizon_host import own_addresses
from ansible.module_utils.horizon_releases import (
    Journal,
    ReleaseError,
    web_unit,
    worker_units,
)
from ansible.module_utils.horizon_surroundings import leave_login

HORIZONCTL = "/usr/local/bin/horizonctl"
PATTERNS = ("horizonai-bots*", "redis-*", "nginx*", "keepalived*", "postgresql*", "certbot*")
TIMEOUT_S = 120
HTTPS = 443
TLS_TIMEOUT_S = 10
PEM_END = "-----END CERTIFICATE-----"
LISTENS = "0A"
ARGUMENTS: dict[str, Any] = {
    "mend": {"type": "bool", "default": True},
    "parts": {
        "type": "list",
        "elements": "str",
        "default": ["balancer", "web", "workers", "redis", "database"],
    },
    "without": {"type": "list", "elements": "str", "default": []},
    "controller_time": {"type": "float", "required": True},
    "root": {"type": "path", "default": "/opt/horizonai-bots"},
    "home": {"type": "path", "default": "/var/lib/horizonai-bots"},
    "user": {"type": "str", "default": "horizonai-bots"},
    "workers": {"type": "int", "required": True},
    "tls": {"type": "path", "required": True},
    "domains": {"type": "list", "elements": "str", "default": []},
    "addresses": {"type": "list", "elements": "str", "default": []},
    "outside_names": {
        "type": "list",
        "elements": "str",
        "default": ["api.twilio.com", "api.openai.com"],
    },
    "public_ports": {"type": "list", "elements": "int", "default": [80, 443]},
    "private_addresses": {"type": "list", "elements": "str", "default": []},
    "floating": {"type": "str", "default": ""},
    "private_ports": {"type": "list", "elements": "int", "default": []},
    "boot_units": {"type": "list", "elements": "str", "default": []},
    "disks": {"type": "list", "elements": "path", "default": ["/"]},
    "files": {"type": "list", "elements": "dict", "default": []},
}


class Machine:
    """Implements `horizon_check.Host`. What a command of the service says is asked for once."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self._said: dict[tuple[str, ...], Any] = {}

    def unit(self, name: str) -> dict[str, str]:
        names = "LoadState,ActiveState,UnitFileState,Result"
        _, output = self.run("systemctl", "show", "--property", names, name)
        return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)

    def failed_units(self) -> list[str]:
        _, output = self.run(
            *("systemctl", "list-units", "--failed", "--plain", "--no-legend", *PATTERNS)
        )
        return [line.split()[0] for line in output.splitlines() if line.split()]

    def running(self) -> list[str]:
        journal = Journal.read(Path(self.params["root"]) / "state" / "activations.json")
        if journal.current is None:
            return []
        instance = journal.current.get("instance", journal.current["release"])
        web = [web_unit(instance)] if "web" in self.params["parts"] else []
        return [*web, *worker_units(instance, self.params["workers"])]

    def name(self) -> str:
        return socket.gethostname()

    def listeners(self) -> list[tuple[str, int]]:
        found = []
        for file, size in (("/proc/net/tcp", 4), ("/proc/net/tcp6", 16)):
            try:
                lines = Path(file).read_text(encoding="ascii").splitlines()[1:]
            except FileNotFoundError:
                continue
            for line in lines:
                fields = line.split()
                if fields[3] == LISTENS:
                    address, _, port = fields[1].partition(":")
                    found.append((_address(address, size), int(port, 16)))
        return found

    def owner(self, path: str) -> tuple[str, str, int] | None:
        try:
            found = os.lstat(path)
        except OSError:
            return None
        return _user(found.st_uid), _group(found.st_gid), stat.S_IMODE(found.st_mode)

    def free(self, path: str) -> tuple[float, float, float]:
        found = os.statvfs(path)
        inodes = found.f_favail / found.f_files if found.f_files else 1.0
        return found.f_bavail * found.f_frsize / 1e6, found.f_bavail / found.f_blocks, inodes

    def health(self) -> dict[str, Any]:
        return dict(self.horizonctl("health", "--json"))

    def horizonctl(self, *words: str) -> Any:
        # What changes while things are mended is asked for again.
        if words in self._said:
            return self._said[words]
        result = self._run(HORIZONCTL, *words)
        try:
            answer = json.loads(result.stdout)
        except ValueError:
            said = (result.stderr or result.stdout).strip().splitlines()
            reason = said[-1] if said else f"exit code {result.returncode}"
            raise UncheckedError(f"horizonctl {words[0]}: {reason}") from None
        if words[0] == "check":
            self._said[words] = answer
        return answer

    def run(self, *command: str) -> tuple[int, str]:
        result = self._run(*command)
        return result.returncode, result.stdout + result.stderr

    def certificate(self, domain: str) -> tuple[float, str] | None:
        file = str(Path(self.params["tls"]) / f"{domain}.crt")
        code, output = self.run("openssl", "x509", "-noout", "-enddate", "-issuer", "-in", file)
        end = re.search(r"notAfter=(.+)", output)
        if code or end is None:
            return None
        ends = datetime.datetime.strptime(end[1].strip(), "%b %d %H:%M:%S %Y %Z")
        issuer = re.search(r"issuer=.*?(?:CN|O) ?= ?([^,/\n]+)", output)
        left = ends.replace(tzinfo=datetime.UTC).timestamp() - time.time()
        return left / 86_400, issuer[1].strip() if issuer else "of an unknown issuer"

    def serves(self, domain: str) -> bool | None:
        anything = ssl.create_default_context()
        anything.check_hostname = False
        anything.verify_mode = ssl.CERT_NONE
        try:
            file = (Path(self.params["tls"]) / f"{domain}.crt").read_text(encoding="ascii")
            held = ssl.PEM_cert_to_DER_cert(file.partition(PEM_END)[0] + PEM_END)
            with (
                socket.create_connection(("127.0.0.1", HTTPS), timeout=TLS_TIMEOUT_S) as raw,
                anything.wrap_socket(raw, server_hostname=domain) as tls,
            ):
                return tls.getpeercert(binary_form=True) == held
        except (OSError, ValueError):
            # Told by other checks: no certificate, or nothing that listens.
            return None

    def resolve(self, name: str) -> set[str]:
        try:
            return {str(found[4][0]) for found in socket.getaddrinfo(name, None)}
        except OSError:
            return set()

    def memory_mb(self) -> float:
        found = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
        return int(found[1]) / 1000 if found else 0.0

    def killed(self) -> list[str]:
        command = ("journalctl", "--dmesg", "--since", "-1day", "--output", "cat", "--quiet")
        _, output = self.run(*command)
        return sorted(set(re.findall(r"Killed process \d+ \(([^)]+)\)", output)))

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError:
            return subprocess.CompletedProcess(command, 127, "", f"{command[0]} is not installed")
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"no end within {TIMEOUT_S} s")


def _address(text: str, size: int) -> str:
    """An address of /proc/net/tcp: words of four bytes, each in the machine's order."""
    raw = bytes.fromhex(text)
    words = b"".join(raw[start : start + 4][::-1] for start in range(0, size, 4))
    return socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, words)


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def main() -> None:
    """Ansible's entry."""
    leave_login()
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    params = module.params
    has_release = {"web", "workers"} & set(params["parts"])
    if has_release and not (Path(params["root"]) / "state").is_dir():
        module.fail_json(
            msg="This host is not installed. Remedy: ansible-playbook site.yml -i <inventory>."
        )
    host = Machine({**params, "clock_off_s": time.time() - params["controller_time"]})
    try:
        findings = examine(
            host, checks_of(params), mend=params["mend"], look_only=module.check_mode
        )
    except ReleaseError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=any(finding.state in ("mended", "would mend") for finding in findings),
        holds=params["floating"] in own_addresses(Path("/")),
        findings=[finding._asdict() for finding in findings],
        left=sum(finding.is_left for finding in findings),
    )


if __name__ == "__main__":
    main()
