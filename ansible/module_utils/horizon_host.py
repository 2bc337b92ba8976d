"""What a machine is: system, Python, free disk, memory, names.

Every check returns its findings: a sentence and the remedy. `root` is where the machine's files are.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import threading
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

MARKER = "# Managed by Ansible: horizonai-bots"
OLDEST_PYTHON = (3, 11)
OLDEST_UBUNTU = (24, 4)
DEBIANS = ("12", "13")
ARCHITECTURES = ("x86_64", "aarch64")
_NO_LIMIT_MB = 1 << 40


class Finding(NamedTuple):
    """Something that a person has to mend or to know."""

    problem: str
    remedy: str


def system(root: Path) -> tuple[list[Finding], list[Finding]]:
    """Problems and warnings about the system of /etc/os-release."""
    try:
        text = (root / "etc/os-release").read_text()
    except OSError:
        text = ""
    values = {name: value.strip("\"'") for name, value in re.findall(r"(?m)^(\w+)=(.*)$", text)}
    name = values.get("PRETTY_NAME") or values.get("ID") or "a system without /etc/os-release"
    version = values.get("VERSION_ID", "")
    if values.get("ID") == "debian" and version in DEBIANS:
        return [], []
    numbers = tuple(int(number) for number in re.findall(r"\d+", version))
    if values.get("ID") == "ubuntu" and numbers >= OLDEST_UBUNTU:
        return [], [Finding(f"{name} is untested.", "Debian 12 and 13 are the tested systems.")]
    return [
        Finding(
            f"{name} is not supported.",
            "install Debian 12 or 13 (Ubuntu 24.04 or newer is accepted, untested).",
        )
    ], []


def first_boot(root: Path, timeout_s: int) -> list[Finding]:
    """Waits until cloud-init, where it is, has set the machine up; a problem when it does not end."""
    program = root / "usr/bin/cloud-init"
    if not program.exists():
        return []
    try:
        subprocess.run([str(program), "status", "--wait"], capture_output=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return [
            Finding(
                f"cloud-init still sets this machine up after {timeout_s} s.",
                "look at `cloud-init status --long`, and run this again when it has ended.",
            )
        ]
    return []


FILES_OF_PARTS = {
    "balancer": "etc/nginx/sites-available/horizonai-bots.conf",
    "web": "etc/systemd/system/horizonai-bots.socket",
    "redis": "etc/redis/horizonai-bots.conf",
}
"""What the roles leave where a part is installed, and take away with it."""
SERVICE = "etc/systemd/system/horizonai-bots.service"
SQLITE = "sqlite"


def installed(root: Path) -> list[str]:
    """The parts of the service that this host has now; workers and the database leave no file of theirs."""
    return [part for part, file in FILES_OF_PARTS.items() if (root / file).exists()]


def database(root: Path) -> str:
    """Where the service that is installed here has its data: `sqlite`, PostgreSQL's host, or nowhere yet."""
    if not (root / SERVICE).exists():
        return ""
    try:
        text = (root / "etc/horizonai-bots/env").read_text()
    except OSError:
        return ""
    settings = dict(re.findall(r'(?m)^(DATABASE_URL|DB_HOST)="?([^"\n]*)"?$', text))
    address = urlsplit(settings.get("DATABASE_URL", ""))
    if address.scheme.startswith("sqlite"):
        return SQLITE if (root / address.path.lstrip("/")).exists() else ""
    if address.scheme:
        return address.hostname or "localhost"
    return settings.get("DB_HOST", "")


def packages(root: Path) -> list[str]:
    """Names of the installed packages, by what dpkg has written down."""
    try:
        text = (root / "var/lib/dpkg/status").read_text(errors="replace")
    except OSError:
        return []
    return sorted(
        {
            found[1]
            for record in text.split("\n\n")
            if (found := re.match(r"Package: (\S+)\n", record))
            and re.search(r"(?m)^Status: \w+ ok installed$", record)
        }
    )


def architecture(machine: str) -> list[Finding]:
    """Binary packages (uv, cryptography, psycopg2) exist for 64-bit x86 and ARM."""
    if machine in ARCHITECTURES and struct.calcsize("P") == 8:
        return []
    return [
        Finding(
            f"The architecture {machine} with {struct.calcsize('P') * 8}-bit programs is not supported.",
            "use a 64-bit system on x86_64 or aarch64.",
        )
    ]


