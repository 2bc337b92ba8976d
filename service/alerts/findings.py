"""What a look finds. Only Python's own library: hosts without the service run this too."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "unit",
    "disk",
    "inodes",
    "memory",
    "reboot",
    "updates",
    "store",
    "workers",
    "queue",
    "dead_turn",
    "certificate",
    "backup",
    "model",
    "sender",
    "unchecked",
]

UNIT_PATTERNS = (
    "horizonai-bots*",
    "nginx.service",
    "keepalived.service",
    "redis-server.service",
    "redis-sentinel.service",
    "valkey-server.service",
    "postgresql@*",
    "certbot.service",
)
OWN_UNIT = "horizonai-bots-alerts.service"
"""The unit that runs the check: that a delivery failed cannot be delivered by it."""
_UNITS_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong. `subject` names what (a unit, a bot, a domain), `facts` the figures.

    `items` are its single cases, where a new one is worth a message of its own: dead turns.
    Where `begins` is false, an alert that is open stays open and no new one begins: a figure that
    moves around its limit is one alert.
    """

    kind: Kind
    subject: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    items: frozenset[str] = frozenset()
    begins: bool = True

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.subject}"


@dataclass(slots=True)
class Findings:
    """`unknown` are kinds that could not be looked at: of those, what was wrong before still counts."""

    conditions: list[Condition] = field(default_factory=list)
    unknown: set[Kind] = field(default_factory=set)

    def add(
        self, kind: Kind, subject: str, facts: Mapping[str, Any], *, begins: bool = True
    ) -> None:
        """Add a condition without single cases."""
        self.conditions.append(Condition(kind, subject, facts, begins=begins))

    def unchecked(self, kind: Kind, what: str) -> None:
        """Say that a kind could not be looked at, and why."""
        self.unknown.add(kind)
        self.conditions.append(Condition("unchecked", kind, {"what": what}))


def failed_units(findings: Findings) -> None:
    """The units of systemd that have failed."""
    program = shutil.which("systemctl")
    if program is None:
        findings.unchecked("unit", "no systemctl")
        return
    words = ["list-units", "--state=failed", "--output=json", "--no-pager", *UNIT_PATTERNS]
    try:
        done = subprocess.run(
            [program, *words], capture_output=True, text=True, timeout=_UNITS_TIMEOUT_S
        )
        rows = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError):
        rows = None
    if not isinstance(rows, list):
        findings.unchecked("unit", "systemctl does not answer")
        return
    names = sorted(str(row["unit"]) for row in rows if isinstance(row, dict) and "unit" in row)
    findings.conditions += [Condition("unit", name) for name in names if name != OWN_UNIT]
