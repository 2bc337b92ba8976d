"""Security updates that wait, as apt knows them: without the network and without root's rights.

Only Python's own library: hosts without the service run this too.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from service.alerts.findings import Findings
from service.alerts.kept import Kept

_LOOK_S = 3_600
_APT_TIMEOUT_S = 120
_OLD_LISTS_DAYS = 7
_DAY_S = 86_400
_MOST_NAMES = 10
# "Inst openssl [3.0.15-1] (3.0.16-1 Debian-Security:12/oldstable-security [amd64])": apt-get(8), -s
_SECURITY = re.compile(r"^Inst (\S+) .*\([^()]*-security\b", re.IGNORECASE | re.MULTILINE)


def waiting_updates(
    findings: Findings, days: float, kept: Kept, now: float, root: Path = Path("/")
) -> None:
    """A condition when a security update has been waiting for more than `days`."""
    program = shutil.which("apt-get")
    lists = _newest(root, "var/lib/apt/lists", "var/lib/apt/lists/partial")
    if program is None or lists is None:
        findings.unchecked("updates", "no apt-get, or it has no lists of packages")
        return
    if now - lists > _OLD_LISTS_DAYS * _DAY_S:
        age = int((now - lists) // _DAY_S)
        what = f"apt's lists of packages are {age} days old; see why: sudo apt-get update"
        findings.unchecked("updates", what)
        return
    status = _newest(root, "var/lib/dpkg/status")
    look = kept.get("updates") or {}
    if look.get("of") != [lists, status] or now - look.get("at", 0) > _LOOK_S:
        names = _security_updates(program)
        if names is None:
            findings.unchecked("updates", "apt-get -s dist-upgrade fails")
            return
        before: dict[str, Any] = look.get("since", {})
        since = {name: before.get(name, now) for name in names}
        look = {"of": [lists, status], "at": now, "since": since}
        kept.put("updates", look)
    waiting: dict[str, float] = look["since"]
    oldest_s = now - min(waiting.values(), default=now)
    if oldest_s > days * _DAY_S:
        facts = {
            "count": len(waiting),
            "days": int(oldest_s // _DAY_S),
            "names": named(sorted(waiting)),
        }
        findings.add("updates", "security", facts)


def named(names: Iterable[str]) -> str:
    """The first ten names, and how many more there are."""
    every = list(names)
    more = len(every) - _MOST_NAMES
    return ", ".join(every[:_MOST_NAMES]) + (f" +{more}" if more > 0 else "")


def _security_updates(program: str) -> set[str] | None:
    # New packages too: a new kernel is one.
    words = ["-s", "-q", "-o", "Debug::NoLocking=true", "dist-upgrade"]
    try:
        done = subprocess.run(
            [program, *words], capture_output=True, text=True, timeout=_APT_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode != 0 else set(_SECURITY.findall(done.stdout))


def _newest(root: Path, *names: str) -> float | None:
    times = []
    for name in names:
        try:
            times.append((root / name).stat().st_mtime)
        except OSError:
            continue
    return max(times, default=None)