def python(command: str) -> list[Finding]:
    """The system's own Python, which runs the service; none yet is fine: it will be installed."""
    if not os.path.exists(command):
        return []
    question = "import sys; print(*sys.version_info[:3])"
    try:
        answer = subprocess.check_output([command, "-I", "-c", question], text=True, timeout=20)
        version = tuple(int(number) for number in answer.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return [Finding(f"{command} does not run.", "apt-get install --reinstall python3-minimal")]
    if version >= OLDEST_PYTHON:
        return []
    found = ".".join(str(number) for number in version)
    return [
        Finding(
            f"{command} is Python {found}, and the service needs 3.11 or newer.",
            "use the python3 of Debian 12 or newer (Ubuntu 24.04 or newer): ls -l " + command,
        )
    ]


def disk(root: Path, needed_mb: dict[str, int]) -> list[Finding]:
    """Free space for everybody but root, at each folder or the nearest one above that exists."""
    findings = []
    for folder, needed in needed_mb.items():
        path = root / folder.lstrip("/")
        while not path.is_dir() and path != root:
            path = path.parent
        stat = os.statvfs(path)
        free = stat.f_bavail * stat.f_frsize // (1 << 20)
        if free < needed:
            findings.append(
                Finding(
                    f"{folder} has {free} MB free, and {needed} MB are needed.",
                    f"free space (du -xh --max-depth=2 {folder} | sort -h | tail) or enlarge the disk; "
                    "the thresholds are preflight_disk_opt_mb, preflight_disk_lib_mb and "
                    "preflight_disk_log_mb.",
                )
            )
    return findings


def memory_mb(root: Path) -> int:
    """What this machine may use: the smallest of its memory and its control groups' limits."""
    meminfo = (root / "proc/meminfo").read_text()
    total = re.search(r"(?m)^MemTotal:\s+(\d+) kB", meminfo)
    limits = [int(total.group(1)) // 1024 if total else _NO_LIMIT_MB]
    groups = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            groups["cgroup" if controllers else "cgroup2"] = path
    for line in _lines(root / "proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        top, mounted = left.split(" ")[3:5]
        if kind == "cgroup2":
            name = "memory.max"
        elif kind == "cgroup" and "memory" in options.split(","):
            name = "memory.limit_in_bytes"
        else:
            continue
        base = root / mounted.lstrip("/")
        path = groups.get(kind, "/")
        if top != "/" and (path + "/").startswith(top + "/"):
            path = path[len(top) :]
        folder = base / path.lstrip("/")
        for group in (folder, *folder.parents):
            value = "".join(_lines(group / name)).strip()
            if value.isdigit():
                limits.append(int(value) >> 20)
            if group == base:
                break
    return min(limits)


def memory(root: Path, needed_mb: int) -> list[Finding]:
    """Whether the machine has as much memory as its profile needs."""
    found = memory_mb(root)
    if found >= needed_mb:
        return []
    return [
        Finding(
            f"This machine may use {found} MB of memory, and {needed_mb} MB are needed.",
            "give it more memory, or put it into the inventory's group `light`, which needs 450 MB "
            "(the threshold is preflight_memory_mb).",
        )
    ]


def own_addresses(root: Path) -> set[str]:
    """Addresses of this machine's interfaces."""
    trie = "\n".join(_lines(root / "proc/net/fib_trie"))
    addresses = set(re.findall(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL", trie))
    for line in _lines(root / "proc/net/if_inet6"):
        packed = bytes.fromhex(line.split()[0])
        addresses.add(str(ip_address(packed)))
    return addresses


def resolve(name: str, timeout_s: float = 5) -> set[str] | None:
    """Addresses of a name, None when there is no answer in time."""
    answers: list[set[str]] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        answers.append({str(entry[4][0]) for entry in found})

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return answers[0] if answers else None


def names(name: str, answers: set[str] | None, own: set[str]) -> list[Finding]:
    """Whether a certificate authority that resolves the name would come here."""
    if not answers:
        return [
            Finding(
                f"{name} does not resolve on this host, and the certificate authority has to find it.",
                f"add A (and AAAA) records of {name} with this host's public addresses, or set "
                "certbot_enabled: false.",
            )
        ]
    if all(ip_address(answer.partition("%")[0]).is_loopback for answer in answers):
        return [
            Finding(
                f"{name} resolves to loopback on this host, so its public records were not seen.",
                f"take {name} out of /etc/hosts, or check the records from elsewhere: dig +short {name}",
            )
        ]
    if answers & own:
        return []
    found = ", ".join(sorted(answers))
    return [
        Finding(
            f"{name} resolves to {found}, and none of these is an address of this host.",
            f"correct the A and AAAA records of {name}; behind address translation name the public "
            "ones: preflight_public_addresses: [203.0.113.7]",
        )
    ]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
