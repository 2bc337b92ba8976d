"""What is wrong with this machine: units, disks, memory, a restart or updates that are due.

Only Python's own library: hosts of a cluster that do not have the service run this too.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from os import statvfs
from pathlib import Path

from service.alerts.findings import Findings, failed_units
from service.alerts.kept import Kept
from service.alerts.updates import waiting_updates

release = platform.release
MARGIN = 3
"""Percent points below its limit at which an alert is over."""
_REBOOT_FILES = ("run/reboot-required", "var/run/reboot-required")
_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """Percent in use from which a disk, its inodes and the memory are alerts; days of updates."""

    disk_percent: int = 90
    inodes_percent: int = 90
    memory_percent: int = 90
    updates_days: int = 2


def look(
    findings: Findings, limits: Limits, kept: Kept, now: float, root: Path = Path("/")
) -> None:
    """Everything, one after another. `kept` remembers what is too slow to be looked at each time."""
    failed_units(findings)
    _disks(findings, limits, root)
    _memory(findings, limits, root)
    why = reboot_reason(root)
    if why is not None:
        findings.add("reboot", "all", {"why": why})
    waiting_updates(findings, limits.updates_days, kept, now, root)


def _disks(findings: Findings, limits: Limits, root: Path) -> None:
    for folder in _file_systems(root):
        try:
            sizes = statvfs(root / folder.lstrip("/"))
        except OSError:
            # It is another's mount that nobody else may enter.
            continue
        # As df counts: what is kept for root is in use.
        used = sizes.f_blocks - sizes.f_bfree
        percent = _percent(used, used + sizes.f_bavail)
        if percent >= limits.disk_percent - MARGIN:
            facts = {"percent": percent, "free_mb": sizes.f_bavail * sizes.f_frsize // _MEBIBYTE}
            begins = percent >= limits.disk_percent
            findings.add("disk", folder, facts, begins=begins)
        # Some file systems have no fixed number of inodes: they tell 0.
        percent = _percent(sizes.f_files - sizes.f_ffree, sizes.f_files)
        if percent >= limits.inodes_percent - MARGIN:
            begins = percent >= limits.inodes_percent
            findings.add("inodes", folder, {"percent": percent}, begins=begins)


def _file_systems(root: Path) -> Iterator[str]:
    """Where each disk is mounted first, and the root whatever it is. Source: proc_mounts(5)."""
    try:
        lines = (root / "proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    yield "/"
    seen = set()
    for line in lines:
        device, folder, kind = (_unescaped(word) for word in line.split()[:3])
        if folder == "/":
            seen.add(device)
        # A file can be mounted too, in a container; an image that is full by nature is no disk.
        if not device.startswith("/dev/") or device in seen or kind in ("squashfs", "iso9660"):
            continue
        seen.add(device)
        yield folder


def _unescaped(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)


def _memory(findings: Findings, limits: Limits, root: Path) -> None:
    try:
        text = (root / "proc/meminfo").read_text(encoding="ascii")
    except OSError:
        text = ""
    kib = {name: int(size) for name, size in re.findall(r"^(\w+): +([0-9]+) kB$", text, re.M)}
    if "MemTotal" not in kib or "MemAvailable" not in kib:
        findings.unchecked("memory", "/proc/meminfo does not tell it")
        return
    percent = _percent(kib["MemTotal"] - kib["MemAvailable"], kib["MemTotal"])
    if percent >= limits.memory_percent - MARGIN:
        facts = {"percent": percent, "available_mb": kib["MemAvailable"] // 1024}
        findings.add("memory", "all", facts, begins=percent >= limits.memory_percent)


def reboot_reason(root: Path = Path("/")) -> str | None:
    """Why this machine has to restart: packages, or a kernel that does not run yet. None: it need not.

    Source: the files that unattended-upgrades and update-notifier write, /run/reboot-required(.pkgs).
    """
    for name in _REBOOT_FILES:
        if (root / name).exists():
            try:
                packages = (root / f"{name}.pkgs").read_text(encoding="utf-8").split()
            except OSError:
                packages = []
            return ", ".join(sorted(set(packages))) or name.rsplit("/", 1)[-1]
    running, newest = release(), _newest_kernel(root)
    if newest is None or newest == running:
        return None
    return f"{running} -> {newest}"


def _newest_kernel(root: Path) -> str | None:
    """The newest installed kernel of the running one's flavour; None where the kernel is another's."""
    running = release()
    try:
        names = os.listdir(root / "boot")
    except OSError:
        return None
    installed = {name.removeprefix("vmlinuz-") for name in names if name.startswith("vmlinuz-")}
    if running not in installed:
        return None
    flavour = _flavour(running)
    return max((name for name in installed if _flavour(name) == flavour), key=_numbers)


def _flavour(version: str) -> str:
    """amd64 of 6.1.0-28-amd64, cloud-amd64 of 6.1.0-28-cloud-amd64."""
    return re.sub(r"^[0-9.]+(\+[a-z0-9]+)?-([0-9]+-)?", "", version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"[0-9]+", version))


def _percent(used: int, total: int) -> int:
    return 0 if total <= 0 else round(100 * used / total)
