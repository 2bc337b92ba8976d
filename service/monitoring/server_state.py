"""How this host is: load, memory, disk, units, queue, certificates. What cannot be told is None."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.conversation.outage import OutageError
from service.monitoring.certificates import Certificate, certificates
from service.store.spool import depth_of

if TYPE_CHECKING:
    from service.container import Container

UNIT_PATTERNS = (
    "horizonai-bots*",
    "nginx.service",
    "redis-server.service",
    "redis-sentinel.service",
    "valkey-server.service",
    "postgresql@*",
)
_UNITS_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system, by one of the folders on it. Bytes."""

    folder: str
    total: int
    free: int

    @property
    def used_share(self) -> float:
        """From 0 to 1."""
        return 1 - self.free / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of systemd: `active` is active, inactive, failed …, `detail` running, exited …"""

    name: str
    active: str
    detail: str


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits: conversations due and leased, the oldest's lateness in seconds, live workers."""

    due: int
    leased: int
    oldest_due_s: float
    workers: int


@dataclass(frozen=True, slots=True)
class ServerState:
    """`memory_*` and `swap_*` in bytes; `units_fault` says why `units` is None."""

    host: str
    cpus: int
    load: tuple[float, float, float]
    memory_total: int | None
    memory_available: int | None
    swap_used: int | None
    disks: tuple[Disk, ...]
    units: tuple[Unit, ...] | None
    units_fault: str | None
    database: bool
    redis: bool
    queue: Queue | None
    dead_turns: int | None
    spooled: int | None
    certificates: tuple[Certificate, ...]

    @property
    def faults(self) -> list[str]:
        """What needs an operator, a sentence each."""
        found = []
        if not self.database:
            found.append("The database cannot be used: horizonctl health")
        if not self.redis:
            found.append("Redis cannot be used: horizonctl health")
        if self.queue is not None and self.queue.workers == 0:
            found.append("No worker lives: systemctl status horizonai-bots")
        found += [
            f"{unit.name} failed: journalctl -u {unit.name}"
            for unit in self.units or ()
            if unit.active == "failed"
        ]
        found += [
            f"The disk of {disk.folder} is {disk.used_share:.0%} full"
            for disk in self.disks
            if disk.used_share >= _FULL
        ]
        found += [fault for certificate in self.certificates if (fault := certificate.fault)]
        if self.dead_turns:
            found.append(f"{self.dead_turns} dead turns wait: horizonctl dead list")
        return found


_FULL = 0.9


def server_state(container: Container) -> ServerState:
    """Look at everything; no part's failure hides another."""
    settings = container.settings
    memory = _memory()
    units, units_fault = _units()
    redis, queue = _queue(container)
    dead = _or_none(container.turns.dead_count)
    return ServerState(
        host=socket.gethostname(),
        cpus=os.cpu_count() or 1,
        load=os.getloadavg(),
        memory_total=memory.get("MemTotal"),
        memory_available=memory.get("MemAvailable"),
        swap_used=_difference(memory.get("SwapTotal"), memory.get("SwapFree")),
        disks=_disks([Path("/"), settings.spool_dir, Path("/var/log")]),
        units=units,
        units_fault=units_fault,
        database=dead is not None,
        redis=redis,
        queue=queue,
        dead_turns=dead,
        spooled=depth_of(settings.spool_dir),
        certificates=certificates(settings.public_base_url),
    )


def _memory() -> dict[str, int]:
    """Bytes by the names of /proc/meminfo; empty where there is none. Source: proc(5)."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


def _disks(folders: Sequence[Path]) -> tuple[Disk, ...]:
    found: dict[int, Disk] = {}
    for folder in folders:
        try:
            device = folder.stat().st_dev
            usage = shutil.disk_usage(folder)
        except OSError:
            continue
        found.setdefault(device, Disk(str(folder), usage.total, usage.free))
    return tuple(found.values())


def _units() -> tuple[tuple[Unit, ...] | None, str | None]:
    program = shutil.which("systemctl")
    if program is None:
        return None, "there is no systemctl on this host"
    words = ["list-units", "--all", "--output=json", "--no-pager", *UNIT_PATTERNS]
    try:
        done = subprocess.run(
            [program, *words], capture_output=True, text=True, timeout=_UNITS_TIMEOUT_S
        )
        rows = json.loads(done.stdout or "null")
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"systemctl does not answer ({type(error).__name__})"
    except ValueError:
        rows = None
    if done.returncode != 0 or not isinstance(rows, list):
        reason = (done.stderr.strip() or f"exit code {done.returncode}").split("\n", 1)[0]
        return None, f"systemctl says: {reason}"
    return tuple(
        Unit(row["unit"], row["active"], row["sub"]) for row in rows if row["load"] != "not-found"
    ), None


def _queue(container: Container) -> tuple[bool, Queue | None]:
    try:
        depth = container.mailbox.depth()
        workers = len(container.heartbeats.live())
    except OutageError:
        return False, None
    return True, Queue(depth.due, depth.leased, depth.oldest_due_s, workers)


def _or_none(ask: Callable[[], int]) -> int | None:
    try:
        return ask()
    except OutageError:
        return None


def _difference(total: int | None, free: int | None) -> int | None:
    return None if total is None or free is None else total - free
