"""Who listens on a TCP port, from /proc alone."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils.horizon_host import Finding

_LISTEN = "0A"


class Listener(NamedTuple):
    """A listening socket."""

    address: IPv4Address | IPv6Address
    port: int
    inode: str


class Process(NamedTuple):
    """A process that holds a socket; unit is systemd's name for it, empty when it has none."""

    pid: int
    name: str
    unit: str


def address(text: str) -> IPv4Address | IPv6Address:
    """The kernel's notation: 32-bit words in the byte order of the machine (little here)."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    packed = b"".join(words)
    if len(packed) == 4:
        return IPv4Address(packed)
    found = IPv6Address(packed)
    return found.ipv4_mapped or found


def listeners(root: Path) -> list[Listener]:
    """Every listening TCP socket of this network namespace."""
    found = []
    for name in ("tcp", "tcp6"):
        try:
            lines = (root / "proc/net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN:
                host, port = fields[1].split(":")
                found.append(Listener(address(host), int(port, 16), fields[9]))
    return found


def holders(root: Path, inodes: set[str]) -> dict[str, list[Process]]:
    """The processes that hold each of the sockets."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[str, list[Process]] = {}
    for folder in sorted((root / "proc").glob("[0-9]*/fd"), key=lambda path: int(path.parent.name)):
        targets = _targets(folder)
        for target in targets & wanted.keys():
            found.setdefault(wanted[target], []).append(_process(folder.parent))
    return found


def busy(
    root: Path, ports: Sequence[Mapping[str, Any]], leaving: Collection[str] = ()
) -> list[Finding]:
    """Ports that something of another's holds.

    Each port: its number, the names of the processes that may hold it, how the name of a unit
    begins that may, and where a socket counts. `leaving` are units that will have gone by then.
    """
    wanted = {int(str(port["port"])): port for port in ports}
    open_sockets = [
        listener
        for listener in listeners(root)
        if listener.port in wanted and _in_the_way(listener.address, wanted[listener.port])
    ]
    if not open_sockets:
        return []
    held = holders(root, {listener.inode for listener in open_sockets})
    seen: dict[tuple[int, Process | None], Listener] = {}
    for listener in open_sockets:
        processes = held.get(listener.inode, [])
        port = wanted[listener.port]
        if not any(_may(process, port) or process.unit in leaving for process in processes):
            first = processes[0] if processes else None
            seen.setdefault((listener.port, first), listener)
    return [_finding(port, process) for port, process in sorted(seen, key=lambda found: found[0])]


def _in_the_way(found: IPv4Address | IPv6Address, port: Mapping[str, Any]) -> bool:
    """Whether a socket on this address keeps ours from its own; every address does without any."""
    ours = [ip_address(each) for each in port.get("addresses") or ()]
    loopback = bool(port.get("loopback"))
    if not ours and not loopback:
        return True
    return found.is_unspecified or found in ours or (loopback and found.is_loopback)


def _may(process: Process, port: Mapping[str, Any]) -> bool:
    unit = port.get("unit")
    return process.name in port["processes"] or bool(unit and process.unit.startswith(unit))


def _targets(folder: Path) -> set[str]:
    """Where the links lead; files are closed and processes end while they are looked at."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(entry))
    return found


def _finding(port: int, process: Process | None) -> Finding:
    if process is None:
        return Finding(
            f"Port {port} is in use by a process that could not be seen.",
            f"find it with `ss -tlnp sport = :{port}` (or `docker ps`) and stop it.",
        )
    stop = f"systemctl disable --now {process.unit}" if process.unit else f"kill {process.pid}"
    return Finding(f"Port {port} is in use by {process.name} (pid {process.pid}).", stop)


def _process(folder: Path) -> Process:
    try:
        name = (folder / "comm").read_text().strip()
    except OSError:
        name = "a process that has ended"
    try:
        groups = (folder / "cgroup").read_text()
    except OSError:
        groups = ""
    unit = re.search(
        r"/system\.slice/(?:[^/\n]+\.slice/)*([^/\n]+\.service)(?:/|$)", groups, re.MULTILINE
    )
    return Process(int(folder.name), name, unit.group(1) if unit else "")
