"""What an operator has to hear of. Each look returns what is wrong now; what cannot be looked at is
itself a condition, so that silence always means that all is well.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from service.conversation.outage import OutageError
from service.monitoring.certificates import certificates

if TYPE_CHECKING:
    from service.container import Container
    from service.settings import Settings

Kind = Literal[
    "unit", "store", "workers", "queue", "dead_turn", "certificate", "backup", "unchecked"
]

UNIT_PATTERNS = (
    "horizonai-bots*",
    "nginx.service",
    "redis-server.service",
    "redis-sentinel.service",
    "valkey-server.service",
    "postgresql@*",
    "certbot.service",
)
OWN_UNIT = "horizonai-bots-alerts.service"
"""The unit that runs the check: that a delivery failed cannot be delivered by it."""
_UNITS_TIMEOUT_S = 10
_MOST_DEAD_TURNS = 1_000


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong. `subject` names what (a unit, a bot, a domain), `facts` the figures.

    `items` are its single cases, where a new one is worth a message of its own: dead turns.
    """

    kind: Kind
    subject: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    items: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.subject}"


@dataclass(slots=True)
class Findings:
    """`unknown` are kinds that could not be looked at: of those, what was wrong before still counts."""

    conditions: list[Condition] = field(default_factory=list)
    unknown: set[Kind] = field(default_factory=set)


def look(container: Container) -> Findings:
    """Everything, one after another; no failure of one hides another."""
    findings = Findings()
    _units(findings)
    _queue(findings, container)
    _dead_turns(findings, container)
    _certificates(findings, container.settings)
    _backup(findings, container.settings)
    return findings


def _units(findings: Findings) -> None:
    program = shutil.which("systemctl")
    if program is None:
        _unchecked(findings, "unit", "no systemctl")
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
        _unchecked(findings, "unit", "systemctl does not answer")
        return
    names = sorted(str(row["unit"]) for row in rows if isinstance(row, dict) and "unit" in row)
    findings.conditions += [Condition("unit", name) for name in names if name != OWN_UNIT]


def _queue(findings: Findings, container: Container) -> None:
    try:
        depth = container.mailbox.depth()
        workers = len(container.heartbeats.live())
    except OutageError:
        findings.conditions.append(Condition("store", "redis"))
        findings.unknown |= {"queue", "workers"}
        return
    if not workers:
        findings.conditions.append(Condition("workers", "all"))
    if depth.oldest_due_s >= container.settings.alert_queue_age_s:
        facts = {"age_s": round(depth.oldest_due_s), "conversations": depth.due}
        findings.conditions.append(Condition("queue", "all", facts))


def _dead_turns(findings: Findings, container: Container) -> None:
    try:
        # Without tables yet this one speaks, where the list below would fail otherwise.
        container.turns.dead_count()
        rows = container.turns.dead(limit=_MOST_DEAD_TURNS)
    except OutageError:
        findings.conditions.append(Condition("store", "database"))
        findings.unknown.add("dead_turn")
        return
    turns: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        turns.setdefault(row["bot_id"], []).append(row)
    for bot_id, dead in sorted(turns.items()):
        facts = {"count": len(dead), "client_id": dead[0]["client_id"], "reason": dead[0]["reason"]}
        # A turn that was run again and died again is a new death.
        deaths = frozenset(f"{turn['id']}:{turn['runs']}" for turn in dead)
        findings.conditions.append(Condition("dead_turn", bot_id, facts, deaths))


def _certificates(findings: Findings, settings: Settings) -> None:
    for one in certificates(settings.public_base_url):
        if one.days is None:
            _unchecked(findings, "certificate", one.domain)
        elif one.days < settings.alert_certificate_days or one.self_signed:
            facts = {"days": one.days, "self_signed": one.self_signed}
            findings.conditions.append(Condition("certificate", one.domain, facts))


def _backup(findings: Findings, settings: Settings) -> None:
    if settings.alert_backup_file is None:
        return
    age_h = _age_h(settings.alert_backup_file)
    if age_h is None:
        findings.conditions.append(Condition("backup", "last", {"age_h": None}))
    elif age_h >= settings.alert_backup_age_h:
        findings.conditions.append(Condition("backup", "last", {"age_h": round(age_h)}))


def _age_h(path: Path) -> float | None:
    """Hours since the last good backup; None when there was none or nobody may look.

    The file of the role backup names the time; of any other file its own time counts.
    """
    try:
        written_at = path.stat().st_mtime
        state = json.loads(path.read_bytes() or b"null")
        if isinstance(state, dict) and isinstance(told := state.get("backup"), dict):
            written_at = datetime.fromisoformat(told["last_success"]).timestamp()
    except OSError:
        return None
    except (KeyError, TypeError):
        # No backup has succeeded yet.
        return None
    except ValueError:
        # It is no JSON: somebody's own file.
        pass
    return (time.time() - written_at) / 3600


def _unchecked(findings: Findings, kind: Kind, what: str) -> None:
    findings.unknown.add(kind)
    findings.conditions.append(Condition("unchecked", kind, {"what": what}))
