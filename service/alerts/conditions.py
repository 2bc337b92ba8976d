"""What an operator has to hear of. Each look returns what is wrong now; what cannot be looked at is
itself a condition, so that silence always means that all is well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.alerts import host, vendors
from service.alerts.findings import Condition, Findings
from service.alerts.host import Limits
from service.alerts.kept import Kept
from service.conversation.outage import OutageError
from service.monitoring.certificates import certificates

if TYPE_CHECKING:
    from service.container import Container
    from service.settings import Settings

_MOST_DEAD_TURNS = 1_000


def look(container: Container) -> Findings:
    """Everything, one after another; no failure of one hides another."""
    findings = Findings()
    settings, kept = container.settings, Kept.beside(container.settings.alert_state_file)
    host.look(findings, _limits(settings), kept, time.time())
    _queue(findings, container)
    _dead_turns(findings, container)
    _certificates(findings, settings)
    _backup(findings, settings)
    if settings.alert_vendors:
        vendors.look(findings, container, kept, time.time())
    return findings


def _limits(settings: Settings) -> Limits:
    return Limits(
        settings.alert_disk_percent,
        settings.alert_inodes_percent,
        settings.alert_memory_percent,
        settings.alert_updates_days,
    )


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
            findings.unchecked("certificate", one.domain)
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
